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
from .forms import js_argument

_CLASS = "aesthetic-picker"
# Until gradio 3 a value that is in the list no more (a pasted name, a typed one) vanishes without a word unless custom
# values are allowed; then it is sent, and refused with a sentence. In 4 and later it is sent anyway, and a list that
# allows them goes on taking the chosen one's place for its name when the choices change.
_CUSTOM = "filterable" not in inspect.signature(gr.Dropdown.__init__).parameters

# What the page does by itself.
_SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


def choices(names: Sequence[str], knob: Knob) -> list[str]:
    """What the list of a knob offers."""
    return [*knob.words, *names]


def dropdown(offered: Sequence[str], several: bool = False, typed: bool = _CUSTOM, **control: Any) -> Any:
    """A list of embeddings as a component.

    Args:
        offered: names; see :func:`choices`.
        several: more than one may be chosen.
        typed: another name may be typed, too.
        control: for gradio.
    """
    # Gradio 3 knows no custom values where there may be several. Without a value gradio 4 and later choose the first.
    more: dict[str, Any] = {"multiselect": True} if several else {"value": None, "allow_custom_value": typed}
    return gr.Dropdown(choices=list(offered), elem_classes=[_CLASS], **{**more, **control})


def on_load(page: Any, fn: Callable[..., Any], outputs: Sequence[Any], **more: Any) -> None:
    """Have ``fn`` called for each page that is opened, and its lists behave."""
    page.load(fn=fn, inputs=[], outputs=list(outputs), **js_argument(page.load, _SCRIPT), **more)


@dataclass(frozen=True)
class Lists:
    """The lists of a page in which an embedding or none may be chosen.

    Attributes:
        library: the embeddings.
        dropdowns: the components, each with its knob.
    """

    library: Callable[[], Library]
    dropdowns: Sequence[tuple[Any, Knob]]

    @property
    def outputs(self) -> dict[str, Any]:
        """The components, by name."""
        return {f"list {number}": shown for number, (shown, _) in enumerate(self.dropdowns)}

    def fresh(self) -> dict[str, Any]:
        """What they show now."""
        names = self.library().names()
        return {
            f"list {number}": gr.update(choices=choices(names, knob)) for number, (_, knob) in enumerate(self.dropdowns)
        }
