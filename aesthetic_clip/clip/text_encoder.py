"""A live CLIP text encoder, seen so that its weights can be optimised without being touched.

The host's module stays as it is. Trained weights live in :class:`Weights` beside it,
and stand in for the host's only inside :meth:`TextEncoder.call`.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..errors import AestheticError
from ..spaces import Space, space_of
from .optimisable import adapter_tensors, compute_dtype, refuse_quantised

Around = Callable[[], contextlib.AbstractContextManager[None]]

_locks: MutableMapping[Any, contextlib.AbstractContextManager[object]] = weakref.WeakKeyDictionary()
_locks_made = threading.Lock()


def lock_of(module: Any) -> contextlib.AbstractContextManager[object]:
    """The lock of a text encoder, or of what else of a host's is used by one thread at a time; re-entrant.

    It belongs to the object, so that two pipelines that share a text encoder share its lock, and nothing is
    written on the object.
    """
    with _locks_made:
        if module not in _locks:
            _locks[module] = threading.RLock()
        return _locks[module]


@contextlib.contextmanager
def locked(*modules: Any) -> Iterator[None]:
    """Hold the locks of all of them; threads that want the same ones can't wait for each other for ever."""
    with contextlib.ExitStack() as stack:
        for module in sorted(modules, key=id):
            stack.enter_context(lock_of(module))
        yield


@dataclass(frozen=True)
class Weights:
    """Values for a text encoder's parameters.

    Attributes:
        parameters: name in the module to value; everything but the token table.
        token_ids: (R,) sorted ids whose rows of the token table are replaced.
        token_rows: (R, width) those rows.
        fixed: name in the module to what stands in for a tensor that is not trained and, as it is, would get a
            gradient, could not be in a backward pass, or would be of another precision than the others.
    """

    parameters: dict[str, Tensor]
    token_ids: Tensor
    token_rows: Tensor
    fixed: dict[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[Tensor]:
        return [*self.parameters.values(), self.token_rows]

    def map(self, change: Callable[[Tensor], Tensor]) -> Weights:
        return Weights(
            {name: change(p) for name, p in self.parameters.items()},
            self.token_ids,
            change(self.token_rows),
            self.fixed,
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
        device: where to compute, if the host keeps its weights elsewhere or in several places.

    Raises:
        AestheticError: it is quantised.
    """

    unused: tuple[str, ...] = ()
    """How the names of parameters begin that have no part in :meth:`hidden_state`."""

    folded: tuple[str, ...] = ()
    """Attributes of layers that :meth:`weights` works into their weights, and :meth:`call` keeps away meanwhile."""

    def __init__(
        self,
        module: nn.Module,
        token_embedding: nn.Embedding,
        projection: Tensor,
        around: Around = contextlib.nullcontext,
        device: torch.device | None = None,
    ) -> None:
        refuse_quantised(module, self.folded)
        self.module = module
        self.token_embedding = token_embedding
        self.projection = _ordinary(projection.detach())
        self.around = around
        self._device = device

    @property
    def space(self) -> Space:
        return space_of(self.projection.shape[-1])

    @property
    def device(self) -> torch.device:
        return self._device or self.token_embedding.weight.device

    @abstractmethod
    def is_trained(self, name: str) -> bool:
        """Whether the module's parameter of this name belongs to the text tower below the projection."""

    @abstractmethod
    def hidden_state(self, ids: Tensor) -> Tensor:
        """Last hidden state after the final layer norm, (B, T, width), for ids (B, T), any T up to 77."""

    def weights(self, ids: Tensor) -> Weights:
        """The host's own values of all that is trained for these token ids (any shape), detached, not copied.

        Only the rows of the token table that the prompt uses have a gradient, so only those are in it.
        """
        table, adapters = self.token_embedding.weight, adapter_tensors(self.module)
        with lock_of(self.module), torch.inference_mode(False):
            token_ids = torch.unique(ids.to(self.device))
            trained, fixed = {}, {}
            for name, p in self.module.named_parameters():
                if p is not table and self.is_trained(name) and name not in adapters:
                    trained[name] = p.detach()
                elif p is table and p.element_size() == 1:
                    fixed[name] = p.detach().to(self.device, torch.float16)  # exact, and torch can look rows up
                elif p is table:
                    fixed[name] = p.detach().to(self.device)
                elif not name.startswith(self.unused):
                    fixed[name] = _fp32(_ordinary(p.detach()).to(self.device))
            for name, buffer in self.module.named_buffers():
                if not name.startswith(self.unused):
                    fixed[name] = _fp32(_ordinary(buffer.detach()).to(self.device))
            return Weights(trained, token_ids, _rows(table.detach(), token_ids.to(table.device)), fixed)

    def in_own_precision(self, weights: Weights) -> Weights:
        """In the dtypes of the module's own weights, as the host computes with them.

        Weights that the host stores in one byte are computed with in another dtype; in one byte the steps would be lost.
        The given ones are let go on the way, so that both never are whole at once.
        """
        own, computed = dict(self.module.named_parameters()), compute_dtype(self.module)

        def dtype(p: Tensor) -> torch.dtype:
            return computed if p.element_size() == 1 else p.dtype

        return Weights(
            {name: weights.parameters.pop(name).to(dtype(own[name])) for name in list(weights.parameters)},
            weights.token_ids,
            weights.token_rows.to(dtype(self.token_embedding.weight)),
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
            ids = ids.to(self.device, copy=True).unsqueeze(0)
            weights = self.weights(ids).map(lambda p: p.to(self.device, torch.float32, copy=True))
            return self.feature(ids, weights)[0]

    def call(self, function: Callable[..., Any], weights: Weights, *args: Any) -> Any:
        """``function(*args)`` as if the module had ``weights``; the module has its own again after it, whatever happens.

        Other threads that come by way of this package wait meanwhile. One that runs the module by itself would
        meet these weights; where that can be, give this object a copy of the module that shares its tensors.

        Raises:
            AestheticError: the function read the token table behind its back.
        """
        values = {**weights.fixed, **weights.parameters}
        with lock_of(self.module), self._token_rows(weights) as reads:
            result = functional_call(
                _Call(self.module, function), {f"module.{name}": value for name, value in values.items()}, args
            )
        if not reads:
            raise AestheticError(
                "The text encoder can't be personalised.",
                "Something in front of its token table reads the table's numbers without asking the table.",
                "Take the adapter off its token embedding, or merge it into the weights.",
            )
        return result

    def of_the_table(self, ids: Tensor, output: Tensor) -> Tensor:
        """(B, T, 1) or (1,) where the token table's output (B, T, width) is its own, and none that a host put there."""
        return torch.ones(1, dtype=torch.bool, device=output.device)

    @contextlib.contextmanager
    def _token_rows(self, weights: Weights) -> Iterator[list[int]]:
        reads: list[int] = []

        # Not a copy of the whole table: it is a third of a CLIP ViT-L/14.
        def replace(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            reads.append(1)
            place = torch.searchsorted(weights.token_ids, args[0].contiguous()).clamp_max(len(weights.token_ids) - 1)
            known = (weights.token_ids[place] == args[0]).unsqueeze(-1) & self.of_the_table(args[0], output)
            dtype = torch.promote_types(output.dtype, weights.token_rows.dtype)
            return torch.where(known, weights.token_rows[place].to(dtype), output.to(dtype))

        handle = self.token_embedding.register_forward_hook(replace)
        try:
            yield reads
        finally:
            handle.remove()


def _ordinary(tensor: Tensor) -> Tensor:
    """Itself, or a copy if it was made in inference mode, when it can't be in a backward pass."""
    with torch.inference_mode(False):
        return tensor.clone() if tensor.is_inference() else tensor


def _fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.dtype != torch.float64 else tensor


def _rows(table: Tensor, ids: Tensor) -> Tensor:
    # torch looks up no rows of one-byte floats.
    return table.view(torch.uint8)[ids].view(table.dtype) if table.element_size() == 1 else table[ids]


@contextlib.contextmanager
def plain_fp32(device: torch.device) -> Iterator[None]:
    """Gradients on, inference mode and autocast off."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


def innermost_embedding(embedding: Any) -> nn.Embedding:
    """The token table inside what others wrapped around it.

    Raises:
        AestheticError: what that is, is not known.
    """
    # The WebUI wraps the token table to put textual inversions in, PEFT to adapt it.
    while not isinstance(embedding, nn.Embedding):
        inner = getattr(embedding, "wrapped", None) or getattr(embedding, "base_layer", None)
        if inner is None:
            raise AestheticError(
                "The text encoder can't be personalised.",
                f"Its token table is in a {type(embedding).__module__}.{type(embedding).__qualname__}, "
                "of which is not known how it uses it.",
                "Take that off the token embedding, or merge it into the weights.",
            )
        embedding = inner
    return embedding


class TransformersTextEncoder(TextEncoder):
    """A transformers ``CLIPTextModel`` (SD 1.x, SDXL's first text encoder), of version 4 or 5."""

    def __init__(
        self,
        module: nn.Module,
        projection: Tensor,
        around: Around = contextlib.nullcontext,
        device: torch.device | None = None,
    ) -> None:
        # transformers 5 has no inner text_model any more.
        inner: Any = getattr(module, "text_model", module)
        super().__init__(module, innermost_embedding(inner.embeddings.token_embedding), projection, around, device)

    def is_trained(self, name: str) -> bool:
        return not name.startswith("text_projection")

    def hidden_state(self, ids: Tensor) -> Tensor:
        return self.module(input_ids=ids).last_hidden_state


class OpenClipTextEncoder(TextEncoder):
    """The text half of an open_clip ``CLIP`` (SD 2.x, SDXL's second text encoder)."""

    unused = ("visual.", "text_projection", "logit_")

    def __init__(
        self,
        module: nn.Module,
        projection: Tensor,
        around: Around = contextlib.nullcontext,
        device: torch.device | None = None,
    ) -> None:
        clip: Any = module
        super().__init__(module, innermost_embedding(clip.token_embedding), projection, around, device)

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
