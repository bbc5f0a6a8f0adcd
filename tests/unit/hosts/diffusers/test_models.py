"""Models from strangers: read without anything in them being run, or refused in a sentence."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("diffusers", minversion="0.30", reason="needs a current diffusers")

import safetensors.torch
import torch

from aesthetic_clip.errors import AestheticError
from aesthetic_clip.hosts.diffusers.models import load_pipeline

from ....support import pipelines


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A single file, and a folder of the same kind."""
    return pipelines.write_single_file(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(written: tuple[Path, Path], tmp_path: Path) -> Path:
    return shutil.copytree(written[1], tmp_path / "model")


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.marker),)


def refused(model: Path, reason: str, **more: str) -> None:
    with pytest.raises(AestheticError, match=reason) as caught:
        load_pipeline(str(model), "cpu", torch.float32, **more)
    assert caught.value.do


def test_a_checkpoint_gives_the_same_model_as_its_safetensors(written: tuple[Path, Path], tmp_path: Path) -> None:
    file, description = written
    state = safetensors.torch.load_file(file)
    torch.save({"global_step": 1, "state_dict": state}, tmp_path / "model.ckpt")
    pipes = [
        load_pipeline(str(model), "cpu", torch.float32, config=str(description))
        for model in (file, tmp_path / "model.ckpt")
    ]
    for name in ("unet", "vae", "text_encoder"):
        mine, other = (getattr(pipe, name).state_dict() for pipe in pipes)
        assert mine.keys() == other.keys()
        assert all(torch.equal(mine[key], other[key]) for key in mine)


def test_a_checkpoint_that_would_run_code_is_refused(written: tuple[Path, Path], tmp_path: Path) -> None:
    state = safetensors.torch.load_file(written[0])
    torch.save({"state_dict": state, "callbacks": Evil(tmp_path / "ran")}, tmp_path / "model.ckpt")
    refused(tmp_path / "model.ckpt", "not executed", config=str(written[1]))
    assert not (tmp_path / "ran").exists()


def test_a_folder_is_loaded(folder: Path) -> None:
    assert load_pipeline(str(folder), "cpu", torch.float32).unet is not None


def test_code_in_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    (folder / "unet" / "evil.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})\nclass Evil: pass")
    refused(folder, "holds a program")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["evil", "Evil"]}))
    refused(folder, "would run code")
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": ["evil", "Evil"]}))
    refused(folder, "names no pipeline")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_pickles_in_a_folder_are_not_run(folder: Path, tmp_path: Path, part: str) -> None:
    name = "pytorch_model.bin" if part == "text_encoder" else "diffusion_pytorch_model.bin"
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    torch.save({"x": Evil(tmp_path / "ran")}, folder / part / name)
    refused(folder, "are pickles")
    # Another .safetensors beside it is none of the names that would be loaded.
    safetensors.torch.save_file({"x": torch.zeros(1)}, folder / part / "other.safetensors")
    refused(folder, "are pickles")
    (folder / part / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    refused(folder, "other files than")
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_a_million_layers_is_refused(folder: Path) -> None:
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**6}))
    refused(folder, "num_hidden_layers")


def test_a_table_of_a_gigabyte_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes((2**30).to_bytes(8, "little") + b"{")
    refused(tmp_path / "a.safetensors", "table of tensors")
