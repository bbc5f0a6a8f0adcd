"""The method: a few Adam steps on a text encoder's weights (Gallego 2022, section 2).

L(theta) = -cos(f_theta(x), e) for one prompt x and one unit aesthetic vector e.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..clip.text_encoder import TextEncoder, Weights, plain_fp32
from ..errors import AestheticError, Remedy
from .adam import AdamInBackward
from .factors import AdamFromFactors
from .memory import bytes_needed, choose_memory
from .modes import Memory
from .precision import bf16_products
from .targets import Target


@dataclass(frozen=True)
class Optimized:
    """What the steps led to.

    Attributes:
        weights: optimised weights on the encoder's device, fp32 or float64.
        similarities: cosine similarity to the target before each step and after the last, one number more than
            steps were taken.
        memory: the mode that was used.
    """

    weights: Weights
    similarities: tuple[float, ...]
    memory: Memory


def optimize(
    encoder: TextEncoder,
    ids: Tensor,
    target: Target,
    steps: int,
    lr: float,
    before_pass: Callable[[int], None] = lambda step: None,
    memory: Memory = Memory.AUTOMATIC,
    strength: float | None = None,
    bf16: bool = False,
) -> Optimized:
    """Optimise a copy of the weights toward ``target``; the encoder itself is not changed.

    fp32 whatever the host's precision (float64 for an encoder in float64), outside its autocast and inference mode;
    no random number is drawn.

    Args:
        encoder: the text encoder as it stands.
        ids: (T,) token ids from start-of-text up to and with end-of-text.
        target: asked once, with the feature before the first step.
        steps: Adam steps, at least 1 (PyTorch's default betas and epsilon).
        lr: learning rate.
        before_pass: called with the number of steps done before each forward pass, of which there are ``steps + 1``
            without a strength; may raise to stop.
        memory: where Adam's moments are.
        strength: stop where this part (0 to 1) of the angle between the feature and the target is gone, with ``steps``
            as the most that are taken; the last step is shortened to end there, within 0.002. None takes all steps.
        bf16: multiply matrices by way of bf16 where the processor can; see :func:`.precision.bf16_products`.

    Raises:
        AestheticError: out of memory, or the similarity stopped being a number.
    """
    memory = choose_memory(encoder, memory, len(ids), steps)
    explained = _explained_out_of_memory(encoder, memory, len(ids), steps)
    with plain_fp32(encoder.device), bf16_products(bf16), explained:
        # Clones made in here are ordinary tensors even where the host works in inference mode.
        ids = ids.to(encoder.device, copy=True).unsqueeze(0)
        weights = encoder.weights(ids).map(
            lambda p: p.to(
                encoder.device,
                torch.float64 if p.dtype == torch.float64 else torch.float32,
                copy=True,
                memory_format=torch.contiguous_format,
            ).requires_grad_()
        )
        goal: list[Tensor] = []

        def similarity() -> Tensor:
            feature = encoder.feature(ids, weights)
            if not goal:
                goal.append(target(feature.detach()[0]).clone().unsqueeze(0))
            return cosine_similarity(feature, goal[0]).squeeze(0)

        similarities: list[Tensor] = []
        arc: _Arc | None = None
        with _optimizer(weights, lr, memory) as optimizer:
            for step in range(steps):
                before_pass(step)
                now = similarity()
                if strength is not None:
                    # Asking for the number waits for the GPU, so only where it decides something.
                    number = now.item()
                    arc = arc or _Arc(strength, number)
                    if arc.gone(number) >= strength:
                        break
                optimizer.step(-now)
                similarities.append(now.detach())
            else:
                step = steps
        last_step = None if arc is None else optimizer.step_back
        del optimizer  # its moments are not needed for what follows
        with torch.no_grad():
            if step == steps:
                before_pass(steps)
                now = similarity()
            similarities.append(now.detach())
            if arc is not None and last_step is not None and step:

                def look() -> Tensor:
                    before_pass(step)
                    return similarity()

                similarities[-1] = _shorten(last_step, look, arc, similarities[-2], similarities[-1])
        numbers = torch.stack(similarities).tolist()
        weights = weights.map(lambda p: p.detach())
    if any(n != n for n in numbers):
        raise AestheticError(
            "The aesthetic optimisation went astray: the similarity is not a number.",
            f"The learning rate {lr:g} is too large for {steps} steps, or the text encoder holds NaN.",
            "Lower the learning rate, or check the checkpoint.",
        )
    return Optimized(weights, tuple(numbers), memory)


@dataclass(frozen=True)
class _Arc:
    """The way from the prompt's feature to its target.

    Attributes:
        wanted: the part of the angle that is to be gone.
        first: cosine similarity at the beginning.
    """

    wanted: float
    first: float

    def gone(self, similarity: float) -> float:
        """The part of the angle that is gone; not a number if the similarity is none."""
        whole = _angle(self.first)
        return 1 - _angle(similarity) / whole if whole else 1.0


def _angle(cosine: float) -> float:
    return math.acos(max(-1.0, min(1.0, cosine))) if cosine == cosine else math.nan


_CLOSE = 0.002
_MOST_TRIES = 16


def _shorten(
    step_back: Callable[[float], None], look: Callable[[], Tensor], arc: _Arc, before: Tensor, after: Tensor
) -> Tensor:
    """Shorten the last step so that it ends where it should, if it went too far.

    Args:
        step_back: takes a part of the step back.
        look: the similarity as the weights are.
        arc: the way, and where on it to end.
        before: similarity before the step.
        after: similarity after it.

    Returns:
        The similarity at the end.
    """
    reached, here = arc.gone(float(after)), 1.0
    low, high = (0.0, arc.gone(float(before))), (1.0, reached)
    if not reached > arc.wanted:
        return after
    for attempt in range(_MOST_TRIES):
        # Along the chord, on which one step nearly is; every other time in the middle, which always comes nearer.
        share = (arc.wanted - low[1]) / (high[1] - low[1]) if attempt % 2 == 0 else 0.5
        there = low[0] + share * (high[0] - low[0])
        step_back(here - there)
        after, here = look(), there
        reached = arc.gone(float(after))
        if abs(reached - arc.wanted) <= _CLOSE:
            break
        low, high = ((here, reached), high) if reached < arc.wanted else (low, (here, reached))
    return after


def _optimizer(weights: Weights, lr: float, memory: Memory) -> AdamInBackward:
    if memory is Memory.LOWEST:
        return AdamFromFactors(weights.tensors(), lr)
    return AdamInBackward(weights.tensors(), lr, moments_away=memory is Memory.LOW)


@contextlib.contextmanager
def _explained_out_of_memory(encoder: TextEncoder, memory: Memory, tokens: int, steps: int) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On the CPU it is a plain RuntimeError.
        if not isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(
            error
        ):
            raise
        low = "" if memory is Memory.LOWEST else "choose Memory.LOWEST, "
        needed = bytes_needed(encoder, memory, tokens, steps) / 2**30
        raise AestheticError(
            f"There was not enough memory on {encoder.device} to personalise the prompt.",
            f"{encoder.space.name} needs {needed:.1f} GB beside the model for it.",
            f"Close other programs, {low}move other models off {encoder.device}, "
            "or use a model with a smaller text encoder.",
            Remedy.MEMORY,
        ) from error
