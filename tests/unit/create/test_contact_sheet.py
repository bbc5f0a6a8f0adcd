"""The preview of an embedding."""

from __future__ import annotations

import random

from PIL import Image

from aesthetic_clip.create.contact_sheet import contact_sheet


def test_contact_sheet() -> None:
    colors = ["red", "lime", "blue", "black", "teal"]
    pictures = [Image.new("RGB", random.Random(color).sample(range(20, 900), 2), color) for color in colors]
    sheet = contact_sheet(pictures)
    assert sheet.size == (3 * 192, 2 * 192)
    for i, picture in enumerate(pictures):
        middle = (i % 3 * 192 + 96, i // 3 * 192 + 96)
        assert sheet.getpixel(middle) == picture.getpixel((0, 0))
    assert contact_sheet(pictures[:1]).size == (192, 192)
