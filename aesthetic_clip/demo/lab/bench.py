"""What the experiments share: a condition, the pictures that are made under it, and what is read off them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...clip.image_encoder import ImageEncoder
from ...clip.preprocess import normalise
from ...clip.text_encoder import TextEncoder
from ...geometry import unit
from ...method.personalize import Chunk, personalize
from ...method.targets import Centred, Target, Toward, Turned
from ...settings import Settings
from .. import GUIDANCE_SCALE, MODEL, SAMPLING_STEPS, loading, world
from .architecture import Classifier

_BATCH = 50


@dataclass(frozen=True)
class Condition:
    """One way to ask for a style.

    Attributes:
        steps, lr, weight, slerp: as in :class:`Settings`.
        centred: ``Settings.centre_strength``, with the mean of all styles as the centre;
            0 for the paper's target, the embedding.
        angle: how far the target is turned toward the prompt itself.
        named: the style's name stands in the prompt, and nothing is optimised.
    """

    steps: int = 0
    lr: float = 1e-4
    weight: float = 1.0
    slerp: bool = False
    centred: float = 0.0
    angle: float = 0.0
    named: bool = False

    @property
    def family(self) -> str:
        """What is the same along a curve over the steps."""
        if self.named:
            return "style in the prompt"
        target = f"centred target, strength {self.centred:g}" if self.centred else "embedding as target"
        if self.angle:
            target += f" turned to the prompt by {self.angle:g}"
        mix = "" if self.weight == 1 else f", weight {self.weight:g}" + (" slerp" if self.slerp else "")
        return f"{target}, lr {self.lr:g}{mix}"

    @property
    def key(self) -> str:
        return "named" if self.named else f"{self.family}, {self.steps} steps" if self.steps else "plain"


class Bench:
    """The model, loaded once, and everything that turns a condition into measured pictures."""

    def __init__(self, model: Path = MODEL) -> None:
        self.pipe: Any = loading.load_pipeline(model)
        self.image_encoder: ImageEncoder = loading.load_image_encoder(model)
        self.text_encoder: TextEncoder = loading.load_text_encoder(self.pipe, model)
        self.classifier: Classifier = loading.load_classifier(model)
        self.embeddings = {
            style: loading.style_embedding(self.image_encoder, style).vectors[loading.SPACE] for style in world.STYLES
        }
        self.centre = loading.centre_embedding(self.image_encoder).vectors[loading.SPACE]

    def ids(self, prompt: str) -> tuple[Tensor, int]:
        """(77,) token ids and the place of the end-of-text token."""
        ids = self.pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True).input_ids
        return torch.tensor(ids), ids.index(self.pipe.tokenizer.eos_token_id)

    def encode(self, ids: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            return self.pipe.text_encoder(input_ids=ids).last_hidden_state, None

    def condition(self, prompt: str, style: str, condition: Condition) -> Tensor:
        """(1, 77, C) what the UNet is to read."""
        if condition.named:
            prompt = f"{prompt}, {world.STYLES[style][0]}"
        ids, end = self.ids(prompt)
        ordinary = self.encode(ids.unsqueeze(0))
        if not condition.steps:
            return ordinary[0]
        settings = Settings(
            condition.weight,
            condition.steps,
            condition.lr,
            condition.slerp,
            slerp_angle=condition.angle,
            centre_strength=condition.centred,
        )
        target: Target = Toward(self.embeddings[style])
        if settings.slerp_angle:
            target = Turned(target, self.text_encoder.text_feature(ids[: end + 1]), settings.slerp_angle, away=False)
        if condition.centred:
            target = Centred(target, self.centre, condition.centred)
        return personalize(self.text_encoder, Chunk(ids, end, ordinary, self.encode), target, settings).hidden

    def generate(self, hidden: Tensor, seeds: Sequence[int]) -> Tensor:
        """Pictures (B, 3, SIZE, SIZE) from 0 to 1, in whole 255ths as in a file; row i of ``hidden`` by seed i."""
        side = world.SIZE // 8
        noise = torch.stack([torch.randn(4, side, side, generator=torch.Generator().manual_seed(s)) for s in seeds])
        empty = self.encode(self.ids("")[0].unsqueeze(0))[0]
        made = []
        for part, start in zip(hidden.split(_BATCH), noise.split(_BATCH)):
            made.append(
                self.pipe(
                    prompt_embeds=part,
                    negative_prompt_embeds=empty.expand_as(part),
                    latents=start,
                    num_inference_steps=SAMPLING_STEPS,
                    guidance_scale=GUIDANCE_SCALE,
                    output_type="pt",
                ).images
            )
        return (torch.cat(made) * 255).round() / 255

    def similarity(self, pictures: Tensor, embedding: Tensor) -> Tensor:
        """(B,) cosine of each picture's feature to the embedding."""
        encoder = self.image_encoder
        return unit(encoder.encode(normalise(pictures * 255, encoder.mean, encoder.std))) @ embedding

    def measure(
        self, condition: Condition, style: str, contents: Sequence[world.Content], seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """One row per picture."""
        hidden = torch.cat([self.condition(content.prompt, style, condition) for content in contents])
        pairs = [(content, seed) for content in contents for seed in seeds]
        pictures = self.generate(hidden.repeat_interleave(len(seeds), 0), [seed for _, seed in pairs])
        return self.judge(pictures, pairs, condition, style)

    def judge(
        self, pictures: Tensor, pairs: Sequence[tuple[world.Content, int]], condition: Condition, style: str
    ) -> list[dict[str, Any]]:
        similarities = self.similarity(pictures, self.embeddings[style]).tolist()
        readings = loading.classify(self.classifier, pictures)
        read = {name: [Classifier.FIELDS[name][i] for i in p.argmax(-1).tolist()] for name, p in readings.items()}
        chance = readings["look"][:, Classifier.FIELDS["look"].index(style)].tolist()
        return [
            {
                "condition": condition.key,
                "family": condition.family,
                "steps": condition.steps,
                "style": style,
                "prompt": content.prompt,
                "seed": seed,
                "similarity": round(similarities[i], 5),
                "style_chance": round(chance[i], 5),
                "style_read": int(read["look"][i] == style),
                "shape_kept": int(read["shape"][i] == content.shape),
                "colour_kept": int(read["colour"][i] == content.colour),
                "background_kept": int(read["background"][i] == content.background),
            }
            for i, (content, seed) in enumerate(pairs)
        ]


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a table of comma-separated values; the first ones bring its head along."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)
