"""Which numbers of somebody else's module can be optimised, and where they can't, why not."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from ..errors import AestheticError

# Names under which quantising libraries keep what they make of a layer's weight: optimum-quanto (before and after
# its freeze), GPTQ and AWQ, HQQ, torch's own dynamic quantisation, and files of scaled 8-bit floats.
_QUANTISERS_NAMES = (
    "weight_qtype",
    "qweight",
    "W_q",
    "_packed_params",
    "scale_weight",
    "weight_scale",
    "weight_scale_inv",
)


def adapter_tensors(module: nn.Module) -> set[str]:
    """Names of the parameters that an adapter (LoRA and its kin, as PEFT puts them in) has beside the layer it wraps.

    The adapter's share moves with the layer; its factors on top would make the steps larger.
    """
    names = set()
    for place, wrapper in module.named_modules():
        if "base_layer" in wrapper._modules:
            at = f"{place}." if place else ""
            names |= {f"{at}{name}" for name, _ in wrapper.named_parameters() if not name.startswith("base_layer.")}
    return names


def compute_dtype(module: nn.Module) -> torch.dtype:
    """What a module computes in whose one-byte weights are stored small: the widest of its other weights, or fp32."""
    dtypes = {p.dtype for p in module.parameters() if p.is_floating_point() and p.element_size() > 1}
    return functools.reduce(torch.promote_types, dtypes) if dtypes else torch.float32


def refuse_quantised(module: nn.Module, understood: Collection[str] = ()) -> None:
    """Take only a module whose weights are plain numbers.

    Args:
        module: a host's text encoder.
        understood: attributes of its layers that look like a quantiser's, and that the caller knows how to undo.

    Raises:
        AestheticError: a layer is quantised.
    """
    if found := quantised_layer(module, understood):
        raise AestheticError(
            "The text encoder is quantised and can't be personalised.",
            f"{found}; such numbers can't take small steps, and moving the other layers alone would be another method.",
            "Load the text encoder without quantisation (with diffusers, for instance, "
            "text_encoder=CLIPTextModel.from_pretrained(model, subfolder='text_encoder')); "
            "the other models may stay quantised.",
        )


def quantised_layer(module: nn.Module, understood: Collection[str] = ()) -> str | None:
    """The first layer whose weights are not plain numbers, and what they are; None if there is none."""
    for place, layer in module.named_modules():
        for what in _quantised(layer, understood):
            return f"Its layer {place or 'itself'} ({type(layer).__module__}.{type(layer).__qualname__}) {what}"
    return None


def _quantised(layer: nn.Module, understood: Collection[str]) -> Iterator[str]:
    for name, parameter in layer._parameters.items():
        if parameter is None:
            continue
        if type(parameter.data) not in (Tensor, nn.Parameter):
            yield f"keeps its {name} as a {type(parameter.data).__name__}"
        elif not parameter.is_floating_point():
            yield f"keeps its {name} as {str(parameter.dtype).removeprefix('torch.')}"
    for name in _QUANTISERS_NAMES:
        if name not in understood and getattr(layer, name, None) is not None:
            yield f"has a {name}"
    # A layer that Forge made for a weight that the file lacks says None, and nothing asks it.
    empty = layer.__dict__.get("weight", layer) is None
    own = "weight" in layer._parameters or "base_layer" in layer._modules
    if hasattr(layer, "in_features") and not own and not empty:
        yield "has no weight of its own"
