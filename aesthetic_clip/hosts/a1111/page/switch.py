"""The accordion with a switch in its header, as the WebUI's Hires. fix and Refiner have it, where the WebUI has such.

Off keeps what was chosen. The switch is the last of the script's arguments, and on unless it is said to be off, so
that API clients who know nothing of it get what they name. On the page it is ticked by whatever names an embedding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr
from modules import ui_components

from ....pages.accordion import ACCORDION, Fold
from ....pages.forms import js_argument
from ..script_arguments import SWITCH

_TURN_ON = "(name) => aestheticTurnOn({!r}, name)"


@contextlib.contextmanager
def switched(elem_id: Callable[[str], str], opened: bool) -> Iterator[Fold]:
    """The accordion around the controls, with its switch and the place for its line.

    One that has to stand open is gradio's own: the WebUI's stands as its switch does, once the page is there.
    """
    made = None if opened else getattr(ui_components, "InputAccordion", None)
    identity = elem_id("accordion")
    if made is None:
        with gr.Accordion(ACCORDION, open=opened, elem_id=identity):
            switch = gr.Checkbox(True, label="Enable", elem_id=elem_id(SWITCH))
            yield Fold(switch, gr.HTML(elem_id=elem_id("on")))
        return
    with made(True, label=ACCORDION, elem_id=identity) as switch:
        # It starts folded, and the page says no until it is unfolded; an API's request that says nothing means yes.
        switch.accordion.open = False
        # The WebUI would unfold it at every start.
        switch.do_not_save_to_config = True
        place = switch.extra() if hasattr(switch, "extra") else contextlib.nullcontext()
        with place:
            line = gr.HTML(elem_id=elem_id("on"))
        yield Fold(switch, line)


def follow(switch: Any, identity: str, embedding: Any) -> None:
    """Have the switch ticked when an embedding is named, by hand or by pasted parameters."""
    embedding.change(fn=None, inputs=[embedding], outputs=[], **js_argument(_TURN_ON.format(identity)))
