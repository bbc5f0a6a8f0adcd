"""What is known of pictures beside their mean: how close to it they are, and which are nearest."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..embeddings.metadata import Groups
from ..geometry import unit
from ..spaces import Space
from .averaging import FeatureSum
from .groups import split
from .sources import Source

# Up to this many pictures every one is remembered for histogram and preview, beyond it a fair sample of that size.
SAMPLE = 2048
_BINS = 20


class Histogram(NamedTuple):
    """How many pictures (``counts``, n) have a cosine to the mean between two ``edges`` (n + 1)."""

    edges: list[float]
    counts: list[int]


class Tally:
    """Everything that is kept of the pictures seen so far; its size has a bound.

    Attributes:
        sums: the features' sums, by space.
    """

    def __init__(self, spaces: Sequence[Space], raw: bool) -> None:
        self.sums = {space: FeatureSum(space.dim, raw) for space in spaces}
        # The mean of unit vectors gives the mean cosine, also where the raw mean is what is wanted.
        self._directions = {space: FeatureSum(space.dim) for space in spaces} if raw else self.sums
        self._raw = raw
        self._sample: list[Source] = []
        # In one piece: many small tensors that stay would keep the memory of pictures from being freed.
        self._features = {space: torch.zeros(SAMPLE, space.dim) for space in spaces}
        self._random = random.Random(0)
        self._seen = 0

    @property
    def used(self) -> int:
        """How many pictures are in it."""
        return next(iter(self.sums.values())).count

    def add(self, sources: Sequence[Source], features: dict[Space, Tensor]) -> None:
        """Add pictures with their features, (B, D) by space."""
        for space, batch in features.items():
            self.sums[space].add(batch)
            if self._raw:
                self._directions[space].add(batch)
        for i, source in enumerate(sources):
            self._seen += 1
            # Reservoir sampling: each picture seen so far is in the sample with the same chance.
            place = len(self._sample) if len(self._sample) < SAMPLE else self._random.randrange(self._seen)
            if place < SAMPLE:
                self._sample[place : place + 1] = [source]
                for space, batch in features.items():
                    self._features[space][place] = batch[i]

    def mean_cosines(self) -> dict[Space, float]:
        """Mean cosine of all pictures to their mean, by space."""
        return {
            space: float(directions.total @ self.sums[space].vector.double()) / directions.count
            for space, directions in self._directions.items()
        }

    def histograms(self) -> dict[Space, Histogram]:
        """Of the cosines of the sample, by space."""
        return {space: _histogram(self._cosines(space)) for space in self.sums}

    def nearest(self, number: int) -> list[tuple[Source, float]]:
        """Those of the sample nearest to the mean in the first space, with their cosines, nearest first."""
        cosines = self._cosines(next(iter(self.sums)))
        return [(self._sample[i], float(cosines[i])) for i in cosines.argsort(descending=True)[:number].tolist()]

    def groups(self) -> Groups | None:
        """Those that the sample falls into in the first space, if it is large enough to tell."""
        return split(unit(self._features[next(iter(self.sums))][: len(self._sample)]))

    def _cosines(self, space: Space) -> Tensor:
        return unit(self._features[space][: len(self._sample)]) @ self.sums[space].vector


def _histogram(cosines: Tensor) -> Histogram:
    low, high = float(cosines.min()), float(cosines.max())
    # Some width even where all pictures are the same.
    low, high = (low, high) if high - low > 1e-3 else (low - 5e-4, high + 5e-4)
    counts = torch.histc(cosines, _BINS, low, high)
    return Histogram([low + (high - low) * i / _BINS for i in range(_BINS + 1)], [int(n) for n in counts])
