"""CLIP's own preprocessing: shorter side to S, bicubic; the central S x S; the training set's mean and deviation.

Resizing is Pillow's, as in OpenAI's code, open_clip and transformers, so the
features are those that the models were trained to give. Where the part to cut
off is odd, the two libraries round its half differently; this is OpenAI's and
open_clip's way (``round``, halves to even), which is at most one pixel from
transformers' (down).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# Beyond this ratio only the part that is kept gets computed: a picture of one row of pixels would fill the memory.
_LONGEST_RATIO = 8


def crop(image: Image.Image, size: int) -> Tensor:
    """Resize and cut an RGB image; (3, size, size) uint8 on the CPU."""
    width, height = image.size
    short = min(width, height)
    # Whole numbers, cut like int() in both libraries.
    wide, high = int(size * width / short), int(size * height / short)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    if max(width, height) > _LONGEST_RATIO * short:
        x, y = width / wide, height / high
        small = image.resize(
            (size, size),
            Image.Resampling.BICUBIC,
            box=(left * x, top * y, min((left + size) * x, width), min((top + size) * y, height)),
        )
    else:
        small = image.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()


def normalise(crops: Tensor, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD) -> Tensor:
    """(..., 3, S, S) uint8 to the float32 pixel values that a vision tower takes, on the same device."""
    shift = torch.tensor(mean, device=crops.device).view(3, 1, 1)
    scale = torch.tensor(std, device=crops.device).view(3, 1, 1)
    return (crops.float() / 255 - shift) / scale


def pixels(
    image: Image.Image, size: int = 224, mean: Sequence[float] = CLIP_MEAN, std: Sequence[float] = CLIP_STD
) -> Tensor:
    """One RGB image as pixel values, (3, size, size) float32."""
    return normalise(crop(image, size), mean, std)
