"""The experiment with strengths, centres, presets and parts: what it asks for, and what its table says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers")

from aesthetic_clip.demo import loading, world
from aesthetic_clip.demo.lab import ways, ways_report
from aesthetic_clip.demo.lab.bench import Bench
from aesthetic_clip.geometry import unit
from aesthetic_clip.settings import PRESETS, Settings

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def lab() -> ways.Lab:
    return ways.Lab(Bench())


def test_every_way_has_a_name_of_its_own_and_can_be_asked_for() -> None:
    all_ways = (*ways.WAYS, *ways.MIXED)
    assert len({way.key for way in all_ways}) == len(all_ways)
    assert all(isinstance(way.settings("neon"), Settings) for way in all_ways)


@pytest.mark.parametrize("way", ways.PRESET_WAYS, ids=lambda way: way.point)
def test_a_presets_way_is_what_the_preset_says(way: ways.Way) -> None:
    assert way.settings("neon") == Settings().replaced({"preset": way.point, "embedding": "neon"})
    assert PRESETS.built_in[way.point]


def test_the_outlier_is_as_far_from_all_as_the_papers_is() -> None:
    vectors = [unit(torch.randn(64, generator=torch.Generator().manual_seed(seed)) + 1) for seed in range(6)]
    outlier = ways.unlike(vectors)
    assert outlier.norm() == pytest.approx(1, abs=1e-5)
    assert [float(outlier @ vector) for vector in vectors] == pytest.approx([0.17] * 6, abs=1e-4)


def test_a_way_is_measured_in_each_style_and_prompt(lab: ways.Lab) -> None:
    clear = next(way for way in ways.PRESET_WAYS if way.point == "Clear")
    late = next(way for way in ways.WAYS if way.point == "0.6 to 1")
    contents = world.HELD_OUT[:1]
    rows = [lab.measure(way, ("warm",), contents, [0])[0] for way in (ways.WAYS[0], clear, late)]
    plain, strong, part = rows
    assert plain["gone"] == plain["steps"] == 0 and plain["chance"] < 0.1
    assert strong["gone"] == pytest.approx(PRESETS["Clear"]["strength"], abs=0.01)
    assert strong["chance"] > 0.5
    assert part["gone"] == pytest.approx(0.75, abs=0.01)


def test_the_mixed_embedding_has_both_styles_in_it(lab: ways.Lab) -> None:
    space = loading.SPACE
    mixed = lab.library.load(ways.mixed_name("warm")).vectors[space]
    cosines = {style: float(mixed @ lab.library.load(style).vectors[space]) for style in world.STYLES}
    assert sorted(cosines, key=lambda style: -cosines[style])[:2] in (["warm", "night"], ["night", "warm"])


def row(way: str, prompt: str, chance: float, **more: Any) -> dict[str, Any]:
    zeros = dict.fromkeys(ways.NUMBERS, 0.0)
    return {**zeros, "way": way, "style": "warm", "prompt": prompt, "seed": "0", "chance": chance, **more}


def test_the_table_reads_back_and_its_interval_is_that_of_the_prompts() -> None:
    rows = [row("a: 1", "x", 0.2, shape=1), row("a: 1", "x", 0.4), row("a: 1", "y", 0.9, shape=1, steps=4)]
    (entry,) = ways_report.summary(rows)
    assert entry["chance"] == pytest.approx((0.3 + 0.9) / 2)
    assert entry["chance_95"] == pytest.approx(1.96 * (0.6 / 2**0.5) / 2**0.5)
    assert entry["spread"] == pytest.approx(0.6 / 2**0.5)
    (read,) = ways_report.entries(ways_report.table([entry]))
    assert read == {"way": "a: 1", "chance": 0.6, "shape": 0.75, "colour": 0.0, "background": 0.0}
    assert "unwanted" in ways_report.table([entry], unwanted=True)


def test_the_documents_table_is_about_the_ways_that_there_are() -> None:
    found = ways_report.entries((DOCS / "experiment.md").read_text(encoding="utf-8"))
    assert {"preset: Subtle", "preset: Clear", "preset: Strong", "preset: Paper"} <= {entry["way"] for entry in found}
    assert {entry["way"] for entry in found} <= {way.key for way in ways.WAYS}
