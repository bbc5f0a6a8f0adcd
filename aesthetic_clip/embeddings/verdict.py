"""What the numbers of an embedding's pictures mean in words: whether they belong together.

How alike two pictures look to CLIP differs from space to space, so there is no cosine that means "alike". The user's
other embeddings are the measure instead: 0 is how alike two pictures of different embeddings are, 1 how alike two of
the same one are. Both follow from what the files say: the mean of n unit vectors with a mean cosine of m to it has the
length m, so two of them have a mean cosine of (n m² - 1) / (n - 1), and pictures of two embeddings the product of
both lengths with the embeddings' cosine.

The limits below were set with the demonstration's world, where they are tested: 24 pictures of one style have 0.8 to
1.2, of two styles 0.3 to 0.7, of any styles 0 to 0.3.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..spaces import Space
from .embedding import Embedding

FEWEST_PICTURES = 8
FEWEST_OTHERS = 4
_TOGETHER = 0.75
_ACROSS = 0.35
_APART = 0.3


class Kind(enum.Enum):
    """What can be said."""

    UNKNOWN = "unknown"
    TOGETHER = "together"
    TWO = "two"
    LOOSE = "loose"
    APART = "apart"


class Verdict(NamedTuple):
    """A kind, and a sentence that tells it, empty if there is nothing to tell."""

    kind: Kind
    sentence: str


class _Scale(NamedTuple):
    """How alike two pictures are, cosines: of different embeddings, and of the same one."""

    different: float
    same: float

    def place(self, cosine: float) -> float:
        return (cosine - self.different) / (self.same - self.different)


def verdict(embedding: Embedding, others: Sequence[Embedding]) -> Verdict:
    """Whether the pictures of an embedding belong together.

    Args:
        embedding: made from pictures.
        others: the embeddings there are; one of the same name does not count.
    """
    about, space = embedding.about, next(iter(embedding.vectors))
    count, length = about.image_count, _length(embedding)
    if count is None or length is None:
        return Verdict(Kind.UNKNOWN, "")
    if count < FEWEST_PICTURES:
        return Verdict(
            Kind.UNKNOWN, f"Whether they belong together can't be told of fewer than {FEWEST_PICTURES} pictures."
        )
    scale = _scale(space, [other for other in others if other.name != embedding.name])
    if scale is None:
        return Verdict(
            Kind.UNKNOWN,
            f"Whether they belong together is told by comparison, from {FEWEST_OTHERS} other embeddings of "
            "pictures on.",
        )
    return _judged(embedding, scale, scale.place(_alike(length, count)))


def _judged(embedding: Embedding, scale: _Scale, place: float) -> Verdict:
    measured = f"{place:.1f}, where 0 is two pictures of different embeddings of yours, and 1 two of the same"
    if place >= _TOGETHER:
        return Verdict(Kind.TOGETHER, f"These pictures belong together ({measured}).")
    groups = embedding.about.groups
    if (
        groups
        and scale.place(groups.across) <= _ACROSS
        and min(scale.place(cosine) for cosine in groups.within) >= _TOGETHER
    ):
        total = embedding.about.image_count or sum(groups.sizes)
        first = round(groups.sizes[0] * total / sum(groups.sizes))
        return Verdict(
            Kind.TWO,
            f"These are two different tastes, of {first} and {total - first} pictures: make two embeddings "
            f"(across the two {scale.place(groups.across):.1f}, within them "
            f"{' and '.join(f'{scale.place(cosine):.1f}' for cosine in groups.within)}, {measured[measured.index('where') :]}).",
        )
    if place <= _APART:
        return Verdict(
            Kind.APART, f"These pictures have hardly more in common than those of different embeddings ({measured})."
        )
    return Verdict(Kind.LOOSE, f"These pictures have less in common than those of your other embeddings ({measured}).")


def _length(embedding: Embedding) -> float | None:
    """Of the mean of its pictures' unit vectors, where the file says it."""
    about = embedding.about
    if about.mean_cosine is None or about.raw is not False or about.disliked or not 0 < about.mean_cosine <= 1:
        return None
    return about.mean_cosine


def _alike(length: float, count: int) -> float:
    """Mean cosine of two different ones of ``count`` unit vectors, whose mean has this length."""
    return (count * length**2 - 1) / (count - 1)


def _scale(space: Space, others: Sequence[Embedding]) -> _Scale | None:
    known = [
        (embedding.vectors[space].double() * length, _alike(length, count))
        for embedding in others
        # The length is that of the first space.
        if next(iter(embedding.vectors)) == space
        and (length := _length(embedding)) is not None
        and (count := embedding.about.image_count or 0) >= FEWEST_PICTURES
    ]
    if len(known) < FEWEST_OTHERS:
        return None
    pairs = [float(one @ other) for (one, _), (other, _) in itertools.combinations(known, 2)]
    different, same = sum(pairs) / len(pairs), sum(alike for _, alike in known) / len(known)
    return _Scale(different, same) if same > different else None
