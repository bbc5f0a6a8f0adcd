"""The WebUI's own model and caches."""

from __future__ import annotations

import hashlib
from typing import Any


def text_encoder() -> list[Any]:
    """What a text encoder must be the same in, after whatever happened.

    The hash of all weights and of whether they want gradients; then, empty in a sound one, modules with hooks,
    parameters with gradients, and objects with a replaced encoding.
    """
    from modules import shared

    model = shared.sd_model
    forge = getattr(model, "forge_objects", None)
    conditioner = (
        forge.clip.cond_stage_model
        if forge is not None
        else getattr(model, "conditioner", None) or model.cond_stage_model
    )
    sha = hashlib.sha256(str([p.requires_grad for p in conditioner.parameters()]).encode())
    for name, tensor in sorted(conditioner.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    hooks = [name for name, module in conditioner.named_modules() if module._forward_hooks]
    grads = [name for name, p in conditioner.named_parameters() if p.grad is not None]
    encoders = dict(conditioner.named_modules())
    encoders |= {name: part for name, part in vars(model).items() if name.startswith("text_processing_engine")}
    encoders |= dict(enumerate(getattr(getattr(model, "conditioner", None), "embedders", ())))
    encoders["cond_stage_model"] = getattr(model, "cond_stage_model", None)
    left = [str(name) for name, part in encoders.items() if "encode_with_transformers" in getattr(part, "__dict__", {})]
    return [sha.hexdigest(), hooks, grads, left]


def cached_conditionings() -> dict[str, str]:
    """Hashes of the two conditionings that the last job left in the WebUI's cache."""
    from modules.processing import StableDiffusionProcessing

    cached = {"positive": StableDiffusionProcessing.cached_c, "negative": StableDiffusionProcessing.cached_uc}
    return {name: _digest(pair[1]) for name, pair in cached.items()}


def _digest(conditioning: Any) -> str:
    return hashlib.sha256(
        b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in _tensors(conditioning))
    ).hexdigest()


def _tensors(x: Any) -> list[Any]:
    if hasattr(x, "numpy"):
        return [x]
    if isinstance(x, dict):
        return [tensor for key in sorted(x) for tensor in _tensors(x[key])]
    if isinstance(x, (list, tuple)):
        return [tensor for part in x for tensor in _tensors(part)]
    return [tensor for part in vars(x).values() for tensor in _tensors(part)] if hasattr(x, "__dict__") else []
