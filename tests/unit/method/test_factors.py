"""Adam without stored moments, against torch's own, whatever the weights are used for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from aesthetic_clip.clip.text_encoder import TextEncoder
from aesthetic_clip.errors import Interrupted
from aesthetic_clip.geometry import unit
from aesthetic_clip.method import factors, memory
from aesthetic_clip.method.factors import AdamFromFactors
from aesthetic_clip.method.memory import bytes_needed
from aesthetic_clip.method.modes import Memory
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.targets import Toward

from ...support.memory import peak_allocated
from ...support.towers import PROMPT, TOWERS, in_float64

STEPS, LR, WIDTH = 6, 1e-2, 12
TARGET = Toward(unit(torch.randn(32, generator=torch.Generator().manual_seed(5))))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# What a weight can be used for: (square weight, bias, number of the step) to a number that is made smaller.
X = drawn(1, 5, WIDTH, seed=1).requires_grad_()


def once(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(X, w, b).tanh().square().sum()


def without_bias(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(X, weight=w).tanh().sum() + b.square().sum()


def twice(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(linear(X, w, b).tanh(), w).square().sum()


def of_a_batch(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(drawn(3, 2, 4, WIDTH, seed=step), w, b).tanh().sum()


def of_one_row(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(X[0, 0], w, b).tanh().sum()


def of_constants(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(X.detach(), w).tanh().sum() + b.sum()


def in_another_way(w: Tensor, b: Tensor, step: int) -> Tensor:
    return (X @ w.T + b).tanh().square().sum()


def both_ways(w: Tensor, b: Tensor, step: int) -> Tensor:
    return linear(X, w, b).tanh().square().sum() + (w * w).sum().sqrt()


def first_as_a_product(w: Tensor, b: Tensor, step: int) -> Tensor:
    return (once if step == 0 else in_another_way)(w, b, step)


def later_as_a_product(w: Tensor, b: Tensor, step: int) -> Tensor:
    return (in_another_way if step < 2 else both_ways)(w, b, step)


def with_a_product_that_leads_nowhere(w: Tensor, b: Tensor, step: int) -> Tensor:
    linear(X, w, b)
    with torch.no_grad():
        linear(X, w, b)
    return in_another_way(w, b, step)


USES = [
    once, without_bias, twice, of_a_batch, of_one_row, of_constants, in_another_way, both_ways, first_as_a_product,
    later_as_a_product, with_a_product_that_leads_nowhere,
]  # fmt: skip


def torchs(use: Callable[..., Tensor], weights: list[Tensor], steps: int) -> list[Tensor]:
    weights = [w.clone().requires_grad_() for w in weights]
    optimizer = torch.optim.Adam(weights, lr=LR)
    for step in range(steps):
        optimizer.zero_grad()
        use(*weights, step).backward()
        optimizer.step()
    return [w.detach() for w in weights]


def close(some: list[Tensor], others: list[Tensor], tolerance: float = 1e-12) -> bool:
    return all((one.detach() - other).abs().max() < tolerance for one, other in zip(some, others))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("block", [1, 5 * WIDTH, 1 << 18], ids=["a row", "five rows", "all"])
def test_takes_torchs_steps_whatever_a_weight_is_used_for(
    use: Callable[..., Tensor], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factors, "block", lambda device: block)
    start = [drawn(WIDTH, WIDTH), drawn(WIDTH)]
    weights = [w.clone().requires_grad_() for w in start]
    with AdamFromFactors(weights, LR) as optimizer:
        for step in range(STEPS):
            optimizer.step(use(*weights, step))
    assert close(weights, torchs(use, start, STEPS))
    optimizer.step_back(1)
    assert close(weights, torchs(use, start, STEPS - 1))
    optimizer.step_back(-1)
    assert close(weights, torchs(use, start, STEPS))


@pytest.mark.parametrize("more", [{}, {"need_weights": True}, {"key_padding_mask": torch.zeros(1, 5) > 0}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mask", [None, torch.full((5, 5), -torch.inf).triu(1).double()], ids=["all", "causal"])
def test_takes_torchs_steps_through_torchs_attention(
    more: dict[str, Any], batch_first: bool, mask: Tensor | None
) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(WIDTH, 3, batch_first=batch_first).double()
    x = X if batch_first else X.transpose(0, 1)
    names = [name for name, _ in attention.named_parameters()]

    def use(*weights_and_step: Any) -> Tensor:
        *weights, _ = weights_and_step
        options = {"attn_mask": mask, "need_weights": False, **more}
        said, _ = torch.func.functional_call(attention, dict(zip(names, weights)), (x, x, x), options)
        return said.square().sum()

    start = [p.detach() for p in attention.parameters()]
    weights = [w.clone().requires_grad_() for w in start]
    with AdamFromFactors(weights, LR) as optimizer:
        for step in range(STEPS):
            optimizer.step(use(*weights, step))
    # Nothing depends on the keys' bias: its gradients are rounding errors, and Adam steps by them.
    assert close(weights, torchs(use, start, STEPS), 1e-8)


def test_nothing_of_it_stays_after_an_interrupt() -> None:
    weight = drawn(WIDTH, WIDTH).requires_grad_()
    with pytest.raises(Interrupted), AdamFromFactors([weight], LR):
        linear(X, weight)
        raise Interrupted
    linear(X, weight).sum().backward()
    assert weight.grad is not None


@pytest.fixture(params=TOWERS)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return in_float64(TOWERS[request.param]())


def lora_on_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the WebUI's LoRA replaces the forward of torch's layers: what it adds may be beside the product."""
    original = nn.Linear.forward

    def forward(self: nn.Linear, input: Tensor) -> Tensor:
        return original(self, input) + 0.1 * input.mean(-1, keepdim=True)

    monkeypatch.setattr(nn.Linear, "forward", forward)


def cast_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Forge's layers take their weights to the input's dtype and device before they multiply."""

    def forward(self: nn.Linear, input: Tensor) -> Tensor:
        weight, bias = (
            None if p is None else p.to(device=input.device, dtype=input.dtype) for p in (self.weight, self.bias)
        )
        assert weight is not None
        return linear(input, weight, bias)

    monkeypatch.setattr(nn.Linear, "forward", forward)


@pytest.mark.parametrize("host", [lora_on_linear, cast_by_layer])
def test_hosts_that_replace_the_layers_forward(
    encoder: TextEncoder, host: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    host(monkeypatch)
    fast, lowest = (
        optimize(encoder, torch.tensor(PROMPT), TARGET, 3, 1e-3, memory=mode) for mode in (Memory.FAST, Memory.LOWEST)
    )
    assert fast.similarities == pytest.approx(lowest.similarities, abs=1e-12)
    for a, b in zip(fast.weights.tensors(), lowest.weights.tensors()):
        assert (a - b).abs().max() < 1e-9


@pytest.mark.parametrize("tower", TOWERS)
def test_takes_a_fifth_more_than_the_weights(tower: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (factors, memory):
        monkeypatch.setattr(module, "block", lambda device: 1 << 15)
    encoder = TOWERS[tower](width=512, layers=2)  # type: ignore[call-arg]
    ids, steps = torch.tensor(PROMPT), 3
    trained = 4 * sum(p.numel() for p in encoder.weights(ids).tensors())
    peaks = {
        mode: peak_allocated(functools.partial(optimize, encoder, ids, TARGET, steps, 1e-4, memory=mode))
        for mode in (Memory.FAST, Memory.LOWEST)
    }
    assert peaks[Memory.FAST] > 3 * trained
    assert peaks[Memory.LOWEST] < 1.2 * trained
    for mode, peak in peaks.items():
        assert peak == pytest.approx(bytes_needed(encoder, mode, len(ids), steps), rel=0.06)
