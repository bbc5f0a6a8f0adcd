"""The CLIP text encoders of the loaded checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from modules import devices

from ...errors import AestheticError
from ...text_encoder import OpenClipTextEncoder, TextEncoder, TransformersTextEncoder
from ...text_projection import find_text_projection
from .options import projection_sources


@dataclass(frozen=True)
class HostEncoder:
    """A text encoder and the WebUI's wrapper around it.

    Attributes:
        wrapper: has ``encode_with_transformers``, ``tokenize``, ``hijack`` (modules/sd_hijack_clip.py).
        encoder: the tower inside it.
    """

    wrapper: Any
    encoder: TextEncoder


def host_encoders(model: Any) -> list[HostEncoder]:
    """SD 1.x and 2.x have one, SDXL has two, its refiner one.

    They are looked up for every generation, since the WebUI builds new wrappers
    whenever it feels like it.

    Raises:
        AestheticError: no CLIP there, or its text projection is missing.
    """
    conditioner = getattr(model, "conditioner", None)
    wrappers = list(conditioner.embedders) if conditioner is not None else [getattr(model, "cond_stage_model", None)]
    found = [
        HostEncoder(wrapper, encoder)
        for wrapper in wrappers
        if hasattr(wrapper, "encode_with_transformers") and (encoder := _text_encoder(wrapper, model)) is not None
    ]
    if not found:
        raise AestheticError(
            "This checkpoint can't be personalised.",
            f"It is a {type(model).__name__} whose prompt is not read by a CLIP text encoder of SD 1.x, 2.x or SDXL.",
            "Choose another checkpoint, or set the aesthetic embedding to None.",
        )
    return found


def _text_encoder(wrapper: Any, model: Any) -> TextEncoder | None:
    wrapped = getattr(wrapper, "wrapped", None)
    transformer: Any = getattr(wrapped, "transformer", None)
    if hasattr(getattr(transformer, "text_model", transformer), "embeddings"):
        width = transformer.config.hidden_size
        return TransformersTextEncoder(transformer, find_text_projection(width, projection_sources()), own_forwards)
    clip: Any = getattr(wrapped, "model", None)
    if hasattr(clip, "token_embedding") and hasattr(clip, "attn_mask"):
        if _has_own_projection(clip, model):
            return OpenClipTextEncoder(clip, clip.text_projection, own_forwards)
        width = clip.positional_embedding.shape[-1]
        return OpenClipTextEncoder(clip, find_text_projection(width, projection_sources()), own_forwards)
    return None


def _has_own_projection(clip: Any, model: Any) -> bool:
    # The WebUI skips the initialisation of weights, so one that the file lacks holds whatever was in memory.
    projection = getattr(clip, "text_projection", None)
    if projection is None or not torch.isfinite(projection).all():
        return False
    file = Path(getattr(getattr(model, "sd_checkpoint_info", None), "filename", ""))
    if file.suffix != ".safetensors" or not file.is_file():
        return True
    with safetensors.safe_open(file, "pt") as content:
        return any(key.endswith("text_projection") or key.endswith("text_projection.weight") for key in content.keys())


def text_ids(host: HostEncoder, text: str) -> torch.Tensor:
    """Ids of a text from start-of-text to end-of-text.

    Raises:
        AestheticError: more than 75 tokens.
    """
    tokens = host.wrapper.tokenize([text])[0]
    if len(tokens) > host.wrapper.chunk_length:
        raise AestheticError(
            f"The aesthetic text has {len(tokens)} tokens.",
            f"CLIP reads {host.wrapper.chunk_length} at once.",
            "Shorten it.",
        )
    return torch.tensor([host.wrapper.id_start, *tokens, host.wrapper.id_end], device=devices.device)


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
