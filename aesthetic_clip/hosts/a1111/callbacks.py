"""Registers everything with the WebUI, and takes it back."""

from __future__ import annotations

from modules import script_callbacks

from . import api, extra_networks, hook, options, tab, xyz
from .script import rival


def register() -> None:
    """Called once when the WebUI loads the extension's script."""
    if notice := rival():
        print(f"Aesthetic Gradients: {notice}")
    else:
        hook.install()
        # One for both: the WebUI looks through the whole stack for each callback, which takes 20 ms.
        script_callbacks.on_before_ui(_before_ui)
        send = tab.SendButtons()
        script_callbacks.on_after_component(send.after_component)
        script_callbacks.on_ui_tabs(lambda: tab.build(send))
        script_callbacks.on_app_started(api.register)
    script_callbacks.on_ui_settings(options.register)
    script_callbacks.on_script_unloaded(hook.uninstall)


def _before_ui() -> None:
    extra_networks.register()
    xyz.register()
