"""The demonstration model: a text-to-image system of a few megabytes, and the world that it was trained on.

``python -m aesthetic_clip.demo.lab.train --out aesthetic_clip/demo/model`` makes it anew; a run that was cut goes on from
its states when it is started again with the same ``--work``. ``python -m aesthetic_clip.demo.lab.measure --quality --out
DIR`` then says how good the parts are, and the same without ``--quality`` repeats the paper's experiment.
"""

from pathlib import Path

from ..spaces import Space, space_of

DEMO = "demo"
"""Stands for the model where one is named."""

MODEL = Path(__file__).parent / "model"
"""Its folder: a diffusers ``StableDiffusionPipeline``, with more files beside it."""

WIDTH = 64
"""Of its text tower, and of the features that pictures and texts are compared in."""

SPACE: Space = space_of(WIDTH)

PROJECTION_FILE = "text_projection.safetensors"
IMAGE_ENCODER = MODEL / "image_encoder"

GUIDANCE_SCALE = 4.0
SAMPLING_STEPS = 20
"""What its pictures are best at."""

LR = 3e-4
"""Learning rate for its text encoder: a tower that is narrower by 12 moves less by steps of the same size."""


def own_image_encoder(space: Space) -> str:
    """The folder of the image encoder that comes along, if it is of this space; else empty."""
    return str(IMAGE_ENCODER) if space == SPACE else ""
