"""Whether a pile of pictures falls into two: a two-means split of their unit features, and how alike they are in and across it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..embeddings.metadata import Groups

FEWEST = 8
"""Pictures of which fewer say nothing about groups."""
_SMALLEST = 3
_STARTS = 8
_MOST_ROUNDS = 50


def split(features: Tensor) -> Groups | None:
    """The two groups of these pictures.

    Args:
        features: (N, D) unit vectors.

    Returns:
        None where there are fewer than ``FEWEST`` pictures, or where one group would have fewer than 3.
    """
    if len(features) < FEWEST:
        return None
    labels = two_means(features)
    parts = sorted((features[labels], features[~labels]), key=len, reverse=True)
    if len(parts[1]) < _SMALLEST:
        return None
    across = float(parts[0].double().mean(0) @ parts[1].double().mean(0))
    sizes = (len(parts[0]), len(parts[1]))
    return Groups(sizes, (likeness(parts[0]), likeness(parts[1])), across)


def likeness(features: Tensor) -> float:
    """Mean cosine of two different pictures of these; (N, D) unit vectors, N at least 2."""
    count = len(features)
    return float((features.double().sum(0).square().sum() - count) / (count * (count - 1)))


def two_means(features: Tensor) -> Tensor:
    """(N,) bool: the split into two with the least spread within, of several starts; the same for the same features."""
    centred = features - features.mean(0)
    generator = torch.Generator().manual_seed(0)
    best, least = torch.zeros(len(features), dtype=torch.bool), float("inf")
    for start in range(_STARTS):
        labels = _settled(centred, _first(centred, generator, principal=start == 0))
        if labels.all() or not labels.any():
            continue
        spread = sum(float((part - part.mean(0)).square().sum()) for part in (centred[labels], centred[~labels]))
        if spread < least:
            best, least = labels, spread
    return best


def _first(centred: Tensor, generator: torch.Generator, principal: bool) -> Tensor:
    if not principal:
        one, other = centred[torch.randperm(len(centred), generator=generator)[:2]]
        return centred @ (one - other) > float((one.square() - other.square()).sum()) / 2
    direction = torch.randn(centred.shape[1], generator=generator)
    for _ in range(20):  # power iteration, as far as a start needs it
        direction = centred.T @ (centred @ direction)
        direction = direction / direction.norm().clamp_min(1e-20)
    return centred @ direction > 0


def _settled(centred: Tensor, labels: Tensor) -> Tensor:
    for _ in range(_MOST_ROUNDS):
        if labels.all() or not labels.any():
            break
        one, other = centred[labels].mean(0), centred[~labels].mean(0)
        moved = centred @ (one - other) > float((one.square() - other.square()).sum()) / 2
        if moved.equal(labels):
            break
        labels = moved
    return labels
