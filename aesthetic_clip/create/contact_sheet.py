"""The preview of an embedding: the pictures nearest to the mean, as tiles of one picture."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from PIL import Image, ImageOps

from .images import UnreadableImage, decoded
from .sources import Source, name_of

_TILE = 192
_SIDE = 512


class Near(NamedTuple):
    """A picture close to the mean, at most 512 pixels wide or high."""

    name: str
    cosine: float
    image: Image.Image


def opened_again(found: Sequence[tuple[Source, float]]) -> list[Near]:
    """The pictures with their cosines, opened anew instead of kept since; without those that have gone."""
    # In threads, since on a fast GPU decoding nine large pictures one by one takes as long as all the rest.
    with ThreadPoolExecutor(min(max(len(found), 1), os.cpu_count() or 1)) as pool:
        return [near for near in pool.map(_near, found) if near]


def _near(found: tuple[Source, float]) -> Near | None:
    source, cosine = found
    try:
        with decoded(source[1] if isinstance(source, tuple) else source, target=_SIDE // 4) as image:
            image.thumbnail((_SIDE, _SIDE))
            return Near(name_of(source), cosine, image)
    except UnreadableImage:
        return None


def contact_sheet(images: Sequence[Image.Image]) -> Image.Image:
    """A square-ish grid of square tiles, each picture cut to its middle.

    Raises:
        ValueError: there is no picture.
    """
    if not images:
        raise ValueError("a contact sheet takes at least one picture")
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * _TILE, rows * _TILE), "white")
    for i, image in enumerate(images):
        tile = ImageOps.fit(image.convert("RGB"), (_TILE, _TILE), Image.Resampling.LANCZOS)
        sheet.paste(tile, (i % columns * _TILE, i // columns * _TILE))
    return sheet


def png(images: Sequence[Image.Image]) -> bytes:
    """The contact sheet as the content of a PNG file."""
    buffer = io.BytesIO()
    contact_sheet(images).save(buffer, "PNG")
    return buffer.getvalue()
