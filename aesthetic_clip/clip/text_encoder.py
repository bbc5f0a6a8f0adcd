"""A live CLIP text encoder, seen so that its weights can be optimised without being touched.

The host's module stays as it is. Trained weights live in :class:`Weights` beside it,
and stand in for the host's only inside :meth:`TextEncoder.call`.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..spaces import Space, space_of

Around = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True)
class Weights:
    """Values for a text encoder's parameters.

    Attributes:
        parameters: name in the module to value; everything but the token table.
        token_ids: (R,) sorted ids whose rows of the token table are replaced.
        token_rows: (R, width) those rows.
    """

    parameters: dict[str, Tensor]
    token_ids: Tensor
    token_rows: Tensor

    def tensors(self) -> list[Tensor]:
        return [*self.parameters.values(), self.token_rows]

    def map(self, change: Callable[[Tensor], Tensor]) -> Weights:
        return Weights(
            {name: change(p) for name, p in self.parameters.items()}, self.token_ids, change(self.token_rows)
        )


class _Call(nn.Module):
    """Lets ``functional_call`` swap the weights of ``module`` around any function that uses it."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


class TextEncoder(ABC):
    """The text half of a CLIP, as a host has it in memory.

    Args:
        module: what holds the parameters.
        token_embedding: the token table inside it, innermost layer.
        projection: (width, dim) matrix from the pooled hidden state to the CLIP feature; stays fixed.
        around: context for the forward passes of the optimisation, to keep a host's patches out of them.
    """

    def __init__(
        self,
        module: nn.Module,
        token_embedding: nn.Embedding,
        projection: Tensor,
        around: Around = contextlib.nullcontext,
    ) -> None:
        self.module = module
        self.token_embedding = token_embedding
        self.projection = projection.detach()
        self.around = around

    @property
    def space(self) -> Space:
        return space_of(self.projection.shape[-1])

    @property
    def device(self) -> torch.device:
        return self.token_embedding.weight.device

    @abstractmethod
    def is_trained(self, name: str) -> bool:
        """Whether the module's parameter of this name belongs to the text tower below the projection."""

    @abstractmethod
    def hidden_state(self, ids: Tensor) -> Tensor:
        """Last hidden state after the final layer norm, (B, T, width), for ids (B, T), any T up to 77."""

    def weights(self, ids: Tensor) -> Weights:
        """The host's own values of all that is trained for these token ids, detached, not copied.

        Only the rows of the token table that the prompt uses have a gradient, so only those are in it.
        """
        table = self.token_embedding.weight
        token_ids = torch.unique(ids)
        return Weights(
            {
                name: p.detach()
                for name, p in self.module.named_parameters()
                if p is not table and self.is_trained(name)
            },
            token_ids,
            table.detach()[token_ids],
        )

    def feature(self, ids: Tensor, weights: Weights) -> Tensor:
        """Projected text feature f(x), (B, dim), of sequences that end with their end-of-text token.

        The attention is causal, so what a host pads behind that token can't reach the feature.
        """
        with self.around():
            pooled = self.call(self.hidden_state, weights, ids)[:, -1]
        return pooled @ self.projection.to(pooled)

    def text_feature(self, ids: Tensor) -> Tensor:
        """Projected text feature, (dim,), fp32, of one sequence (T,) that ends with end-of-text, by the own weights."""
        with plain_fp32(self.device), torch.no_grad():
            ids = ids.clone().unsqueeze(0)
            return self.feature(ids, self.weights(ids).map(lambda p: p.to(torch.float32, copy=True)))[0]

    def call(self, function: Callable[..., Any], weights: Weights, *args: Any) -> Any:
        """``function(*args)`` as if the module had ``weights``; the module has its own again after it, whatever happens."""
        with self._token_rows(weights):
            return functional_call(
                _Call(self.module, function), {f"module.{name}": p for name, p in weights.parameters.items()}, args
            )

    @contextlib.contextmanager
    def _token_rows(self, weights: Weights) -> Iterator[None]:
        # Not a copy of the whole table: it is a third of a CLIP ViT-L/14.
        def replace(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            place = torch.searchsorted(weights.token_ids, args[0].contiguous()).clamp_max(len(weights.token_ids) - 1)
            known = (weights.token_ids[place] == args[0]).unsqueeze(-1)
            dtype = torch.promote_types(output.dtype, weights.token_rows.dtype)
            return torch.where(known, weights.token_rows[place].to(dtype), output.to(dtype))

        handle = self.token_embedding.register_forward_hook(replace)
        try:
            yield
        finally:
            handle.remove()


@contextlib.contextmanager
def plain_fp32(device: torch.device) -> Iterator[None]:
    """Gradients on, inference mode and autocast off."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


def _innermost(embedding: nn.Module) -> nn.Embedding:
    # The WebUI wraps the token table to put textual inversions in.
    while not isinstance(embedding, nn.Embedding):
        embedding = embedding.wrapped  # type: ignore[assignment]
    return embedding


class TransformersTextEncoder(TextEncoder):
    """A transformers ``CLIPTextModel`` (SD 1.x, SDXL's first text encoder), of version 4 or 5."""

    def __init__(self, module: nn.Module, projection: Tensor, around: Around = contextlib.nullcontext) -> None:
        # transformers 5 has no inner text_model any more.
        inner: Any = getattr(module, "text_model", module)
        super().__init__(module, _innermost(inner.embeddings.token_embedding), projection, around)

    def is_trained(self, name: str) -> bool:
        return not name.startswith("text_projection")

    def hidden_state(self, ids: Tensor) -> Tensor:
        return self.module(input_ids=ids).last_hidden_state


class OpenClipTextEncoder(TextEncoder):
    """The text half of an open_clip ``CLIP`` (SD 2.x, SDXL's second text encoder)."""

    def __init__(self, module: nn.Module, projection: Tensor, around: Around = contextlib.nullcontext) -> None:
        clip: Any = module
        super().__init__(module, _innermost(clip.token_embedding), projection, around)

    def is_trained(self, name: str) -> bool:
        return name.split(".")[0] in ("positional_embedding", "transformer", "ln_final", "token_embedding")

    def hidden_state(self, ids: Tensor) -> Tensor:
        clip: Any = self.module
        length = ids.shape[1]
        x = clip.token_embedding(ids)
        x = x + clip.positional_embedding[:length].to(x.dtype)
        mask = clip.attn_mask[:length, :length].to(x.dtype)
        # Older releases want (T, B, C) and have no such attribute.
        if getattr(clip.transformer, "batch_first", False):
            x = clip.transformer(x, attn_mask=mask)
        else:
            x = clip.transformer(x.permute(1, 0, 2), attn_mask=mask).permute(1, 0, 2)
        return clip.ln_final(x)
