"""One prompt, personalised: the optimisation, the second encoding, the mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..clip.text_encoder import TextEncoder
from ..geometry import blend
from ..settings import Settings
from .modes import Memory
from .optimize import optimize
from .targets import Target

Encode = Callable[[Tensor], tuple[Tensor, "Tensor | None"]]
"""The host's own way from ids (1, T) to the hidden state (1, T, C) and, if there is one, the pooled vector (1, P)."""


@dataclass(frozen=True)
class Chunk:
    """One sequence of tokens, and what its host makes of it.

    Attributes:
        ids: (T,) token ids, padding included.
        end: place of the end-of-text token.
        ordinary: what ``encode`` says with the encoder's own weights.
        encode: the host's encoding of one sequence.
    """

    ids: Tensor
    end: int
    ordinary: tuple[Tensor, Tensor | None]
    encode: Encode


@dataclass(frozen=True)
class Encoded:
    """A personalised prompt.

    Attributes:
        hidden: (1, T, C) conditioning in the host's dtype.
        pooled: (1, P) pooled vector, where the text encoder gives one.
        similarities: cosine similarity before each step and after the last.
        memory: where Adam's moments were.
    """

    hidden: Tensor
    pooled: Tensor | None
    similarities: tuple[float, ...]
    memory: Memory


def personalize(
    encoder: TextEncoder,
    chunk: Chunk,
    target: Target,
    settings: Settings,
    before_pass: Callable[[int], None] = lambda step: None,
    memory: Memory = Memory.AUTOMATIC,
    bf16: bool = False,
) -> Encoded:
    """Personalise one chunk of one prompt (Gallego 2022, section 2).

    Args:
        encoder: the text encoder as it stands.
        chunk: the tokens and their ordinary encoding.
        target: where its feature is to go.
        settings: strength, steps, learning rate, weight, slerp.
        before_pass: called with the number of steps done before every forward pass; may raise.
        memory: where Adam's moments are.
        bf16: in the optimisation, matrices are multiplied by way of bf16 where the processor can.

    Raises:
        AestheticError: out of memory, or the optimisation went astray.
    """
    ids = chunk.ids[: chunk.end + 1]
    optimized = optimize(
        encoder, ids, target, settings.steps, settings.lr, before_pass, memory, settings.strength, bf16
    )
    before_pass(settings.steps)
    with torch.no_grad():
        hidden, pooled = encoder.call(chunk.encode, encoder.in_own_precision(optimized.weights), chunk.ids.unsqueeze(0))

    def mixed(ordinary: Tensor, personalised: Tensor) -> Tensor:
        return blend(ordinary, personalised, settings.weight, settings.slerp)

    ordinary, ordinary_pooled = chunk.ordinary
    return Encoded(
        mixed(ordinary, hidden),
        ordinary_pooled if ordinary_pooled is None or pooled is None else mixed(ordinary_pooled, pooled),
        optimized.similarities,
        optimized.memory,
    )
