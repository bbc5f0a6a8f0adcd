"""The table of knobs: every way in reads the same values and refuses the same ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.tags import Tag, parse_tag
from aesthetic_clip.settings import KNOBS, Settings

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
    assert names[8:] == ["negative_prompt", "centre", "centre_strength", "strength"]
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
        (["a", "weight=1", "steps=8", " lr = 0.0002 "], Tag("a", 1, 8, 0.0002)),
        (["a", "steps=8"], Tag("a", None, 8)),
        (["a", "strength=0.4"], Tag("a", strength=0.4)),
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
