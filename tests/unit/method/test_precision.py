"""Matrix products by way of bf16: asked for by torch's own switch, for the optimisation alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aesthetic_clip.geometry import unit
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.personalize import Chunk, personalize
from aesthetic_clip.method.precision import bf16_products
from aesthetic_clip.method.targets import Toward
from aesthetic_clip.settings import Settings

from ...support.towers import PROMPT, encode, pad_id, padded, transformers_tower

TARGET = Toward(unit(torch.randn(32, generator=torch.Generator().manual_seed(5))))


@pytest.mark.parametrize("hosts", ["highest", "high"])
def test_the_optimisation_alone_is_in_bf16(hosts: str) -> None:
    encoder, ids = transformers_tower(), torch.tensor(PROMPT)
    whole = padded(PROMPT, pad_id(encoder))
    seen: dict[str, set[str]] = {"steps": set(), "encoding": set()}

    def own(one: Tensor) -> tuple[Tensor, None]:
        seen["encoding"].add(torch.get_float32_matmul_precision())
        return encode(encoder.module, one), None

    def before_pass(step: int) -> None:
        seen["steps"].add(torch.get_float32_matmul_precision())

    with torch.no_grad():
        chunk = Chunk(whole, len(ids) - 1, (encode(encoder.module, whole[None]), None), own)
    torch.set_float32_matmul_precision(hosts)
    try:
        optimize(encoder, ids, TARGET, 2, 1e-3, before_pass, bf16=True)
        assert seen["steps"] == {"medium"}
        personalize(encoder, chunk, TARGET, Settings(steps=2, lr=1e-3), bf16=True)
        assert seen["encoding"] == {hosts}
        seen["steps"].clear()
        optimize(encoder, ids, TARGET, 2, 1e-3, before_pass)
        assert seen["steps"] == {hosts}
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_hosts_precision_is_back_whatever_happens() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ValueError), bf16_products(True):
        raise ValueError
    assert torch.get_float32_matmul_precision() == before
