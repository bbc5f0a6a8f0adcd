"""Strength, centres, presets and parts of the sampling: ``python -m aesthetic_clip.demo.lab.ways --out DIR``.

Everything that the settings can ask for, through the method as every host uses it, in the demonstration's world: for
each way the six styles, held-out prompts and one seed each, read by the classifier. ``ways.csv`` has a row per picture,
is written way by way, and gone on with when the command is repeated.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...create.pictures import to_embedding
from ...embeddings.embedding import Embedding
from ...geometry import unit
from ...hosts.diffusers import PartOfSampling, PromptEmbeddings
from ...method.part import part_of
from ...method.personalize import Chunk, Encoded, personalize
from ...method.taste import taste
from ...settings import AUTOMATIC, CUSTOM, NO_EMBEDDING, PRESETS, Settings
from .. import GUIDANCE_SCALE, LR, SAMPLING_STEPS, loading, world
from .architecture import Classifier
from .bench import Bench, append
from .ways_report import styles_table, summary, table

OUTLIER = "outlier"
_BATCH = 50
_TOWARD: dict[str, Any] = {"weight": 1.0, "lr": LR, "steps": 20}


@dataclass(frozen=True)
class Way:
    """One way to ask for a style.

    Attributes:
        family: what is the same along a curve.
        point: where on it.
        values: of the settings, by name.
        outlier: an embedding unlike all others is in the library too.
        named: the style's name stands in the prompt.
        mixed: the embedding is of pictures of two styles, of which the second is not wanted; ``away`` names that one.
        negative: strength with which the negative prompt is moved toward the second.
    """

    family: str
    point: str
    values: tuple[tuple[str, object], ...] = ()
    outlier: bool = False
    named: bool = False
    mixed: bool = False
    negative: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.family}: {self.point}" if self.point else self.family

    def settings(self, style: str) -> Settings:
        values = {**dict(self.values), "embedding": mixed_name(style) if self.mixed else style}
        if "away_strength" in values:
            values["away"] = unwanted(style)
        return Settings().replaced(values)


def unwanted(style: str) -> str:
    """The style that its mixed embedding has in it too."""
    styles = list(world.STYLES)
    return styles[(styles.index(style) + 1) % len(styles)]


def mixed_name(style: str) -> str:
    return f"{style} and {unwanted(style)}"


def way(family: str, point: str, outlier: bool = False, **values: Any) -> Way:
    return Way(family, point, tuple({**_TOWARD, **values}.items()), outlier)


def _curve(family: str, knob: str, points: Sequence[float], outlier: bool = False, **values: Any) -> tuple[Way, ...]:
    return tuple(way(family, f"{point:g}", outlier, **{**values, knob: point}) for point in points)


def _mixed(family: str, points: Sequence[float], negative: bool = False, **values: Any) -> tuple[Way, ...]:
    """Ways with the embedding of two styles; points are ``away_strength``, or the strength on the negative side."""
    return tuple(
        replace(
            way(family, f"{point:g}", **{**values, **({} if negative else {"away_strength": point})}),
            mixed=True,
            negative=point if negative else 0.0,
        )
        for point in points
    )


_PARTS = ((0.0, 0.3), (0.0, 0.6), (0.1, 1.0), (0.2, 1.0), (0.4, 1.0), (0.6, 1.0))
PRESET_WAYS = tuple(
    Way("preset", name, tuple({**PRESETS.built_in[name], "preset": name}.items()))
    for name in ("Subtle", "Clear", "Strong", "Paper")
)
WAYS = (
    Way("plain", "", (("steps", 0),)),
    Way("named", "", (("steps", 0),), named=True),
    *PRESET_WAYS,
    *_curve("strength, made centre", "strength", (0.4, 0.6, 0.75), centre=loading.CENTRE),
    *_curve("strength, automatic centre with an outlier", "strength", (0.4, 0.6, 0.75), outlier=True, centre=AUTOMATIC),
    *(
        way(
            "part of the sampling, automatic centre, strength 0.75",
            f"{start:g} to {end:g}",
            centre=AUTOMATIC,
            strength=0.75,
            guidance_start=start,
            guidance_end=end,
        )
        for start, end in _PARTS
    ),
    *_curve("strength, no centre", "strength", (0.3, 0.5, 0.7), centre=NO_EMBEDDING),
    *_curve("steps, automatic centre", "steps", (5, 7, 10), centre=AUTOMATIC),
    *_curve("steps, no centre", "steps", (5, 10, 20), centre=NO_EMBEDDING),
    *(
        way(
            "part of the sampling, no centre, strength 0.5",
            f"{start:g} to {end:g}",
            strength=0.5,
            guidance_start=start,
            guidance_end=end,
        )
        for start, end in _PARTS
        if start in (0.2, 0.4)
    ),
    *_curve("strength, automatic centre", "strength", (0.5, 0.6, 0.9), centre=AUTOMATIC),
)
"""One style each."""
_AGAINST: dict[str, Any] = {"centre": AUTOMATIC, "strength": 0.6}
MIXED = (
    replace(way("mixed embedding", "automatic centre", **_AGAINST), mixed=True),
    *_mixed("mixed embedding, away", (0.25, 0.5, 1), **_AGAINST),
    *_mixed("mixed embedding, negative prompt moved", (0.3, 0.6), negative=True, **_AGAINST),
    replace(way("mixed embedding", "no centre", strength=0.6), mixed=True),
    *_mixed("mixed embedding, away, no centre", (0.5, 1), strength=0.6),
)
"""An embedding of two styles, of which one is not wanted."""


class Library:
    """The embeddings of the styles, those of two styles each, a made centre, and one unlike all others."""

    def __init__(self, bench: Bench) -> None:
        self.styles = [Embedding(style, {loading.SPACE: vector}) for style, vector in bench.embeddings.items()]
        self.outlier = Embedding(OUTLIER, {loading.SPACE: unlike(bench.embeddings.values())})
        mixed = [
            to_embedding(
                loading.drawn_result(bench.image_encoder, [style, unwanted(style)], n=12, seed=2), mixed_name(style)
            )
            for style in world.STYLES
        ]
        made = Embedding(loading.CENTRE, {loading.SPACE: bench.centre})
        self.all = {embedding.name: embedding for embedding in (*self.styles, *mixed, made)}

    def load(self, name: str) -> Embedding:
        return self.all[name]

    def others(self, outlier: bool) -> list[Embedding]:
        """What an automatic centre is made of."""
        return [*self.styles, self.outlier] if outlier else self.styles


def unlike(vectors: Iterable[Tensor], cosine: float = 0.17) -> Tensor:
    """A unit vector (D,) at about this cosine to all of these (the paper's laion_7plus has 0.10 to 0.23 to the others)."""
    rows = torch.stack([unit(vector) for vector in vectors])
    # The shortest vector with this cosine to all, and as much of what none of them has as makes its length 1.
    common = torch.linalg.pinv(rows) @ torch.full((len(rows),), cosine)
    rest = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0))
    rest = unit(rest - torch.linalg.pinv(rows) @ (rows @ rest))
    return common + rest * math.sqrt(1 - float(common.square().sum()))


class Lab:
    """Makes and reads the pictures of a way."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.library = bench, Library(bench)
        self._encoded: dict[tuple[object, ...], Encoded] = {}
        self._empty = self._ordinary("")

    def prompt(self, content: world.Content, style: str, way: Way) -> tuple[PromptEmbeddings, tuple[float, ...]]:
        """What the pipeline is to read, and the similarities to the target before each step and after the last."""
        text = f"{content.prompt}, {world.STYLES[style][0]}" if way.named else content.prompt
        settings = way.settings(style)
        negative = self._empty
        if way.negative:
            against = settings.replaced({"embedding": unwanted(style), "strength": way.negative})
            negative = self._moved("", against, way.outlier)[0]
        part = part_of(settings)
        whole = settings.replaced({"guidance_start": 0, "guidance_end": 1, "preset": CUSTOM})
        hidden, similarities = self._moved(text, whole, way.outlier)
        plain = None if part is None else PromptEmbeddings(self._ordinary(text), negative)
        return PromptEmbeddings(hidden, negative, part=part, ordinary=plain), similarities

    def _ordinary(self, text: str) -> Tensor:
        return self.bench.encode(self.bench.ids(text)[0].unsqueeze(0))[0]

    def _moved(self, text: str, settings: Settings, outlier: bool) -> tuple[Tensor, tuple[float, ...]]:
        """A text personalised as the settings say: (1, T, C) and the similarities."""
        wanted = taste(settings, [], self.library.load, lambda: self.library.others(outlier))
        if wanted is None:
            return self._ordinary(text), ()
        key = (text, wanted.key)
        if key not in self._encoded:
            ids, end = self.bench.ids(text)
            chunk = Chunk(ids, end, (self._ordinary(text), None), self.bench.encode)
            target = wanted.target(loading.SPACE)
            self._encoded[key] = personalize(self.bench.text_encoder, chunk, target, wanted.settings)
        return self._encoded[key].hidden, self._encoded[key].similarities

    def pictures(self, prompts: Sequence[PromptEmbeddings], seeds: Sequence[int]) -> Tensor:
        """(B, 3, SIZE, SIZE) from 0 to 1."""
        side = world.SIZE // 8
        noise = torch.stack([torch.randn(4, side, side, generator=torch.Generator().manual_seed(s)) for s in seeds])
        made = []
        for first in range(0, len(prompts), _BATCH):
            part = PartOfSampling(prompts[first : first + _BATCH])
            made.append(
                self.bench.pipe(
                    **part.begin(),
                    callback_on_step_end=part,
                    callback_on_step_end_tensor_inputs=part.tensor_inputs,
                    latents=noise[first : first + _BATCH],
                    num_inference_steps=SAMPLING_STEPS,
                    guidance_scale=GUIDANCE_SCALE,
                    output_type="pt",
                ).images
            )
        return (torch.cat(made) * 255).round() / 255

    def measure(
        self, way: Way, styles: Sequence[str], contents: Sequence[world.Content], seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """A row per picture."""
        wanted = [(style, content, seed) for style in styles for content in contents for seed in seeds]
        prompts = [self.prompt(content, style, way) for style, content, _ in wanted]
        pictures = self.pictures([embeddings for embeddings, _ in prompts], [seed for _, _, seed in wanted])
        read = loading.classify(self.bench.classifier, pictures)
        looks = Classifier.FIELDS["look"]
        rows = []
        for i, (style, content, seed) in enumerate(wanted):
            said = {name: Classifier.FIELDS[name][int(chances[i].argmax())] for name, chances in read.items()}
            similarities = prompts[i][1]
            rows.append(
                {
                    "way": way.key,
                    "style": style,
                    "prompt": content.prompt,
                    "seed": seed,
                    "chance": round(float(read["look"][i][looks.index(style)]), 5),
                    "unwanted": round(float(read["look"][i][looks.index(unwanted(style))]), 5),
                    "shape": int(said["shape"] == content.shape),
                    "colour": int(said["colour"] == content.colour),
                    "background": int(said["background"] == content.background),
                    "steps": max(0, len(similarities) - 1),
                    "gone": round(gone(similarities), 4),
                }
            )
        return rows


def gone(similarities: Sequence[float]) -> float:
    """The part of the angle to the target that is gone."""
    if not similarities:
        return 0.0
    before, after = (math.acos(max(-1.0, min(1.0, cosine))) for cosine in (similarities[0], similarities[-1]))
    return 1 - after / before


NUMBERS = ("chance", "unwanted", "shape", "colour", "background", "steps", "gone")


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: float(value) if name in NUMBERS else value for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def run(
    lab: Lab, out: Path, ways: Sequence[Way], contents: Sequence[world.Content], seeds: Sequence[int], seconds: float
) -> bool:
    """Measure what ``ways.csv`` does not have yet; False if the time was up before the end."""
    path = out / "ways.csv"
    done = {row["way"] for row in read(path)} if path.exists() else set()
    start = time.monotonic()
    for way in ways:
        if way.key in done:
            continue
        if time.monotonic() - start > seconds:
            return False
        rows = lab.measure(way, tuple(world.STYLES), contents, seeds)
        append(path, rows)
        means = " ".join(f"{name} {sum(row[name] for row in rows) / len(rows):.2f}" for name in NUMBERS)
        print(f"{way.key} | {means}", flush=True)
    return True


def report(out: Path) -> None:
    """Write ``table.md`` from ``ways.csv``."""
    found = summary(read(out / "ways.csv"))
    single, mixed, presets = (
        [entry for entry in found if entry["way"] in {way.key for way in some}] for some in (WAYS, MIXED, PRESET_WAYS)
    )
    parts = [table(single), table(mixed, unwanted=True), *([styles_table(presets)] if presets else [])]
    (out / "table.md").write_text("\n".join(parts), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m aesthetic_clip.demo.lab.ways", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--prompts", type=int, default=8, help="how many held-out prompts (up to 36)")
    parser.add_argument("--seeds", type=int, default=1, help="pictures per prompt")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after the way that reaches this")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    contents, seeds = world.HELD_OUT[: options.prompts], range(options.seeds)
    if not run(Lab(Bench()), options.out, (*WAYS, *MIXED), contents, seeds, 60 * options.minutes):
        print("The time was up before all was measured; repeat the command to go on.")
    report(options.out)


if __name__ == "__main__":
    main()
