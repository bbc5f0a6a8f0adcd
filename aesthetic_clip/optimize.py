"""The method: a few Adam steps on a text encoder's weights (Gallego 2022, section 2).

L(theta) = -cos(f_theta(x), e) for one prompt x and one unit aesthetic vector e.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .adam import AdamInBackward
from .errors import AestheticError
from .text_encoder import TextEncoder, Weights, plain_fp32

_BYTES_PER_PARAMETER = 12  # fp32 weight and Adam's two moments; gradients are freed as they are used


@dataclass(frozen=True)
class Optimized:
    """What the steps led to.

    Attributes:
        weights: optimised fp32 weights on the encoder's device.
        similarities: cosine similarity to the target before each step and after the last, (steps + 1) numbers.
    """

    weights: Weights
    similarities: tuple[float, ...]


def optimize(
    encoder: TextEncoder,
    ids: Tensor,
    target: Tensor,
    steps: int,
    lr: float,
    before_pass: Callable[[int], None] = lambda step: None,
) -> Optimized:
    """Optimise a copy of the weights toward ``target``; the encoder itself is not changed.

    fp32 whatever the host's precision, outside its autocast and inference mode;
    no random number is drawn.

    Args:
        encoder: the text encoder as it stands.
        ids: (T,) token ids from start-of-text up to and with end-of-text.
        target: (dim,) unit vector.
        steps: Adam steps, at least 1 (PyTorch's default betas and epsilon).
        lr: learning rate.
        before_pass: called before each of the ``steps + 1`` forward passes; may raise to stop.

    Raises:
        AestheticError: out of memory, or the similarity stopped being a number.
    """
    with plain_fp32(encoder.device), _explained_out_of_memory(encoder):
        # Clones made in here are ordinary tensors even where the host works in inference mode.
        ids = ids.clone().unsqueeze(0)
        weights = encoder.weights(ids).map(lambda p: p.to(torch.float32, copy=True).requires_grad_())
        target = target.to(encoder.device, torch.float32, copy=True)
        optimizer = AdamInBackward(weights.tensors(), lr)
        similarities = []
        for step in range(steps):
            before_pass(step)
            similarity = cosine_similarity(encoder.feature(ids, weights), target.unsqueeze(0)).squeeze(0)
            optimizer.step(-similarity)
            similarities.append(similarity.detach())
        before_pass(steps)
        with torch.no_grad():
            similarities.append(cosine_similarity(encoder.feature(ids, weights), target.unsqueeze(0)).squeeze(0))
        numbers = torch.stack(similarities).tolist()
        weights = weights.map(lambda p: p.detach())
    if any(n != n for n in numbers):
        raise AestheticError(
            "The aesthetic optimisation went astray: the similarity is not a number.",
            f"The learning rate {lr:g} is too large for {steps} steps, or the text encoder holds NaN.",
            "Lower the learning rate, or check the checkpoint.",
        )
    return Optimized(weights, tuple(numbers))


@contextlib.contextmanager
def _explained_out_of_memory(encoder: TextEncoder) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On the CPU it is a plain RuntimeError.
        if not isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) and "can't allocate memory" not in str(
            error
        ):
            raise
        count = sum(p.numel() for p in encoder.module.parameters()) - encoder.token_embedding.weight.numel()
        raise AestheticError(
            f"There was not enough memory on {encoder.device} to personalise the prompt.",
            f"{encoder.space.name} needs {count * _BYTES_PER_PARAMETER / 2**30:.1f} GB beside the model for its optimisation.",
            "Close other programs on the GPU, start the WebUI with --medvram, or use a checkpoint with a smaller text encoder.",
        ) from error
