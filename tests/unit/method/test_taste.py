"""What the accordion and the prompt's tags add up to."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.tags import Tag
from aesthetic_clip.method.taste import Taste, taste
from aesthetic_clip.settings import KNOBS, Settings
from aesthetic_clip.spaces import VIT_BIGG, VIT_H, VIT_L, Space

E1, E2 = torch.eye(768)[0], torch.eye(768)[1]


def load(name: str) -> Embedding:
    vectors: dict[str, dict[Space, torch.Tensor]] = {
        "one": {VIT_L: E1},
        "two": {VIT_L: E2, VIT_BIGG: torch.eye(1280)[0]},
        "minus": {VIT_L: -E1},
        "h": {VIT_H: torch.eye(1024)[0]},
    }
    return Embedding(name, vectors[name])


def made(settings: Settings, *tags: Tag) -> Taste:
    result = taste(settings, tags, load)
    assert result is not None
    return result


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(embedding="one", weight=0),
        Settings(embedding="one", steps=0),
        Settings(embedding="one", lr=0),
        Settings(embedding=""),
        Settings(embedding="one", centre="two", centre_strength=0),
    ],
)
def test_nothing_to_do_reads_no_file(settings: Settings) -> None:
    def fail(name: str) -> Embedding:
        raise AssertionError(name)

    assert taste(settings, [], fail) is None


def test_a_tag_alone_is_the_same_as_the_dropdown() -> None:
    by_tag = made(Settings(embedding="None", weight=0.9), Tag("one", 0.5, 8, 2e-4))
    by_dropdown = made(Settings(embedding="one", weight=0.5, steps=8, lr=2e-4))
    assert by_tag.digest == by_dropdown.digest
    assert (by_tag.settings.weight, by_tag.settings.steps, by_tag.settings.lr) == (0.5, 8, 2e-4)


def test_a_tag_without_weight_takes_the_accordions() -> None:
    assert made(Settings(weight=0.4), Tag("one")).settings.weight == 0.4


def test_tag_and_dropdown_mix_by_weight() -> None:
    mixed = made(Settings(embedding="one", weight=0.6), Tag("two", 0.8))
    assert torch.allclose(mixed.vectors[VIT_L], 0.6 * E1 + 0.8 * E2)
    assert list(mixed.vectors) == [VIT_L]  # the one space that both have
    assert mixed.settings.weight == 0.8
    assert mixed.names == ("one", "two")


def test_a_negative_weight_moves_away() -> None:
    assert torch.allclose(made(Settings(), Tag("one", -0.5)).vectors[VIT_L], -E1)


@pytest.mark.parametrize(
    ("settings", "tags", "words"),
    [
        (Settings(embedding="one"), [Tag("h", 1)], "no CLIP space in common"),
        (Settings(embedding="one", weight=0.5), [Tag("minus", 0.5)], "cancel"),
        (Settings(), [Tag("one", steps=3), Tag("two", steps=4)], "contradict"),
    ],
)
def test_what_can_not_be_mixed_is_refused(settings: Settings, tags: list[Tag], words: str) -> None:
    with pytest.raises(AestheticError, match=words):
        taste(settings, tags, load)


def test_the_key_tells_every_knob_and_every_vector_apart() -> None:
    base = Settings(embedding="one", text="a text")
    changed: dict[str, Any] = {
        "weight": 0.8,
        "steps": 6,
        "lr": 2e-4,
        "slerp": True,
        "embedding": "two",
        "text": "another",
        "slerp_angle": 0.2,
        "text_negative": True,
        "negative_prompt": True,
        "centre": "two",
        "centre_strength": 3.0,
        "strength": 0.4,
    }
    assert changed.keys() == {knob.name for knob in KNOBS}
    keys = {made(base).key, *(made(dataclasses.replace(base, **{name: value})).key for name, value in changed.items())}
    assert len(keys) == 1 + len(changed)
    assert made(base).key == made(base).key

    def other(name: str) -> Embedding:
        return Embedding(name, {VIT_L: E2})

    assert taste(base, [], other).key != made(base).key  # type: ignore[union-attr]


def test_a_centre_is_compared_with_each_embedding_of_a_mixture() -> None:
    for tags in ([], [Tag("two", 0.5)], [Tag("two", -0.3)]):
        mixture = made(Settings(embedding="minus", weight=0.8, centre="one"), *tags)
        parts: list[tuple[torch.Tensor, float]] = [(-E1, 0.8), *((E2, tag.weight or 0) for tag in tags)]
        # Sum of w (e - c), in whatever length the mixture has.
        wanted = sum((w * (e - E1) for e, w in parts), torch.zeros(768))
        difference = mixture.vectors[VIT_L] - mixture.centres[VIT_L]
        assert torch.cosine_similarity(difference, wanted, dim=0) == pytest.approx(1, abs=1e-5)
    toward = made(Settings(embedding="minus", centre="two"))
    away = made(Settings(centre="two"), Tag("minus", -0.9))
    assert torch.allclose(away.vectors[VIT_L] - away.centres[VIT_L], toward.centres[VIT_L] - toward.vectors[VIT_L])
    assert not made(Settings(embedding="one")).centres


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(embedding="two", centre="h"), "no vector for ViT-L/14"),
        (Settings(embedding="one", centre="one"), "is the embedding itself"),
    ],
)
def test_a_centre_that_does_not_fit(settings: Settings, words: str) -> None:
    with pytest.raises(AestheticError, match=words):
        taste(settings, [], load)


@pytest.mark.parametrize(
    ("settings", "tags", "by_tags"),
    [
        (Settings(embedding="one"), [], {}),
        (Settings(), [Tag("one")], {}),
        (Settings(), [Tag("one", 0.5)], {"weight": 0.5}),
        (Settings(), [Tag("one", -0.5, 8)], {"weight": 0.5, "steps": 8}),
        (Settings(), [Tag("one", 0.5, None, 2e-4), Tag("two")], {"lr": 2e-4}),
        (Settings(embedding="one"), [Tag("two", 0.5, 8)], {"steps": 8}),
    ],
)
def test_what_the_tags_alone_decided(settings: Settings, tags: list[Tag], by_tags: dict[str, float]) -> None:
    assert made(settings, *tags).by_tags == by_tags
