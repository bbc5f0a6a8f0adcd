"""Making an aesthetic embedding: pictures in, the mean of their features out."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..clip.image_encoder import ImageEncoder
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from ..embeddings.metadata import Groups, Metadata
from ..errors import AestheticError, Interrupted
from ..progress import Progress, silent
from ..spaces import Space
from .averaging import FeatureSum
from .contact_sheet import Near, opened_again, png
from .limits import checked_batch_size
from .loader import Decoded, batches
from .sources import Skipped, Source, Sources, left_out_line, name_of
from .statistics import Histogram, Tally


@dataclass
class CreateResult:
    """What came of a pile of pictures.

    Attributes:
        sums: the features' sums, by space; they merge with those of other runs.
        model_ids: which encoder made them, by space.
        skipped: pictures that were not used, and folders that could not be read.
        mean_cosine: mean cosine of all pictures to their mean, by space.
        histograms: of these cosines, by space; of a fair sample of ``SAMPLE`` pictures if there are more.
        nearest: those nearest to the mean in the first space, nearest first; from the same sample.
        source_hash: of the sources, see :func:`~aesthetic_clip.embeddings.metadata.source_hash`.
        complete: False if it was stopped, and kept as far as it had come.
        left_out: how many files of each kind that are evidently no pictures lay beside them.
        groups: those that the pictures fall into in the first space, where there are enough to tell.
    """

    sums: dict[Space, FeatureSum]
    model_ids: dict[Space, str]
    skipped: list[Skipped]
    mean_cosine: dict[Space, float]
    histograms: dict[Space, Histogram]
    nearest: list[Near]
    source_hash: str
    complete: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict)
    groups: Groups | None = None

    @property
    def used(self) -> int:
        return next(iter(self.sums.values())).count

    @property
    def raw(self) -> bool:
        return next(iter(self.sums.values())).raw


def create(
    sources: Sources | Sequence[Source],
    encoders: Sequence[ImageEncoder],
    *,
    batch_size: int = 16,
    raw: bool = False,
    progress: Progress = silent,
    keep_partial: bool = False,
    nearest: int = 9,
    workers: int = 0,
) -> CreateResult:
    """The mean of the pictures' features in each encoder's space (Gallego 2022, section 2).

    A picture that can't be used is skipped and listed. Pictures are decoded in
    threads while the encoders compute; how many are in memory at once depends on
    ``batch_size`` and ``workers`` only.

    Args:
        sources: paths, or names with contents (path, bytes, file or image); these must stay readable until the end.
        encoders: one per space, where they are to compute; they are not closed.
        batch_size: pictures per step of the encoders, 1 to 256.
        raw: average the features as they come (the paper's code) instead of their unit vectors.
        progress: is told the pictures done, several times per batch.
        keep_partial: when interrupted, give what there is instead of nothing.
        nearest: how many pictures of the preview.
        workers: decoding threads; 0 for as many as help.

    Raises:
        AestheticError: no picture could be used, or the encoders ran out of memory.
        Interrupted: ``progress`` raised it, and nothing is to be kept.
    """
    batch_size = checked_batch_size(batch_size)
    spaces = [encoder.space for encoder in encoders]
    if not spaces or len(set(spaces)) < len(spaces):
        raise AestheticError(
            "There is no embedding to make.",
            "It takes one image encoder for each CLIP space.",
            "Choose at least one space, each once.",
        )
    if not isinstance(sources, Sources):
        sources = Sources(more=sources)
    tally, skipped = Tally(spaces, raw), list[Skipped]()
    complete = False
    try:
        _encode_all(sources, encoders, batch_size, workers, tally, skipped, progress)
        complete = True
    except Interrupted:
        if not (keep_partial and tally.used):
            raise
    skipped = [*sources.skipped, *skipped]
    if not tally.used:
        raise AestheticError(
            "No embedding was made.",
            _why_none(skipped, sources),
            "Choose a folder with pictures, such as JPEG, PNG or WebP.",
        )
    return CreateResult(
        tally.sums,
        {encoder.space: encoder.model_id for encoder in encoders},
        skipped,
        tally.mean_cosines(),
        tally.histograms(),
        opened_again(tally.nearest(nearest)),
        sources.hash,
        complete,
        sources.left_out,
        tally.groups(),
    )


def _encode_all(
    sources: Sources,
    encoders: Sequence[ImageEncoder],
    batch_size: int,
    workers: int,
    tally: Tally,
    skipped: list[Skipped],
    progress: Progress,
) -> None:
    total, done, start = len(sources), 0, time.monotonic()

    def tell() -> None:
        rate = done / max(time.monotonic() - start, 1e-9)
        line = f"{done:,} of {total:,} pictures, {rate:.1f} per second" if done else "Reading the first pictures"
        progress(done, total, line)

    sizes = sorted({encoder.size for encoder in encoders})
    # A GPU works on one batch while the one before is added up and the next one is read.
    begun: deque[_Begun] = deque()
    at_work = int(any(encoder.device.type != "cpu" for encoder in encoders))

    def finish(most: int) -> None:
        nonlocal done
        while len(begun) > most:
            batch = begun.popleft()
            _add(batch, tally, skipped)
            done += len(batch.pictures)
            tell()

    # Closed at once when it is interrupted, so that no thread stays behind.
    with contextlib.closing(batches(sources, sizes, batch_size, workers, tell)) as stream:
        for pictures in stream:
            begun.append(_begin(pictures, encoders))
            finish(at_work)
        finish(0)


class _Begun(NamedTuple):
    """A batch, and the features (B, D) of those that could be read, by space, on which a GPU may still be at work."""

    pictures: Sequence[Decoded]
    features: dict[Space, Tensor]


def _begin(pictures: Sequence[Decoded], encoders: Sequence[ImageEncoder]) -> _Begun:
    good = [item for item in pictures if not item.failure]
    if not good:
        return _Begun(pictures, {})
    with _explained_out_of_memory(len(good)):
        crops = {size: torch.stack([item.crops[size] for item in good]) for size in {e.size for e in encoders}}
        return _Begun(pictures, {encoder.space: encoder.begin(crops[encoder.size]) for encoder in encoders})


def _add(batch: _Begun, tally: Tally, skipped: list[Skipped]) -> None:
    skipped += [Skipped(name_of(item.source), item.failure) for item in batch.pictures if item.failure]
    good = [item for item in batch.pictures if not item.failure]
    if not good:
        return
    with _explained_out_of_memory(len(good)):
        features = {space: vectors.cpu() for space, vectors in batch.features.items()}
    # Half precision overflows on some pictures with some weights; one NaN would spoil the whole mean.
    finite = torch.stack([vectors.isfinite().all(-1) for vectors in features.values()]).all(0)
    skipped += [
        Skipped(name_of(item.source), "the image encoder gave no finite numbers for it")
        for item, fine in zip(good, finite.tolist())
        if not fine
    ]
    tally.add(
        [item.source for item, fine in zip(good, finite.tolist()) if fine],
        {space: vectors[finite] for space, vectors in features.items()},
    )


@contextlib.contextmanager
def _explained_out_of_memory(pictures: int) -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise AestheticError(
            "The graphics card's memory is full.",
            f"{pictures} pictures at once were too many.",
            "Lower the batch size, or unload the checkpoint first.",
        ) from error


def _why_none(skipped: Sequence[Skipped], sources: Sources) -> str:
    beside = left_out_line(sources.left_out)
    if not skipped:
        return f"There are no pictures to use. {beside}".strip()
    counts = Counter(item.reason for item in skipped)
    example = {item.reason: Path(item.name).name for item in reversed(skipped)}
    reasons = "; ".join(f"{count} x {reason} (e.g. {example[reason]})" for reason, count in counts.most_common(5))
    return f"None of {len(skipped)} files could be used: {reasons}. {beside}".strip()


def to_embedding(result: CreateResult, name: str, note: str = "") -> Embedding:
    """The result as an embedding, with what is worth knowing about it as metadata.

    ``model_id`` is a JSON object by space; ``mean_cosine`` is of the first space.

    Raises:
        AestheticError: the pictures cancel out.
    """
    metadata = Metadata.of_mean(
        images=result.used,
        raw=result.raw,
        sources=result.source_hash,
        model_ids={space.name: model for space, model in result.model_ids.items()},
        mean_cosine=next(iter(result.mean_cosine.values())),
        complete=result.complete,
        groups=result.groups,
        note=note,
    )
    return Embedding(name, {space: total.vector for space, total in result.sums.items()}, metadata)


def save_result(
    result: CreateResult, library: Library, name: str, note: str = "", overwrite: bool = False
) -> tuple[Embedding, Path | None]:
    """Save the result in the library, and its contact sheet as the preview beside it.

    Returns:
        The embedding as saved, and the preview's path.

    Raises:
        AestheticError: the name is not allowed or taken, the folder can't be written, the pictures cancel out.
    """
    embedding = to_embedding(result, name, note)
    embedding = replace(embedding, path=library.save_new(embedding, name, overwrite))
    if not result.nearest:
        return embedding, None
    return embedding, library.save_preview(name, png([near.image for near in result.nearest]))
