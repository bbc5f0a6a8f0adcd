"""The tab "Create aesthetic embedding": make embeddings, and look after them.

Knows gradio (3.41 to current) and the core; what only a host can do is handed in as :class:`TabHost`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from . import create_form, library_form
from .host import ID, Job, TabHost, fresh_lists

__all__ = ["ID", "TITLE", "Job", "Tab", "TabHost", "build"]

TITLE = "Create aesthetic embedding"


@dataclass(frozen=True)
class Tab:
    """Components of the tab that others connect to.

    Attributes:
        sent: gallery of pictures that were sent here.
        sent_accordion: what it is folded away in.
        lists: every list of embeddings, here and elsewhere.
        fresh_lists: their values now, for a page that is opened later than this was built.
    """

    sent: Any
    sent_accordion: Any
    lists: list[Any]
    fresh_lists: Callable[[], list[Any]]


def build(host: TabHost) -> Tab:
    """Build the tab inside the current ``gr.Blocks``."""
    with gr.Tabs(elem_id=f"{ID}_tabs"):
        with gr.TabItem("Create", id="create"):
            form = create_form.build(host)
        with gr.TabItem("Library", id="library"):
            shelf = library_form.build(host)
    lists = [*host.dropdowns, *shelf.dropdowns, shelf.table]
    create_form.connect(host, form, lists)
    library_form.connect(host, shelf, lists)
    return Tab(form.sent, form.sent_accordion, lists, lambda: fresh_lists(host, len(shelf.dropdowns)))
