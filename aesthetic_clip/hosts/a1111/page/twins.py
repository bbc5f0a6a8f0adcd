"""A picture's twin without the taste: generated once more by its seed with the accordion off, then both over each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from modules import ui_components

from ....errors import AestheticError
from ....pages import messages
from ....pages.forms import Field, Form, Updates, checked_text, js_argument, json_object
from ....pages.markup import html
from ..remedies import REMEDIES
from .gallery import first_picture, gallery_file, selected_file

_LONGEST = 4_000
_MOST_INFO = 8 * 2**20
_NUMBER = r"(?:^|[\n,] ?){}: (-?\d{{1,20}})(?:,|\n|$)"
_KEY = re.compile(r"(?:^|, )([\w][\w \-/]*): ")


class Original(NamedTuple):
    """A picture of a gallery and what it was made with."""

    file: Path
    parameters: str

    def number(self, name: str) -> int | None:
        """A whole number among its parameters."""
        found = re.search(_NUMBER.format(name), self.parameters)
        return int(found[1]) if found else None

    @property
    def has_taste(self) -> bool:
        return "Aesthetic " in self.parameters or "<aesthetic:" in self.parameters


class Twin(NamedTuple):
    """The parts under one gallery.

    Attributes:
        tab: ``txt2img`` or ``img2img``.
        start: the button.
        order: tells the page what to make, as JSON.
        made: a hidden button that the page presses when the twin is there.
        message: both pictures over each other, or what went wrong.
    """

    tab: str
    start: Any
    order: Any
    made: Any
    message: Any

    def connect(self, gallery: Any, info: Any) -> None:
        """Make the button work, for the pictures of a gallery and their generation info."""
        shown: Field[Original] = Field([gallery, info], _original)
        order: Field[str] = Field([self.order], checked_text("Order", _LONGEST))
        form = Form({"shown": shown, "order": order}, "message", REMEDIES)
        outputs = {"order": self.order, "message": self.message}
        selected = f"(...args) => aestheticTwinOf({self.tab!r}, args)"

        def begin(shown: Original) -> Updates:
            if not shown.has_taste:
                raise AestheticError("This picture has no taste to leave out.", "It was made without an embedding.")
            seeds = {"seed": shown.number("Seed"), "subseed": shown.number("Variation seed")}
            if seeds["seed"] is None:
                raise AestheticError("This picture can't be made again.", "Its parameters name no seed.")
            return {
                "order": json.dumps(
                    {**seeds, "file": str(shown.file), "parameters": shown.parameters[: _LONGEST // 2]}
                ),
                "message": messages.note("Making the same picture without the taste …"),
            }

        def compare(shown: Original, order: str) -> Updates:
            before = _read(order)
            if shown.has_taste:
                raise AestheticError("The twin was not made.", "The last picture has a taste itself.", "Try again.")
            if str(shown.number("Seed")) != str(before.get("seed")):
                raise AestheticError("The twin was not made.", "The last picture has another seed.", "Try again.")
            taste = gallery_file(str(before.get("file", "")))
            return {
                "message": html(
                    "<p>Without the taste on the left, with it on the right: move the handle.{}</p>{}",
                    _differences(str(before.get("parameters", "")), shown.parameters),
                    messages.slider(_small(shown.file), _small(taste), "jpeg"),
                ),
                "order": "",
            }

        nothing = {"order": ""}
        quiet: dict[str, Any] = {"show_progress": "hidden"}
        begun = form.on(self.start.click, begin, outputs, failed=lambda: nothing, js=selected, **quiet)
        make = f"(order) => aestheticTwin({self.tab!r}, order)"
        begun.then(fn=None, inputs=[self.order], outputs=[], **js_argument(make))
        form.on(self.made.click, compare, outputs, failed=lambda: nothing, js=selected, **quiet)


def build(tab: str) -> Twin:
    """The parts inside the current ``gr.Blocks``."""
    elem_id = f"{tab}_aesthetic_twin"
    with ui_components.FormRow(elem_id=f"{elem_id}_row"):
        start = gr.Button("The same without the taste", elem_id=elem_id, size="sm")
    message = gr.HTML(elem_id=f"{elem_id}_message")
    order = gr.Textbox(visible=False, elem_id=f"{elem_id}_order")
    order.do_not_save_to_config = True
    made = gr.Button(visible=False, elem_id=f"{elem_id}_made")
    return Twin(tab, start, order, made, message)


def _original(value: object, info: object) -> Original:
    if isinstance(value, dict) and value.get("script") not in (None, "", "None"):
        raise AestheticError(
            "A twin can't be made while a script is chosen.",
            f"It is {str(value['script'])[:60]!r}, which makes pictures of its own.",
            "Choose None under Script.",
        )
    file = selected_file(value, info)
    texts = (json_object(info, _MOST_INFO) or {}).get("infotexts")
    chosen = value.get("index") if isinstance(value, dict) else None
    index = chosen if isinstance(chosen, int) and chosen >= 0 else first_picture(info)
    text = texts[index] if isinstance(texts, list) and index < len(texts) else ""
    return Original(file, text if isinstance(text, str) else "")


def _read(order: str) -> dict[str, Any]:
    read = json_object(order, 4 * _LONGEST)
    if read is None:
        raise AestheticError("The twin was not made.", "The page has lost what it is of.", "Try again.")
    return read


def _differences(before: str, after: str) -> str:
    """A sentence about what else is not the same, since the form has changed since the picture was made."""
    one, other = _parameters(before), _parameters(after)
    names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
    return f" Not the same, since the form has changed: {', '.join(names)}." if names else ""


def _parameters(text: str) -> dict[str, str]:
    """Of an infotext, but for what is the taste's."""
    prompts, _, last = text.rpartition("\n")
    places = list(_KEY.finditer(last))
    ends = [place.start() for place in places[1:]] + [len(last)]
    values = {place[1]: last[place.end() : end].rstrip(", ") for place, end in zip(places, ends)}
    own = {name: value for name, value in values.items() if not name.startswith(("Aesthetic ", "Batch "))}
    return {**own, "prompt": " ".join(re.sub(r"<aesthetic:[^<>]*>", "", prompts).split())}


def _small(file: Path) -> bytes:
    # Here, so that the WebUI starts without it.
    from ....create.images import UnreadableImage, thumbnail

    try:
        return thumbnail(file, 768)
    except UnreadableImage as error:
        raise AestheticError(f"{file.name} can't be shown.", f"{error.reason}.") from error
