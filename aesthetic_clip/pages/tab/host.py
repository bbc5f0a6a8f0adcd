"""What the tab needs of its host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from ...embeddings.library import Library
from ...errors import Remedy
from ...progress import Progress
from ...spaces import Space
from ..forms import Job

if TYPE_CHECKING:
    from ...clip.image_encoder import ImageEncoder

ID = "aesthetic_create"


class TabHost(NamedTuple):
    """What the tab needs of its host.

    Attributes:
        library: the embedding folders.
        spaces: CLIP spaces of the loaded model.
        encoder: image encoder of a space, ready to compute; the second argument says whether it may be downloaded.
        text_features: CLIP features of a text by the loaded model, by space.
        picture: the file of an item of a gallery, as the page sends it, if the host sends such here; it refuses with
            an AestheticError what it never sent.
        job: makes a long function one of the host's jobs; it gets a job id before its
            own arguments and returns values for the outputs, the last of which is HTML.
        progress: shows how far a job is: done, in all, a line of text; and the time left, counted from the last 0 done.
            Raises Interrupted if the user stopped the job.
        interrupt: interrupts it.
        submit_js: name of the page's function that starts a job, if it has one.
        folders_allowed: whether people at the page may name folders of this machine.
        remedies: ways out in the host's words.
        has_cards: whether it shows embeddings as cards, for which pictures can be made; it connects what makes them.
        demonstration: whether the page offers to try the demonstration; the host connects what there is of it.
    """

    library: Callable[[], Library]
    spaces: Callable[[], Sequence[Space]]
    encoder: Callable[[Space, bool], ImageEncoder]
    text_features: Callable[[str], dict[Space, Tensor]]
    picture: Callable[[object], Path] | None
    job: Callable[[Job, list[Any]], Job]
    progress: Progress
    interrupt: Callable[[], object]
    submit_js: str = ""
    folders_allowed: bool = True
    remedies: Mapping[Remedy, str] = MappingProxyType({})
    demonstration: bool = False
    has_cards: bool = False
