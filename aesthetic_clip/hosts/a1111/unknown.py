"""All that is seen in a host that is not known: an accordion with one sentence."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import scripts

from ...pages.accordion import ACCORDION
from .known import unknown_host


class AestheticScript(scripts.Script):  # type: ignore[misc]
    """Changes no job and hooks nothing."""

    def title(self) -> str:
        return ACCORDION

    def show(self, is_img2img: bool) -> object:
        return scripts.AlwaysVisible

    def ui(self, is_img2img: bool) -> list[Any]:
        with gr.Accordion(ACCORDION, open=False):
            gr.Markdown(unknown_host())
        return []
