"""Making an aesthetic embedding: pictures in, the mean of their features out."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..clip.image_encoder import ImageEncoder
from ..clip.preprocess import crop, normalise
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from ..errors import AestheticError, Interrupted
from ..geometry import unit
from ..spaces import Space
from .averaging import FeatureSum
from .images import UnreadableImage, decode, whole_files_only

Source = Path | tuple[str, bytes | BinaryIO | Image.Image]
Progress = Callable[[int, int, float, float], object]

# Up to this many pictures every one is remembered for histogram and preview, beyond it a fair sample of that size.
SAMPLE = 2048
_BINS = 20
_TILE = 192


class Skipped(NamedTuple):
    """A picture that was not used, and why."""

    name: str
    reason: str


class Near(NamedTuple):
    """A picture close to the mean, at most 512 pixels wide or high."""

    name: str
    cosine: float
    image: Image.Image


class Histogram(NamedTuple):
    """How many pictures (``counts``, n) have a cosine to the mean between two ``edges`` (n + 1)."""

    edges: list[float]
    counts: list[int]


@dataclass
class CreateResult:
    """What came of a pile of pictures.

    Attributes:
        sums: the features' sums, by space; they merge with those of other runs.
        model_ids: which encoder made them, by space.
        skipped: pictures that were not used.
        mean_cosine: mean cosine of all pictures to their mean, by space.
        histograms: of these cosines, by space; of a fair sample of ``SAMPLE`` pictures if there are more.
        nearest: those nearest to the mean in the first space, nearest first; from the same sample.
        source_hash: SHA-256 of the list of sources, in hex.
        complete: False if it was stopped, and kept as far as it had come.
    """

    sums: dict[Space, FeatureSum]
    model_ids: dict[Space, str]
    skipped: list[Skipped]
    mean_cosine: dict[Space, float]
    histograms: dict[Space, Histogram]
    nearest: list[Near]
    source_hash: str
    complete: bool = True

    @property
    def used(self) -> int:
        return next(iter(self.sums.values())).count

    @property
    def raw(self) -> bool:
        return next(iter(self.sums.values())).raw


@dataclass
class _Tally:
    """Everything that is kept of the pictures seen so far; its size has a bound."""

    spaces: list[Space]
    raw: bool
    total: int
    sums: dict[Space, FeatureSum] = field(init=False)
    directions: dict[Space, FeatureSum] = field(init=False)
    sample: list[Source] = field(default_factory=list)
    sampled: dict[Space, Tensor] = field(init=False)
    _random: random.Random = field(default_factory=lambda: random.Random(0))
    _seen: int = 0

    def __post_init__(self) -> None:
        self.sums = {space: FeatureSum(space.dim, self.raw) for space in self.spaces}
        # The mean of unit vectors gives the mean cosine, also where the raw mean is what is wanted.
        self.directions = {space: FeatureSum(space.dim) for space in self.spaces} if self.raw else self.sums
        # (sample, D) in one piece: many small tensors that stay would keep the memory of pictures from being freed.
        self.sampled = {space: torch.zeros(min(self.total, SAMPLE), space.dim) for space in self.spaces}

    def add(self, sources: Sequence[Source], features: dict[Space, Tensor]) -> None:
        for space, batch in features.items():
            self.sums[space].add(batch)
            if self.raw:
                self.directions[space].add(batch)
        for i, source in enumerate(sources):
            self._seen += 1
            # Reservoir sampling: each picture seen so far is in the sample with the same chance.
            place = len(self.sample) if len(self.sample) < SAMPLE else self._random.randrange(self._seen)
            if place < SAMPLE:
                self.sample[place : place + 1] = [source]
                for space, batch in features.items():
                    self.sampled[space][place] = batch[i]


def create(
    sources: Sequence[Source],
    encoders: Sequence[ImageEncoder],
    *,
    batch_size: int = 16,
    raw: bool = False,
    progress: Progress | None = None,
    stopped: Callable[[], bool] = lambda: False,
    keep_partial: bool = False,
    nearest: int = 9,
    workers: int = 0,
) -> CreateResult:
    """The mean of the pictures' features in each encoder's space (Gallego 2022, section 2).

    A picture that can't be used is skipped and listed. Pictures are decoded in
    threads while the encoders compute; how many are in memory at once depends on
    ``batch_size`` and ``workers`` only.

    Args:
        sources: paths, or names with contents (bytes, file or image); these must stay readable until the end.
        encoders: one per space, where they are to compute; they are not closed.
        batch_size: pictures per step of the encoders.
        raw: average the features as they come (the paper's code) instead of their unit vectors.
        progress: is told after each batch: pictures done, in all, per second, and seconds left.
        stopped: asked several times per batch.
        keep_partial: when stopped, give what there is instead of nothing.
        nearest: how many pictures of the preview.
        workers: decoding threads; 0 for as many as help.

    Raises:
        AestheticError: no picture could be used, or the encoders ran out of memory.
        Interrupted: stopped, and nothing is to be kept.
    """
    if batch_size < 1:
        raise AestheticError(f"The batch size is {batch_size}.", "It has to be 1 or more.", "Try 16.")
    spaces = [encoder.space for encoder in encoders]
    if not spaces or len(set(spaces)) < len(spaces):
        raise AestheticError(
            "There is no embedding to make.",
            "It takes one image encoder for each CLIP space.",
            "Choose at least one space, each once.",
        )
    tally = _Tally(spaces, raw, len(sources))
    skipped: list[Skipped] = []
    start, done = time.monotonic(), 0
    with _decoded(sources, sorted({encoder.size for encoder in encoders}), batch_size, workers) as stream:
        while batch := list(itertools.islice(_until(stream, stopped), batch_size)):
            if stopped():
                break
            _encode(batch, encoders, tally, skipped)
            done += len(batch)
            if progress:
                rate = done / max(time.monotonic() - start, 1e-9)
                progress(done, len(sources), rate, (len(sources) - done) / rate)
    complete = done == len(sources)
    used = tally.sums[spaces[0]].count
    if not complete and not (keep_partial and used):
        raise Interrupted
    if not used:
        raise AestheticError(
            "No embedding was made.",
            _why_none(skipped, len(sources)),
            "Choose a folder with pictures, such as JPEG, PNG or WebP.",
        )
    return CreateResult(
        tally.sums,
        {encoder.space: encoder.model_id for encoder in encoders},
        skipped,
        *_statistics(tally, spaces, nearest),
        source_hash(sources),
        complete,
    )


def _until(stream: Iterator[_Decoded], stopped: Callable[[], bool]) -> Iterator[_Decoded]:
    while not stopped() and (item := next(stream, None)) is not None:
        yield item


class _Decoded(NamedTuple):
    source: Source
    crops: dict[int, Tensor]
    failure: str


def _name(source: Source) -> str:
    return source[0] if isinstance(source, tuple) else str(source)


def _open(source: Source, target: int) -> Image.Image:
    return decode(source[1], source[0], target) if isinstance(source, tuple) else decode(source, target=target)


def _prepare(source: Source, sizes: Sequence[int]) -> _Decoded:
    """One picture as (3, S, S) uint8 for each size; what is wrong with it is told, never raised."""
    try:
        image = _open(source, max(sizes))
        return _Decoded(source, {size: crop(image, size) for size in sizes}, "")
    except UnreadableImage as error:
        return _Decoded(source, {}, error.reason)


@contextmanager
def _decoded(
    sources: Sequence[Source], sizes: Sequence[int], batch_size: int, workers: int
) -> Iterator[Iterator[_Decoded]]:
    """The pictures in their order, decoded ahead in threads by at most two batches."""
    # Pillow decodes and resizes without Python's lock.
    workers = workers or min(os.cpu_count() or 1, 16)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    ahead = max(2 * batch_size, 2 * workers)

    def stream() -> Iterator[_Decoded]:
        waiting: deque[Future[_Decoded]] = deque()
        for source in sources:
            waiting.append(pool.submit(_prepare, source, sizes))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        with whole_files_only():
            yield stream()
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(batch: Sequence[_Decoded], encoders: Sequence[ImageEncoder], tally: _Tally, skipped: list[Skipped]) -> None:
    skipped += [Skipped(_name(item.source), item.failure) for item in batch if item.failure]
    good = [item for item in batch if not item.failure]
    if not good:
        return
    features: dict[Space, Tensor] = {}
    try:
        for encoder in encoders:
            crops = torch.stack([item.crops[encoder.size] for item in good]).to(encoder.device)
            features[encoder.space] = encoder.encode(normalise(crops, encoder.mean, encoder.std)).cpu()
    except torch.cuda.OutOfMemoryError as error:
        raise AestheticError(
            "The graphics card's memory is full.",
            f"{len(good)} pictures at once were too many.",
            "Lower the batch size, or unload the checkpoint first.",
        ) from error
    # Half precision overflows on some pictures with some weights; one NaN would spoil the whole mean.
    finite = torch.stack([batch.isfinite().all(-1) for batch in features.values()]).all(0)
    skipped += [
        Skipped(_name(item.source), "the image encoder gave no finite numbers for it")
        for item, fine in zip(good, finite.tolist())
        if not fine
    ]
    tally.add(
        [item.source for item, fine in zip(good, finite.tolist()) if fine],
        {space: batch[finite] for space, batch in features.items()},
    )


def _why_none(skipped: Sequence[Skipped], total: int) -> str:
    if not total:
        return "There are no pictures to use."
    counts = Counter(item.reason for item in skipped)
    example = {item.reason: Path(item.name).name for item in reversed(skipped)}
    reasons = "; ".join(f"{count} x {reason} (e.g. {example[reason]})" for reason, count in counts.most_common(5))
    return f"None of {total} files could be used: {reasons}."


def _statistics(
    tally: _Tally, spaces: Sequence[Space], nearest: int
) -> tuple[dict[Space, float], dict[Space, Histogram], list[Near]]:
    means, cosines = {}, {}
    for space in spaces:
        mean, directions = tally.sums[space].vector, tally.directions[space]
        means[space] = float(directions.total @ mean.double()) / directions.count
        cosines[space] = unit(tally.sampled[space][: len(tally.sample)]) @ mean
    ranking = cosines[spaces[0]]
    best = ranking.argsort(descending=True)[:nearest].tolist()
    # In threads, since on a fast GPU decoding nine large pictures one by one takes as long as all the rest.
    with ThreadPoolExecutor(min(max(len(best), 1), os.cpu_count() or 1)) as pool:
        pictures = pool.map(_near, [tally.sample[i] for i in best], ranking[best].tolist())
        near = [picture for picture in pictures if picture]
    return means, {space: _histogram(values) for space, values in cosines.items()}, near


def _histogram(cosines: Tensor) -> Histogram:
    low, high = float(cosines.min()), float(cosines.max())
    # Some width even where all pictures are the same.
    low, high = (low, high) if high - low > 1e-3 else (low - 5e-4, high + 5e-4)
    counts = torch.histc(cosines, _BINS, low, high)
    return Histogram([low + (high - low) * i / _BINS for i in range(_BINS + 1)], [int(n) for n in counts])


def _near(source: Source, cosine: float) -> Near | None:
    """The picture itself is opened again, instead of keeping one of each; None if it has gone since."""
    try:
        image = _open(source, 128)
    except UnreadableImage:
        return None
    image.thumbnail((512, 512))
    return Near(_name(source), cosine, image)


def source_hash(sources: Sequence[Source]) -> str:
    """SHA-256, in hex, of the sources' names in their order; paths are made absolute."""
    sha = hashlib.sha256()
    for source in sources:
        name = source[0] if isinstance(source, tuple) else str(source.absolute())
        sha.update(name.encode("utf-8", "surrogatepass") + b"\0")
    return sha.hexdigest()


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """A square-ish grid of square tiles, each picture cut to its middle.

    Raises:
        ValueError: there is no picture.
    """
    if not images:
        raise ValueError("a contact sheet takes at least one picture")
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * _TILE), "white")
    for i, image in enumerate(images):
        tile = ImageOps.fit(image.convert("RGB"), (_TILE, _TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (i % columns * _TILE, i // columns * _TILE))
    return sheet


def to_embedding(result: CreateResult, name: str, note: str = "") -> Embedding:
    """The result as an embedding, with what is worth knowing about it as metadata.

    ``model_id`` is a JSON object by space; ``mean_cosine`` is of the first space.

    Raises:
        AestheticError: the pictures cancel out.
    """
    metadata = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "image_count": str(result.used),
        "model_id": json.dumps({space.name: model for space, model in result.model_ids.items()}),
        "source_hash": result.source_hash,
        "mean_cosine": f"{next(iter(result.mean_cosine.values())):.4f}",
        "raw": str(result.raw).lower(),
    }
    if not result.complete:
        metadata["complete"] = "false"
    if note.strip():
        metadata["note"] = note.strip()
    return Embedding(name, {space: total.vector for space, total in result.sums.items()}, metadata)


def keep(
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
    buffer = io.BytesIO()
    contact_sheet([near.image for near in result.nearest]).save(buffer, "PNG")
    return embedding, library.save_preview(name, buffer.getvalue())
