"""Lists of embeddings to choose from, which behave the same in every release of gradio."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..embeddings.library import Library
from ..settings import Knob
from .forms import Field, Form, Updates, checked_text, js_argument
from .index import Index, Question, digest, question

_CLASS = "aesthetic-picker"
_OF_EMBEDDINGS = "aesthetic-embeddings"
_LISTED_ONLY = "aesthetic-listed-only"
_ID = "aesthetic_lists"
HIDDEN = "aesthetic-hidden"
# Until gradio 3 a value that is in the list no more (a pasted name, a typed one) vanishes without a word unless custom
# values are allowed; then it is sent, and refused with a sentence. In 4 and later it is sent anyway, and a list that
# allows them goes on taking the chosen one's place for its name when the choices change.
_CUSTOM = "filterable" not in inspect.signature(gr.Dropdown.__init__).parameters

_SCRIPTED = "_aesthetic_scripted"
# What the page does by itself.
_SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
# The themes' own colours of what stands in an empty field, and of a tab that is not open, have a contrast of 2.5 to 1.
STYLE = """<style>
[id*=aesthetic_] {--input-placeholder-color: #6b7280; --body-text-color-subdued: #4b5563}
.dark [id*=aesthetic_] {--input-placeholder-color: #9ca3af; --body-text-color-subdued: #d1d5db}
.aesthetic-hidden {display: none !important}
.aesthetic-embeddings li {flex-wrap: wrap; align-items: center; min-height: 2.2em}
.aesthetic-embeddings[data-aesthetic-pictured] li::before {content: ""; flex: none; width: 40px; height: 40px;
    margin-right: .5em; border-radius: 4px; background: var(--aesthetic-picture, none) center / cover}
.aesthetic-embeddings li[data-aesthetic-misfit] {opacity: .75}
.aesthetic-embeddings li[data-aesthetic-misfit]::after {content: "⚠ " attr(data-aesthetic-misfit);
    flex: 0 0 100%; box-sizing: border-box; padding-left: 20px; font-size: .85em; white-space: normal}
.aesthetic-embeddings[data-aesthetic-pictured] li[data-aesthetic-misfit]::after {padding-left: 68px}
.aesthetic-primary {background: #c2410c !important; color: white !important}
.aesthetic-primary:hover {background: #9a3412 !important}
@media (max-width: 640px) {.aesthetic-embeddings .options {min-width: 0 !important}}
</style>"""


def choices(names: Sequence[str], knob: Knob) -> list[str]:
    """What the list of a knob offers."""
    return [*knob.words, *names]


def dropdown(
    offered: Sequence[str], several: bool = False, typed: bool = _CUSTOM, embeddings: bool = False, **control: Any
) -> Any:
    """A list to choose from as a component.

    Args:
        offered: names; see :func:`choices`.
        several: more than one may be chosen.
        typed: another name may be typed, too.
        embeddings: what is offered are embeddings; ``page.js`` shows what :class:`Index` knows of them.
        control: for gradio.
    """
    # Gradio 3 knows no custom values where there may be several. Without a value gradio 4 and later choose the first.
    more: dict[str, Any] = {"multiselect": True} if several else {"value": None, "allow_custom_value": typed}
    classes = [_CLASS, *([_OF_EMBEDDINGS] if embeddings else []), *([] if typed else [_LISTED_ONLY])]
    return gr.Dropdown(choices=list(offered), elem_classes=classes, **{**more, **control})


def on_load(page: Any, fn: Callable[..., Any], outputs: Sequence[Any], **more: Any) -> None:
    """Have ``fn`` called for each page that is opened, and its lists behave."""
    # Once in each page's description.
    script = {} if hasattr(page, _SCRIPTED) else js_argument(_SCRIPT)
    setattr(page, _SCRIPTED, True)
    page.load(fn=fn, inputs=[], outputs=list(outputs), **script, **more)


@dataclass(frozen=True)
class Lists:
    """The lists of a page in which an embedding or none may be chosen.

    Attributes:
        index: the embeddings.
        dropdowns: the components, each with its knob.
        order: a field with a digest of what they offer.
    """

    index: Index
    dropdowns: Sequence[tuple[Any, Knob]]
    order: Any

    @property
    def library(self) -> Callable[[], Library]:
        return self.index.library

    @property
    def outputs(self) -> dict[str, Any]:
        """The components, by name."""
        shown = {f"list {number}": shown for number, (shown, _) in enumerate(self.dropdowns)}
        return {"order": self.order, **shown}

    def fresh(self) -> dict[str, Any]:
        """What they show now."""
        names = self.index.names()
        shown = {
            f"list {number}": gr.update(choices=choices(names, knob)) for number, (_, knob) in enumerate(self.dropdowns)
        }
        return {"order": digest(names), **shown}


def lists(index: Index, dropdowns: Sequence[tuple[Any, Knob]]) -> Lists:
    """Make the lists of a page know what there is of embeddings, inside the current ``gr.Blocks``."""
    gr.HTML(STYLE)
    ask, answer, order = (
        gr.Textbox("", label=f"Lists: {name}", elem_id=f"{_ID}_{name}", elem_classes=[HIDDEN])
        for name in ("ask", "answer", "order")
    )
    for field in (ask, answer, order):
        # The WebUI would keep what they say as a default.
        field.do_not_save_to_config = True
    made = Lists(index, dropdowns, order)

    def answered(asked: Question, order: str) -> Updates:
        late = order != digest(index.names())
        return {
            "answer": index.answer(asked, late and asked.still),
            **({} if asked.still or not late else made.fresh()),
        }

    form = Form({"asked": Field([ask], question), "order": Field([order], checked_text("Order", 100))}, "trouble", {})
    outputs = {"answer": answer, **made.outputs, "trouble": gr.HTML(elem_classes=[HIDDEN])}
    # Not its input: see table.py.
    form.on(ask.change, answered, outputs, queue=False, show_progress="hidden")
    told = answer.change
    told(fn=None, inputs=[answer], outputs=[], queue=False, **js_argument("(text) => aestheticAnswer(text)"))
    return made
