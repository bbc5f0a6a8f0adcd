"""Arithmetic with embeddings: mixtures, directions, how alike they are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import AestheticError
from ..geometry import mean_direction, unit
from ..spaces import Space
from .embedding import Embedding
from .metadata import Metadata


def mix(embeddings: Sequence[Embedding], weights: Sequence[float], name: str, note: str = "") -> Embedding:
    """The weighted sum of unit vectors, scaled to length 1, in each CLIP space that all of them have.

    Weights may be negative: 1 and -1 give the direction from the second to the first.

    Args:
        embeddings: one or more.
        weights: one finite number each.
        name: of the result.
        note: the user's own words.

    Raises:
        AestheticError: no common space, not one weight each, or they cancel out.
    """
    subject = f"{name!r} can't be mixed."
    if not embeddings or len(embeddings) != len(weights):
        raise AestheticError(
            subject,
            f"There are {len(embeddings)} embeddings and {len(weights)} weights.",
            "Give one weight for each embedding.",
        )
    largest = max(abs(w) for w in weights)
    if not all(map(math.isfinite, weights)) or not largest:
        raise AestheticError(
            subject,
            f"The weights are {', '.join(map(str, weights))}.",
            "Give numbers, at least one of them other than 0.",
        )
    spaces = [space for space in embeddings[0].vectors if all(space in e.vectors for e in embeddings)]
    if not spaces:
        have = "; ".join(f"{e.name!r} has {e.spaces}" for e in embeddings)
        raise AestheticError(
            subject,
            f"They share no CLIP space: {have}.",
            "Mix embeddings of one model, or make them again for the same spaces.",
        )
    vectors: dict[Space, Tensor] = {}
    for space in spaces:
        total = mean_direction([e.vectors[space].double() for e in embeddings], [w / largest for w in weights])
        if not total.any():
            raise AestheticError(subject, f"In {space.name} they cancel out.", "Choose other weights.")
        vectors[space] = total.float()
    ingredients = [(e.name, w) for e, w in zip(embeddings, weights)]
    return Embedding(name, vectors, Metadata.of_mixture(ingredients, note))


FEWEST_FOR_MIDDLE = 4
"""Of fewer embeddings the mean says more about them than about what pictures have in common."""


def middle(embeddings: Iterable[Embedding], space: Space, without: Sequence[Tensor] = ()) -> tuple[Tensor | None, int]:
    """What many tastes have in common: the mean of their unit vectors, each counting the same.

    Args:
        embeddings: any; those without a vector in the space are passed over.
        space: in which.
        without: (D,) vectors that don't count, under whatever name they are among them.

    Returns:
        (D,) unit vector, None if there are fewer than four or they cancel out; and how many counted.
    """
    vectors = [vector for e in embeddings if (vector := e.vectors.get(space)) is not None]
    if not vectors:
        return None, 0
    stacked = torch.stack(vectors).double()
    for vector in without:
        stacked = stacked[(stacked != vector.double()).any(1)]
    if len(stacked) < FEWEST_FOR_MIDDLE:
        return None, len(stacked)
    total = unit(stacked).mean(0)
    return (unit(total).float() if total.norm() > 1e-6 else None), len(stacked)


def similarity_matrix(embeddings: Sequence[Embedding], space: Space) -> Tensor:
    """(N, N) fp32 cosines of all with all in one space.

    Raises:
        AestheticError: one has no vector there.
    """
    lacking = [e.name for e in embeddings if space not in e.vectors]
    if lacking or not embeddings:
        raise AestheticError(
            f"The embeddings can't be compared in {space.name}.",
            f"{', '.join(map(repr, lacking))} have no vector there." if lacking else "There are none.",
            "Leave them out, or choose another space.",
        )
    stacked = torch.stack([e.vectors[space] for e in embeddings])
    cosines = stacked @ stacked.T
    # A product's last bit may depend on where in memory a row lies.
    return ((cosines + cosines.T) / 2).clamp(-1, 1)


def nearest(embedding: Embedding, others: Sequence[Embedding], n: int) -> list[tuple[str, float]]:
    """The names of the ``n`` most similar others and their cosines, averaged over the spaces that both have.

    The embedding itself, and others that share no space with it, are left out.
    """
    found: list[tuple[str, float]] = []
    for other in others:
        shared = [space for space in embedding.vectors if space in other.vectors]
        if shared and other.name != embedding.name:
            cosines = [float(embedding.vectors[space] @ other.vectors[space]) for space in shared]
            found.append((other.name, sum(cosines) / len(cosines)))
    return sorted(found, key=lambda item: -item[1])[:n]
