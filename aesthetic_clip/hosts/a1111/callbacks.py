"""Registers everything with the WebUI, and takes it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from modules import script_callbacks, scripts

from ...embeddings.presets import offer
from . import api, console, hook, options, script_arguments, xyz
from .page import cards, tab, thumbs, trying
from .remedies import refused
from .script import rival


def register() -> None:
    """Called once when the WebUI loads the extension's script."""
    # For each callback the WebUI looks through the call stack: 20 to 40 ms here, 2 to 4 in a thread, whose stack is short.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(_register).result()


def _register() -> None:
    console.show()
    if notice := rival():
        print(f"Aesthetic Gradients: {notice}")
    else:
        offer(options.OWN_PRESETS)
        hook.install()
        script_callbacks.on_before_ui(_before_ui)
        send, rows, fields = tab.SendButtons(), thumbs.ThumbRows(), trying.Fields()
        script_callbacks.on_after_component(_to_whom_it_concerns((send, rows, fields)))
        script_callbacks.on_ui_tabs(lambda: tab.build(send, rows, fields))
        script_callbacks.on_app_started(_app_started)
    script_callbacks.on_ui_settings(options.register)
    script_callbacks.on_script_unloaded(_unloaded)


class _Waiting(Protocol):
    """Waits for some of the WebUI's own components."""

    waits_for: frozenset[str]

    def after_component(self, component: Any, elem_id: str) -> None: ...


def _to_whom_it_concerns(parts: Sequence[_Waiting]) -> Callable[..., None]:
    """One callback for them all: the WebUI makes two thousand components."""
    waiting: dict[str | None, list[_Waiting]] = {}
    for part in parts:
        for elem_id in part.waits_for:
            waiting.setdefault(elem_id, []).append(part)

    def after_component(component: Any, elem_id: str | None = None, **_: Any) -> None:
        for part in waiting.get(elem_id, ()):
            part.after_component(component, str(elem_id))

    return after_component


def _before_ui() -> None:
    cards.register()
    xyz.register(scripts.scripts_data, options.embeddings, refused)


def _app_started(page: Any, app: Any) -> None:
    api.register(page, app)
    script_arguments.install(refused)


def _unloaded() -> None:
    hook.uninstall()
    script_arguments.uninstall()
