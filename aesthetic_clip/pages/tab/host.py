"""What the tab needs of its host, and the lists of embeddings that follow every change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image
from torch import Tensor

from ...embeddings.library import Library
from ...spaces import Space
from .. import messages as report
from ..accordion import choices

if TYPE_CHECKING:
    from ...clip.image_encoder import ImageEncoder

ID = "aesthetic_create"

Job = Callable[..., Any]


@dataclass(frozen=True)
class TabHost:
    """What the tab needs of its host.

    Attributes:
        library: the embedding folders.
        spaces: CLIP spaces of the loaded model.
        encoder: image encoder of a space, ready to compute; the second argument says whether it may be downloaded.
        text_features: CLIP features of a text by the loaded model, by space.
        picture: an item of a gallery as an image, if the host sends such here.
        job: makes a long function one of the host's jobs; it gets a job id before its
            own arguments and returns values for the outputs, the last of which is HTML.
        progress: shows how far a job is: done, in all, a line of text; and the time left, counted from the last 0 done.
        stopped: whether the user interrupted the job.
        interrupt: interrupts it.
        submit_js: name of the page's function that starts a job, if it has one.
        folders_allowed: whether people at the page may name folders of this machine.
        dropdowns: embedding dropdowns elsewhere, which follow every change.
    """

    library: Callable[[], Library]
    spaces: Callable[[], Sequence[Space]]
    encoder: Callable[[Space, bool], ImageEncoder]
    text_features: Callable[[str], dict[Space, Tensor]]
    picture: Callable[[Any], Image.Image] | None
    job: Callable[[Job, list[Any]], Job]
    progress: Callable[[int, int, str], None]
    stopped: Callable[[], bool]
    interrupt: Callable[[], object]
    submit_js: str | None = None
    folders_allowed: bool = True
    dropdowns: list[Any] = field(default_factory=list)


def fresh_lists(host: TabHost, own: int) -> list[Any]:
    """Fresh values for every list of embeddings: the host's dropdowns, ``own`` ones of the tab, the table."""
    library = host.library()
    names = library.names()
    return [
        *(gr.update(choices=choices(names)) for _ in host.dropdowns),
        *(gr.update(choices=names) for _ in range(own)),
        report.table(library),
    ]
