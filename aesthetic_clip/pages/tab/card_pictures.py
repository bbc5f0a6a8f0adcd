"""Pictures for the cards of embeddings that have none: one prompt, in the taste of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from ...errors import AestheticError
from .. import messages, table
from ..forms import Field, Form, Updates
from .host import ID, TabHost

_INTERRUPTED = "Interrupted: the pictures that were ready are beside their embeddings."


class Painter(NamedTuple):
    """What makes the pictures.

    Attributes:
        controls: the page's fields for a picture, by names that ``paint`` knows; it checks what they send.
        paint: a picture as these ask for it, in the taste of an embedding. Raises AestheticError, Interrupted.
    """

    controls: Mapping[str, Any]
    paint: Callable[[str, Mapping[str, object]], Image.Image]


class CardPictures(NamedTuple):
    """The parts on the page.

    Attributes:
        start, stop: buttons.
        message: what happened.
    """

    start: Any
    stop: Any
    message: Any

    def connect(self, host: TabHost, chosen: Any, painter: Painter) -> Any:
        """Make the buttons work.

        Args:
            host: whose library and jobs these are.
            chosen: the component that holds the chosen embeddings.
            painter: what makes the pictures.

        Returns:
            The event of their making, for what comes after it.
        """

        def start(chosen: list[str], asked: Mapping[str, object]) -> Updates:
            # Here, so that a program with this page starts without it.
            from ...create.contact_sheet import png

            library = host.library()
            names, left = _without_picture(host, chosen)
            for number, name in enumerate(names):
                host.progress(number, len(names), f"A picture for {name}")
                library.save_preview(name, png([painter.paint(name, asked)]))
            return {"message": messages.note(" ".join([f"Made pictures for {len(names)}: {', '.join(names)}.", *left]))}

        fields: dict[str, Field[Any]] = {
            "chosen": Field([chosen], table.chosen_keys("Embeddings")),
            "asked": Field(list(painter.controls.values()), lambda *values: dict(zip(painter.controls, values))),
        }
        form = Form(fields, "message", host.remedies, _INTERRUPTED)
        self.stop.click(fn=host.interrupt, inputs=[], outputs=[], queue=False)
        return form.on(
            self.start.click,
            start,
            # The chosen ones stay: a job's values are a list, which gradio takes for the value where it is the only one.
            {"chosen": chosen, "message": self.message},
            job=host.job,
            js="aestheticPictures",
            show_progress="hidden",
        )


def build() -> CardPictures:
    """The parts inside the current ``gr.Blocks``."""
    with gr.Accordion("Pictures for the cards", open=False, elem_id=f"{ID}_pictures_accordion"):
        gr.HTML(
            "<p>Makes a picture for each chosen embedding that has none, or for all of them if none is chosen. "
            "Prompt, size, steps and sampler are those in txt2img.</p>"
        )
        gr.HTML(elem_id=f"{ID}_pictures_progress")
        with gr.Row():
            start = gr.Button("Make pictures", elem_id=f"{ID}_pictures")
            stop = gr.Button("Interrupt", elem_id=f"{ID}_pictures_stop")
        message = gr.HTML(elem_id=f"{ID}_pictures_message")
    return CardPictures(start, stop, message)


def _without_picture(host: TabHost, chosen: Sequence[str]) -> tuple[list[str], list[str]]:
    """Those to make one for, and sentences about the others that were chosen."""
    from ...embeddings.fitting import misfit

    spaces = list(host.spaces())
    entries = {entry.name: entry for entry in host.library().entries()}
    asked = [name for name in chosen if name in entries] or list(entries)
    pictured = [name for name in asked if entries[name].preview]
    unfit = [name for name in asked if name not in pictured and misfit(entries[name], spaces)]
    names = [name for name in asked if name not in pictured and name not in unfit]
    left = []
    if unfit:
        left.append(f"Not of this checkpoint: {', '.join(unfit)}.")
    if pictured and chosen:
        left.append(f"Has a picture, which the card's own editor replaces: {', '.join(pictured)}.")
    if not names:
        raise AestheticError("There is no picture to make.", " ".join(left) or "Every embedding has one.")
    return names, left
