"""Pictures with their generation parameters, as AUTOMATIC1111's WebUI writes and reads them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_KEY = "parameters"
_MARGIN = 2  # pixels


def infotext(prompt: str, negative_prompt: str, parameters: Mapping[str, object]) -> str:
    """The text under a picture: prompt, negative prompt, then one line of ``key: value``; None is left out."""
    line = ", ".join(f"{key}: {_quoted(value)}" for key, value in parameters.items() if value is not None)
    negative = f"\nNegative prompt: {negative_prompt}" if negative_prompt else ""
    return f"{prompt}{negative}\n{line}".strip()


def _quoted(value: object) -> str:
    # modules/infotext_utils.py, quote: what its parser would take for the next key.
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",\n:") else text


def png(picture: Image.Image, text: str = "") -> bytes:
    """``picture`` as a PNG file that carries ``text``, if there is any."""
    info = PngInfo()
    if text:
        info.add_text(_KEY, text)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def grid(pictures: list[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size beside and below each other, on black, as torchvision's ``make_grid`` sets them."""
    width, height = (side + _MARGIN for side in pictures[0].size)
    columns = min(columns, len(pictures))
    sheet = Image.new("RGB", (width * columns + _MARGIN, height * -(-len(pictures) // columns) + _MARGIN))
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width + _MARGIN, index // columns * height + _MARGIN))
    return sheet
