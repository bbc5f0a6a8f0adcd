"""Lists of embeddings to choose from, which behave the same in every release of gradio."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..embeddings.library import Library
from ..errors import AestheticError
from ..settings import Knob
from .forms import Field, js_argument, refused

_CLASS = "aesthetic-picker"
# Until gradio 3 a value that is in the list no more (a pasted name, a typed one) vanishes without a word unless custom
# values are allowed; then it is sent, and refused with a sentence. In 4 and later it is sent anyway, and a list that
# allows them goes on taking the chosen one's place for its name when the choices change.
_CUSTOM = "filterable" not in inspect.signature(gr.Dropdown.__init__).parameters

# What is typed into a list takes the place of what is chosen, instead of being put behind it ("Nonewarm").
_TYPING_REPLACES = """() => {
    const root = typeof gradioApp === "function" ? gradioApp() : document;
    if (!root.aestheticPickers) {
        root.aestheticPickers = true;
        root.addEventListener("focusin", (event) => {
            const field = event.target;
            // Later, since the click that brings the focus puts the cursor afterwards.
            if (field.closest(".CLASS")) setTimeout(() => document.activeElement === field && field.select(), 0);
        });
    }
    return [];
}""".replace("CLASS", _CLASS)


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
    # Gradio 3 knows no custom values where there may be several.
    more: dict[str, Any] = {"multiselect": True} if several else {"allow_custom_value": typed}
    if not several:
        # Without one gradio 4 and later choose the first.
        more.setdefault("value", control.pop("value", None))
    return gr.Dropdown(choices=list(offered), elem_classes=[_CLASS], **more, **control)


def one(label: str, library: Callable[[], Library], **control: Any) -> Field[str | None]:
    """One embedding of the library, or none."""

    def check(value: object) -> str | None:
        if value is None or value == "" or value == []:
            return None
        if not isinstance(value, str):
            raise refused(label, value, "an embedding of the list")
        library().find(value)
        return value

    return Field([dropdown(library().names(), label=label, **control)], check)


def several(label: str, library: Callable[[], Library], **control: Any) -> Field[list[str]]:
    """Any embeddings of the library, each once."""

    def check(value: object) -> list[str]:
        names = [] if value is None or value == "" else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise refused(label, value, "embeddings of the list")
        there = set(library().names())
        for name in names:
            if name not in there:
                library().find(name)
        if len(set(names)) < len(names):
            raise AestheticError(f"{label}: one is chosen twice.", do="Choose each once.")
        return list(names)

    return Field([dropdown(library().names(), several=True, label=label, **control)], check)


def on_load(page: Any, fn: Callable[..., Any], outputs: Sequence[Any], **more: Any) -> None:
    """Have ``fn`` called for each page that is opened, and its lists behave."""
    page.load(fn=fn, inputs=[], outputs=list(outputs), **js_argument(page.load, _TYPING_REPLACES), **more)


@dataclass(frozen=True)
class Lists:
    """Every place of a page that shows which embeddings there are.

    Attributes:
        library: the embeddings.
        elsewhere: lists of knobs, each with its knob.
        own: those of the library's form, by name.
        table: shows all of them.
        draw: draws the table.
    """

    library: Callable[[], Library]
    elsewhere: Sequence[tuple[Any, Knob]]
    own: dict[str, Any]
    table: Any
    draw: Callable[[Library], Any]

    @property
    def outputs(self) -> dict[str, Any]:
        """The components, by name."""
        others = {f"elsewhere {number}": shown for number, (shown, _) in enumerate(self.elsewhere)}
        return {**others, **self.own, "table": self.table}

    def fresh(self) -> dict[str, Any]:
        """What they show now."""
        library = self.library()
        names = library.names()
        others = {
            f"elsewhere {number}": gr.update(choices=choices(names, knob))
            for number, (_, knob) in enumerate(self.elsewhere)
        }
        own = {name: gr.update(choices=names) for name in self.own}
        return {**others, **own, "table": self.draw(library)}
