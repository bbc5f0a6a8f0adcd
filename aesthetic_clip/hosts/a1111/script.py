"""The always-on script under txt2img and img2img."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from modules import extensions, scripts, ui_common

from ...embeddings.preferences import brought_by
from ...errors import AestheticError
from ...pages import accordion, picker, presets, thumbs
from ...pages.trying import Trying
from ...pages.trying import build as build_trying
from ...settings import BY_NAME, KNOBS, NO_EMBEDDING, Knob, Settings, pasted
from . import hook, looking, options, xyz
from .page import switch
from .page.shelf import INDEX
from .remedies import REMEDIES
from .script_arguments import TITLE, without_switch


def rival() -> str:
    """The first aesthetic gradients extension, if it is enabled too: what to do about it, else nothing."""
    for extension in extensions.active():
        if Path(extension.path, "aesthetic_clip.py").is_file():
            return (
                f"The old extension {extension.name!r} is enabled too and has the same name for the API. "
                "This one stays off until you disable that one in the Extensions tab and reload the UI."
            )
    return ""


class Value(NamedTuple):
    """What a control was made with."""

    value: object


class AestheticScript(scripts.Script):  # type: ignore[misc]
    """Title and first eight arguments are those of the WebUI's first extension, so that its API clients go on working."""

    _made_with: Sequence[Value] = ()
    trying: Trying | None = None
    """What offers the demonstration in the accordion."""

    def title(self) -> str:
        return TITLE

    def show(self, is_img2img: bool) -> object:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        # For the API the WebUI makes each script's controls twice more, reads their values and throws them away.
        if self._made_with:
            return list(self._made_with)
        controls = self._build()
        self._made_with = [Value(control.value) for control in controls]
        return controls

    def _build(self) -> list[Any]:
        def refresh_button(dropdown: Any, name: str) -> Any:
            return ui_common.create_refresh_button(
                dropdown,
                lambda: None,
                lambda: {"choices": picker.choices(INDEX.names(), BY_NAME[name])},
                self.elem_id(f"refresh_{name}"),
            )

        def own_presets(controls: Sequence[Any]) -> None:
            presets.preset_form(controls, self.elem_id, options.OWN_PRESETS, REMEDIES)

        def dropped(controls: Mapping[str, Any]) -> None:
            if not rival():
                thumbs.drop_form(controls["embedding"], self.elem_id, looking.HOST)
                if not self.is_img2img:
                    self.trying = build_trying(self.elem_id, shown=False)

        names = options.embeddings().names()
        controls = accordion.settings_accordion(
            names,
            self.elem_id,
            refresh_button,
            rival(),
            more=own_presets,
            below=dropped,
            preferred=lambda name: brought_by(options.embeddings(), name),
            around=switch.switched,
        )
        *knobs, turned_on = controls
        embedding = next(control for control, knob in zip(knobs, KNOBS) if knob.name == "embedding")
        switch.follow(turned_on, self.elem_id("accordion"), embedding)
        self.infotext_fields = [(control, _paste(knob)) for control, knob in zip(knobs, KNOBS)]
        # Parameters without an embedding leave it as it is: nothing is on then anyway.
        self.infotext_fields.append((turned_on, _names_embedding))
        self.paste_field_names = [knob.infotext for knob in KNOBS]
        return controls

    def process(self, p: Any, *values: object) -> None:
        # Not loaded at the start, see hook.py.
        from .encoding import request

        def read() -> Settings:
            arguments, on = without_switch(values, len(KNOBS))
            settings = Settings.from_values(arguments)
            if not on:
                settings = settings.replaced(dict.fromkeys(("embedding", "away"), NO_EMBEDDING))
            settings = settings.replaced(xyz.overrides(p))
            if (settings.has_embedding or settings.has_away) and rival():
                raise AestheticError(rival())
            return settings

        request(p, read, hook.is_installed())

    def before_process_batch(self, p: Any, *values: object, **batch: Any) -> None:
        from .batch import pick_for_batch

        if not rival() and not p.disable_extra_networks:
            pick_for_batch(p, batch["batch_number"])


def _paste(knob: Knob) -> Callable[[dict[str, Any]], object]:
    """What pasted parameters set this knob's control to; None leaves it as it is."""

    def paste(parameters: dict[str, Any]) -> object:
        values = pasted(parameters)
        # Of the knob's type: for the API the WebUI would make True of the text "False".
        return presets.shown(knob, values[knob.name]) if knob.name in values else None

    return paste


def _names_embedding(parameters: dict[str, Any]) -> bool | None:
    """What pasted parameters set the switch to: where they name none, nothing is on anyway, and it stays as it is."""
    return pasted(parameters).get("embedding", NO_EMBEDDING) != NO_EMBEDDING or None
