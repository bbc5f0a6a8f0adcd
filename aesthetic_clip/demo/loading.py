"""The trained parts of the demonstration model, from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..clip.image_encoder import ImageEncoder, load
from ..clip.image_encoder_files import Checkpoint
from ..clip.text_encoder import TransformersTextEncoder
from ..create.pictures import CreateResult, create, save_result, to_embedding
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from . import DEMO, IMAGE_ENCODER, MODEL, world
from . import PROJECTION_FILE as PROJECTION_FILE
from . import SPACE as SPACE
from .lab.architecture import Classifier

CLASSIFIER_FILE = "classifier.safetensors"
CENTRE = "demo everything"
"""Name of :func:`centre_embedding`."""
NOTE = "drawn by the demonstration world"
"""What embeddings of its pictures say of themselves."""


def load_pipeline(model: Path = MODEL) -> Any:
    """The ``StableDiffusionPipeline`` in fp32 on the CPU, without its progress bar."""
    from ..hosts.diffusers.models import load_pipeline

    pipe = load_pipeline(str(model), "cpu", torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_image_encoder(model: Path = MODEL) -> ImageEncoder:
    """The vision half of the CLIP whose text half the pipeline reads."""
    return load(SPACE, Checkpoint("transformers", model / IMAGE_ENCODER.name, "aesthetic-clip demonstration"))


def load_text_encoder(pipe: Any, model: Path = MODEL) -> TransformersTextEncoder:
    """The pipeline's text tower with its projection, ready to be optimised."""
    from safetensors.torch import load_file

    projection = load_file(str(model / PROJECTION_FILE))["text_projection.weight"]
    return TransformersTextEncoder(pipe.text_encoder, projection.float().T)


def load_classifier(model: Path = MODEL) -> Classifier:
    """What reads shape, colour, background and style off a picture, independently of the CLIP."""
    from safetensors.torch import load_file

    classifier = Classifier()
    weights = load_file(str(model / CLASSIFIER_FILE))
    classifier.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    return classifier.eval().requires_grad_(False)


def classify(classifier: Classifier, pictures: Tensor) -> dict[str, Tensor]:
    """Probabilities (B, n) by field, for pictures (B, 3, SIZE, SIZE) from 0 to 1."""
    with torch.no_grad():
        return {name: logits.softmax(-1) for name, logits in classifier(pictures * 2 - 1).items()}


def drawn_result(encoder: ImageEncoder, looks: Sequence[str], n: int = 24, seed: int = 1) -> CreateResult:
    """``n`` drawn pictures of each look, encoded and averaged as those of a user's folder."""
    pictures = [(f"{look}-{i}", image) for look in looks for i, image in enumerate(world.style_images(look, n, seed))]
    return create(pictures, [encoder], workers=1)


def style_embedding(encoder: ImageEncoder, style: str, n: int = 24, seed: int = 1) -> Embedding:
    """The aesthetic embedding of a style."""
    return to_embedding(drawn_result(encoder, [style], n, seed), style)


def centre_embedding(encoder: ImageEncoder) -> Embedding:
    """The middle of everything that the world can look like."""
    return to_embedding(drawn_result(encoder, world.LOOKS), CENTRE)


def save_examples(library: Library) -> list[str]:
    """Put an embedding of each style, with its picture, into a library; those that are there already stay.

    Returns:
        Their names.

    Raises:
        AestheticError: the library's first folder can't be written.
    """
    names = {style: f"{DEMO} {style}" for style in world.STYLES}
    if missing := {style: name for style, name in names.items() if name not in library.names()}:
        with load_image_encoder() as encoder:
            for style, name in missing.items():
                save_result(drawn_result(encoder, [style]), library, name, NOTE)
    return list(names.values())
