"""Where Adam's moments are while a prompt is personalised: what each way needs, and which one is chosen by itself."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import torch

from ..clip.text_encoder import TextEncoder
from .factors import block
from .modes import Memory


def bytes_needed(encoder: TextEncoder, memory: Memory, tokens: int = 77, steps: int = 10) -> int:
    """Memory on the encoder's device that an optimisation takes beside the host's own weights.

    fp32 weights, and Adam's two moments or, in low memory, those of the largest tensor; gradients are freed as
    they are used, so that two of the largest are counted. In the lowest, weights, factors and the piece at hand.

    Args:
        encoder: the text encoder.
        memory: the mode, not the automatic one.
        tokens: of the prompt, with start and end; counts in the lowest.
        steps: of the optimisation; counts in the lowest.
    """
    shapes = _shapes(encoder)
    sizes = [shape.numel() for shape in shapes]
    if memory is Memory.LOWEST:
        return 4 * (sum(sizes) + tokens * steps * _factors(shapes) + 3 * block(encoder.device))
    moments = 2 * (max(sizes) if memory is Memory.LOW else sum(sizes))
    return 4 * (sum(sizes) + moments + 2 * max(sizes))


def most_steps_from_factors(encoder: TextEncoder, tokens: int) -> int:
    """Up to how many steps it costs less to make the moments anew from factors than to keep them in main memory.

    Where both are the same memory, the factors must be smaller than the moments. A GPU fetches and brings back
    16 bytes for each number in each step, or reads and writes 28 of its own memory for each number and each step so
    far; its memory is taken to be 20 times as fast as its bus.
    """
    shapes = _shapes(encoder)
    smaller = 2 * sum(shape.numel() for shape in shapes) // (tokens * _factors(shapes))
    return min(smaller, _FASTER_THAN_THE_BUS) if encoder.device.type == "cuda" else smaller


_FASTER_THAN_THE_BUS = 2 * 16 * 20 // 28 - 1  # s (s + 1) / 2 times 28 bytes, or s times 16 of 20 times the price


def _shapes(encoder: TextEncoder) -> list[torch.Size]:
    return [p.shape for p in encoder.weights(torch.zeros(1, 1, dtype=torch.long)).tensors()]


def _factors(shapes: Sequence[torch.Size]) -> int:
    """How many numbers the factors of the matrices' gradients have for each token; those that share an input less."""
    return sum(sum(shape) for shape in shapes if len(shape) == 2)


def choose_memory(encoder: TextEncoder, wanted: Memory, tokens: int, steps: int) -> Memory:
    """The mode to use: what is wanted, or by what is free where the encoder computes."""
    if wanted is not Memory.AUTOMATIC:
        return wanted
    free = free_memory(encoder.device)
    if free is None or bytes_needed(encoder, Memory.FAST) < 0.9 * free:
        return Memory.FAST
    if steps <= most_steps_from_factors(encoder, tokens):
        return Memory.LOWEST
    return Memory.LOW if encoder.device.type == "cuda" else Memory.FAST


def free_memory(device: torch.device) -> float | None:
    """Bytes that can be had on a device; None if that can't be known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has taken from the GPU and does not use is free as well.
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type in ("cpu", "mps"):  # of one memory with the CPU
        try:
            psutil = importlib.import_module("psutil")  # all hosts have it, but nothing here asks for it
        except ImportError:
            return None
        return float(psutil.virtual_memory().available)
    return None
