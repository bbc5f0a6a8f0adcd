"""Tensors as the libraries' own readers read them, out of every format."""

from __future__ import annotations

import collections
import io
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from aesthetic_clip.readers.faults import UnreadableFile
from aesthetic_clip.readers.tensor_files import SCRIPT, open_tensors, read_tensors, tensor_file

from ...fuzz.readers import compare, saved

TABLE = torch.randn(768, 5)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "tensor",
    [
        nn.Parameter(TABLE[:, 0].clone()),
        TABLE[:, 2],
        TABLE.t()[1:2],
        TABLE.t()[4],
        torch.arange(6),
        torch.zeros(0, 3),
        torch.randn(2, 3, 4).permute(2, 0, 1),
        torch.tensor(1.5),
        torch.tensor([True, False]),
        TABLE.half(),
        TABLE.bfloat16(),
        TABLE.double(),
    ],
)
def test_a_tensor_is_read_as_torch_does(tensor: Tensor, new: bool, protocol: int) -> None:
    data = saved(tensor, new=new, protocol=protocol)
    file = tensor_file(io.BytesIO(data), len(data))
    assert file.content == "tensor"
    compare(file.read([""], 2**20), {"": tensor.detach()})


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 4), nn.BatchNorm1d(4)])
        self.tied = self.layers[0].weight
        self.register_buffer("steps", torch.arange(3))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.options = {"a": 1}
        self.sizes = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x * self.scale + self.steps.sum() + self.options["a"] + self.sizes[0]  # type: ignore[operator]


CONTENTS = {
    "a state": lambda state: state,
    "a training checkpoint": lambda state: {
        "epoch": 3,
        "name": "x",
        "state_dict": collections.OrderedDict((f"module.{key}", value) for key, value in state.items()),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"betas": (0.9, 0.999), "lr": 1e-3}]},
    },
}


@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("half", [False, True])
def test_a_model_is_read_as_torch_does(tmp_path: Path, kind: str, new: bool, half: bool) -> None:
    tower = Tower().half() if half else Tower()
    (tmp_path / "m.bin").write_bytes(saved(CONTENTS[kind](tower.state_dict()), new=new))
    mine = read_tensors(tmp_path / "m.bin", lambda name: True, 2**20)
    compare(mine, tower.state_dict())
    assert set(mine) == set(tower.state_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("half", [False, True])
def test_a_torchscript_archive_gives_its_state(tmp_path: Path, how: str, half: bool) -> None:
    tower = Tower().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(tower) if how == "script" else torch.jit.trace(tower, torch.randn(2, 4))
        script = script.half() if half else script
        script.save(str(tmp_path / "m.pt"))
    with open_tensors(tmp_path / "m.pt") as file:
        assert file.kind == SCRIPT
        mine = file.read(file.tensors, 2**20)
    state = script.state_dict()
    assert {name: mine[name].shape for name in state} == {name: state[name].shape for name in state}
    compare({name: mine[name] for name in state}, state)


def test_only_what_is_wanted_is_read_and_no_more_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1000), "b": torch.ones(2)}, path)
    assert set(read_tensors(path, lambda name: name == "b", 8)) == {"b"}
    with pytest.raises(UnreadableFile, match="most they can have"):
        read_tensors(path, lambda name: True, 3999)


def test_a_file_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / b"caf\xe9.safetensors".decode("utf-8", "surrogateescape")
    try:
        path.write_bytes(safetensors.torch.save({"a": torch.ones(2)}))
    except OSError:
        pytest.skip("this file system takes no such name")
    assert set(read_tensors(path, lambda name: True, 8)) == {"a"}
