"""SD3's two CLIPs as AUTOMATIC1111's WebUI holds them (modules/models/sd3): both in one wrapper, which asks each of them.

Here a tower itself is the encoder that stands in: what the wrapper does with both is left to it. The layers add in
place to what the layer norms have seen, so that a backward pass needs a forward pass of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....clip.text_encoder import TextEncoder
from ....clip.text_projection import find_text_projection
from ....spaces import VIT_L, Space, space_of
from ..options import projection_sources
from .webui_encoder import WebUIEncoder


class Sd3Encoder(WebUIEncoder):
    """One of the towers: ``transformer`` is the model; the wrapper around both knows the words."""

    encoding = "forward"

    def __init__(self, tower: Any, wrapper: Any) -> None:
        self.owner, self.reader = tower, wrapper

    def read(self, result: Any) -> tuple[Tensor, Tensor | None]:
        hidden, pooled = result
        return hidden, pooled

    def written(self, hidden: Tensor, pooled: Tensor | None) -> Any:
        return hidden, pooled

    @property
    def space(self) -> Space:
        return space_of(self.owner.transformer.text_projection.weight.shape[0])

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        transformer = self.owner.transformer
        projection = transformer.text_projection.weight.detach().T
        width = projection.shape[0]
        # A file that has none leaves the identity matrix; ViT-L/14's comes from where it comes from for SD 1.x.
        if width == VIT_L.dim or torch.equal(projection, torch.eye(width).to(projection)):
            projection = find_text_projection(width, projection_sources())
        return _Tower(transformer, projection)

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.owner.transformer
        return module

    @property
    def fixes(self) -> Sequence[Sequence[Any]] | None:
        fixes: Sequence[Sequence[Any]] | None = self.reader.hijack.fixes
        return fixes

    def put_fixes(self, fixes: Sequence[Sequence[Any]] | None) -> None:
        self.reader.hijack.fixes = fixes

    def notes(self) -> list[list[Any] | dict[str, Any]]:
        return [self.reader.hijack.comments, self.reader.hijack.extra_generation_params]

    def settle(self, tokens: Tensor) -> None:
        """All layers have seen the prompt."""


class _Tower(TextEncoder):
    """``CLIPTextModel`` of modules/models/sd3/other_impls.py."""

    def __init__(self, module: nn.Module, projection: Tensor) -> None:
        text_model: Any = module.text_model
        super().__init__(module, text_model.embeddings.token_embedding, projection)

    def is_trained(self, name: str) -> bool:
        return not name.startswith("text_projection")

    def hidden_state(self, ids: Tensor) -> Tensor:
        text_model: Any = self.module.text_model
        length = ids.shape[1]
        x = text_model.embeddings.token_embedding(ids)
        x = x + text_model.embeddings.position_embedding.weight[:length].to(x)
        mask = torch.full((length, length), -torch.inf, dtype=x.dtype, device=x.device).triu_(1)
        for layer in text_model.encoder.layers:
            x = x + layer.self_attn(layer.layer_norm1(x), mask)
            x = x + layer.mlp(layer.layer_norm2(x))
        hidden: Tensor = text_model.final_layer_norm(x)
        return hidden

    def of_the_table(self, ids: Tensor, output: Tensor) -> Tensor:
        # This table puts textual inversions in by itself.
        table = self.token_embedding.weight
        return (nn.functional.embedding(ids, table) == output).all(-1, keepdim=True)


def sd3_encoders(model: Any) -> list[WebUIEncoder]:
    """ViT-L/14 and ViT-bigG/14; none in other models."""
    wrapper = getattr(getattr(model, "text_encoders", None), "model_lg", None)
    towers = [getattr(wrapper, name, None) for name in ("clip_l", "clip_g")]
    return [Sd3Encoder(tower, wrapper) for tower in towers if hasattr(tower, "transformer")]
