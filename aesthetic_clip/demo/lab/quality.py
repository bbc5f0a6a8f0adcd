"""How good the model's parts are by themselves."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from torch import Tensor

from ...clip.preprocess import normalise
from ...geometry import unit
from .. import loading, world
from . import train
from .architecture import Classifier
from .bench import Bench


def quality(bench: Bench, pictures: int = 200) -> dict[str, Any]:
    """How good the model's parts are by themselves, on pictures that none of them was trained on.

    Returns:
        ``psnr``: of the autoencoder in dB, over all and by look; ``classifier``: how
        often it is right about drawn and about restored pictures; ``clip``: how often
        the right value of each field is nearest to a picture, the rest of the sentence being right.
    """
    rng = random.Random(12345)
    scenes = [world.scene(rng, world.HELD_OUT) for _ in range(pictures)]
    drawn = train.pictures(scenes)
    vae = bench.pipe.vae
    with torch.no_grad():
        restored = vae.decode(vae.encode(train.pixels(drawn)).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5
    error = (restored - drawn / 255).square().mean((1, 2, 3))

    def decibels(some: list[int]) -> float:
        return round(-10 * math.log10(float(error[some].mean())), 2)

    truth = train.labels(scenes)
    right: dict[str, dict[str, float]] = {}
    for name, images in (("drawn", drawn / 255), ("restored", restored)):
        readings = loading.classify(bench.classifier, images)
        right[name] = {f: round(float((readings[f].argmax(-1) == truth[f]).float().mean()), 3) for f in truth}
    encoder = bench.image_encoder
    features = unit(encoder.encode(normalise(drawn, encoder.mean, encoder.std)))
    known: dict[str, Tensor] = {}
    clip = {}
    for field, values in Classifier.FIELDS.items():
        hits = 0
        for i, scene in enumerate(scenes):
            said_by = {**vars(scene.content), "look": scene.look}
            rows = []
            for value in values:
                sentence = _sentence(**{**said_by, field: value})
                if sentence not in known:
                    ids, end = bench.ids(sentence)
                    known[sentence] = unit(bench.text_encoder.text_feature(ids[: end + 1]))
                rows.append(known[sentence])
            hits += values[int((torch.stack(rows) @ features[i]).argmax())] == said_by[field]
        clip[field] = round(hits / len(scenes), 3)
    by_look = {look: decibels([i for i, s in enumerate(scenes) if s.look == look]) for look in world.LOOKS}
    return {
        "pictures": pictures,
        "psnr": {"all": decibels(list(range(pictures))), **by_look},
        "classifier": right,
        "clip": clip,
    }


def _sentence(shape: str, colour: str, background: str, look: str) -> str:
    prompt = world.Content(shape, colour, background).prompt
    return f"{prompt}, {world.STYLES[look][0]}" if look in world.STYLES else prompt
