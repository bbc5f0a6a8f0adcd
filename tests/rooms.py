"""Draws the rooms of the package into CONTRIBUTING.md, from the table and the docstrings: ``python -m tests.rooms``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

from .readme import between
from .unit.test_rooms import GROUND, MODULES, PACKAGE, PACKAGE_ITSELF, ROOMS, room

CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"


def sentence(path: Path) -> str:
    """The first one of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s", " ".join(text.split("\n\n")[0].split()))[0].rstrip(".:")


def needed(rooms: Mapping[str, set[str]], name: str) -> list[str]:
    """The rooms below one that no other of its rooms leads to already."""

    def below(start: str) -> set[str]:
        return {further for nearer in rooms[start] for further in ({nearer} | below(nearer))}

    return sorted(rooms[name] - {further for nearer in rooms[name] for further in below(nearer)})


def drawing(rooms: Mapping[str, set[str]] = ROOMS) -> str:
    """As Mermaid: every arrow goes to what is used; those that follow from others are left out."""
    names = {name: name.replace(".", "/") for name in rooms if name not in (GROUND, PACKAGE_ITSELF, "hosts")}
    lines = [f'    {key.replace(".", "_")}["{label}/"]' for key, label in names.items()]
    used = {name: {other for other in rooms[name] if other in names} for name in names}
    for name in names:
        below = needed(used, name)
        lines += [f"    {name.replace('.', '_')} --> {other.replace('.', '_')}" for other in below]
        if not below:
            lines.append(f"    {name.replace('.', '_')} --> ground")
    return "```mermaid\nflowchart TD\n" + "\n".join([*lines, f'    ground["{GROUND}"]']) + "\n```\n"


def table(rooms: Mapping[str, set[str]] = ROOMS) -> str:
    """A sentence for each room, from its ``__init__.py``, and for each file of the ground floor."""
    lines = ["| room | what it is |", "|---|---|"]
    for name in rooms:
        if name in (GROUND, PACKAGE_ITSELF):
            continue
        place = name.replace(".", "/")
        lines.append(f"| `{place}/` | {sentence(MODULES[f'{PACKAGE}.{name}'])} |")
    for module, path in MODULES.items():
        if room(module) == GROUND:
            lines.append(f"| `{path.name}` | {sentence(path)} |")
    return "\n".join(lines) + "\n"


def updated(text: str) -> str:
    """CONTRIBUTING's text as the rooms are now."""
    return between(text, "rooms", drawing() + "\n" + table())


if __name__ == "__main__":
    CONTRIBUTING.write_text(updated(CONTRIBUTING.read_text(encoding="utf-8")), encoding="utf-8")
