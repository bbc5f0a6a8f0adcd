"""What is preferred for an embedding, in the file where the WebUI keeps what is written on its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.preferences import brought, brought_by, notes, notes_path, preferred, preferring
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.settings import PRESETS
from aesthetic_clip.spaces import VIT_L


@pytest.fixture
def library(tmp_path: Path) -> Library:
    for name in ("warm", "presets"):
        save(Embedding(name, {VIT_L: unit(torch.ones(VIT_L.dim))}), tmp_path / f"{name}.safetensors")
    return open_library([tmp_path])


def write(library: Library, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (library.folders[0] / "warm.json").write_text(text)


@pytest.mark.parametrize(
    ("found", "values"),
    [
        ({}, {}),
        ({"preferred preset": "Subtle"}, {"preset": "Subtle"}),
        ({"preferred preset": "subtle", "preferred strength": 0.3}, {"preset": "Subtle", "strength": 0.3}),
        ({"preferred strength": "0.25", "preferred weight": 1}, {"strength": 0.25}),
        ({"preferred preset": "Custom", "preferred strength": 0}, {}),
        ({"preferred preset": "none of them", "preferred strength": 7}, {}),
        ({"preferred preset": ["Subtle"], "preferred strength": {"a": 1}}, {}),
    ],
)
def test_what_is_preferred(library: Library, found: dict[str, Any], values: dict[str, object]) -> None:
    write(library, found)
    assert notes(library.entry("warm")) == found
    assert preferred(found) == values
    assert brought_by(library, "warm") == brought(values)


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "[" * 9999]
)
def test_what_can_not_be_read_is_nothing(library: Library, text: str) -> None:
    write(library, text)
    assert notes(library.entry("warm")) == {}
    assert brought_by(library, "warm") == {}


@pytest.mark.parametrize("name", ["None", "no such", 7, None, ["warm"]])
def test_what_is_no_embedding_brings_nothing(library: Library, name: object) -> None:
    assert brought_by(library, name) == {}


def test_a_preset_brings_all_that_it_sets_and_is_custom_beside_another_value() -> None:
    assert brought({"preset": "Subtle"}) == {**PRESETS["Subtle"], "preset": "Subtle"}
    assert brought({"preset": "Subtle", "strength": 0.3}) == {**PRESETS["Subtle"], "preset": "Custom", "strength": 0.3}
    assert brought({"strength": 0.3}) == {"preset": "Custom", "strength": 0.3}
    assert brought({}) == {}


def test_the_rest_of_the_notes_stays() -> None:
    before = {"description": "mine", "preferred preset": "Subtle", "of another program": [1]}
    after = preferring(before, {"preset": "Custom", "strength": 0.5})
    assert after == {"description": "mine", "of another program": [1], "preferred strength": 0.5}
    assert preferring(after, {"preset": "Custom", "strength": 0}) == {"description": "mine", "of another program": [1]}
    with pytest.raises(AestheticError, match="It can be from 0 to 1"):
        preferring({}, {"strength": 3})


def test_the_presets_file_is_no_embeddings_notes(library: Library) -> None:
    (library.folders[0] / "presets.json").write_text('{"preferred strength": 0.5}')
    assert notes_path(library.entry("presets")) is None
    assert notes(library.entry("presets")) == {}


def test_they_go_with_the_embedding(library: Library) -> None:
    write(library, {"preferred strength": 0.3})
    library.rename("warm", "warmer")
    assert brought_by(library, "warmer")["strength"] == 0.3
    library.trash("warmer")
    library.restore(library.trashed()[0].path)
    assert brought_by(library, "warmer")["strength"] == 0.3
