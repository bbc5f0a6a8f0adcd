"""Whatever a name or a text holds, what is shown can be encoded and acts on nothing."""

from __future__ import annotations

import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.printable import printable

ANYTHING = st.text(st.characters(codec=None, exclude_categories=()))


@given(ANYTHING)
def test_what_comes_out_can_be_encoded_and_controls_nothing(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)


@given(ANYTHING)
def test_what_is_printable_stays(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    for character in set(text):
        if character.isprintable():
            assert printable(character) == character


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (os.fsdecode(b"caf\xe9.pt"), "caf\\xe9.pt"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("exe\u202egpj", "exe\\u202egpj"),
        ("été 东京 👍", "été 东京 👍"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert printable(text) == shown
