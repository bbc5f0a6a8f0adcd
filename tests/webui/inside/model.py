"""The WebUI's own model and caches."""

from __future__ import annotations

import hashlib
from typing import Any


def text_encoder() -> list[Any]:
    """What a text encoder must be the same in, after whatever happened.

    The hash of all weights; then, empty in a sound one, modules with hooks, parameters with gradients, and modules
    with a replaced encoding.
    """
    from modules import shared

    model = shared.sd_model
    conditioner = getattr(model, "conditioner", None) or model.cond_stage_model
    sha = hashlib.sha256()
    for name, tensor in sorted(conditioner.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.cpu().contiguous().numpy().tobytes())
    hooks = [name for name, module in conditioner.named_modules() if module._forward_hooks]
    grads = [name for name, p in conditioner.named_parameters() if p.requires_grad or p.grad is not None]
    left = [name for name, module in conditioner.named_modules() if "encode_with_transformers" in vars(module)]
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
