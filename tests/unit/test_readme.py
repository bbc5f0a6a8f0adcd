"""The README says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aesthetic_clip import __version__
from aesthetic_clip.cli.main import COMMANDS

from .. import rooms
from ..readme import README, updated

PAGES = [*sorted(README.parent.glob("*.md")), *sorted(README.parent.glob("docs/*.md"))]
TEXT = README.read_text(encoding="utf-8")


def test_the_knobs_are_those_in_the_code() -> None:
    assert updated(TEXT) == TEXT, "Write it anew: python -m tests.readme"


def test_every_command_is_named() -> None:
    missing = [name for name in COMMANDS if not re.search(rf"(`|, `|clip ){name}\b", TEXT)]
    assert not missing


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_contents_name_every_section() -> None:
    contents = TEXT.partition("**Contents:**")[2].partition("##")[0]
    headings = set(re.findall(r"^## (.+)$", TEXT, re.MULTILINE))
    assert set(re.findall(r"\[([^\]]+)\]\(#", contents)) == headings


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_command_that_is_told_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    table = text.partition("| `python -m aesthetic_clip …` | does |")[2].partition("\n\n")[0]
    told = re.findall(r"python3? -m aesthetic_clip ([a-z]\w*)", text)
    told += [
        word
        for row in table.splitlines()
        for word in re.findall(r"`([a-z]\w*)[ `]", row.rpartition("|")[0].rpartition("|")[0])
    ]
    assert set(told) <= {*COMMANDS}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_module_that_is_run_exists(page: Path) -> None:
    for module in re.findall(r"python3? -m ((?:aesthetic_clip|tests)[\w.]*)", page.read_text(encoding="utf-8")):
        place = README.parent.joinpath(*module.split("."))
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module


def test_contributing_shows_the_rooms_as_they_are() -> None:
    text = rooms.CONTRIBUTING.read_text(encoding="utf-8")
    assert rooms.updated(text) == text, "Draw it anew: python -m tests.rooms"


def test_python_versions_are_those_of_the_package() -> None:
    project = (README.parent / "pyproject.toml").read_text(encoding="utf-8")
    least = re.findall(r'requires-python = ">=(3\.\d+)"', project)[0]
    assert f"Python: {least} or later" in TEXT
    assert f"(Python {least} or later)" in TEXT


def test_the_changelog_begins_with_this_version_or_what_is_to_come() -> None:
    text = (README.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (\S+)", text, re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == __version__
