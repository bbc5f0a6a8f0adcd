"""The preprocessing against transformers' and open_clip's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image, ImageDraw
from torch import Tensor

from aesthetic_clip.clip.preprocess import CLIP_MEAN, CLIP_STD, crop, pixels
from aesthetic_clip.create.images import decode
from aesthetic_clip.geometry import unit

from ..create.test_images import photo, saved

# Newer versions have the Pillow one under another name.
Processor = getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
SIZES = [
    (224, 224),
    (300, 200),
    (200, 300),
    (225, 224),
    (226, 224),
    (227, 224),
    (231, 224),
    (224, 231),
    (640, 427),
    (427, 640),
    (1000, 333),
    (100, 80),
    (31, 47),
    (512, 768),
    (1791, 224),
    (1792, 224),
]


def open_clip_pixels(image: Image.Image, size: int = 224) -> Tensor:
    return image_transform((size, size), is_train=False, mean=CLIP_MEAN, std=CLIP_STD)(image)


@pytest.mark.parametrize("size", SIZES)
def test_same_as_open_clip(size: tuple[int, int]) -> None:
    image = photo(*size)
    torch.testing.assert_close(pixels(image), open_clip_pixels(image), rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), side=st.integers(1, 64))
def test_same_as_open_clip_at_any_size(width: int, height: int, side: int) -> None:
    if max(width, height) > 8 * min(width, height):
        return
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(noise)
    torch.testing.assert_close(pixels(image, side), open_clip_pixels(image, side), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_same_as_transformers(size: tuple[int, int]) -> None:
    image = photo(*size)
    theirs = torch.as_tensor(np.asarray(Processor()(image, return_tensors="np")["pixel_values"][0]))
    ours = pixels(image)
    # What is cut off along the longer side; transformers rounds its half down, OpenAI to even.
    extra = int(224 * max(size) / min(size)) - 224
    if extra % 4 == 3:
        ours, theirs = (ours[..., :-1], theirs[..., 1:]) if size[0] > size[1] else (ours[:, :-1], theirs[:, 1:])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(2100, 224), (224, 2100), (30, 2000), (1, 300)])
def test_panoramas(size: tuple[int, int]) -> None:
    """Only their middle is computed, with the same result but for rounding."""
    image = photo(*size)
    steps = (pixels(image) - open_clip_pixels(image)).abs() * torch.tensor(CLIP_STD).view(3, 1, 1) * 255
    assert steps.max() < 1.01
    assert steps.mean() < 0.05


def test_a_row_of_pixels_does_not_fill_the_memory() -> None:
    assert crop(Image.new("RGB", (1_000_000, 1), "teal"), 224).shape == (3, 224, 224)


def tower(seed: int) -> transformers.CLIPVisionModelWithProjection:
    config = transformers.CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        patch_size=14,
        image_size=224,
        projection_dim=128,
        initializer_factor=3.0,
    )
    torch.manual_seed(seed)
    return transformers.CLIPVisionModelWithProjection(config).eval()


def drawing(width: int, height: int) -> Image.Image:
    """Hard edges and lines of one pixel: the worst for a decoder that leaves fine detail out."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    rng = np.random.default_rng(0)
    for _ in range(600):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.line((x, y, int(rng.integers(width)), int(rng.integers(height))), color, int(rng.integers(1, 4)))
        draw.rectangle((x, y, x + int(rng.integers(1, 90)), y + int(rng.integers(1, 90))), color)
    return image


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [photo(2688, 1792, 1), photo(1792, 1800, 2)]


@pytest.mark.parametrize(
    "options", [{"quality": 75}, {"quality": 95, "subsampling": 0}, {"quality": 90, "progressive": True}]
)
def test_reduced_decoding_keeps_the_feature(photos: list[Image.Image], options: dict[str, object]) -> None:
    images = [*photos, drawing(2000, 1800)]
    files = [saved(image, "JPEG", **options) for image in images]
    full = [decode(file) for file in files]
    reduced = [decode(file, target=224) for file in files]
    assert all(r.width < f.width for r, f in zip(reduced, full))
    steps = [(crop(a, 224).int() - crop(b, 224).int()).abs().float() for a, b in zip(full, reduced)]
    assert max(step.max() for step in steps[:-1]) <= 2  # of 255, in pictures like photographs
    assert steps[-1].mean() < 3
    with torch.no_grad():
        model = tower(0)
        features = [
            model(pixel_values=torch.stack([pixels(i) for i in batch])).image_embeds for batch in (full, reduced)
        ]
    # Random towers see much the same in all pictures, so what is common to all is taken off: without it even
    # different pictures would come close to the bound.
    full_features, reduced_features = (unit(f - features[0].mean(0)) for f in features)
    assert (full_features * reduced_features).sum(-1).min() > 0.9995
    assert (full_features @ full_features.T - 2 * torch.eye(len(images))).max() < 0.98
