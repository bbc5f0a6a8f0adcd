"""A pipeline of our own around a caller's: the same models, tensors and settings, with modules that nobody else has.

What happens to it (other weights for a while, hooks, layers added) happens to no module of the caller's, so that
other threads can use the caller's pipeline meanwhile, and nothing has to be put back.
"""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...clip.optimisable import quantised_layer
from ...clip.text_encoder import locked

_ENCODERS = ("text_encoder", "text_encoder_2")
# Where accelerate and diffusers keep the hooks of a module whose forward they have replaced.
_ACCELERATE, _DIFFUSERS = "_hf_hook", "_diffusers_hook"


@contextlib.contextmanager
def borrowed(pipe: Any) -> Iterator[Any]:
    """``pipe`` for this thread alone, until the end of the block.

    A shallow copy whose text encoders are copies of the caller's that share every tensor with them. They are not
    compiled, and without the hooks that move or cast weights: offloaded and specially stored ones are brought to
    where the pipeline computes, and given back at the end.

    Other threads that want the same text encoders or tokenizers by way of this function wait.
    """
    found = [getattr(pipe, f"{kind}{n}", None) for kind in ("text_encoder", "tokenizer") for n in ("", "_2")]
    with locked(*{id(part): part for part in map(unwrapped, found) if part is not None}.values()):
        device = pipe._execution_device if hasattr(pipe, "_execution_device") else None
        # Of a class of its own, since diffusers asks the hooks that are not here for the device.
        copied: Any = object.__new__(type(type(pipe).__name__, (type(pipe),), {"_execution_device": device}))
        copied.__dict__.update(pipe.__dict__)
        for name in _ENCODERS:
            module = unwrapped(getattr(pipe, name, None))
            if isinstance(module, nn.Module):
                copied.__dict__[name] = private(module, device)
        yield copied


def unwrapped(module: Any) -> Any:
    """What ``torch.compile`` or PEFT's ``get_peft_model`` was given (adapters are inside it), or the thing itself."""
    while True:
        if hasattr(module, "_orig_mod"):
            module = module._orig_mod
        elif hasattr(module, "get_base_model") and not module.active_peft_config.is_prompt_learning:
            module = module.get_base_model()
        else:
            return module


def private(module: nn.Module, device: torch.device | None) -> nn.Module:
    """A copy of a module and all in it that shares every tensor, ready to compute on ``device`` if it is offloaded.

    A quantised one, and one whose forward was replaced by something unknown, is given back itself:
    such functions may hold on to the module that they were made for.
    """
    if quantised_layer(module) or not all(_own_forward(part) for part in module.modules()):
        return module
    hooked = any(hasattr(part, _ACCELERATE) or hasattr(part, _DIFFUSERS) for part in module.modules())
    copies: dict[nn.Module, nn.Module] = {}
    copy = _copied(module, device if hooked else None, None, copies)
    if not hasattr(copy, "text_model"):
        # With clip_skip, diffusers looks for a text_model that CLIPTextModel of transformers 5 does not have.
        copy.__dict__["text_model"] = copy
    return copy


def _copied(
    old: nn.Module, device: torch.device | None, dtype: torch.dtype | None, copies: dict[nn.Module, nn.Module]
) -> nn.Module:
    if old in copies:
        return copies[old]
    new = copies[old] = object.__new__(type(old))
    for name, value in old.__dict__.items():
        if name in ("forward", "_old_forward", _ACCELERATE, _DIFFUSERS):
            continue
        if isinstance(value, types.MethodType) and value.__self__ is old:
            value = types.MethodType(value.__func__, new)
        elif isinstance(value, dict) and name.startswith("_"):
            value = value.copy()  # parameters, buffers, children and hooks
        new.__dict__[name] = value
    new.__dict__["_compiled_call_impl"] = None
    if "gradient_checkpointing" in new.__dict__:
        new.__dict__["gradient_checkpointing"] = False  # it would compute layers again with other weights
    dtype = _layer_dtype(old) or dtype
    kept: Any
    for kept in (new._parameters, new._buffers):
        for name, tensor in kept.items():
            if tensor is None:
                continue
            here = _value(old, name, tensor)
            here = here.to(device or here.device, dtype if dtype and here.is_floating_point() else here.dtype)
            if here is not tensor:
                is_parameter = isinstance(tensor, nn.Parameter)
                kept[name] = nn.Parameter(here.detach(), requires_grad=False) if is_parameter else here
    for name, child in old._modules.items():
        new._modules[name] = None if child is None else _copied(child, device, dtype, copies)
    return new


def _own_forward(module: nn.Module) -> bool:
    """Whether a module's forward is its class's, behind nothing but hooks that only move and cast, or a compilation."""
    forward = module.__dict__.get("forward")
    if forward is None:
        return True
    if hasattr(module, _ACCELERATE) or hasattr(module, _DIFFUSERS) or hasattr(forward, "_torchdynamo_orig_callable"):
        forward = inspect.unwrap(forward, stop=lambda one: isinstance(one, types.MethodType))
    return getattr(forward, "__self__", None) is module and forward.__func__ is type(module).forward


def _value(module: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A tensor of a module, from where accelerate's sequential offload keeps it if it is not in the module."""
    if tensor.device.type == "meta":
        hook = getattr(module, _ACCELERATE, None)
        for one in getattr(hook, "hooks", [hook]):
            if getattr(one, "weights_map", None) is not None:
                return one.weights_map[name]
    return tensor


def _layer_dtype(module: nn.Module) -> torch.dtype | None:
    """What diffusers' layerwise casting computes in, where the layer is stored in another dtype."""
    registry = getattr(module, _DIFFUSERS, None)
    for hook in getattr(registry, "hooks", {}).values():
        dtype = getattr(hook, "compute_dtype", None)
        if isinstance(dtype, torch.dtype):
            return dtype
    return None
