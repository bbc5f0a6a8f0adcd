"""Similarities of embeddings as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_CELL, _MARGIN, _FONT_SIZE, _LONGEST_LABEL = 56, 12, 15, 28


def similarity_picture(names: Sequence[str], matrix: Tensor) -> Image.Image:
    """A similarity matrix as a picture: blue is -1, white 0, red 1, with the numbers written in.

    Args:
        names: N labels; long ones are cut.
        matrix: (N, N) cosines.
    """
    letters = font(_FONT_SIZE)
    labels = [
        _drawable(name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 3] + "...", letters)
        for name in names
    ]
    left = 2 * _MARGIN + max((_width(label, letters) for label in labels), default=0)
    size = _CELL * len(labels)
    picture = Image.new("RGB", (left + size + _MARGIN, left + size + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    for row, label in enumerate(labels):
        middle = left + row * _CELL + _CELL // 2
        draw.text((left - _MARGIN - _width(label, letters), middle - _FONT_SIZE // 2), label, "black", letters)
        # Column labels stand upright, read from bottom to top.
        upright = Image.new("RGB", (left - _MARGIN, _FONT_SIZE + 6), "white")
        ImageDraw.Draw(upright).text((0, 0), label, "black", letters)
        picture.paste(upright.transpose(Image.Transpose.ROTATE_90), (middle - _FONT_SIZE // 2, 0))
        for column in range(len(labels)):
            cosine = float(matrix[row, column])
            x, y = left + column * _CELL, left + row * _CELL
            draw.rectangle((x, y, x + _CELL - 2, y + _CELL - 2), _colour(cosine))
            number = f"{cosine:.2f}"
            draw.text(
                (x + (_CELL - _width(number, letters)) // 2, y + (_CELL - _FONT_SIZE) // 2),
                number,
                "white" if abs(cosine) > 0.7 else "black",
                letters,
            )
    return picture


def _colour(cosine: float) -> tuple[int, int, int]:
    strength = min(abs(cosine), 1.0)
    end = (178, 24, 43) if cosine > 0 else (33, 102, 172)
    red, green, blue = (round(255 + (channel - 255) * strength) for channel in end)
    return red, green, blue


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that this system or Pillow has, of this size in pixels where Pillow can."""
    for name in ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf"):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    try:
        return ImageFont.load_default(size)
    except TypeError:  # older Pillow has a bitmap font of one size
        return ImageFont.load_default()


def _drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Text that the font can draw: the bitmap font knows Latin-1 only."""
    return text if isinstance(font, ImageFont.FreeTypeFont) else text.encode("latin-1", "replace").decode("latin-1")


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    left, _, right, _ = font.getbbox(text)
    return int(right - left)
