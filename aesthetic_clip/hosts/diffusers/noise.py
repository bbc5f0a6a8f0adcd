"""The noise that pictures begin as, drawn as the paper's script draws it: by one generator for all batches."""

from __future__ import annotations

import torch
from torch import Tensor


class Noise:
    """Batches of noise from one generator.

    The script seeds torch once, and draws the noise of a whole batch at a time on the device where it samples. Its
    samplers draw more at every step, also where they then multiply it by 0: that is drawn here as well and thrown
    away, so that the second batch begins where it does there.

    Attributes:
        generator: draws; DDIM's steps go on with it where eta is above 0.
        source: where it draws, as the WebUI calls it in a picture's parameters, ``CPU`` or ``GPU``.
    """

    def __init__(self, seed: int, device: str, shape: tuple[int, int, int, int], draws: int) -> None:
        """Seed it.

        Args:
            seed: of the generator.
            device: torch's name of where the model computes.
            shape: (B, C, H, W) of a whole batch's latents.
            draws: how many times a sampler draws after that.
        """
        cuda = device.startswith("cuda")
        self.generator = torch.Generator(device if cuda else "cpu").manual_seed(seed)
        self.source = "GPU" if cuda else "CPU"
        self._shape, self._draws = shape, draws
        self._first = torch.empty(0)
        self._begun = False

    def batch(self, count: int, fixed: bool = False, drawn: bool = False) -> Tensor:
        """(count, C, H, W), fp32: the noise of the next batch.

        Args:
            count: pictures of it, at most B; a shorter batch takes the first of a whole one's.
            fixed: the same for every batch, drawn once.
            drawn: the steps draw from the generator themselves.
        """
        if self._begun and not drawn:
            for _ in range(self._draws):
                self._draw()
        if not (fixed and self._begun):
            self._first = self._draw()
        self._begun = True
        return self._first[:count]

    def _draw(self) -> Tensor:
        return torch.randn(self._shape, generator=self.generator, device=self.generator.device)
