"""Controls made from the table of knobs; knows gradio and no host."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import gradio as gr

from ..settings import CUSTOM, KNOBS, MORE, NO_EMBEDDING, OFF, Choices, Kind, Knob, Settings
from . import picker
from .forms import js_argument
from .markup import Markup, html
from .presets import change, shown

ACCORDION = "Aesthetic Gradients"
_LONGEST_SAID = 60


class Fold(NamedTuple):
    """What the controls are folded away in.

    Attributes:
        switch: says whether they count; None if they always do.
        line: says what is on.
    """

    switch: Any = None
    line: Any = None


@contextlib.contextmanager
def plain(elem_id: Callable[[str], str], opened: bool) -> Iterator[Fold]:
    """An accordion without a switch."""
    with gr.Accordion(ACCORDION, open=opened, elem_id=elem_id("accordion")):
        yield Fold()


def settings_accordion(
    names: Sequence[str],
    elem_id: Callable[[str], str],
    refresh_button: Callable[[Any, str], Any] = lambda dropdown, name: None,
    notice: str = "",
    explained: bool = False,
    opened: bool = False,
    initial: Settings | None = None,
    knobs: Sequence[Knob] = KNOBS,
    more: Callable[[Sequence[Any]], None] = lambda controls: None,
    below: Callable[[Mapping[str, Any]], None] = lambda controls: None,
    preferred: Callable[[object], Mapping[str, object]] | None = None,
    around: Callable[[Callable[[str], str], bool], AbstractContextManager[Fold]] = plain,
) -> list[Any]:
    """The accordion with one control per knob, returned in the order of the knobs; its switch, if it has one, comes last.

    Args:
        names: embeddings to choose from.
        elem_id: makes the page-wide id of a control from the knob's name.
        refresh_button: puts a button beside a dropdown of embeddings; is told the knob's name.
        notice: shown above the controls, which it switches off.
        explained: what a knob does stands under it, for pages without the WebUI's tooltips.
        opened: the accordion starts unfolded; what is folded in it does so if it differs from what a preset says.
        initial: what the controls say at first, if not the defaults.
        knobs: the table.
        more: puts something below the knobs under More; is told the controls.
        below: puts something at the end of the accordion; is told the controls by the knobs' names.
        preferred: values of knobs, by name, that choosing an embedding by hand brings along; is told what was chosen.
        around: the accordion itself; is told how ids are made, and whether it starts unfolded.
    """
    controls: dict[str, Any] = {}
    expected = _expected(initial, knobs)

    def show(row: Sequence[Knob]) -> None:
        with gr.Row():
            for knob in row:
                value = getattr(initial, knob.name) if initial else knob.default
                controls[knob.name] = _control(knob, names, elem_id(knob.name), value, not notice, explained)
                if knob.names_embedding:
                    refresh_button(controls[knob.name], knob.name)

    with around(elem_id, opened or bool(notice)) as outside:
        if notice:
            gr.HTML(html("<p><b>{}</b></p>", notice))
        for fold, rows in _layout(knobs).items():
            changed = bool(initial) and any(getattr(initial, k.name) != expected[k.name] for row in rows for k in row)
            folded = gr.Accordion(fold, open=changed, elem_id=elem_id(f"fold_{fold.lower()}")) if fold else None
            with folded or contextlib.nullcontext():
                for row in rows:
                    show(row)
                if fold == MORE:
                    more([controls[knob.name] for knob in knobs if knob.name in controls])
        below(controls)
        hints = {elem_id(knob.name): knob.help for knob in knobs}
        gr.HTML(html("<span hidden data-aesthetic-hints='{}'></span>", json.dumps(hints)))
    by_name = {knob.name: knob for knob in knobs}
    for knob in knobs:
        _connect(knob, by_name, controls)
    if preferred is not None:
        _follow(preferred, by_name, controls)
    ordered = [controls[knob.name] for knob in knobs]
    if outside.line is not None:
        _say_what_is_on(outside, controls)
    return ordered if outside.switch is None else [*ordered, outside.switch]


def _follow(
    preferred: Callable[[object], Mapping[str, object]], knobs: Mapping[str, Knob], controls: Mapping[str, Any]
) -> None:
    """Have the controls show what is preferred for the embedding that is chosen by hand; pasted parameters say it themselves."""
    names = ["preset", *knobs["preset"].brings(list(knobs.values()))]

    def bring(chosen: object) -> list[Any]:
        values = preferred(chosen)
        return [change(knobs[name], *([values[name]] if name in values else [])) for name in names]

    controls["embedding"].input(
        bring,
        inputs=[controls["embedding"]],
        outputs=[controls[name] for name in names],
        preprocess=False,
        queue=False,
        show_progress="hidden",
    )


def _say_what_is_on(outside: Fold, controls: Mapping[str, Any]) -> None:
    said = {"switch": outside.switch, "embedding": controls["embedding"], "preset": controls["preset"]}

    def line(switch: object, embedding: object, preset: object) -> str:
        return str(what_is_on(switch is not False, embedding, preset))

    for control in said.values():
        control.change(
            line,
            inputs=list(said.values()),
            outputs=[outside.line],
            preprocess=False,
            queue=False,
            show_progress="hidden",
        )


def what_is_on(switch: bool, embedding: object, preset: object) -> Markup:
    """In a few words: the embedding and how strongly it counts; nothing if none is chosen."""
    texts = [text[:_LONGEST_SAID] for text in (embedding, preset) if isinstance(text, str)]
    if len(texts) < 2 or texts[0] in ("", NO_EMBEDDING):
        return html("")
    strength = f" · {texts[1].lower()}" if texts[1] != CUSTOM else ""
    return html("<span class='aesthetic-on'>{}{}{}</span>", "" if switch else "off: ", texts[0], strength)


def _layout(knobs: Sequence[Knob]) -> dict[str, list[list[Knob]]]:
    """By fold, what is in sight first: the rows of knobs that stand beside each other."""
    ordered = sorted(knobs, key=lambda knob: math.inf if knob.row is None else knob.row)
    layout: dict[str, list[list[Knob]]] = {"": []}
    for _, row in itertools.groupby(ordered, key=lambda knob: (knob.fold, knob.row or knob.name)):
        together = list(row)
        layout.setdefault(together[0].fold, []).append(together)
    return layout


def _control(knob: Knob, names: Sequence[str], elem_id: str, value: object, interactive: bool, explained: bool) -> Any:
    common: dict[str, Any] = {
        "label": knob.label,
        "value": shown(knob, value),
        "elem_id": elem_id,
        "interactive": interactive,
        **({"info": knob.help} if explained else {}),
    }
    if knob.kind is Kind.EMBEDDING:
        return picker.dropdown(picker.choices(names, knob), embeddings=True, **common)
    if knob.kind is Kind.CHOICE:
        return picker.dropdown(list(knob.choices), **common)
    if knob.kind is Kind.SWITCH:
        return gr.Checkbox(**common)
    if knob.kind is Kind.TEXT:
        return gr.Textbox(placeholder=knob.placeholder, lines=1, **common)
    if knob.optional:
        # As text, which can be empty: the WebUI takes the type of a control from its first value.
        return gr.Textbox(placeholder=f"{OFF} ({knob.range})", lines=1, max_lines=1, **common)
    step = {} if knob.step is None else {"step": knob.step}
    if not knob.typed:
        return gr.Slider(minimum=knob.minimum, maximum=knob.maximum, **step, **common)
    # Without its range, at which gradio would cut what is typed without a word.
    return gr.Number(**step, **common)


def _connect(knob: Knob, knobs: Mapping[str, Knob], controls: Mapping[str, Any]) -> None:
    control = controls[knob.name]
    if isinstance(control, gr.Number) and hasattr(control, "blur"):
        # An empty field means the default: then it should say so.
        control.blur(
            lambda value: change(knob, *([knob.default] if value is None else [])),
            inputs=[control],
            outputs=[control],
            queue=False,
            show_progress="hidden",
        )
    brought = knob.brings(list(knobs.values()))
    if not brought:
        return

    def bring(choice: object) -> Any:
        values = knob.choices.get(choice, {}) if isinstance(choice, str) else {}
        updates = [change(knobs[name], *([values[name]] if name in values else [])) for name in brought]
        return updates if len(updates) > 1 else updates[0]

    # By hand only: pasted parameters say the others themselves.
    outputs = [controls[name] for name in brought]
    control.input(bring, inputs=[control], outputs=outputs, queue=False, show_progress="hidden")
    for name in brought:
        event = controls[name].input
        event(fn=None, inputs=[control], outputs=[control], queue=False, **js_argument(_leave(knob, name)))


def _leave(knob: Knob, name: str) -> str:
    """A function of the page: the choice as it is, or none if another value was given by hand to what it brings."""
    fixed = knob.choices.built_in if isinstance(knob.choices, Choices) else knob.choices
    others = [choice for choice, values in fixed.items() if name not in values]
    return f"(choice) => {json.dumps(others)}.includes(choice) ? choice : {json.dumps(knob.default)}"


def _expected(initial: Settings | None, knobs: Sequence[Knob]) -> dict[str, object]:
    """What the knobs say where nothing but a choice was made."""
    values: dict[str, object] = {knob.name: knob.default for knob in knobs}
    for knob in knobs:
        if initial is not None and knob.kind is Kind.CHOICE:
            values.update(knob.choices.get(getattr(initial, knob.name), {}))
    return values
