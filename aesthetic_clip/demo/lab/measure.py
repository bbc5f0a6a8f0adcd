"""The paper's experiment in the demonstration world: ``python -m aesthetic_clip.demo.lab.measure --out DIR``.

Prompts for held-out contents, an embedding for each style, several seeds. Each
picture is measured in three ways: the cosine of its CLIP feature to the
embedding; what a separately trained classifier says about the style; whether
that classifier still reads the prompt's shape, colour and background.

Every condition is written to ``pictures.csv`` when it is done, and not computed
again when the command is repeated; the summary is made from that file.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
from .. import GUIDANCE_SCALE, LR, MODEL, SAMPLING_STEPS, loading, world
from . import train
from .architecture import Classifier

STEPS = (0, 2, 5, 10, 15, 20)
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


PAPER = tuple(Condition(steps) for steps in STEPS)
_FAST, _TURNED = 6e-4, (0.3, 0.6)
VARIANTS = (
    *(Condition(steps, lr=lr) for lr in (LR, _FAST) for steps in STEPS[1:]),
    *(Condition(steps, lr=_FAST, weight=weight) for weight in (0.5, 0.75) for steps in (10, 20)),
    *(Condition(steps, lr=_FAST, weight=0.5, slerp=True) for steps in (10, 20)),
    *(Condition(steps, lr=_FAST, angle=angle) for angle in _TURNED for steps in (10, 20)),
    *(Condition(steps, lr=LR, centred=strength) for strength in (0.5, 1.0, 2.0) for steps in STEPS[1:]),
    *(Condition(steps, centred=1.0) for steps in STEPS[1:]),
)
SHOWN = (
    ("the paper's target", [PAPER[0], *(Condition(steps, lr=_FAST) for steps in STEPS[1:])], "C3"),
    ("centred target", [PAPER[0], *(Condition(steps, lr=LR, centred=1.0) for steps in STEPS[1:])], "C0"),
)
"""The two curves of the plot: the paper's way where it shows in this world, and the better one."""
TRADES = (
    ("the paper's target", [Condition(steps, lr=_FAST) for steps in STEPS[1:]], "C3"),
    ("the same, weight 0.5", [Condition(steps, lr=_FAST, weight=0.5) for steps in (10, 20)], "C1"),
    ("the same, turned to the prompt by 0.6", [Condition(steps, lr=_FAST, angle=0.6) for steps in (10, 20)], "C2"),
    ("centred target", [Condition(steps, lr=LR, centred=1.0) for steps in STEPS[1:]], "C0"),
)
"""What the plot shows of how style and content trade; the table has all."""
CONDITIONS = {c.key: c for c in (PAPER[0], Condition(named=True), *PAPER[1:], *VARIANTS)}
"""All that is measured, by their names."""


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


MEASURES = ("similarity", "style_chance", "style_read", "shape_kept", "colour_kept", "background_kept")


def run(
    bench: Bench,
    out: Path,
    conditions: Iterable[Condition],
    styles: Sequence[str],
    contents: Sequence[world.Content],
    seeds: Sequence[int],
    seconds: float = math.inf,
) -> bool:
    """Measure what ``pictures.csv`` does not have yet; False if the time was up before the end."""
    path = out / "pictures.csv"
    done = {(row["condition"], row["style"]) for row in read(path)} if path.exists() else set()
    start = time.monotonic()
    plain: Tensor | None = None
    for condition in conditions:
        for style in styles:
            if (condition.key, style) in done:
                continue
            if time.monotonic() - start > seconds:
                return False
            if condition.key == "plain":
                # The same pictures whatever the style they are compared with.
                pairs = [(content, seed) for content in contents for seed in seeds]
                if plain is None:
                    hidden = torch.cat([bench.condition(content.prompt, style, condition) for content, _ in pairs])
                    plain = bench.generate(hidden, [seed for _, seed in pairs])
                rows = bench.judge(plain, pairs, condition, style)
            else:
                rows = bench.measure(condition, style, contents, seeds)
            new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                if new:
                    writer.writeheader()
                writer.writerows(rows)
            means = " ".join(f"{m} {sum(r[m] for r in rows) / len(rows):.2f}" for m in MEASURES)
            print(f"{condition.key} | {style} | {means}", flush=True)
    return True


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) if key in (*MEASURES, "steps") else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per condition: the mean of each measure and half its 95% interval.

    The pictures of one prompt are not independent of each other, so the interval
    is that of the mean of the prompts' means.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["condition"]].append(row)
    result = []
    for key, group in groups.items():
        entry: dict[str, Any] = {
            "condition": key,
            "family": group[0]["family"],
            "steps": int(group[0]["steps"]),
            "pictures": len(group),
        }
        for measure in MEASURES:
            by_prompt: dict[str, list[float]] = defaultdict(list)
            for row in group:
                by_prompt[row["prompt"]].append(row[measure])
            means = torch.tensor([sum(values) / len(values) for values in by_prompt.values()])
            half = 1.96 * float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else math.nan
            entry[measure], entry[f"{measure}_95"] = float(means.mean()), half
        result.append(entry)
    return result


def table(entries: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    heads = ("similarity", "style", "style read", "shape kept", "colour kept", "background kept")
    lines = ["| condition | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for entry in entries:
        cells = [f"{entry[m]:.2f} ± {entry[f'{m}_95']:.2f}" for m in MEASURES]
        lines.append(f"| {entry['condition']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def entries(text: str) -> list[dict[str, Any]]:
    """A summary out of the lines of :func:`table` in a text, as exact as they are written."""
    found = []
    for line in text.splitlines():
        key, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        if key not in CONDITIONS or len(cells) != len(MEASURES):
            continue
        entry: dict[str, Any] = {
            "condition": key,
            "family": CONDITIONS[key].family,
            "steps": CONDITIONS[key].steps,
        }
        for measure, cell in zip(MEASURES, cells):
            entry[measure], entry[f"{measure}_95"] = map(float, cell.split("±"))
        found.append(entry)
    return found


def plot(entries: Sequence[dict[str, Any]], path: Path) -> None:
    """Style and content over the steps, and each way's trade of one for the other."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 13, "lines.linewidth": 2.2, "axes.spines.top": False}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 6))
        by_key = {entry["condition"]: entry for entry in entries}
        for label, conditions, colour in SHOWN:
            curve = [by_key[c.key] for c in conditions if c.key in by_key]
            for measure, what, line in (
                ("style_chance", "style", "-"),
                ("shape_kept", "shape kept", "--"),
                ("colour_kept", "colour kept", ":"),
            ):
                left.errorbar(
                    [e["steps"] for e in curve],
                    [e[measure] for e in curve],
                    [e[f"{measure}_95"] for e in curve],
                    color=colour,
                    linestyle=line,
                    capsize=3,
                    label=f"{label}: {what}",
                )
        left.set(xlabel="aesthetic steps", ylim=(-0.05, 1.05), xticks=STEPS)
        left.set_title(f"Over the steps; learning rates {_FAST:g} and {LR:g}")

        def kept(entry: dict[str, Any]) -> float:
            return (entry["shape_kept"] + entry["colour_kept"]) / 2

        for label, conditions, colour in TRADES:
            curve = [by_key[c.key] for c in (PAPER[0], *conditions) if c.key in by_key]
            right.plot([e["style_chance"] for e in curve], [kept(e) for e in curve], "o-", color=colour, label=label)
        if named := by_key.get("named"):
            right.plot(
                [named["style_chance"]], [kept(named)], "k*", markersize=16, label="the style's name in the prompt"
            )
        right.set(xlabel="style", ylabel="shape and colour kept", xlim=(-0.02, 1.04), ylim=(-0.05, 1.05))
        right.set_title("What the style costs; points are steps")
        for side in (left, right):
            side.legend(ncol=1, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
        figure.tight_layout()
        figure.savefig(path, dpi=120, bbox_inches="tight")
        pyplot.close(figure)


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


def report(out: Path) -> list[dict[str, Any]]:
    """Write summary.json, table.md and plot.png from pictures.csv."""
    entries = summary(read(out / "pictures.csv"))
    (out / "summary.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")
    (out / "table.md").write_text(table(entries), encoding="utf-8")
    plot(entries, out / "plot.png")
    return entries


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m aesthetic_clip.demo.lab.measure", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: the one that comes with the package")
    parser.add_argument("--prompts", type=int, default=25, help="how many held-out prompts (up to 36)")
    parser.add_argument("--seeds", type=int, default=3, help="pictures per prompt")
    parser.add_argument("--styles", nargs="+", choices=list(world.STYLES), default=list(world.STYLES))
    parser.add_argument("--only-paper", action="store_true", help="the paper's conditions without the variants")
    parser.add_argument("--quality", action="store_true", help="measure the model's parts instead, into quality.json")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after the condition that reaches this")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.model)
    if options.quality:
        text = json.dumps(quality(bench), indent=1)
        (options.out / "quality.json").write_text(text, encoding="utf-8")
        print(text)
        return
    conditions = [c for c in CONDITIONS.values() if not options.only_paper or c not in VARIANTS]
    contents = world.HELD_OUT[: options.prompts]
    whole = run(
        bench,
        options.out,
        conditions,
        options.styles,
        contents,
        range(options.seeds),
        60 * options.minutes,
    )
    report(options.out)
    print((options.out / "table.md").read_text(encoding="utf-8"))
    if not whole:
        print("The time was up before all conditions were measured; repeat the command to go on.")


if __name__ == "__main__":
    main()
