"""Small random image encoders as folders, and pictures to give them."""

from __future__ import annotations

import random
from pathlib import Path

import torch
import transformers
from PIL import Image, ImageDraw


def write_encoder(folder: Path, dim: int, seed: int = 3) -> Path:
    """A transformers folder with a vision tower of two layers and features of width ``dim``."""
    torch.manual_seed(seed)
    config = transformers.CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=224,
        patch_size=32,
        projection_dim=dim,
    )
    transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder, safe_serialization=True)
    return folder


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Coloured discs on a plain ground."""
    drawn = random.Random(seed)
    image = Image.new("RGB", size, (drawn.randrange(40, 90), drawn.randrange(60, 140), drawn.randrange(120, 250)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y, r = drawn.randrange(size[0]), drawn.randrange(size[1]), drawn.randrange(size[1] // 20, size[1] // 5)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(drawn.randrange(256) for _ in range(3)))
    return image


def write_pictures(folder: Path, count: int, seed: int = 1, size: tuple[int, int] = (160, 120)) -> list[Path]:
    """``count`` JPEGs in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"p{number:03}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        picture(1000 * seed + number, size).save(path)
    return paths


def truncate(path: Path, target: Path) -> Path:
    """The first half of a file."""
    data = path.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    return target
