"""LoRAs and scales that Forge's layers add in every pass are in the weights that are optimised, and only there."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from aesthetic_clip.clip.text_encoder import TransformersTextEncoder
from aesthetic_clip.geometry import unit
from aesthetic_clip.hosts.a1111.families.folding import Folding
from aesthetic_clip.method.personalize import Chunk, Encoded, personalize
from aesthetic_clip.method.targets import Toward
from aesthetic_clip.settings import Settings

from .....support.towers import END, PROMPT, encode, padded, transformers_tower

IDS = padded(PROMPT, END)
SETTINGS = Settings(embedding="taste", steps=3, lr=1e-3)


class FoldingTower(Folding, TransformersTextEncoder):
    """As the towers of Forge's engines."""


def merge(patches: Any, weight: Tensor, key: str = "", computation_dtype: Any = None) -> Tensor:
    """Forge's, for patches that are what is added."""
    weight = weight.clone()
    for patch in patches:
        weight += patch
    return weight


class ForgeLinear(nn.Linear):
    """Forge's layer: LoRA and scale are worked in at every pass; Neo's: functions are."""

    weight_function: list[Callable[[Tensor], Tensor]] = []  # noqa: RUF012 - as it is there
    bias_function: list[Callable[[Tensor], Tensor]] = []  # noqa: RUF012

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight.to(x.dtype)
        bias: Tensor = self.bias
        if (scale := getattr(self, "scale_weight", None)) is not None:
            weight = weight * scale
        for kind, patches in (getattr(self, "forge_online_loras", None) or {}).items():
            if kind == "weight":
                weight = merge(patches, weight)
            else:
                bias = merge(patches, bias)
        for function in self.weight_function:
            weight = function(weight)
        for function in self.bias_function:
            bias = function(bias)
        return linear(x, weight, bias)


def online(layer: Any, weight: Tensor, bias: Tensor) -> None:
    layer.forge_online_loras = {"weight": [weight], "bias": [bias]}


def functions(layer: Any, weight: Tensor, bias: Tensor) -> None:
    layer.weight_function, layer.bias_function = [lambda w: merge([weight], w)], [lambda b: merge([bias], b)]


def scaled(layer: Any, weight: Tensor, bias: Tensor) -> None:
    layer.scale_weight = nn.Parameter(torch.tensor(0.5), requires_grad=False)
    layer.weight.data *= 2
    online(layer, weight, bias)


def linears(module: nn.Module) -> list[Any]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def personalised(tower: Any) -> Encoded:
    with torch.no_grad():
        ordinary = encode(tower.module, IDS.unsqueeze(0))
    target = Toward(unit(torch.randn(32, generator=torch.Generator().manual_seed(5))))
    return personalize(
        tower,
        Chunk(IDS, len(PROMPT) - 1, (ordinary, None), lambda ids: (encode(tower.module, ids), None)),
        target,
        SETTINGS,
    )


@pytest.mark.parametrize("kept", [online, functions, scaled])
def test_what_is_kept_beside_the_weights_counts_as_if_it_were_in_them(
    monkeypatch: pytest.MonkeyPatch, kept: Callable[[Any, Tensor, Tensor], None]
) -> None:
    lora = ModuleType("backend.patcher.lora")
    lora.merge_lora_to_weight = merge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "backend.patcher.lora", lora)
    merged = transformers_tower()
    beside = FoldingTower(copy.deepcopy(merged.module), merged.projection)
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():  # as Forge has LoRAs
        patches = [
            [0.05 * torch.randn(p.shape, generator=generator) for p in (layer.weight, layer.bias)]
            for layer in linears(merged.module)
        ]
    for layer, (weight, bias) in zip(linears(merged.module), patches):
        layer.weight.data += weight
        layer.bias.data += bias
    for layer, (weight, bias) in zip(linears(beside.module), patches):
        layer.__class__ = ForgeLinear
        kept(layer, weight, bias)
    before = [dict(vars(layer)) for layer in linears(beside.module)]

    expected, found = personalised(merged), personalised(beside)

    assert torch.allclose(found.hidden, expected.hidden, atol=1e-5)
    assert found.similarities == pytest.approx(expected.similarities, abs=1e-5)
    assert [dict(vars(layer)) for layer in linears(beside.module)] == before
