"""Which embeddings fit a model: the same as the method itself decides it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.embeddings.fitting import fitting_first, misfit
from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_H, VIT_L, Space, space_of

WIDTHS = {"a h": (VIT_H,), "both": (VIT_L, VIT_BIGG), "l": (VIT_L,), "odd": (space_of(32),)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, spaces in WIDTHS.items():
        vectors = {space: unit(torch.ones(space.dim)) for space in spaces}
        save(Embedding(name, vectors), tmp_path / f"{name}.safetensors")
    tmp_path.joinpath("broken.pt").write_bytes(b"no embedding")
    return tmp_path


@pytest.mark.parametrize(
    ("spaces", "unfit"),
    [
        ((VIT_L,), {"a h", "odd"}),
        ((VIT_H,), {"both", "l", "odd"}),
        ((VIT_L, VIT_BIGG), {"a h", "odd"}),
        ((VIT_BIGG,), {"a h", "l", "odd"}),
        ((), set()),
    ],
)
def test_one_vector_for_one_of_the_models_encoders_is_enough(
    folder: Path, spaces: tuple[Space, ...], unfit: set[str]
) -> None:
    entries = open_library([folder]).entries()
    assert {entry.name for entry in entries if misfit(entry, spaces)} == {*unfit, "broken"}
    names = [entry.name for entry in fitting_first(entries, spaces)]
    plain = ["a h", "both", "broken", "l", "odd"]
    assert names == (
        [n for n in plain if n not in {*unfit, "broken"}] + [n for n in plain if n in {*unfit, "broken"}]
        if spaces
        else plain
    )


def test_the_reason_says_what_it_was_made_for(folder: Path) -> None:
    entry = {entry.name: entry for entry in open_library([folder]).entries()}
    assert misfit(entry["a h"], [VIT_L]) == "does not fit: made for SD 2.x (ViT-H/14)"
    assert "(ViT-L/14) and SDXL's second" in misfit(entry["both"], [VIT_H])
    assert misfit(entry["broken"], []).startswith("can't be used: ")


def test_no_file_is_read_where_nothing_is_known_of_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = open_library([folder]).entries()
    monkeypatch.setattr("aesthetic_clip.embeddings.scan.load", lambda *_: pytest.fail("a file was read"))
    assert [entry.name for entry in fitting_first(entries, [])] == ["a h", "both", "broken", "l", "odd"]
