"""The mean of many image features, exact however the images are divided up.

An aesthetic embedding is the direction of the mean of its images' features
(Gallego 2022, section 2). Each image counts as its unit vector, so that none
outweighs another; the paper's code averages the raw features instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import AestheticError
from ..geometry import unit


@dataclass
class FeatureSum:
    """Running sum of image features of one CLIP space, in float64.

    Attributes:
        dim: width of the features.
        raw: add the features as they come (the paper's way) instead of their unit vectors.
        total: (D,) float64 sum.
        count: how many images are in it.
    """

    dim: int
    raw: bool = False
    total: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    count: int = 0

    def __post_init__(self) -> None:
        if not self.total.numel():
            self.total = torch.zeros(self.dim, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add a batch of features, (B, D), any float dtype and device."""
        wide = features.detach().to("cpu", torch.float64)
        self.total += (wide if self.raw else unit(wide)).sum(0)
        self.count += len(wide)

    def merge(self, other: FeatureSum) -> None:
        """Add what another run summed up.

        Raises:
            AestheticError: the two are not of one kind.
        """
        if (self.dim, self.raw) != (other.dim, other.raw):
            raise AestheticError(
                "These partial results can't be merged.",
                f"One has width {self.dim}, the other {other.dim}, or only one counts raw features.",
                "Make all parts with the same options.",
            )
        self.total += other.total
        self.count += other.count

    @property
    def vector(self) -> Tensor:
        """(D,) fp32 unit vector of the mean.

        Raises:
            AestheticError: nothing was added, or the images cancel out.
        """
        if not self.count or not self.total.norm() > 1e-9 * self.count:
            raise AestheticError(
                "There is no mean to take.",
                f"It would be of {self.count} images.",
                "Add images that have something in common.",
            )
        return unit(self.total).float()

    @property
    def mean_cosine(self) -> float:
        """Mean cosine of the images to their mean, 0 to 1; for unit vectors it is the mean's length."""
        return float(self.total.norm() / max(self.count, 1))
