"""An image encoder that takes its time, and notes its batches."""

from __future__ import annotations

import time

from torch import Tensor

from aesthetic_clip.clip.image_encoder import ImageEncoder

_encode = ImageEncoder.encode
_batches: list[tuple[int, bool]] = []


def slow(seconds: float) -> None:
    """Each batch takes so long from now on."""
    from modules import shared

    _batches.clear()

    def encode(self: ImageEncoder, pixels: Tensor) -> Tensor:
        if len(pixels) > 1:
            _batches.append((len(pixels), shared.state.interrupted))
            time.sleep(seconds)
        return _encode(self, pixels)

    ImageEncoder.encode = encode  # type: ignore[method-assign]


def batches() -> list[tuple[int, bool]]:
    """Of each batch since then its size, and whether the user had interrupted when it began."""
    return _batches


def quick() -> None:
    ImageEncoder.encode = _encode  # type: ignore[method-assign]
