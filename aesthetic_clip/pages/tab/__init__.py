"""The tab "Create aesthetic embedding": make embeddings, and look after them.

Knows gradio (3.41 to current) and the core; what only a host can do is handed in as :class:`TabHost`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from ..forms import Job
from ..picker import Lists, on_load
from . import create_form, hints, library_form, tastes_form
from .card_pictures import Painter
from .host import ID, TabHost

__all__ = ["ID", "TITLE", "Job", "Painter", "Tab", "TabHost", "build"]

TITLE = "Create aesthetic embedding"


class Tab(NamedTuple):
    """Components of the tab that others connect to.

    Attributes:
        sent: gallery of pictures that were sent here.
        sent_accordion: what it is folded away in.
        library: the form that looks after embeddings.
        lists: those of embeddings elsewhere on the page.
    """

    sent: Any
    sent_accordion: Any
    library: library_form.LibraryForm
    lists: Lists

    def follow(self, page: Any, **more: Any) -> None:
        """Fill the lists of each page that is opened: it is built when the program starts, and embeddings come later."""
        outputs = {**self.lists.outputs, **self.library.tables}

        def fresh() -> list[Any]:
            values = {**self.lists.fresh(), **self.library.drawn()}
            return [values[name] for name in outputs]

        on_load(page, fresh, list(outputs.values()), **more)


def build(host: TabHost, lists: Lists) -> Tab:
    """Build the tab inside the current ``gr.Blocks``.

    Args:
        host: what only it can do.
        lists: those of embeddings on the same page, which follow every change.
    """
    with gr.Tabs(elem_id=f"{ID}_tabs"):
        with gr.TabItem("Create", id="create"):
            form = create_form.build(host)
        with gr.TabItem("Library", id="library"):
            library = library_form.build(host)
        with gr.TabItem("Tastes", id="tastes") as tastes_tab:
            tastes = tastes_form.build(host)
    hints.build()
    library.follow(form.connect(lists))
    library.connect(lists)
    tastes.connect(lists)
    tastes.refresh(tastes_tab.select)
    return Tab(form.sent, form.sent_accordion, library, lists)
