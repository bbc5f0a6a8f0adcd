"""Single pictures, encoded beside the WebUI's work, and the embeddings of this session that they make."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from modules import call_queue, devices

from ...create.sources import Source
from ...embeddings.embedding import Embedding
from ...embeddings.profile_files import Picture
from ...errors import AestheticError
from ...pages.thumbs import ThumbsHost
from ...progress import Progress, silent
from ...spaces import Space
from . import options
from .families.encoders import known_spaces, loaded_model, model_spaces
from .image_encoders import image_encoder
from .remedies import REMEDIES

if TYPE_CHECKING:
    from ...clip.image_encoder import ImageEncoder

THIS = "this picture "
_KEPT_SECONDS = 300
_MOST_SEEN = 200
_MOST_KEPT = 1000

_seen: OrderedDict[tuple[str, tuple[Space, ...]], Picture] = OrderedDict()
_kept: OrderedDict[str, Embedding] = OrderedDict()
_guard = threading.Lock()


class _Encoders:
    """Image encoders that stay in main memory for some minutes, since people like pictures one after the other."""

    def __init__(self) -> None:
        self._there: dict[tuple[Space, str], ImageEncoder] = {}
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def open(self, spaces: Sequence[Space]) -> Iterator[list[ImageEncoder]]:
        """Those of the spaces that can be had, at least one; the WebUI's queue has to be held."""
        if self._timer is not None:
            self._timer.cancel()
        found, faults = [], []
        for space in spaces:
            key = (space, options.encoder_path(space))
            try:
                if key not in self._there:
                    self._there[key] = image_encoder(space, False, silent)
                found.append(self._there[key])
            except AestheticError as error:
                faults.append(error)
        try:
            if not found:
                raise faults[0]
            yield found
        finally:
            for encoder in found:
                encoder.to("cpu")
            devices.torch_gc()
            self._timer = threading.Timer(_KEPT_SECONDS, self.close)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        with call_queue.queue_lock:
            while self._there:
                self._there.popitem()[1].close()


_encoders = _Encoders()


def look(source: Source) -> Picture:
    """A picture with its vectors in the spaces of the loaded checkpoint for which there is an image encoder.

    It waits for a generation that runs, and the next one waits for it.

    Raises:
        AestheticError: there is no image encoder, or the picture can't be read.
    """
    # Here, so that the WebUI starts without it.
    from ...create import looking

    unseen = looking.look(source, [])
    with call_queue.queue_lock:
        spaces = tuple(model_spaces(loaded_model()))
        known = _seen.get((unseen.digest, spaces))
        if known is None:
            with _encoders.open(spaces) as encoders:
                known = _encoded(source, encoders)
            # Without all encoders it may have more vectors the next time.
            if len(known.vectors) == len(spaces):
                _seen[unseen.digest, spaces] = known
                while len(_seen) > _MOST_SEEN:
                    _seen.popitem(last=False)
    return known._replace(name=unseen.name, path=unseen.path)


def _encoded(source: Source, encoders: Sequence[ImageEncoder]) -> Picture:
    from ...create import looking

    for device in dict.fromkeys((devices.device, torch.device("cpu"))):
        for encoder in encoders:
            encoder.to("cpu")  # makes room on the card first
        try:
            return looking.look(source, [encoder.to(device) for encoder in encoders])
        except torch.cuda.OutOfMemoryError:  # beside the checkpoint; one picture is quickly done on the processor
            continue
    raise AestheticError(
        "There was not enough memory to look at the picture.", do="Close other programs, and try again."
    )


def fetch(progress: Progress = silent) -> None:
    """Have the image encoders of the loaded checkpoint downloaded, where they are missing.

    Raises:
        AestheticError: that can't be done.
        Interrupted: ``progress`` raised it; what has come is kept.
    """
    with call_queue.queue_lock:
        spaces = model_spaces(loaded_model())
    # Those of the first text encoder are enough to begin with: SDXL's second has one of several gigabytes.
    image_encoder(spaces[0], True, progress).close()


def keep(picture: Picture) -> str:
    """Make a picture an embedding of this session; its name."""
    from ...create.looking import embedding_of

    name = f"{THIS}{picture.digest[:8]}"
    with _guard:
        _kept[name] = embedding_of(picture, name)
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return name


def load(name: str) -> Embedding:
    """An embedding by its name, of the library or of this session.

    Raises:
        AestheticError: there is none, or its file can't be used.
    """
    if name in _kept:
        return _kept[name]
    library = options.embeddings()
    if name.startswith(THIS) and name not in library.names():
        raise AestheticError(
            f"The aesthetic embedding {name!r} is gone.",
            "It was made of a single picture, for one run of the WebUI.",
            "Press 'In the taste of this picture' under the picture again, or like it, which keeps it.",
        )
    return library.load(name)


HOST = ThumbsHost(options.embeddings, look, fetch, keep, known_spaces, REMEDIES)
"""What pages need to take pictures."""
