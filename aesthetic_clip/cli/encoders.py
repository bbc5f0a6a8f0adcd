"""The image encoders of the commands that look at pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..spaces import Space
from .terminal import agreed, bar

if TYPE_CHECKING:
    from ..clip.image_encoder import ImageEncoder


def image_encoder(space: Space, path: Path | str, device: str, yes: bool) -> ImageEncoder:
    """The image encoder of a space, downloaded if that is agreed to.

    Raises:
        AestheticError: there is none.
    """
    from ..clip.image_encoder import load_encoder

    with bar("B", unit_scale=True, desc=space.name) as progress:
        return load_encoder(
            space,
            path,
            device=device,
            progress=progress,
            allow_download=lambda size, what: agreed(size, what, yes),
        )
