"""The index of weights that are divided into several files."""

from __future__ import annotations

import re
from pathlib import Path

from .faults import UnreadableFile
from .json_text import parse_json

_INDEX_BYTES = 2 * 2**20
_MOST_SHARDS = 100
_NAME = re.compile(r"\w[\w.-]{0,200}")


def shards(index: Path) -> list[Path]:
    """The files that an index names, which lie beside it; whether they are there is not looked at.

    Raises:
        UnreadableFile: damaged, or it names what is no file of its folder.
        OSError: it can't be read.
    """
    with index.open("rb") as file:
        content = parse_json(file.read(_INDEX_BYTES + 1), index.name, _INDEX_BYTES)
    places = content.get("weight_map") if isinstance(content, dict) else None
    values = list(places.values()) if isinstance(places, dict) else []
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in values):
        raise UnreadableFile(f"Its {index.name} is damaged: it names what is no file beside it.")
    names = set(values)
    if not 0 < len(names) <= _MOST_SHARDS:
        raise UnreadableFile(f"Its {index.name} is damaged.")
    return [index.parent / name for name in sorted(names)]
