"""The README says what the program does."""

from __future__ import annotations

import re

from aesthetic_clip.cli.main import COMMANDS

from ..readme import README, updated

TEXT = README.read_text(encoding="utf-8")


def test_the_knobs_are_those_in_the_code() -> None:
    assert updated(TEXT) == TEXT, "Write it anew: python -m tests.readme"


def test_every_command_is_named() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"(`|, `|clip ){name}\b", TEXT)]
    assert not missing


def test_every_picture_is_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (README.parent / path).is_file(), path
