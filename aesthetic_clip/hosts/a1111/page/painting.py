"""A picture as txt2img's form asks for it, in the taste of one embedding: for its card."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from modules import processing, shared
from PIL import Image

from ....embeddings.preferences import brought_by
from ....errors import AestheticError, Interrupted
from ....pages.forms import Check, checked_number, checked_text
from ....settings import FIRST_PRESET, Settings
from .. import options
from ..encoding import request
from ..families.encoders import loaded_model

_NOTHING_ASKED = "a house by a lake, trees, evening light"
# The same for all cards, so that they can be compared.
_SEED = 1
_CHECKS: Mapping[str, tuple[str, Check[object]]] = {
    "prompt": ("prompt", checked_text("Prompt", 20_000)),
    "neg_prompt": ("negative_prompt", checked_text("Negative prompt", 20_000)),
    "width": ("width", checked_number("Width", 16, 4096, whole=True)),
    "height": ("height", checked_number("Height", 16, 4096, whole=True)),
    "cfg_scale": ("cfg_scale", checked_number("CFG Scale", 0, 100, whole=False)),
    "steps": ("steps", checked_number("Sampling steps", 1, 1000, whole=True)),
    "sampling": ("sampler_name", checked_text("Sampling method", 200)),
}
"""The form's fields, with what a job calls them."""


def paint(name: str, asked: Mapping[str, object]) -> Image.Image:
    """The picture, by a job of its own in the WebUI's queue, which it has to be called from.

    Args:
        name: the embedding's; at the preset and strength that its card prefers, else the preset of a new page.
        asked: what the form's fields say, by their names there.

    Raises:
        AestheticError: a value that can't be, or the embedding can't be used.
        Interrupted: the user stopped it.
    """
    values = {_CHECKS[field][0]: _CHECKS[field][1](value) for field, value in asked.items()}
    values["prompt"] = values.get("prompt") or _NOTHING_ASKED
    model = loaded_model()
    wanted = {"embedding": name, "preset": FIRST_PRESET, **brought_by(options.embeddings(), name)}
    p = processing.StableDiffusionProcessingTxt2Img(
        sd_model=model, seed=_SEED, do_not_save_samples=True, do_not_save_grid=True, **values
    )
    request(p, lambda: Settings.from_mapping(wanted))
    with contextlib.closing(p):
        images = processing.process_images(p).images
    if shared.state.interrupted or shared.state.skipped:
        raise Interrupted
    if not images:
        raise AestheticError(f"There is no picture for {name!r}.", "The WebUI made none.", "The console says more.")
    return images[0]
