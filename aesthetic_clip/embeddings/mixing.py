"""Arithmetic with embeddings: mixtures, directions, how alike they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..errors import AestheticError
from ..geometry import mean_direction
from ..spaces import Space
from .embedding import Embedding


def mix(embeddings: Sequence[Embedding], weights: Sequence[float], name: str) -> Embedding:
    """The weighted sum of unit vectors, scaled to length 1, in each CLIP space that all of them have.

    Weights may be negative: 1 and -1 give the direction from the second to the first.

    Args:
        embeddings: one or more.
        weights: one finite number each.
        name: of the result.

    Raises:
        AestheticError: no common space, not one weight each, or they cancel out.
    """
    subject = f"{name!r} can't be mixed."
    if not embeddings or len(embeddings) != len(weights):
        raise AestheticError(
            subject,
            f"There are {len(embeddings)} embeddings and {len(weights)} weights.",
            "Give one weight for each embedding.",
        )
    largest = max(abs(w) for w in weights)
    if not all(map(math.isfinite, weights)) or not largest:
        raise AestheticError(
            subject,
            f"The weights are {', '.join(map(str, weights))}.",
            "Give numbers, at least one of them other than 0.",
        )
    spaces = [space for space in embeddings[0].vectors if all(space in e.vectors for e in embeddings)]
    if not spaces:
        have = "; ".join(f"{e.name!r} has {e.spaces}" for e in embeddings)
        raise AestheticError(
            subject,
            f"They share no CLIP space: {have}.",
            "Mix embeddings of one model, or make them again for the same spaces.",
        )
    vectors: dict[Space, Tensor] = {}
    for space in spaces:
        total = mean_direction([e.vectors[space].double() for e in embeddings], [w / largest for w in weights])
        if not total.any():
            raise AestheticError(subject, f"In {space.name} they cancel out.", "Choose other weights.")
        vectors[space] = total.float()
    metadata = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "mixed_from": " ".join(f"{e.name}:{w:g}" for e, w in zip(embeddings, weights)),
    }
    return Embedding(name, vectors, metadata)


def similarity_matrix(embeddings: Sequence[Embedding], space: Space) -> Tensor:
    """(N, N) fp32 cosines of all with all in one space.

    Raises:
        AestheticError: one has no vector there.
    """
    lacking = [e.name for e in embeddings if space not in e.vectors]
    if lacking or not embeddings:
        raise AestheticError(
            f"The embeddings can't be compared in {space.name}.",
            f"{', '.join(map(repr, lacking))} have no vector there." if lacking else "There are none.",
            "Leave them out, or choose another space.",
        )
    stacked = torch.stack([e.vectors[space] for e in embeddings])
    return (stacked @ stacked.T).clamp(-1, 1)


def nearest(embedding: Embedding, others: Sequence[Embedding], n: int) -> list[tuple[str, float]]:
    """The names of the ``n`` most similar others and their cosines, averaged over the spaces that both have.

    The embedding itself, and others that share no space with it, are left out.
    """
    found: list[tuple[str, float]] = []
    for other in others:
        shared = [space for space in embedding.vectors if space in other.vectors]
        if shared and other.name != embedding.name:
            cosines = [float(embedding.vectors[space] @ other.vectors[space]) for space in shared]
            found.append((other.name, sum(cosines) / len(cosines)))
    return sorted(found, key=lambda item: -item[1])[:n]


_CELL, _MARGIN, _FONT_SIZE, _LONGEST_LABEL = 56, 12, 15, 28


def similarity_picture(names: Sequence[str], matrix: Tensor) -> Image.Image:
    """A similarity matrix as a picture: blue is -1, white 0, red 1, with the numbers written in.

    Args:
        names: N labels; long ones are cut.
        matrix: (N, N) cosines.
    """
    font = _font()
    labels = [
        _drawable(name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 3] + "...", font) for name in names
    ]
    left = 2 * _MARGIN + max((_width(label, font) for label in labels), default=0)
    size = _CELL * len(labels)
    picture = Image.new("RGB", (left + size + _MARGIN, left + size + _MARGIN), "white")
    draw = ImageDraw.Draw(picture)
    for row, label in enumerate(labels):
        middle = left + row * _CELL + _CELL // 2
        draw.text((left - _MARGIN - _width(label, font), middle - _FONT_SIZE // 2), label, "black", font)
        # Column labels stand upright, read from bottom to top.
        upright = Image.new("RGB", (left - _MARGIN, _FONT_SIZE + 6), "white")
        ImageDraw.Draw(upright).text((0, 0), label, "black", font)
        picture.paste(upright.transpose(Image.Transpose.ROTATE_90), (middle - _FONT_SIZE // 2, 0))
        for column in range(len(labels)):
            cosine = float(matrix[row, column])
            x, y = left + column * _CELL, left + row * _CELL
            draw.rectangle((x, y, x + _CELL - 2, y + _CELL - 2), _colour(cosine))
            number = f"{cosine:.2f}"
            draw.text(
                (x + (_CELL - _width(number, font)) // 2, y + (_CELL - _FONT_SIZE) // 2),
                number,
                "white" if abs(cosine) > 0.7 else "black",
                font,
            )
    return picture


def _colour(cosine: float) -> tuple[int, int, int]:
    strength = min(abs(cosine), 1.0)
    end = (178, 24, 43) if cosine > 0 else (33, 102, 172)
    red, green, blue = (round(255 + (channel - 255) * strength) for channel in end)
    return red, green, blue


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    for name in ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf"):
        try:
            return ImageFont.truetype(name, _FONT_SIZE)
        except OSError:
            continue
    try:
        return ImageFont.load_default(_FONT_SIZE)
    except TypeError:  # older Pillow has a bitmap font of one size
        return ImageFont.load_default()


def _drawable(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Text that the font can draw: the bitmap font knows Latin-1 only."""
    return text if isinstance(font, ImageFont.FreeTypeFont) else text.encode("latin-1", "replace").decode("latin-1")


def _width(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> int:
    left, _, right, _ = font.getbbox(text)
    return int(right - left)
