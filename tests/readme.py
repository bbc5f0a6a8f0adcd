"""Writes what the README says about the knobs, from the table in the code: ``python -m tests.readme``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from aesthetic_clip.settings import KNOBS, Knob

README = Path(__file__).resolve().parents[1] / "README.md"
_HEAD = "| control | default | range | parameter in the picture | what it does |\n|---|---|---|---|---|\n"


def table(knobs: Sequence[Knob] = KNOBS) -> str:
    """As Markdown; what is folded in the accordion is folded here too."""
    parts = []
    # The sort keeps the order of the API's arguments within a fold.
    for fold, group in itertools.groupby(sorted(knobs, key=lambda knob: knob.fold), key=lambda knob: knob.fold):
        rows = _HEAD + "".join(map(_row, group))
        parts.append(f"<details>\n<summary>{fold}</summary>\n\n{rows}\n</details>\n" if fold else rows)
    return "\n".join(parts)


def names(knobs: Sequence[Knob] = KNOBS) -> str:
    """In the order of the API's arguments."""
    return ", ".join(f"`{knob.name}`" for knob in knobs) + ".\n"


def updated(text: str, knobs: Sequence[Knob] = KNOBS) -> str:
    """The README's text as the knobs are now: what stands between its marks is written anew."""
    return between(between(text, "knobs", table(knobs)), "names of the knobs", names(knobs))


def between(text: str, mark: str, content: str) -> str:
    """The text with ``content`` between two marks, in the place of what stands there."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->\n"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    assert found and closed, f"There is no place for {mark}, between {begin.strip()} and {end.strip()}."
    return f"{before}{begin}{content}{end}{after}"


def _row(knob: Knob) -> str:
    cells = (knob.label, knob.write(knob.default), knob.range, knob.infotext, knob.help)
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


if __name__ == "__main__":
    README.write_text(updated(README.read_text(encoding="utf-8")), encoding="utf-8")
