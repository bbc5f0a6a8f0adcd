"""The arithmetic of taste profiles, against means in float64."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from aesthetic_clip.embeddings.opinions import Counts, Opinion, Sums
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_L

LIKED, DISLIKED = Opinion.LIKED, Opinion.DISLIKED


def vector(seed: int, dim: int = 768) -> Tensor:
    """Pictures have much in common, as in CLIP."""
    common = torch.randn(dim, generator=torch.Generator().manual_seed(1000))
    return unit(common + torch.randn(dim, generator=torch.Generator().manual_seed(seed)))


def summed(liked: range, disliked: range = range(0)) -> Sums:
    sums = Sums()
    for opinion, seeds in ((LIKED, liked), (DISLIKED, disliked)):
        for seed in seeds:
            sums = sums.changed({VIT_L: vector(seed)}, None, opinion)
    return sums


def mean(seeds: range) -> Tensor:
    return torch.stack([vector(seed).double() for seed in seeds]).mean(0)


def test_liked_pictures_are_their_mean() -> None:
    expected = unit(mean(range(50)))
    assert (summed(range(50)).vectors()[VIT_L] - expected).abs().max() < 1e-6
    assert summed(range(50)).mean_cosine == pytest.approx(float(mean(range(50)).norm()), abs=1e-9)


def test_a_fifth_of_the_disliked_is_taken_off_however_many_they_are() -> None:
    expected = unit(mean(range(5)) - 0.2 * mean(range(50, 90)))
    assert (summed(range(5), range(50, 90)).vectors()[VIT_L] - expected).abs().max() < 1e-6


def test_disliked_pictures_alone_are_moved_away_from() -> None:
    assert (summed(range(0), range(3)).vectors()[VIT_L] + unit(mean(range(3)))).abs().max() < 1e-6


def test_what_was_taken_out_leaves_no_trace_in_any_order() -> None:
    chance = random.Random(1)
    seeds = list(range(100))
    sums = Sums()
    for seed in chance.sample(seeds, 100):
        sums = sums.changed({VIT_L: vector(seed)}, None, chance.choice([LIKED, DISLIKED]))
    sums = Sums()
    for seed in chance.sample(seeds, 100):
        sums = sums.changed({VIT_L: vector(seed)}, None, DISLIKED)
        sums = sums.changed({VIT_L: vector(seed)}, DISLIKED, LIKED)
    for seed in chance.sample(range(40, 100), 60):
        sums = sums.changed({VIT_L: vector(seed)}, LIKED, None)
    expected = summed(range(40))
    assert torch.equal(sums.totals[VIT_L], expected.totals[VIT_L])
    assert sums.counts == {VIT_L: Counts(40, 0)}


def test_each_space_counts_the_pictures_encoded_for_it() -> None:
    sums = summed(range(3)).changed({VIT_L: vector(3), VIT_BIGG: vector(3, 1280)}, None, LIKED)
    assert {space: counts.liked for space, counts in sums.counts.items()} == {VIT_L: 4, VIT_BIGG: 1}
    assert torch.allclose(sums.vectors()[VIT_BIGG], vector(3, 1280), atol=1e-7)
    assert list(sums.changed({VIT_L: vector(3), VIT_BIGG: vector(3, 1280)}, LIKED, None).totals) == [VIT_L]


def test_pictures_that_cancel_out_are_refused() -> None:
    sums = Sums().changed({VIT_L: vector(1)}, None, LIKED).changed({VIT_L: -vector(1)}, None, LIKED)
    with pytest.raises(AestheticError, match="cancel out"):
        sums.vectors()
