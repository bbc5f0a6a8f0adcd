"""Text towers whose host leaves out their last layer, as it is done for SD 2.x: put together again from a file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AestheticError
from .optimisable import compute_dtype
from .text_encoder import Around, TextEncoder, innermost_embedding
from .tower_files import read_layers


class Completed(nn.Module):
    """A transformers ``CLIPTextModel`` and the layers that its host does without; shares the host's weights."""

    def __init__(self, text_encoder: nn.Module, last: Sequence[nn.Module]) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.last = nn.ModuleList(last)


class CompletedTextEncoder(TextEncoder):
    """SD 2.x: all layers are optimised, as in the first WebUI extension, and the host reads all but the last."""

    unused = ("text_encoder.text_projection",)

    def __init__(
        self,
        module: Completed,
        projection: Tensor,
        around: Around = contextlib.nullcontext,
        device: torch.device | None = None,
    ) -> None:
        table: Any = inner_model(module.text_encoder).embeddings.token_embedding
        super().__init__(module, innermost_embedding(table), projection, around, device)

    def is_trained(self, name: str) -> bool:
        return not name.startswith(self.unused)

    def hidden_state(self, ids: Tensor) -> Tensor:
        layers, last = inner_model(self.module.text_encoder).encoder.layers, self.module.last
        count = len(layers)
        # In the place where they were cut off, and only for this pass.
        layers.extend(last)  # type: ignore[arg-type]
        try:
            return self.module.text_encoder(input_ids=ids).last_hidden_state  # type: ignore[operator]
        finally:
            del layers[count:]


def inner_model(text_encoder: Any) -> Any:
    """What holds a ``CLIPTextModel``'s layers: transformers 5 has no inner text_model any more."""
    return getattr(text_encoder, "text_model", text_encoder)


def missing_layers(text_encoder: nn.Module, file: Path) -> list[nn.Module]:
    """The layers that ``file`` has beyond those of a ``CLIPTextModel``, on its device and in its dtype.

    Raises:
        AestheticError: the file can't be read, or holds another tower.
    """
    own = inner_model(text_encoder).encoder.layers
    last = len(own) - 1
    layers = read_layers(file, last)
    if last not in layers:
        raise AestheticError(
            f"{file} does not complete the text encoder.",
            f"It has no text tower of {len(own)} layers or more.",
            "Give the whole published CLIP that the text encoder was cut from.",
        )
    _refuse_stranger(own[last].mlp.fc1.weight, layers.pop(last)["mlp.fc1.weight"], file)
    return [_layer(text_encoder, weights) for weights in layers.values()]


def _layer(text_encoder: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    inner = inner_model(text_encoder)
    like = inner.encoder.layers[-1]
    with torch.random.fork_rng(devices=[]):  # the new layer's initial weights are overwritten, but drawn
        layer: nn.Module = type(like)(inner.config)
    layer.load_state_dict(weights)
    first = next(like.parameters())
    dtype = compute_dtype(text_encoder) if first.element_size() == 1 else first.dtype
    return layer.to(first.device, dtype).eval().requires_grad_(False)


def _refuse_stranger(mine: Tensor, other: Tensor, file: Path) -> None:
    # A fine-tuned text encoder stays close to what it came from; unrelated weights have a cosine of 0.
    mine, other = mine.detach().float().cpu().flatten(), other.float().flatten()
    if mine.shape != other.shape or not torch.cosine_similarity(mine, other, dim=0) > 0.5:
        raise AestheticError(
            f"{file} does not complete the text encoder.",
            "Its layers are not those that the text encoder has.",
            "Give the published CLIP that the text encoder was cut from.",
        )
