"""Where each preset ends, as a part of the way, on the demonstration encoder, small towers, and those of full size.

    python tests/benchmarks/bench_presets.py [--tower ViT-L/14 ViT-H/14 ViT-bigG/14] [--device cuda]

Towers have random weights but for the demonstration's. Embedding and centre are random vectors, which are farther from
any prompt than real ones.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aesthetic_clip.clip.text_encoder import TextEncoder
from aesthetic_clip.demo import loading, world
from aesthetic_clip.geometry import unit
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.targets import Target, target_of
from aesthetic_clip.settings import PRESETS, Settings
from tests.benchmarks.bench_personalize import IDS, SHAPES, tower
from tests.support.towers import TOWERS

BY_STRENGTH = [name for name, values in PRESETS.items() if values.get("strength") is not None]


def targets(encoder: TextEncoder) -> dict[str, Target]:
    generator = torch.Generator().manual_seed(1)
    vector, centre = (unit(torch.randn(encoder.space.dim, generator=generator)).to(encoder.device) for _ in range(2))
    return {
        "with a centre": target_of(Settings(), vector, centre),
        "too few for one": target_of(Settings(), vector, torch.zeros_like(centre)),
    }


def demonstration() -> tuple[TextEncoder, list[int]]:
    pipe = loading.load_pipeline()
    return loading.load_text_encoder(pipe), pipe.tokenizer(world.HELD_OUT[0].prompt).input_ids


def reached(encoder: TextEncoder, ids: list[int], preset: str, target: Target) -> tuple[float, int]:
    """The part of the angle that is gone, and the steps that it took."""
    values = Settings.from_mapping({"preset": preset})
    found = optimize(encoder, torch.tensor(ids), target, values.steps, values.lr, strength=values.strength)
    similarities = found.similarities
    return 1 - math.acos(similarities[-1]) / math.acos(similarities[0]), len(similarities) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", nargs="+", choices=list(SHAPES), default=["ViT-L/14"])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    made: dict[str, Callable[[], tuple[TextEncoder, list[int]]]] = {"demonstration": demonstration}
    for name, make in TOWERS.items():
        made[f"small, {name}"] = functools.partial(lambda make: (make(), IDS), make)
    for name in args.tower:
        made[name] = functools.partial(lambda name: (tower(name, args.device), IDS), name)
    print("| tower | target | " + " | ".join(BY_STRENGTH) + " |\n|---|---|" + "---|" * len(BY_STRENGTH))
    for name, both in made.items():
        encoder, ids = both()
        for kind, target in targets(encoder).items():
            start = time.perf_counter()
            ends = [reached(encoder, ids, preset, target) for preset in BY_STRENGTH]
            cells = [f"{part:.3f} in {steps}" for part, steps in ends]
            print(f"| {name} | {kind} | {' | '.join(cells)} |", flush=True)
            print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
