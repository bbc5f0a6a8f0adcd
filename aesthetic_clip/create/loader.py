"""Decodes pictures ahead in threads, while the encoders compute."""

from __future__ import annotations

import concurrent.futures
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from torch import Tensor

from ..clip.preprocess import crop
from .images import UnreadableImage, decoded, whole_files_only
from .sources import Source, Sources

_SECONDS_BETWEEN_TICKS = 0.25


class Decoded(NamedTuple):
    """A picture as (3, S, S) uint8 for each size S, or what is wrong with it."""

    source: Source
    crops: dict[int, Tensor]
    failure: str


def batches(
    sources: Sources, sizes: Sequence[int], batch_size: int, workers: int, tick: Callable[[], object]
) -> Generator[list[Decoded], None, None]:
    """The pictures in their order, decoded ahead by at most two batches.

    Args:
        sources: the pictures; these must stay readable until the end.
        sizes: of the encoders.
        batch_size: pictures at once.
        workers: threads; 0 for as many as help.
        tick: called before each picture and while one is waited for; may raise to stop.
    """
    # Pillow decodes and resizes without Python's lock.
    workers = workers or min(os.cpu_count() or 1, 16)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    ahead = max(2 * batch_size, 2 * workers)
    waiting: deque[Future[Decoded]] = deque()
    batch: list[Decoded] = []
    try:
        with whole_files_only():
            for source in sources.each(tick):
                waiting.append(pool.submit(_prepare, source, sizes))
                if len(waiting) >= ahead:
                    batch.append(_awaited(waiting.popleft(), tick))
                if len(batch) == batch_size:
                    yield batch
                    batch = []
            while waiting:
                batch.append(_awaited(waiting.popleft(), tick))
                if len(batch) == batch_size or not waiting:
                    yield batch
                    batch = []
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(source: Source, sizes: Sequence[int]) -> Decoded:
    """What is wrong with it is told, never raised."""
    try:
        with decoded(source[1] if isinstance(source, tuple) else source, target=max(sizes)) as image:
            return Decoded(source, {size: crop(image, size) for size in sizes}, "")
    except UnreadableImage as error:
        return Decoded(source, {}, error.reason)


def _awaited(future: Future[Decoded], tick: Callable[[], object]) -> Decoded:
    tick()
    while not concurrent.futures.wait([future], _SECONDS_BETWEEN_TICKS).done:
        tick()
    return future.result()
