"""Controls made from the table of knobs; knows gradio and no host."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ..settings import KNOBS, NO_EMBEDDING, Knob, Settings

ACCORDION = "Aesthetic Gradients"
_ROWS = (
    ("embedding",),
    ("weight", "steps"),
    ("lr", "slerp", "negative_prompt"),
    ("text",),
    ("slerp_angle", "text_negative"),
    ("centre", "centre_strength"),
)


def choices(names: Sequence[str]) -> list[str]:
    """What an embedding dropdown offers."""
    return [NO_EMBEDDING, *names]


def settings_accordion(
    names: Sequence[str],
    elem_id: Callable[[str], str],
    refresh_button: Callable[[Any, str], Any] = lambda dropdown, name: None,
    notice: str = "",
    explained: bool = False,
    opened: bool = False,
    initial: Settings | None = None,
) -> list[Any]:
    """The accordion with one control per knob, returned in the order of the knobs.

    Args:
        names: embeddings to choose from.
        elem_id: makes the page-wide id of a control from the knob's name.
        refresh_button: puts a button beside a dropdown of embeddings; is told the knob's name.
        notice: shown above the controls, which it switches off.
        explained: what a knob does stands under it, for pages without the WebUI's tooltips.
        opened: the accordion starts unfolded.
        initial: what the controls say at first, if not the defaults.
    """
    controls: dict[str, Any] = {}
    knobs = {knob.name: knob for knob in KNOBS}
    with gr.Accordion(ACCORDION, open=opened or bool(notice), elem_id=elem_id("accordion")):
        if notice:
            gr.HTML(f"<p><b>{html.escape(notice)}</b></p>")
        for row in _ROWS:
            with gr.Row():
                for name in row:
                    controls[name] = _control(
                        knobs[name],
                        names,
                        elem_id(name),
                        value=getattr(initial or Settings(), name),
                        interactive=not notice,
                        explained=explained,
                    )
                    if knobs[name].names_embedding:
                        refresh_button(controls[name], name)
        hints = {elem_id(knob.name): knob.help for knob in KNOBS}
        gr.HTML(f"<span hidden data-aesthetic-hints='{html.escape(json.dumps(hints), quote=True)}'></span>")
    return [controls[knob.name] for knob in KNOBS]


def _control(knob: Knob, names: Sequence[str], elem_id: str, value: object, interactive: bool, explained: bool) -> Any:
    common: dict[str, Any] = {
        "label": knob.label,
        "value": value,
        "elem_id": elem_id,
        "interactive": interactive,
        **({"info": knob.help} if explained else {}),
    }
    if knob.names_embedding:
        # Custom values, so that a pasted name that is gone is refused with a sentence instead of vanishing.
        return gr.Dropdown(choices=choices(names), allow_custom_value=True, **common)
    if knob.type is bool:
        return gr.Checkbox(**common)
    if knob.type is str:
        return gr.Textbox(placeholder=knob.placeholder, lines=1, **common)
    if knob.step is None:
        return gr.Number(**common)
    return gr.Slider(minimum=knob.minimum, maximum=knob.maximum, step=knob.step, **common)
