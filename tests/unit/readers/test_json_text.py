"""JSON out of files from outside."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.readers.faults import UnreadableFile
from aesthetic_clip.readers.json_text import parse_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_json_writes_is_read(value: object) -> None:
    assert parse_json(json.dumps(value).encode(), "table") == value


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        "[NaN]",
        "[Infinity]",
        f"[{'9' * 40}]",
        "[" * 2000,
        "{",
        "",
        "\x00",
    ],
    ids=["twice", "twice within", "NaN", "infinite", "a long number", "deep", "cut off", "empty", "NUL"],
)
def test_what_could_be_read_in_two_ways_or_none_is_refused(text: str) -> None:
    with pytest.raises(UnreadableFile):
        parse_json(text.encode(), "table")
