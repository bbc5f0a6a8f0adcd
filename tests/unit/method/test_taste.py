"""What the accordion and the prompt's tags add up to."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from aesthetic_clip.embeddings import scan
from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.mixing import mix
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.tags import Tag
from aesthetic_clip.method.taste import AUTOMATIC_CENTRE, Taste, taste
from aesthetic_clip.settings import KNOBS, PRESETS, Settings
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
    by_tag = made(Settings(embedding="None", weight=0.9), Tag("one", 0.5, {"steps": 8, "lr": 2e-4}))
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
        (Settings(), [Tag("one", None, {"steps": 3}), Tag("two", None, {"steps": 4})], "contradict"),
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
        "guidance_start": 0.2,
        "guidance_end": 0.8,
        "away": "two",
        "away_strength": 1.0,
    }
    # A preset is its values.
    assert changed.keys() == {knob.name for knob in KNOBS} - {"preset"}
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
        (Settings(embedding="one", away="one"), "to keep away from one is the embedding itself"),
        (Settings(embedding="one", centre="two", away="two"), "to keep away from two is the centre itself"),
        (Settings(embedding="one", away="h"), "to keep away from h does not fit"),
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
        (Settings(), [Tag("one", -0.5, {"steps": 8})], {"weight": 0.5, "steps": 8}),
        (Settings(), [Tag("one", 0.5, {"lr": 2e-4}), Tag("two")], {"lr": 2e-4}),
        (Settings(embedding="one"), [Tag("two", 0.5, {"steps": 8})], {"steps": 8}),
        (Settings(strength=0.3), [Tag("one", 0.5, {"strength": None})], {"weight": 0.5, "strength": None}),
        (
            Settings(embedding="one", strength=0.3),
            [Tag("two", None, {"preset": "Paper", "steps": 9})],
            {**PRESETS["Paper"], "preset": "Paper", "steps": 9},
        ),
    ],
)
def test_what_the_tags_alone_decided(settings: Settings, tags: list[Tag], by_tags: dict[str, object]) -> None:
    assert made(settings, *tags).by_tags == by_tags


def test_a_preset_in_a_tag_counts_for_the_whole_prompt_and_what_is_said_beside_it_more() -> None:
    chosen = Settings(embedding="one", weight=0.3, steps=3, centre="two")
    by_tag = made(chosen, Tag("two", None, {"preset": "Paper", "steps": 9}))
    by_name = made(chosen.replaced({"preset": "Paper", "steps": 9}), Tag("two"))
    assert by_tag.key == by_name.key
    assert (by_tag.settings.weight, by_tag.settings.steps, by_tag.centres) == (1.0, 9, {})


def test_two_presets_in_one_prompt_are_refused() -> None:
    with pytest.raises(AestheticError, match="contradict each other about preset"):
        made(Settings(), Tag("one", None, {"preset": "Clear"}), Tag("two", None, {"preset": "Paper"}))


def test_who_set_the_values_makes_no_other_picture() -> None:
    clear = Settings(embedding="one").replaced({"preset": "Clear"})
    assert made(clear).key == made(replace(clear, preset="Custom")).key


# The automatic centre


def vectors(count: int, dim: int = 768) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(dim)
    return list(torch.nn.functional.normalize(torch.randn(count, dim, generator=generator), dim=1))


def library(count: int, also_h: int = 0) -> dict[str, Embedding]:
    """So many embeddings for ViT-L/14, the first few of them for ViT-H/14 too."""
    small, large = vectors(count), vectors(count, 1024)
    return {
        str(i): Embedding(str(i), {VIT_L: small[i], **({VIT_H: large[i]} if i < also_h else {})}) for i in range(count)
    }


def automatic(there: dict[str, Embedding], *tags: Tag, **knobs: object) -> Taste:
    settings = Settings.from_mapping({"centre": "auto", **knobs})
    found = taste(settings, tags, there.__getitem__, there.values)
    assert found is not None
    return found


def test_the_automatic_centre_is_the_mean_of_the_others() -> None:
    there = library(6)
    found = automatic(there, embedding="2")
    others = torch.stack([e.vectors[VIT_L] for name, e in there.items() if name != "2"]).double().mean(0)
    assert torch.cosine_similarity(found.centres[VIT_L].double(), others, dim=0) == pytest.approx(1, abs=1e-6)
    assert found.centres[VIT_L].norm() == pytest.approx(1, abs=1e-6)
    assert found.notes == () and re.fullmatch(r"5 others [0-9a-f]{8}", found.found[AUTOMATIC_CENTRE])


def test_all_of_a_mixture_are_left_out() -> None:
    there = library(7)
    found = automatic(there, Tag("1", 0.9), embedding="0")
    made_by_hand = mix([there[str(i)] for i in range(2, 7)], [1.0] * 5, "centre")
    by_name = taste(
        Settings(embedding="0", centre="centre"), [Tag("1", 0.9)], {**there, "centre": made_by_hand}.__getitem__
    )
    assert by_name is not None
    assert torch.allclose(found.centres[VIT_L], by_name.centres[VIT_L], atol=1e-6)


def test_a_copy_under_another_name_is_left_out() -> None:
    there = library(6)
    copied = {**there, "copy": Embedding("copy", there["0"].vectors)}
    assert automatic(copied, embedding="0").key == automatic(there, embedding="0").key


def test_a_made_centre_goes_first() -> None:
    there = library(6)
    named = taste(Settings(embedding="0", centre="1"), [], there.__getitem__, there.values)
    assert named is not None and not named.found
    assert torch.allclose(named.centres[VIT_L], there["1"].vectors[VIT_L])


def test_of_too_few_others_there_is_none_and_the_user_is_told() -> None:
    found = automatic(library(4), embedding="0")
    assert found.found == {AUTOMATIC_CENTRE: "none of 3"}
    feature = vectors(9)[8]
    between = torch.nn.functional.normalize(feature + found.vectors[VIT_L], dim=0)
    assert torch.allclose(found.target(VIT_L)(3 * feature), between, atol=1e-6)
    (note,) = found.notes
    assert "at least 4" in note and "there are 3" in note and "ViT-L/14" in note


def test_each_space_has_its_own() -> None:
    found = automatic(library(8, also_h=3), embedding="0")
    assert set(found.vectors) == {VIT_L, VIT_H}
    assert found.centres[VIT_L].any() and not found.centres[VIT_H].any()
    assert re.fullmatch(r"7 others \w{8}; none of 2", found.found[AUTOMATIC_CENTRE])
    assert len(found.notes) == 1


def test_others_that_are_all_the_same_are_no_centre_of_it() -> None:
    there = {**library(1), **{f"near {i}": Embedding("", {VIT_L: vectors(1)[0] + 1e-6 * i}) for i in range(1, 6)}}
    assert not automatic(there, embedding="0").centres[VIT_L].any()


def test_the_key_knows_which_others_there_are() -> None:
    assert automatic(library(6), embedding="0").key != automatic(library(7), embedding="0").key


def test_a_library_is_read_once_for_all_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, one in library(8).items():
        save(one, tmp_path / f"{name}.safetensors")
    (tmp_path / "damaged.pt").write_bytes(b"nothing")
    later = time.time_ns() + 60 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    there = open_library([tmp_path])
    settings = Settings(embedding="0", centre="Automatic")
    first = taste(settings, [], there.load, there.readable)
    assert first is not None and first.found[AUTOMATIC_CENTRE].startswith("7 others")
    read: list[str] = []
    monkeypatch.setattr(scan, "load", lambda path, name: read.append(name))
    again = taste(settings, [], first_of(there), there.readable)
    assert again is not None and again.key == first.key and read == []


def first_of(there: Library) -> Callable[[str], Embedding]:
    """Reads by name, from what is kept already."""
    return lambda name: there.entry(name).load()


def test_nothing_is_read_of_the_others_for_a_centre_that_is_named_or_none() -> None:
    def fail() -> list[Embedding]:
        raise AssertionError

    assert taste(Settings(embedding="one"), [], load, fail) is not None
    assert taste(Settings(embedding="one", centre="two"), [], load, fail) is not None


def test_away_from_an_embedding_leaves_the_target_with_less_of_it() -> None:
    feature = torch.ones(768)
    toward = made(Settings(embedding="one")).target(VIT_L)(feature)
    away = made(Settings(embedding="one", away="two", away_strength=0.5)).target(VIT_L)(feature)
    assert float(toward @ E2) == 0 > float(away @ E2)
    assert made(Settings(embedding="one", away="two", away_strength=0)).target(VIT_L)(feature) @ E2 == 0


def test_away_alone_is_the_same_as_a_tag_with_a_negative_weight() -> None:
    alone, tag = made(Settings(weight=0.5, away="one")), made(Settings(), Tag("one", -0.5))
    assert torch.equal(alone.vectors[VIT_L], tag.vectors[VIT_L])
    assert alone.settings.weight == tag.settings.weight == 0.5
    assert torch.equal(alone.target(VIT_L)(E2), tag.target(VIT_L)(E2))


def test_a_changed_file_of_what_is_kept_away_from_is_another_taste() -> None:
    def other(name: str) -> Embedding:
        return Embedding(name, {VIT_L: E1 if name == "one" else torch.eye(768)[2]})

    settings = Settings(embedding="one", away="two")
    assert taste(settings, [], other).key != made(settings).key  # type: ignore[union-attr]
