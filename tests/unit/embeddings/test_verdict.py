"""Verdicts in words, against piles whose tastes are known: drawn vectors, and the demonstration world's pictures."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aesthetic_clip.create.groups import FEWEST, likeness, split, two_means
from aesthetic_clip.create.pictures import create, to_embedding
from aesthetic_clip.demo import MODEL, loading, world
from aesthetic_clip.embeddings.embedding import Embedding, load, save
from aesthetic_clip.embeddings.metadata import Groups, Metadata
from aesthetic_clip.embeddings.verdict import Kind, verdict
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L

DIM = 768


def drawn(*seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(hash(seed) % 2**31)


def pile(direction: Tensor, count: int, seed: int, spread: float = 1.0) -> Tensor:
    """(count, DIM) unit vectors around a direction; spread is the length of what is of their own, against 1."""
    own = torch.randn(count, DIM, generator=drawn(seed)) / DIM**0.5
    return unit(direction + spread * own)


def direction(seed: int) -> Tensor:
    """A taste: what every picture has in common (CLIP's features lie in a cone), and what is its own."""
    cone = unit(torch.ones(DIM))
    return 0.6 * cone + 0.8 * unit(torch.randn(DIM, generator=drawn(seed)))


def embedding(features: Tensor, name: str) -> Embedding:
    mean = features.mean(0)
    metadata = Metadata.of_mean(
        images=len(features),
        raw=False,
        sources="",
        model_ids={},
        mean_cosine=float(mean.norm()),
        groups=split(features),
    )
    return Embedding(name, {VIT_L: unit(mean)}, metadata)


OTHERS = [embedding(pile(direction(seed), 24, seed), f"other {seed}") for seed in range(10, 16)]


def test_likeness_is_the_mean_over_all_pairs() -> None:
    features = pile(direction(1), 7, 1)
    pairs = [float(one @ other) for one, other in itertools.combinations(features.double(), 2)]
    assert likeness(features) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


@pytest.mark.parametrize("sizes", [(12, 12), (5, 19), (100, 300)])
def test_two_means_finds_groups_that_are_there(sizes: tuple[int, int]) -> None:
    features = torch.cat([pile(direction(seed), size, seed) for seed, size in zip((1, 2), sizes)])
    order = torch.randperm(len(features), generator=drawn(3))
    labels = two_means(features[order])
    truth = order < sizes[0]
    assert labels.equal(truth) or labels.equal(~truth)
    groups = split(features[order])
    assert groups is not None and groups.sizes == (max(sizes), min(sizes))


def test_too_few_pictures_have_no_groups() -> None:
    assert split(pile(direction(1), FEWEST - 1, 1)) is None
    with_an_outlier = torch.cat([pile(direction(1), 20, 1), pile(direction(2), 1, 2)])
    assert verdict(embedding(with_an_outlier, "mine"), OTHERS).kind is Kind.TOGETHER


@pytest.mark.parametrize("count", [8, 24, 500])
def test_pictures_of_one_taste_belong_together(count: int) -> None:
    found = verdict(embedding(pile(direction(1), count, 1), "mine"), OTHERS)
    assert found.kind is Kind.TOGETHER
    assert found.sentence.startswith("These pictures belong together (")


def test_two_tastes_are_told_with_how_many_in_each() -> None:
    both = torch.cat([pile(direction(1), 9, 1), pile(direction(2), 15, 2)])
    found = verdict(embedding(both, "mine"), OTHERS)
    assert found.kind is Kind.TWO
    assert "two different tastes, of 15 and 9 pictures: make two" in found.sentence


def test_pictures_of_everything_have_little_in_common() -> None:
    all_of_them = torch.cat([pile(direction(100 + seed), 1, seed) for seed in range(40)])
    assert verdict(embedding(all_of_them, "mine"), OTHERS).kind is Kind.APART


def test_nothing_is_said_without_something_to_compare_with() -> None:
    mine = embedding(pile(direction(1), 24, 1), "mine")
    assert verdict(mine, OTHERS[:3]).kind is Kind.UNKNOWN
    assert "from 4 other embeddings" in verdict(mine, [*OTHERS[:3], mine]).sentence
    assert "fewer than 8" in verdict(embedding(pile(direction(1), 7, 1), "few"), OTHERS).sentence
    assert verdict(Embedding("no numbers", mine.vectors), OTHERS).sentence == ""


def test_groups_go_through_a_file(tmp_path: Path) -> None:
    mine = embedding(torch.cat([pile(direction(1), 9, 1), pile(direction(2), 15, 2)]), "mine")
    save(mine, tmp_path / "mine.safetensors")
    groups = load(tmp_path / "mine.safetensors", "mine").about.groups
    assert groups is not None and groups.sizes == (15, 9)
    assert verdict(load(tmp_path / "mine.safetensors", "mine"), OTHERS).kind is Kind.TWO


@pytest.mark.parametrize(
    "text", ["", "1 2", "0 9 0.1 0.1 0.1", "5 9 nan 0.1000 0.1000", "9" * 400, "5 9 0.1 0.1 0.1 0.1"]
)
def test_groups_that_are_none(text: str) -> None:
    assert Metadata({"groups": text}).groups is None


def test_groups_as_written_are_read() -> None:
    groups = Groups((5, 4), (0.5, -0.25), 0.125)
    assert Metadata({"groups": str(groups)}).groups == groups


# The demonstration's world: CLIP features of pictures


@pytest.fixture(scope="module")
def shelf() -> Sequence[Embedding]:
    """What a user of the demonstration has."""
    if not (MODEL / "model_index.json").is_file():
        pytest.skip("no trained model is stored here")
    encoder = loading.load_image_encoder()
    return [loading.style_embedding(encoder, style) for style in world.STYLES]


def made(looks: Sequence[str], seed: int, name: str = "mine") -> Embedding:
    """Of as many pictures of each look as make 24."""
    pictures = [
        (f"{look} {number}", image)
        for look in looks
        for number, image in enumerate(world.style_images(look, 24 // len(looks), seed))
    ]
    return to_embedding(create(pictures, [loading.load_image_encoder()], workers=1), name)


PAIRS = list(itertools.combinations(world.STYLES, 2))


@pytest.mark.parametrize("style", world.STYLES)
def test_the_worlds_styles_belong_together(shelf: Sequence[Embedding], style: str) -> None:
    others = [embedding for embedding in shelf if embedding.name != style]
    assert verdict(made([style], seed=3), others).kind is Kind.TOGETHER


def test_two_styles_are_two_tastes_and_all_of_them_none(shelf: Sequence[Embedding]) -> None:
    rng = random.Random(0)
    kinds = []
    for pair in rng.sample(PAIRS, 8):
        others = [embedding for embedding in shelf if embedding.name not in pair]
        kinds.append(verdict(made(pair, seed=4), others).kind)
    assert Kind.TOGETHER not in kinds
    assert kinds.count(Kind.TWO) >= 6, kinds
    mixed = verdict(made(list(world.STYLES), seed=5), shelf)
    assert mixed.kind is Kind.APART, mixed
