"""Text encoders as AUTOMATIC1111's WebUI holds them: wrappers of modules/sd_hijack_clip.py around a model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from modules import devices
from torch import Tensor, nn

from ....clip.text_encoder import OpenClipTextEncoder, TextEncoder, TransformersTextEncoder
from ....clip.text_projection import find_text_projection
from ....spaces import VIT_L, Space, space_of
from ..options import projection_sources
from .webui_encoder import WebUIEncoder

_PROJECTIONS_IN_FILE = {
    "cond_stage_model.transformer.text_projection.weight": True,
    "cond_stage_model.model.text_projection": False,
}
"""Keys under which checkpoints bring a text projection, and whether it is stored (out, in)."""


class HijackEncoder(WebUIEncoder):
    """A wrapper with ``wrapped``, the model, and ``hijack``, which holds the textual inversions."""

    def __init__(self, wrapper: Any, model: Any) -> None:
        self.owner = self.reader = wrapper
        self.model = model

    @property
    def space(self) -> Space:
        return space_of(_dim(self.owner))

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        return _text_encoder(self.owner, self.model)

    @property
    def module(self) -> nn.Module:
        module: nn.Module = _transformers(self.owner) or _open_clip(self.owner)
        return module

    @property
    def fixes(self) -> Sequence[Sequence[Any]] | None:
        fixes: Sequence[Sequence[Any]] | None = self.owner.hijack.fixes
        return fixes

    def put_fixes(self, fixes: Sequence[Sequence[Any]] | None) -> None:
        self.owner.hijack.fixes = fixes

    def notes(self) -> list[list[Any] | dict[str, Any]]:
        return [self.owner.hijack.comments, self.owner.hijack.extra_generation_params]

    def settle(self, tokens: Tensor) -> None:
        # SD 2.x stops one layer early, so that its last layer has not seen this prompt's LoRA yet.
        with torch.no_grad():
            self.encoder.hidden_state(tokens[:1])


def hijack_encoders(model: Any) -> list[WebUIEncoder]:
    """SD 1.x and 2.x have one, SDXL has two, its refiner one; none where the model is held otherwise."""
    conditioner = getattr(model, "conditioner", None)
    wrappers = list(conditioner.embedders) if conditioner is not None else [getattr(model, "cond_stage_model", None)]
    return [
        HijackEncoder(wrapper, model)
        for wrapper in wrappers
        if hasattr(wrapper, "encode_with_transformers") and (_transformers(wrapper) or _open_clip(wrapper))
    ]


def _transformers(wrapper: Any) -> Any:
    """The transformers model in a wrapper, if it is one."""
    model = getattr(wrapper.wrapped, "transformer", None)
    return model if hasattr(getattr(model, "text_model", model), "embeddings") else None


def _open_clip(wrapper: Any) -> Any:
    """The open_clip model in a wrapper, if it is one."""
    model = getattr(wrapper.wrapped, "model", None)
    return model if hasattr(model, "token_embedding") and hasattr(model, "attn_mask") else None


def _dim(wrapper: Any) -> int:
    if transformer := _transformers(wrapper):
        return int(transformer.config.hidden_size)  # CLIP ViT-L/14's projection is square
    projection = getattr(_open_clip(wrapper), "text_projection", None)
    return int(_open_clip(wrapper).positional_embedding.shape[-1] if projection is None else projection.shape[-1])


def _text_encoder(wrapper: Any, model: Any) -> TextEncoder:
    if transformer := _transformers(wrapper):
        width = transformer.config.hidden_size
        # Files of SD 1.x that seem to have ViT-L/14's carry the identity matrix in its place.
        own = None if width == VIT_L.dim else _loaded_projection(wrapper, model, width)
        if own is None and width != VIT_L.dim:
            own = _projection_in_file(model)
        projection = find_text_projection(width, projection_sources()) if own is None else own
        return TransformersTextEncoder(transformer, projection, own_forwards)
    clip = _open_clip(wrapper)
    if _has_own_projection(clip, model):
        return OpenClipTextEncoder(clip, clip.text_projection, own_forwards)
    width = clip.positional_embedding.shape[-1]
    return OpenClipTextEncoder(clip, find_text_projection(width, projection_sources()), own_forwards)


def _loaded_projection(wrapper: Any, model: Any, width: int) -> torch.Tensor | None:
    """(width, dim) the text projection that reForge or Classic loaded for a transformers tower.

    They keep it (in, out) beside the tower: on the wrapped model, or on the one that was loaded, of which the wrapped
    one is a part. Where the file had none, and for SD 2.x in reForge, it is the identity matrix.
    """
    towers = getattr(getattr(getattr(model, "forge_objects", None), "clip", None), "cond_stage_model", None)
    for holder in (wrapper.wrapped, *(getattr(towers, name, None) for name in ("clip_g", "clip_h"))):
        projection = getattr(holder, "text_projection", None)
        if isinstance(projection, torch.Tensor) and projection.ndim == 2 and projection.shape[0] == width:
            matrix = projection.detach()
            if not torch.equal(matrix, torch.eye(*matrix.shape, dtype=matrix.dtype, device=matrix.device)):
                return matrix
    return None


def _has_own_projection(clip: Any, model: Any) -> bool:
    # The WebUI skips the initialisation of weights, so one that the file lacks holds whatever was in memory.
    projection = getattr(clip, "text_projection", None)
    if projection is None or not torch.isfinite(projection).all():
        return False
    file = _checkpoint_file(model)
    if file is None:
        return True
    with safetensors.safe_open(file, "pt") as content:
        return any(key.endswith("text_projection") or key.endswith("text_projection.weight") for key in content.keys())


def _projection_in_file(model: Any) -> torch.Tensor | None:
    """(width, dim) the text projection that the checkpoint brings for a transformers tower."""
    file = _checkpoint_file(model)
    if file is None:
        return None
    with safetensors.safe_open(file, "pt") as content:
        for key in _PROJECTIONS_IN_FILE.keys() & set(content.keys()):
            projection = content.get_tensor(key).float()
            return (projection.T if _PROJECTIONS_IN_FILE[key] else projection).to(devices.device)
    return None


def _checkpoint_file(model: Any) -> Path | None:
    """The loaded checkpoint, if it is a .safetensors, of which single tensors can be read."""
    file = Path(getattr(getattr(model, "sd_checkpoint_info", None), "filename", ""))
    return file if file.suffix == ".safetensors" and file.is_file() else None


@contextlib.contextmanager
def own_forwards() -> Iterator[None]:
    """Undo the WebUI's manual cast for a while (MPS, XPU, GTX 16xx).

    There it replaces the forward of torch's layers by one that casts their weights
    in place, which would take the gradients' precision away.
    """
    cast = [
        (layer, layer.forward) for layer in getattr(devices, "patch_module_list", []) if hasattr(layer, "org_forward")
    ]
    for layer, _ in cast:
        layer.forward = layer.org_forward
    try:
        yield
    finally:
        for layer, forward in cast:
            layer.forward = forward
