"""What the accordion's header says is on."""

from __future__ import annotations

import pytest

from aesthetic_clip.pages.accordion import what_is_on
from aesthetic_clip.settings import CUSTOM, NO_EMBEDDING


@pytest.mark.parametrize(
    ("switch", "embedding", "preset", "said"),
    [
        (True, "warm", "Clear", "warm · clear"),
        (True, "warm", CUSTOM, "warm"),
        (False, "warm", "Clear", "off: warm · clear"),
        (True, "<img src=x>", CUSTOM, "&lt;img src=x&gt;"),
    ],
)
def test_the_header_names_the_embedding_and_how_strongly_it_counts(
    switch: bool, embedding: str, preset: str, said: str
) -> None:
    assert what_is_on(switch, embedding, preset) == f"<span class='aesthetic-on'>{said}</span>"


@pytest.mark.parametrize("embedding", [NO_EMBEDDING, "", None, 7, ["warm"]])
def test_nothing_is_on_without_an_embedding(embedding: object) -> None:
    assert what_is_on(True, embedding, "Clear") == ""
