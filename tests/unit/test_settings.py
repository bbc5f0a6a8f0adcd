"""The table of knobs: every way in reads the same values and refuses the same ones."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.tags import Tag, parse_tag
from aesthetic_clip.settings import KNOBS, PRESETS, Settings, pasted

anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers(), max_size=2)
)


def test_order_and_infotext_keys_are_those_of_the_first_extension() -> None:
    names = [knob.name for knob in KNOBS]
    assert names[:8] == [
        "weight",
        "steps",
        "lr",
        "slerp",
        "embedding",
        "text",
        "slerp_angle",
        "text_negative",
    ]
    # Positions are what API clients count: new knobs come after these.
    assert names[8:] == [
        "negative_prompt",
        "centre",
        "centre_strength",
        "strength",
        "preset",
        "guidance_start",
        "guidance_end",
        "away",
        "away_strength",
    ]
    assert [knob.infotext for knob in KNOBS[:8]] == [
        "Aesthetic weight",
        "Aesthetic steps",
        "Aesthetic LR",
        "Aesthetic slerp",
        "Aesthetic embedding",
        "Aesthetic text",
        "Aesthetic slerp angle",
        "Aesthetic text negative",
    ]


def test_positional_and_object_are_equal() -> None:
    positional = Settings.from_values([0.5, "8", "1e-4", "True", "sac_8plus", "a text", 0.2, False])
    named = Settings.from_values(
        [
            {
                "weight": 0.5,
                "steps": 8,
                "lr": 1e-4,
                "slerp": True,
                "embedding": "sac_8plus",
                "text": "a text",
                "slerp_angle": 0.2,
            },
            5,
            0.0001,
        ]
    )
    assert positional == named == Settings(0.5, 8, 1e-4, True, "sac_8plus", "a text", 0.2)
    assert Settings.from_values([None] * 8) == Settings.from_values([]) == Settings()


@given(st.lists(anything, max_size=len(KNOBS) + 1))
def test_whatever_comes_in_is_in_range_or_refused_with_a_sentence(values: list[object]) -> None:
    try:
        settings = Settings.from_values(values)
    except AestheticError as error:
        assert len(str(error)) > 20
        return
    for knob in KNOBS:
        value: Any = getattr(settings, knob.name)
        if value is None:
            assert knob.optional
            continue
        if knob.minimum is not None and knob.maximum is not None:
            assert knob.minimum <= value <= knob.maximum and math.isfinite(value)
        assert type(value) is knob.type


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr": "fast"}, "has to be a number"),
        ({"lr": float("nan")}, "has to be a number"),
        ({"lr": -1}, "from 0 to 0.1"),
        ({"steps": 2.5}, "whole number"),
        ({"steps": 51}, "from 0 to 50"),
        ({"weight": True}, "has to be a number"),
        ({"slerp": "maybe"}, "true or false"),
        ({"embedding": 3}, "has to be a text"),
        ({"step": 3}, "Did you mean 'steps'"),
    ],
)
def test_refusals_say_what_would_do(values: dict[str, object], words: str) -> None:
    with pytest.raises(AestheticError, match=words):
        Settings.from_mapping(values)


@pytest.mark.parametrize(
    ("items", "tag"),
    [
        (["a"], Tag("a")),
        (["sub/a b", "0.5"], Tag("sub/a b", 0.5)),
        (["a", "-0.5"], Tag("a", -0.5)),
        (["a", "weight=1", "steps=8", " lr = 0.0002 "], Tag("a", 1, {"steps": 8, "lr": 0.0002})),
        (["a", "steps=8"], Tag("a", None, {"steps": 8})),
        (["a", "strength=0.4"], Tag("a", None, {"strength": 0.4})),
        (["a", "strength=off"], Tag("a", None, {"strength": None})),
        (["a", "clear"], Tag("a", None, {"preset": "Clear"})),
        (["a", "-1", "preset = STRONG", "strength=0.3"], Tag("a", -1, {"preset": "Strong", "strength": 0.3})),
    ],
)
def test_tags(items: list[str], tag: Tag) -> None:
    assert parse_tag(items) == tag


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_any_tag_is_read_or_refused_with_a_sentence(items: list[str]) -> None:
    try:
        tag = parse_tag(items)
    except AestheticError as error:
        assert len(str(error)) > 20
    else:
        assert tag.name and (tag.weight is None or -1 <= tag.weight <= 1)


# Presets


def test_nothing_said_is_as_in_version_1() -> None:
    assert Settings() == Settings.from_mapping({}) == Settings.from_values([]) == Settings(preset="Custom")
    assert Settings().infotext() == {
        "Aesthetic weight": "0.9",
        "Aesthetic steps": "5",
        "Aesthetic LR": "0.0001",
        "Aesthetic slerp": "False",
        "Aesthetic slerp angle": "0.1",
        "Aesthetic text negative": "False",
    }


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_sets_what_its_line_says_and_leaves_the_rest(name: str) -> None:
    before = Settings(embedding="sea", text="a text", negative_prompt=True)
    after = before.replaced({"preset": name.upper()})
    expected = {**dataclasses.asdict(before), **PRESETS[name], "preset": name}
    assert dataclasses.asdict(after) == expected


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "Custom"])
def test_every_preset_decides_how_far_and_by_which_target(name: str) -> None:
    assert {"weight", "steps", "lr", "slerp", "centre", "strength"} <= set(PRESETS[name])


def test_paper_is_the_papers_method() -> None:
    paper = Settings.from_mapping({"preset": "paper"})
    assert (paper.weight, paper.steps, paper.lr, paper.slerp) == (1, 5, 0.0001, False)
    assert paper.strength is None and not paper.has_centre


@pytest.mark.parametrize(
    ("said", "preset", "strength", "steps"),
    [
        ({"preset": "clear"}, "Clear", 0.7, 50),
        ({"preset": "clear", "steps": None, "strength": None}, "Clear", 0.7, 50),
        ({"preset": "clear", "strength": "off"}, "Clear", None, 50),
        ({"steps": 3, "preset": "Clear"}, "Clear", 0.7, 3),
        ({"preset": None}, "Custom", None, 5),
    ],
)
def test_what_is_said_beside_a_preset_counts_more_and_null_says_nothing(
    said: dict[str, object], preset: str, strength: float | None, steps: int
) -> None:
    found = Settings.from_mapping(said)
    assert (found.preset, found.strength, found.steps) == (preset, strength, steps)
    assert Settings.from_values([said.get(knob.name) for knob in KNOBS]) == found


def test_infotext_names_a_preset_only_while_the_values_are_its_own() -> None:
    clear = Settings.from_mapping({"preset": "clear", "embedding": "sea"})
    assert clear.infotext()["Aesthetic preset"] == "Clear"
    by_hand = {key: value for key, value in clear.infotext().items() if key != "Aesthetic preset"}
    # Who does not know presets reads the same values.
    assert Settings(**pasted(by_hand)) == dataclasses.replace(clear, preset="Custom")
    assert "Aesthetic preset" not in clear.replaced({"steps": 3}).infotext()
    assert Settings(**pasted({**clear.infotext(), "Aesthetic steps": "3"})).preset == "Custom"


@pytest.mark.parametrize("word", ["auto", "Auto", "AUTOMATIC", " automatic "])
def test_an_automatic_centre_by_either_word(word: str) -> None:
    assert Settings.from_mapping({"centre": word}).centre == "Automatic"
    assert Settings.from_mapping({"embedding": word}).embedding == word.strip()
