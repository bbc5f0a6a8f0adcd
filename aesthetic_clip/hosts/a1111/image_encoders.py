"""The WebUI's way to an image encoder: its settings, its folders, its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modules import devices

from ...demo import own_image_encoder
from ...progress import Progress
from ...spaces import Space
from . import options

if TYPE_CHECKING:
    from ...clip.image_encoder import ImageEncoder


def image_encoder(space: Space, download: bool, progress: Progress) -> ImageEncoder:
    """An image encoder ready to compute, which the caller closes.

    Args:
        space: whose encoder.
        download: whether it may be fetched.
        progress: is told how far that is.

    Raises:
        AestheticError: there is none, or what is there can't be used.
        Interrupted: the user stopped it.
    """
    # Here, so that the WebUI starts without it.
    from ...clip.image_encoder import load_encoder

    return load_encoder(
        space,
        options.encoder_path(space) or own_image_encoder(space),
        [options.models_folder(), *options.clip_folders()],
        devices.device,
        lambda size, what: download,
        progress,
    )
