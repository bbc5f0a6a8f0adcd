"""Presets on a page: what it begins with, and saving one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from ..embeddings.presets import PresetFile
from ..errors import Remedy
from ..settings import CUSTOM, KNOBS, PRESETS, Knob, Settings
from . import forms, messages
from .forms import Field, Form, Updates
from .picker import on_load

_PRESET = next(knob for knob in KNOBS if knob.choices is PRESETS)
_LONGEST_TEXT = 20_000


def shown(knob: Knob, value: object) -> Any:
    """What a control shows for a value of its knob."""
    return "" if value is None else knob.write(value) if knob.optional else value


def change(knob: Knob, *value: object) -> Any:
    """Have a knob's control show a value; without one it stays as it is."""
    # Until gradio 3 an update of a number resets the step that is not in it.
    more = {"step": knob.step} if knob.typed else {}
    return gr.update(**more, **({"value": shown(knob, value[0])} if value else {}))


def settings_field(controls: Sequence[Any]) -> Field[Settings]:
    """The settings that an accordion shows, from its controls in the order of the knobs."""
    return Field(controls, _settings)


def _settings(*values: object) -> Settings:
    for knob, value in zip(KNOBS, values):
        if isinstance(value, (str, list, dict)):
            forms.checked_text(knob.label, _LONGEST_TEXT)(value)
    return Settings.from_values(values)


def begin_with(page: Any, controls: Sequence[Any], preset: Callable[[], str], **more: Any) -> None:
    """Have each page that is opened begin with a preset, unless its controls were given other values than the defaults.

    The controls themselves are built with the defaults: what a program that sends nothing gets does not change.

    Args:
        page: gradio's.
        controls: an accordion's, in the order of the knobs.
        preset: asked for its name each time.
        more: for gradio.
    """
    names = _PRESET.brings(KNOBS)
    by_name = {knob.name: (knob, control) for knob, control in zip(KNOBS, controls)}
    outputs = [by_name[_PRESET.name][1], *(by_name[name][1] for name in names)]

    def begin() -> list[Any]:
        untouched = all(control.value == shown(knob, knob.default) for knob, control in zip(KNOBS, controls))
        values = PRESETS.get(preset(), {}) if untouched else {}
        chosen = {"value": preset()} if untouched else {}
        updates = [change(by_name[name][0], *([values[name]] if name in values else [])) for name in names]
        return [gr.update(choices=list(PRESETS), **chosen), *updates]

    on_load(page, begin, outputs, **more)


def preset_form(
    controls: Sequence[Any],
    elem_id: Callable[[str], str],
    file: PresetFile,
    remedies: Mapping[Remedy, str],
) -> None:
    """A name, a button that saves what the controls show under it, and one that deletes the preset of that name.

    Args:
        controls: an accordion's, in the order of the knobs.
        elem_id: makes the page-wide id of a control.
        file: where they are kept.
        remedies: ways out in the words of the program around the page.
    """
    with gr.Row():
        name = forms.text("Name of your preset", 100, scale=3, max_lines=1, elem_id=elem_id("preset_name"))
        small = {"size": "sm", "scale": 1, "min_width": 120}
        save = gr.Button("Save as preset", elem_id=elem_id("preset_save"), **small)
        delete = gr.Button("Delete preset", elem_id=elem_id("preset_delete"), **small)
    for control in (name.control, save, delete):
        # The WebUI would keep what they say as a default.
        control.do_not_save_to_config = True
    message = gr.HTML(elem_id=elem_id("preset_message"))
    preset = controls[KNOBS.index(_PRESET)]
    form = Form({"name": name, "settings": settings_field(controls)}, "message", remedies)

    def store(name: str, settings: Settings) -> Updates:
        saved = file.save(name, settings)
        return {
            "preset": gr.update(choices=list(PRESETS), value=saved),
            "message": messages.note(f"Preset {saved!r} is saved."),
        }

    def remove(name: str) -> Updates:
        deleted = file.delete(name)
        return {
            "preset": gr.update(choices=list(PRESETS), value=CUSTOM),
            "message": messages.note(f"Preset {deleted!r} is deleted; the controls stay as they are."),
        }

    outputs = {"preset": preset, "message": message}
    form.on(save.click, store, outputs, queue=False)
    form.on(delete.click, remove, outputs, queue=False)
