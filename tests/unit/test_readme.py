"""The README says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aesthetic_clip.cli.main import COMMANDS
from aesthetic_clip.settings import KNOBS, Knob

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("knob", KNOBS, ids=lambda knob: knob.name)
def test_every_knob_stands_in_the_table_as_it_is(knob: Knob) -> None:
    span = "" if knob.minimum is None else f"{knob.minimum:g} to {knob.maximum:g}"
    cells = (knob.label, str(knob.default), span, knob.infotext, knob.help)
    assert "| " + " | ".join(cells).replace("|  |", "| |").replace("|  |", "| |") + " |" in README


def test_every_command_is_named() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"(`|, `|clip ){name}\b", README)]
    assert not missing


def test_every_picture_is_there() -> None:
    root = Path(__file__).resolve().parents[2]
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (root / path).is_file(), path
