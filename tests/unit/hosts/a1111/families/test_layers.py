"""Beside extensions that replace the forward passes of layers, count passes and write into weights in them."""

from __future__ import annotations

import copy
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from aesthetic_clip.geometry import unit
from aesthetic_clip.hosts.a1111.families.layers import Layers
from aesthetic_clip.method.personalize import Chunk, Encoded, personalize
from aesthetic_clip.method.targets import Toward
from aesthetic_clip.settings import Settings

from .....support.towers import END, PROMPT, encode, padded, transformers_tower

IDS = padded(PROMPT, END)
SETTINGS = Settings(embedding="taste", steps=3, lr=1e-3)

# As the WebUI's Lora merges in the forward pass of a layer, and remembers on it what it merged.
LORA = """
def network_restore_weights_from_backup(self):
    if getattr(self, "network_weights_backup", None) is not None:
        self.weight.copy_(self.network_weights_backup)

def network_apply_weights(self):
    network_restore_weights_from_backup(self)
    self.network_weights_backup = self.weight.detach().clone()
    self.weight += merged
"""

# As a composable LoRA: one for the first prompt that is encoded, none for those after it.
COMPOSABLE = """
import networks
from torch.nn.functional import linear

passes = 0

def forward(self, x):
    global passes
    networks.network_apply_weights(self)
    y = linear(x, self.weight, self.bias)
    if passes == 0:
        y += linear(x, added)
    if self is last:
        passes += 1
    return y
"""


def _module(name: str, code: str, **names: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    exec(code, vars(module))
    return module


class Adding(nn.Linear):
    """A layer that has the LoRA in its output, and does nothing else."""

    added: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias) + linear(x, self.added)


def _personalised(tower: Any, rewind: Any = lambda: None) -> Encoded:
    with torch.no_grad():
        ordinary = encode(tower.module, IDS.unsqueeze(0))
    target = Toward(unit(torch.randn(32, generator=torch.Generator().manual_seed(5))))
    chunk = Chunk(IDS, len(PROMPT) - 1, (ordinary, None), lambda ids: (encode(tower.module, ids), None))
    return personalize(tower, chunk, target, SETTINGS, lambda step: rewind())


def test_layers_that_count_passes_and_write_weights_have_their_effect_and_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    tower, added, merged = transformers_tower(), *(0.05 * torch.randn(2, 64, 64, generator=generator))
    layers = [
        layer for layer in tower.module.modules() if isinstance(layer, nn.Linear) and layer.weight.shape == (64, 64)
    ]

    plain = copy.deepcopy(tower)
    reference = copy.deepcopy(tower)
    for layer in reference.module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.shape == (64, 64):
            layer.weight += merged
            layer.__class__, layer.added = Adding, added
    expected = _personalised(reference)

    monkeypatch.setitem(sys.modules, "networks", _module("networks", LORA, merged=merged))
    extension = _module("composable", COMPOSABLE, added=added, last=layers[-1])
    Patched = type("Linear", (nn.Linear,), {"forward": extension.forward})
    for layer in layers:
        layer.__class__ = Patched
    seen = Layers(tower.module)
    with torch.no_grad():
        encode(tower.module, IDS.unsqueeze(0))  # the WebUI's own pass
    after = {name: value.clone() for name, value in tower.module.state_dict().items()}
    backups = [layer.network_weights_backup for layer in layers]

    with seen.around_passes():
        seen.rewind()
        found = _personalised(tower, seen.rewind)

    assert torch.allclose(found.hidden, expected.hidden, atol=1e-5)
    assert torch.allclose(torch.tensor(found.similarities), torch.tensor(expected.similarities), atol=1e-5)
    assert extension.passes == 1
    assert all(torch.equal(value, after[name]) for name, value in tower.module.state_dict().items())
    assert all(layer.network_weights_backup is before for layer, before in zip(layers, backups))
    # The next prompt, which has no LoRA by that extension.
    with torch.no_grad():
        second = encode(tower.module, IDS.unsqueeze(0))
        for layer in plain.module.modules():
            if isinstance(layer, nn.Linear) and layer.weight.shape == (64, 64):
                layer.weight += merged
        assert torch.allclose(second, encode(plain.module, IDS.unsqueeze(0)), atol=1e-6)


def test_they_are_as_they_were_after_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networks", lora := _module("networks", LORA, merged=torch.zeros(64, 64)))
    tower = transformers_tower()
    before = {name: dict(vars(layer)) for name, layer in tower.module.named_modules()}
    functions = (lora.network_apply_weights, lora.network_restore_weights_from_backup)
    with pytest.raises(RuntimeError, match="made up"), Layers(tower.module).around_passes():
        assert lora.network_apply_weights is not functions[0]
        tower.module.left_behind = 1  # type: ignore[assignment]
        raise RuntimeError("made up")
    assert (lora.network_apply_weights, lora.network_restore_weights_from_backup) == functions
    assert {name: dict(vars(layer)) for name, layer in tower.module.named_modules()} == before
