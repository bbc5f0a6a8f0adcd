"""What people think of pictures, summed up: the arithmetic of taste profiles.

A profile points to the mean of the liked pictures' unit vectors, less a part of that of the
disliked ones. That is Rocchio's way of learning from what is relevant and what is not (Manning,
Raghavan and Schuetze, Introduction to Information Retrieval, section 9.1.1), with their usual ratio.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import AestheticError
from ..geometry import unit
from ..spaces import Space

DISLIKED_PART = 0.15 / 0.75
"""How much the mean of the disliked counts against that of the liked."""
_ONE = 2.0**40  # 8 million unit vectors fit into 63 bits


class Opinion(enum.Enum):
    LIKED = "liked"
    DISLIKED = "disliked"

    @property
    def row(self) -> int:
        """Its place in a pair of both."""
        return list(Opinion).index(self)


class Counts(NamedTuple):
    """How many pictures are liked, and how many disliked."""

    liked: int = 0
    disliked: int = 0

    def changed(self, before: Opinion | None, after: Opinion | None) -> Counts:
        """With one picture more of ``after`` and one less of ``before``."""
        return Counts(*(n + (after is o) - (before is o) for n, o in zip(self, Opinion)))


class Sums(NamedTuple):
    """Sums of unit vectors, by CLIP space.

    They are whole numbers of 2^-40, so they are exact: neither order nor what was taken out
    again leaves a trace in them.

    Attributes:
        totals: (2, D) int64, the liked first.
        counts: of the pictures in them; a picture counts in the spaces that it was encoded for.
    """

    totals: Mapping[Space, Tensor] = MappingProxyType({})
    counts: Mapping[Space, Counts] = MappingProxyType({})

    def changed(self, vectors: Mapping[Space, Tensor], before: Opinion | None, after: Opinion | None) -> Sums:
        """With a picture moved from one side to the other; None is neither.

        Args:
            vectors: (D,) fp32 unit vectors, the same whenever this picture is moved.
        """
        totals, counts = dict(self.totals), dict(self.counts)
        for space, vector in vectors.items():
            whole = (vector.double() * _ONE).round().long()
            total = totals[space].clone() if space in totals else torch.zeros(2, space.dim, dtype=torch.int64)
            if before:
                total[before.row] -= whole
            if after:
                total[after.row] += whole
            totals[space], counts[space] = total, counts.get(space, Counts()).changed(before, after)
            if not any(counts[space]):
                del totals[space], counts[space]
        return Sums(totals, counts)

    def vectors(self) -> dict[Space, Tensor]:
        """(D,) fp32 unit vector by space: unit(mean liked - 0.2 mean disliked); of none liked, away from the disliked.

        Raises:
            AestheticError: the pictures cancel out.
        """
        return {space: self._vector(space) for space in sorted(self.totals, key=lambda space: space.dim)}

    def _vector(self, space: Space) -> Tensor:
        liked, disliked = self._mean(space, Opinion.LIKED), self._mean(space, Opinion.DISLIKED)
        for direction in (liked - DISLIKED_PART * disliked, liked) if liked.any() else (-disliked,):
            if direction.norm() > 1e-6:
                return unit(direction).float()
        raise AestheticError(
            "These pictures have no taste in common.",
            f"Their vectors in {space.name} cancel out.",
            "Like pictures that have something in common.",
        )

    def _mean(self, space: Space, opinion: Opinion) -> Tensor:
        return self.totals[space][opinion.row].double() / (_ONE * max(self.counts[space][opinion.row], 1))

    @property
    def mean_cosine(self) -> float:
        """Mean cosine of the liked (of none, the disliked) to their own mean, in the first space."""
        space = min(self.totals, key=lambda space: space.dim)
        opinion = Opinion.LIKED if self.counts[space].liked else Opinion.DISLIKED
        return float(self._mean(space, opinion).norm())
