"""Adam without stored moments: they are made anew, a block of rows at a time, from the gradients' factors.

The gradient of a linear layer's weight for one sequence of T tokens is deltaᵀ x, where delta (T, out) is the
gradient of the layer's output and x (T, in) its input: T rows of each instead of a matrix (out, in). Adam's
moments are weighted sums of the gradients so far and of their squares, so those factors are all of the past
that has to be kept.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, multi_head_attention_forward, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from .adam import BETA1, BETA2, AdamInBackward


def block(device: torch.device) -> int:
    """Numbers of a weight that are worked on at once, and three times as many are held for it."""
    # What fits the cache of a CPU's core, and what keeps every core of a GPU busy.
    return 1 << 18 if device.type == "cpu" else 1 << 22


class _Part(Protocol):
    """A part of one step's gradient of one weight."""

    def add_rows(self, first: int, gradient: Tensor, keep: bool) -> None:
        """Add its rows from ``first`` on to those of ``gradient``, or put them there."""


class _Product:
    """deltaᵀ x of (N, out) and (N, in)."""

    def __init__(self, delta: Tensor, x: Tensor) -> None:
        self.delta, self.x = delta.flatten(0, -2), x.flatten(0, -2)

    def add_rows(self, first: int, gradient: Tensor, keep: bool) -> None:
        gradient.addmm_(self.delta[:, first : first + len(gradient)].T, self.x, beta=int(keep))


class _Whole:
    """What did not come as factors."""

    def __init__(self, whole: Tensor) -> None:
        self.whole = whole

    def add_rows(self, first: int, gradient: Tensor, keep: bool) -> None:
        rows = self.whole[first : first + len(gradient)]
        gradient.add_(rows) if keep else gradient.copy_(rows)


def _sum(parts: Sequence[_Part], first: int, gradient: Tensor) -> None:
    """Fill ``gradient`` with its rows from ``first`` on."""
    for i, part in enumerate(parts):
        part.add_rows(first, gradient, keep=i > 0)


class AdamFromFactors(AdamInBackward):
    """As :class:`AdamInBackward`, but the moments of what linear layers multiply with are not kept.

    The forward passes have to be inside its ``with`` too. Whatever calls ``torch.nn.functional.linear`` is such
    a layer, and so is torch's own attention; parameters that are used in another way have moments as ever.

    Args:
        parameters: leaves that require a gradient, fp32 or float64, all of one kind and on one device.
        lr: learning rate.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        super().__init__(parameters, lr)
        self._products = _Products(self.parameters)
        self._past: dict[int, list[list[_Part]]] = {}
        self._scratch: Tensor | None = None

    def __enter__(self) -> AdamFromFactors:
        super().__enter__()
        self._products.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._products.__exit__(*error)
        super().__exit__(*error)

    def step(self, loss: Tensor) -> None:
        super().step(loss)
        for parameter in self.parameters:
            parts = self._products.parts.pop(id(parameter), [])
            if parameter.grad is not None:
                parts.append(_Whole(parameter.grad))
                parameter.grad = None
            if parts:
                self._update_by(parameter, parts)
        self._products.used.clear()

    def step_back(self, part: float) -> None:
        super().step_back(part)
        for parameter in self.parameters:
            if id(parameter) in self._past:
                self._move_all(parameter, -part)

    def _update(self, parameter: Tensor) -> None:
        # What comes as factors is not whole before the end of the backward pass.
        if id(parameter) not in self._products.used and id(parameter) not in self._past:
            super()._update(parameter)

    def _places(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        return torch.empty_like(parameter), torch.empty_like(parameter)  # few are left, and small ones

    def _update_by(self, parameter: Tensor, parts: list[_Part]) -> None:
        if id(parameter) in self._moments:  # in the steps before it had no factors
            parameter.grad = torch.empty_like(parameter)
            _sum(parts, 0, parameter.grad)
            super()._update(parameter)
            return
        self._past.setdefault(id(parameter), []).append(parts)
        self._move_all(parameter)

    @torch.no_grad()
    def _move_all(self, parameter: Tensor, part: float = 1.0) -> None:
        """Take a part of the step at hand, with the moments that belong to the gradients so far."""
        for rows, m, v in self._moments_by_blocks(parameter):
            self._move(rows, m, v.sqrt_(), part)

    def _moments_by_blocks(self, parameter: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rows of the parameter with both of their moments, which are overwritten for the next."""
        width, past = parameter.shape[1], self._past[id(parameter)]
        count = max(1, block(parameter.device) // width)
        if self._scratch is None or self._scratch.numel() < 3 * count * width:
            # Once and for all: between the factors, which stay, it would tear the heap to pieces.
            self._scratch = parameter.new_empty(3 * max(count * width, block(parameter.device)))
        for first in range(0, len(parameter), count):
            rows = parameter[first : first + count]
            gradient, m, v = self._scratch[: 3 * rows.numel()].view(3, *rows.shape)
            m.zero_()
            v.zero_()
            for age, parts in zip(reversed(range(len(past))), past):
                _sum(parts, first, gradient)
                m.add_(gradient, alpha=(1 - BETA1) * BETA1**age)
                v.addcmul_(gradient, gradient, value=(1 - BETA2) * BETA2**age)
            yield rows, m, v


class _Products(TorchFunctionMode):
    """Sees to it that products with some weights leave the factors of the weights' gradients, and not those.

    Attributes:
        used: weights (by their ``id``) that had a part in a product.
        parts: of those that a backward pass came by, the parts of their gradients.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        super().__init__()
        # Of one sequence; a vector's gradient is no larger than its factors.
        self._weights = {id(weight): weight for weight in weights if weight.ndim == 2}
        self.used: set[int] = set()
        self.parts: dict[int, list[_Part]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is linear:
            return self._linear(*args, **kwargs)
        # Its products are inside torch, out of sight.
        if func is multi_head_attention_forward and (attention := _Attention.of(args, kwargs)):
            return attention.by(self._linear), None
        return func(*args, **kwargs)

    def _linear(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        key = id(weight)
        leads_back = input.requires_grad or (bias is not None and bias.requires_grad)
        if key not in self._weights or not torch.is_grad_enabled() or not leads_back or input.ndim < 2:
            return linear(input, weight, bias)
        self.used.add(key)
        found: Tensor = _Linear.apply(input, weight.detach(), bias, self.parts.setdefault(key, []))
        return found


class _Linear(torch.autograd.Function):
    """A linear layer whose weight's gradient is left as its factors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, parts: list[_Part]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.parts = parts
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, None, Tensor | None, None]:
        (delta,) = gradients
        x, weight = ctx.saved_tensors
        ctx.parts.append(_Product(delta, x.detach()))
        of_x, _, of_bias, _ = ctx.needs_input_grad
        return delta @ weight if of_x else None, None, delta.flatten(0, -2).sum(0) if of_bias else None, None


class _Attention:
    """Arguments of torch's ``multi_head_attention_forward``, for the case of CLIP: of a sequence with itself."""

    def __init__(self, named: dict[str, Any]) -> None:
        self.named = named

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Attention | None:
        """None if it is another case."""
        bound = _SIGNATURE.bind(*args, **kwargs)
        bound.apply_defaults()
        named = bound.arguments
        mask = named["attn_mask"]
        plain = (
            named["query"] is named["key"] is named["value"]
            and named["query"].ndim == 3
            and named["in_proj_weight"] is not None
            and not any(
                named[name] is not None for name in ("bias_k", "bias_v", "key_padding_mask", "static_k", "static_v")
            )
            and not any(named[name] for name in ("add_zero_attn", "need_weights", "use_separate_proj_weight"))
            and not (named["training"] and named["dropout_p"])
            and (mask is None or (mask.ndim == 2 and mask.is_floating_point()))
        )
        return cls(named) if plain else None

    def by(self, product: Callable[..., Tensor]) -> Tensor:
        """What the attention says, (T, B, width), with ``product(input, weight, bias)`` for its two products."""
        named = self.named
        both = product(named["query"], named["in_proj_weight"], named["in_proj_bias"])
        q, k, v = (one.unflatten(-1, (named["num_heads"], -1)).permute(1, 2, 0, 3) for one in both.chunk(3, -1))
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=named["attn_mask"])
        return product(mixed.permute(2, 0, 1, 3).flatten(2), named["out_proj_weight"], named["out_proj_bias"])


_SIGNATURE = inspect.signature(multi_head_attention_forward)
