"""The method, against its plain form, and what it leaves behind."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from aesthetic_clip.clip.text_encoder import TextEncoder, Weights
from aesthetic_clip.errors import AestheticError, Interrupted
from aesthetic_clip.geometry import unit
from aesthetic_clip.method import adam
from aesthetic_clip.method.modes import Memory
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.personalize import Chunk, personalize
from aesthetic_clip.method.targets import Centred, Toward, Turned
from aesthetic_clip.settings import Settings

from ...support.towers import END, PROMPT, START, TOWERS, encode, in_float64, pad_id, padded, plain_method, text_feature

SETTINGS = Settings(weight=0.7, steps=5, lr=1e-3)


@pytest.fixture(params=TOWERS)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return TOWERS[request.param]()


@pytest.fixture
def target() -> Tensor:
    return unit(torch.randn(32, generator=torch.Generator().manual_seed(5)))


def run(
    encoder: TextEncoder,
    target: Tensor,
    settings: Settings = SETTINGS,
    prompt: list[int] = PROMPT,
    before_pass: Callable[[int], None] = lambda step: None,
    host_encode: Callable[[Tensor], Any] | None = None,
    memory: Memory = Memory.AUTOMATIC,
) -> Any:
    ids = padded(prompt, pad_id(encoder))

    def own(one: Tensor) -> tuple[Tensor, None]:
        return encode(encoder.module, one), None

    with torch.no_grad():
        ordinary = own(ids.unsqueeze(0))
    chunk = Chunk(ids, len(prompt) - 1, ordinary, host_encode or own)
    return personalize(encoder, chunk, Toward(target), settings, before_pass, memory)


def snapshot(encoder: TextEncoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.module.state_dict().items()}


def assert_untouched(encoder: TextEncoder, before: dict[str, Tensor]) -> None:
    after = encoder.module.state_dict()
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name
    assert not encoder.token_embedding._forward_hooks
    assert all(p.grad is None for p in encoder.module.parameters())


@pytest.mark.parametrize(
    "prompt", [PROMPT, [START, 320, END], [START, *range(1000, 1075), END]], ids=["short", "one", "full"]
)
def test_agrees_with_the_plain_method(encoder: TextEncoder, target: Tensor, prompt: list[int]) -> None:
    ids = padded(prompt, pad_id(encoder))
    plain, similarities = plain_method(encoder, ids, target, SETTINGS.steps, SETTINGS.lr)
    result = run(encoder, target, prompt=prompt)
    with torch.no_grad():
        ordinary, moved = encode(encoder.module, ids[None]), encode(plain, ids[None])
    expected = 0.3 * ordinary + 0.7 * moved
    assert (moved - ordinary).abs().max() > 0.1  # it moved at all
    assert (result.hidden - expected).abs().max() < 1e-4
    assert result.similarities == pytest.approx(similarities, abs=1e-5)


def test_agrees_with_float64(encoder: TextEncoder, target: Tensor) -> None:
    ids = padded(PROMPT, pad_id(encoder))
    _, similarities = plain_method(encoder, ids, target, 10, 1e-4, torch.float64)
    assert optimize(encoder, torch.tensor(PROMPT), Toward(target), 10, 1e-4).similarities == pytest.approx(
        similarities, abs=1e-5
    )


@pytest.mark.parametrize("memory", [Memory.FAST, Memory.LOW, Memory.LOWEST])
@pytest.mark.parametrize("fused", [False, True], ids=["stepwise", "fused"])
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_every_way_agrees_with_float64_on_random_inputs(
    encoder: TextEncoder, memory: Memory, fused: bool, seed: int
) -> None:
    if fused and not adam._fused_works(torch.device("cpu")):
        pytest.skip("this torch has no fused Adam for the CPU")
    draw = torch.Generator().manual_seed(seed)
    length = int(torch.randint(1, 20, (), generator=draw))
    prompt = [START, *torch.randint(1000, 1075, (length,), generator=draw).tolist(), END]
    target = unit(torch.randn(32, generator=draw))
    ids = padded(prompt, pad_id(encoder))
    plain, similarities = plain_method(encoder, ids, target, 5, 1e-4, torch.float64)
    with torch.no_grad():
        expected = encode(plain, ids[None])
        moved = (expected - encode(encoder.module, ids[None]))[:, : len(prompt)]
    assert moved.abs().max() > 0.1  # it moved at all

    def off(of: TextEncoder, tolerance: float) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(adam, "_fused_works", lambda device: fused)
            optimized = optimize(of, torch.tensor(prompt), Toward(target), 5, 1e-4, memory=memory)
        assert optimized.similarities == pytest.approx(similarities, abs=tolerance)
        with torch.no_grad():
            hidden = of.call(lambda one: encode(of.module, one), optimized.weights, ids[None])
        return (hidden - expected)[:, : len(prompt)]

    assert off(in_float64(encoder), 1e-12).abs().max() < 1e-9
    # Adam makes whole steps of gradients that are rounding errors. So single numbers may be off in fp32,
    # by up to 3e-4 in 400 prompts (the plain method in fp32: 1.4e-4); all together by 8e-5 of the movement.
    assert off(encoder, 1e-4).norm() < 1e-3 * moved.norm()


def test_similarity_rises_and_is_that_of_the_librarys_own_feature(encoder: TextEncoder, target: Tensor) -> None:
    result = run(encoder, target)
    feature = text_feature(encoder.module, encoder.projection, padded(PROMPT, pad_id(encoder))[None])
    assert result.similarities[0] == pytest.approx(float(unit(feature[0]) @ target), abs=1e-5)
    assert list(result.similarities) == sorted(result.similarities)
    assert len(result.similarities) == SETTINGS.steps + 1


def test_tower_is_untouched(encoder: TextEncoder, target: Tensor) -> None:
    before = snapshot(encoder)
    run(encoder, target)
    assert_untouched(encoder, before)


@pytest.mark.parametrize("memory", [Memory.FAST, Memory.LOWEST])
@pytest.mark.parametrize("at", range(SETTINGS.steps + 2))
def test_tower_is_untouched_after_an_interrupt_at_any_pass(
    encoder: TextEncoder, target: Tensor, at: int, memory: Memory
) -> None:
    before, passes = snapshot(encoder), []

    def stop(step: int) -> None:
        passes.append(step)
        if len(passes) == at + 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(encoder, target, before_pass=stop, memory=memory)
    assert_untouched(encoder, before)
    assert run(encoder, target).similarities == run(encoder, target).similarities


def test_tower_is_untouched_if_the_host_fails_while_it_wears_the_new_weights(
    encoder: TextEncoder, target: Tensor
) -> None:
    before = snapshot(encoder)

    def fails(one: Tensor) -> tuple[Tensor, None]:
        encode(encoder.module, one)
        raise ValueError("the host fails")

    with pytest.raises(ValueError, match="the host fails"):
        run(encoder, target, host_encode=fails)
    assert_untouched(encoder, before)


@pytest.mark.parametrize("state", ["no_grad", "inference_mode", "autocast"])
def test_result_does_not_depend_on_the_hosts_modes(encoder: TextEncoder, target: Tensor, state: str) -> None:
    expected = optimize(encoder, torch.tensor(PROMPT), Toward(target), 3, 1e-3)
    modes: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
        "no_grad": torch.no_grad,
        "inference_mode": torch.inference_mode,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    }
    with modes[state]():
        actual = optimize(encoder, torch.tensor(PROMPT), Toward(target), 3, 1e-3)
    assert actual.similarities == expected.similarities


def test_half_precision_host_is_optimised_in_fp32(encoder: TextEncoder, target: Tensor) -> None:
    encoder.module.bfloat16()
    optimized = optimize(encoder, torch.tensor(PROMPT), Toward(target), 5, 1e-4)
    assert all(p.dtype == torch.float32 for p in optimized.weights.tensors())
    # In bfloat16 a step of 1e-4 would vanish in the rounding of weights near 1.
    assert optimized.similarities[-1] > optimized.similarities[0] + 0.01
    assert run(encoder, target).hidden.dtype == torch.bfloat16


@pytest.mark.parametrize("memory", [Memory.LOW, Memory.LOWEST])
def test_little_memory_gives_the_same_numbers(encoder: TextEncoder, target: Tensor, memory: Memory) -> None:
    fast = optimize(encoder, torch.tensor(PROMPT), Toward(target), 5, 1e-3, memory=Memory.FAST)
    low = optimize(encoder, torch.tensor(PROMPT), Toward(target), 5, 1e-3, memory=memory)
    assert low.memory is memory
    assert low.similarities == pytest.approx(fast.similarities, abs=1e-6)


def test_a_host_of_half_precision_never_has_its_weights_twice_on_top(encoder: TextEncoder, target: Tensor) -> None:
    encoder.module.bfloat16()
    weights = encoder.weights(torch.tensor(PROMPT)).map(lambda p: p.float())
    alive = [weakref.ref(p) for p in weights.parameters.values()]
    worn = encoder.in_own_precision(weights)
    assert all(p.dtype == torch.bfloat16 for p in worn.tensors())
    assert not [reference for reference in alive if reference() is not None]


@pytest.mark.parametrize("memory", [Memory.FAST, Memory.LOW, Memory.LOWEST])
def test_memory_is_given_back_at_once(encoder: TextEncoder, target: Tensor, memory: Memory) -> None:
    alive: list[weakref.ref[Tensor]] = []
    copies = Weights.map

    def spy(self: Weights, change: Callable[[Tensor], Tensor]) -> Weights:
        made = copies(self, change)
        alive.extend(weakref.ref(p) for p in made.tensors())
        return made

    def stop(step: int) -> None:
        if step == 3:
            raise Interrupted

    gc.collect()
    gc.disable()  # its turn would come too late for gigabytes
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Weights, "map", spy)
            run(encoder, target, memory=memory)
            with pytest.raises(Interrupted):
                run(encoder, target, before_pass=stop, memory=memory)
        assert alive
        assert not [reference for reference in alive if reference() is not None]
    finally:
        gc.enable()


def test_draws_no_random_number(encoder: TextEncoder, target: Tensor) -> None:
    state = torch.get_rng_state()
    run(encoder, target)
    assert torch.equal(torch.get_rng_state(), state)


def test_nan_in_the_tower_is_refused(encoder: TextEncoder, target: Tensor) -> None:
    next(iter(encoder.weights(torch.tensor(PROMPT)).parameters.values())).fill_(float("nan"))
    with pytest.raises(AestheticError, match="not a number"):
        run(encoder, target)


def test_out_of_memory_says_how_much(encoder: TextEncoder, target: Tensor) -> None:
    def full(step: int) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    before = snapshot(encoder)
    with pytest.raises(AestheticError, match=r"needs \d+\.\d GB"):
        run(encoder, target, before_pass=full)
    assert_untouched(encoder, before)


@pytest.mark.parametrize("away", [False, True])
def test_text_rotation(encoder: TextEncoder, target: Tensor, away: bool) -> None:
    text = torch.tensor([START, 2368, END])
    feature = unit(text_feature(encoder.module, encoder.projection, padded(text.tolist(), pad_id(encoder))[None])[0])
    goal = unit(target - feature) if away else feature
    full = torch.acos(target @ goal)
    for angle in (0.25, 1.0):
        turned = Turned(Toward(target), encoder.text_feature(text), angle, away)(target)
        assert turned.norm() == pytest.approx(1, abs=1e-5)
        assert float(torch.acos((turned @ target).clamp(-1, 1))) == pytest.approx(float(angle * full), abs=1e-3)
        assert float(torch.acos((turned @ goal).clamp(-1, 1))) == pytest.approx(float((1 - angle) * full), abs=1e-3)


def test_a_centred_target_is_the_plain_method_toward_it(encoder: TextEncoder, target: Tensor) -> None:
    centre = unit(torch.randn(32, generator=torch.Generator().manual_seed(6)))
    ids = padded(PROMPT, pad_id(encoder))
    own = text_feature(encoder.module, encoder.projection, ids[None])[0].detach()
    wanted = own / own.norm() + 2.5 * (target - centre) / (target - centre).norm()
    moved, _ = plain_method(encoder, ids, wanted / wanted.norm(), SETTINGS.steps, SETTINGS.lr)

    def host(one: Tensor) -> tuple[Tensor, None]:
        return encode(encoder.module, one), None

    with torch.no_grad():
        ordinary = host(ids.unsqueeze(0))
        expected = encode(moved, ids.unsqueeze(0))
    passes: list[int] = []
    encoded = personalize(
        encoder,
        Chunk(ids, len(PROMPT) - 1, ordinary, host),
        Centred(Toward(target), centre, 2.5),
        SETTINGS.replaced({"weight": 1}),
        passes.append,
    )
    assert torch.allclose(encoded.hidden, expected, atol=1e-4)
    # Asking the target takes no pass of its own.
    assert passes == [*range(SETTINGS.steps), SETTINGS.steps, SETTINGS.steps]
