"""How exactly matrices are multiplied while a prompt is personalised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def bf16_products(wanted: bool) -> Iterator[None]:
    """fp32 matrices are multiplied by way of bf16 inside, where the processor can; sums, weights and moments stay fp32.

    That is torch's own "medium" (``torch.set_float32_matmul_precision``): bf16 on CPUs with AVX-512 BF16 or AMX, TF32
    on CUDA, and nothing else than before everywhere else. It holds for the whole process, as torch has it.

    Args:
        wanted: if not, the precision stays as the host has set it.
    """
    if not wanted:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
