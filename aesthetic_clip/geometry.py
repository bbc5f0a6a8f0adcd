"""Vectors: lengths, angles and mixtures, always along the last axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def unit(v: Tensor) -> Tensor:
    """``v`` scaled to length 1 along the last axis; a zero vector stays zero."""
    return v / v.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation from ``a`` (t=0) to ``b`` (t=1) along the last axis.

    Lengths need not be 1. Parallel and opposite vectors, where the arc is not
    defined, are interpolated linearly instead.
    """
    ua, ub = unit(a), unit(b)
    # Kahan's angle: acos of a dot product loses half its digits near parallel vectors.
    omega = 2 * torch.atan2((ua - ub).norm(dim=-1, keepdim=True), (ua + ub).norm(dim=-1, keepdim=True))
    sin = torch.sin(omega)
    curved = sin.abs() > 1e-4
    sin = torch.where(curved, sin, torch.ones_like(sin))
    arc = torch.sin((1 - t) * omega) / sin * a + torch.sin(t * omega) / sin * b
    return torch.where(curved, arc, torch.lerp(a, b, t))


def blend(ordinary: Tensor, personalised: Tensor, weight: float, spherical: bool) -> Tensor:
    """Mix two encodings of one prompt, in fp32, back in the dtype of ``ordinary``.

    Args:
        ordinary: (..., C) what the host's text encoder says.
        personalised: (..., C) the same with the optimised weights.
        weight: 0 is all ordinary, 1 all personalised.
        spherical: along the arc instead of the straight line.
    """
    a, b = ordinary.float(), personalised.float()
    mixed = slerp(a, b, weight) if spherical else a * (1 - weight) + b * weight
    return mixed.to(ordinary.dtype)


def rotate(embedding: Tensor, text: Tensor, angle: float, away: bool) -> Tensor:
    """Turn a unit embedding by the fraction ``angle`` of the arc toward a text's feature.

    Args:
        embedding: (D,) unit vector.
        text: (D,) feature of the text, any length.
        angle: 0 leaves the embedding, 1 goes all the way.
        away: turn toward ``embedding - text`` instead, the side that lacks the text.
    """
    goal = unit(text)
    if away:
        goal = unit(embedding - goal)
    return unit(slerp(embedding, goal, angle))


def centred(feature: Tensor, embedding: Tensor, centre: Tensor, strength: float) -> Tensor:
    """A prompt's own direction, plus how an embedding differs from the centre of many pictures.

    Neither what all pictures have in common (the gap between images and texts) nor what
    the prompt does not say is in it.

    Args:
        feature: (D,) the prompt's feature, any length.
        embedding: (D,) unit vector, of one embedding or a mixture.
        centre: (D,) what ``embedding`` holds of the centre, any length.
        strength: of the difference, which is scaled to length 1 as the prompt's own direction is.

    Returns:
        (D,) unit vector.
    """
    return unit(unit(feature) + strength * unit(embedding - centre))


def mean_direction(vectors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Unit vector of the weighted sum of unit vectors; zero if they cancel out."""
    total = sum((unit(v) * w for v, w in zip(vectors, weights)), start=torch.zeros_like(vectors[0]))
    return unit(total) if total.norm() > 1e-6 else torch.zeros_like(total)
