"""How strongly an embedding is to count where nobody says otherwise, and what else people note beside it.

It stands in ``name.json`` beside the file, where the WebUI keeps what is written on a card, and goes with the embedding
when that is renamed, moved or thrown away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import AestheticError
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json
from ..settings import BY_NAME, agreeing
from .library import Library
from .presets import FILE as PRESETS_FILE
from .scan import Entry

_KEYS = {"preset": "preferred preset", "strength": "preferred strength"}
_LARGEST = 2**20


def notes(entry: Entry) -> dict[str, Any]:
    """What stands beside an embedding, as it is; nothing if there is nothing, or no text that can be read."""
    path = notes_path(entry)
    with contextlib.suppress(OSError, UnreadableFile):
        if path is not None and path.stat().st_size <= _LARGEST:
            found = parse_json(path.read_bytes(), "notes", _LARGEST)
            return found if isinstance(found, dict) else {}
    return {}


def notes_path(entry: Entry) -> Path | None:
    """Where they stand; None for an embedding whose notes would have the name of another file."""
    path = entry.path.with_name(entry.path.name[: -len(entry.path.suffix)] + ".json")
    return None if path.name == PRESETS_FILE else path


def preferred(found: Mapping[str, Any]) -> dict[str, object]:
    """The values of knobs, by name, that these notes prefer; what can't be a value is left out."""
    values: dict[str, object] = {}
    for name, key in _KEYS.items():
        with contextlib.suppress(AestheticError):
            value = BY_NAME[name].parse(found.get(key))
            if value not in (BY_NAME[name].default, 0):
                values[name] = value
    return values


def preferring(found: Mapping[str, Any], values: Mapping[str, object]) -> dict[str, Any]:
    """These notes with other values of knobs; one at its default is no preference.

    Raises:
        AestheticError: a value that its knob refuses.
    """
    changed = {key: value for key, value in found.items() if key not in _KEYS.values()}
    for name, key in _KEYS.items():
        value = BY_NAME[name].parse(values.get(name))
        if value not in (BY_NAME[name].default, 0):
            changed[key] = value
    return changed


def brought_by(library: Library, name: object) -> dict[str, Any]:
    """All knobs that choosing an embedding sets, by name; none if it is not there or nothing is preferred for it."""
    entry = next((entry for entry in library.entries() if entry.name == name), None)
    return {} if entry is None else brought(preferred(notes(entry)))


def brought(values: Mapping[str, object]) -> dict[str, Any]:
    """All knobs that such values set, by name: a preset brings others, and is Custom where one of them is another."""
    if not values:
        return {}
    preset = BY_NAME["preset"].parse(values.get("preset"))
    whole = {**BY_NAME["preset"].choices[preset], "preset": preset, **values}
    return agreeing(whole)
