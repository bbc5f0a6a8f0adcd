"""What Forge's layers add to their weights in every forward pass, worked into the weights that are optimised.

LoRAs stay beside the weights ("online") where the checkpoint is quantised, in Neo also where memory is short, and
8-bit files bring a scale. Forge computes them in inference mode, where nothing can be differentiated; in the weights
they are the same numbers.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....clip.text_encoder import TextEncoder, Weights

_ONLINE = "forge_online_loras"
_SCALE = "scale_weight"
_FUNCTIONS = {"weight": "weight_function", "bias": "bias_function"}


class Folding(TextEncoder):
    """A CLIP whose layers may add LoRA, or a scale, to their weights in every forward pass."""

    folded = (_ONLINE, _SCALE, *_FUNCTIONS.values())

    def is_trained(self, name: str) -> bool:
        return super().is_trained(name) and not name.endswith(_SCALE)  # type: ignore[safe-super]

    def weights(self, ids: Tensor) -> Weights:
        weights = super().weights(ids)
        for name in [name for name in weights.fixed if name.endswith(_SCALE)]:
            del weights.fixed[name]
        for name, layer in self.module.named_modules():
            for kind in ("weight", "bias"):
                if (key := f"{name}.{kind}") in weights.parameters:
                    weights.parameters[key] = _as_computed(layer, kind, weights.parameters[key])
        return weights

    def call(self, function: Callable[..., Any], weights: Weights, *args: Any) -> Any:
        with _taken_off(self.module, self.folded):
            return super().call(function, weights, *args)


def _as_computed(layer: nn.Module, kind: str, value: Tensor) -> Tensor:
    """A weight with what the layer makes of it before it computes (backend/operations.py, ``get_weight_and_bias``)."""
    scale = getattr(layer, _SCALE, None) if kind == "weight" else None
    patches = (getattr(layer, _ONLINE, None) or {}).get(kind)
    functions = getattr(layer, _FUNCTIONS[kind], None) or ()
    if scale is None and patches is None and not functions:
        return value
    value = value.float()
    if scale is not None:
        value = value * scale.detach().to(value)
    if patches is not None:
        merge = importlib.import_module("backend.patcher.lora").merge_lora_to_weight
        value = merge(patches=patches, weight=value, key=f"online {kind} lora", computation_dtype=torch.float32)
    for function in functions:
        value = function(value)
    return value


@contextlib.contextmanager
def _taken_off(module: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Without these attributes of the layers, for a while."""
    with contextlib.ExitStack() as stack:
        for layer in module.modules():
            for name in names:
                if name in layer.__dict__:
                    stack.callback(layer.__dict__.__setitem__, name, layer.__dict__.pop(name))
                if (scale := layer._parameters.get(name)) is not None:
                    stack.callback(layer._parameters.__setitem__, name, scale)
                    layer._parameters[name] = None
        yield
