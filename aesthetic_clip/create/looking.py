"""Single pictures as taste profiles take them: their unit vectors, a small copy, and what tells them apart."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from ..clip.image_encoder import ImageEncoder
from ..clip.preprocess import crop
from ..embeddings.embedding import Embedding
from ..embeddings.metadata import Metadata, source_hash
from ..embeddings.profile_files import Picture
from ..errors import AestheticError
from ..geometry import unit
from ..printable import printable
from .images import UnreadableImage, decoded, whole_files_only
from .sources import Source, name_of

_SIDE = 224  # what the published encoders take
_THUMBNAIL = 256


def look(source: Source, encoders: Sequence[ImageEncoder]) -> Picture:
    """A picture with its unit vector in each encoder's space.

    Args:
        source: a path, or a name with contents (path, bytes, file or image).
        encoders: one per space, where they are to compute; they are not closed.

    Raises:
        AestheticError: it can't be read, or an encoder gives no finite numbers for it.
    """
    content = source[1] if isinstance(source, tuple) else source
    # As many pixels as when embeddings are made, so that the vectors are the same.
    side = max([encoder.size for encoder in encoders], default=_SIDE)
    try:
        with whole_files_only(), decoded(content, target=side) as image:
            digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()[:32]
            crops = {encoder: crop(image, encoder.size) for encoder in encoders}
            thumbnail = _jpeg(image)
    except UnreadableImage as error:
        why = f"{error.reason[:1].upper()}{error.reason[1:]}."
        raise AestheticError(f"{name_of(source)} can't be used.", why, "Take another picture.") from error
    vectors = {}
    for encoder, pixels in crops.items():
        feature = encoder.begin(pixels[None])[0].to("cpu", torch.float64)
        if not feature.isfinite().all() or not feature.any():
            raise AestheticError(
                f"{name_of(source)} can't be used.",
                "The image encoder gave no finite numbers for it.",
                "Take another one.",
            )
        vectors[encoder.space] = unit(feature).float()
    path = content if isinstance(content, Path) else None
    return Picture(
        digest,
        path.name if path and not isinstance(source, tuple) else name_of(source),
        vectors,
        thumbnail,
        printable(str(path.absolute())) if path else "",
        {encoder.space: encoder.model_id for encoder in encoders},
    )


def embedding_of(picture: Picture, name: str) -> Embedding:
    """A single picture's own embedding."""
    metadata = Metadata.of_mean(
        images=1,
        raw=False,
        sources=source_hash([picture.name]),
        model_ids={space.name: model for space, model in picture.model_ids.items()},
        mean_cosine=1.0,
    )
    return Embedding(name, picture.vectors, metadata)


def _jpeg(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG")
    return buffer.getvalue()
