"""How far along the way the optimisation goes, against the plain method written out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from aesthetic_clip.clip.text_encoder import TextEncoder
from aesthetic_clip.demo import MODEL, loading, world
from aesthetic_clip.errors import AestheticError, Interrupted
from aesthetic_clip.geometry import unit
from aesthetic_clip.method import adam
from aesthetic_clip.method import optimize as optimization
from aesthetic_clip.method.modes import Memory
from aesthetic_clip.method.optimize import Optimized, optimize
from aesthetic_clip.method.targets import Centred, Target, Toward, target_of
from aesthetic_clip.settings import PRESETS, Settings

from ...support.towers import (
    PROMPT,
    TOWERS,
    encode,
    in_float64,
    open_clip_tower,
    pad_id,
    padded,
    plain_strength,
    transformers_tower,
)

STEPS, LR = 12, 1e-3


@pytest.fixture(params=TOWERS)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return TOWERS[request.param]()


def random_unit(seed: int = 5) -> Tensor:
    return unit(torch.randn(32, generator=torch.Generator().manual_seed(seed)))


def gone(similarities: tuple[float, ...]) -> float:
    """The part of the angle that is gone."""
    return 1 - math.acos(similarities[-1]) / math.acos(similarities[0])


def run(
    encoder: TextEncoder, strength: float | None, target: Target | None = None, steps: int = STEPS, **more: object
) -> Optimized:
    target = target or Toward(random_unit())
    return optimize(encoder, torch.tensor(PROMPT), target, steps, LR, strength=strength, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strength", "memory", "fused"),
    [
        (0.01, Memory.FAST, False),
        (0.3, Memory.FAST, True),
        (0.55, Memory.LOW, False),
        (0.3, Memory.LOWEST, False),
        (0.55, Memory.LOWEST, True),
    ],
)
def test_agrees_with_the_plain_method_between_two_copies(
    encoder: TextEncoder, strength: float, memory: Memory, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fused and not adam._fused_works(torch.device("cpu")):
        pytest.skip("this torch has no fused Adam for the CPU")
    monkeypatch.setattr(adam, "_fused_works", lambda device: fused)
    monkeypatch.setattr(optimization, "_CLOSE", 1e-5)
    ids = padded(PROMPT, pad_id(encoder))
    plain, taken, similarity = plain_strength(encoder, ids, random_unit(), STEPS, LR, strength)
    double = in_float64(encoder)
    found = run(double, strength, memory=memory)
    assert len(found.similarities) - 1 == taken < STEPS
    assert gone(found.similarities) == pytest.approx(strength, abs=1e-4)
    assert found.similarities[-1] == pytest.approx(similarity, abs=1e-4)
    with torch.no_grad():
        expected = encode(plain, ids[None])
        ordinary = encode(double.module, ids[None])
        moved = double.call(lambda one: encode(double.module, one), found.weights, ids[None])
    way, off = (expected - ordinary)[:, : len(PROMPT)], (moved - expected)[:, : len(PROMPT)]
    # The places on the way differ by up to 1e-4 of it all.
    assert off.norm() < 1e-4 / strength * way.norm()


@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.floats(0, 1), min_size=2, max_size=3), seed=st.integers(0, 2**32 - 1))
def test_more_strength_is_more_similarity(encoder: TextEncoder, parts: list[float], seed: int) -> None:
    target, parts = Toward(random_unit(seed)), sorted(parts)
    found = [run(encoder, part, target) for part in parts]
    for part, one in zip(parts, found):
        taken = len(one.similarities) - 1
        assert gone(one.similarities) == pytest.approx(part, abs=0.005) or (
            taken == STEPS and gone(one.similarities) < part
        )
    for (part, less), (further, more) in zip(zip(parts, found), zip(parts[1:], found[1:])):
        # Each is within the tolerance of its own part.
        assert gone(more.similarities) >= gone(less.similarities) - (0.0 if further > part + 0.005 else 0.005)


def test_no_strength_takes_no_step(encoder: TextEncoder) -> None:
    ids = torch.tensor(PROMPT)
    found = run(encoder, 0)
    assert len(found.similarities) == 1
    own = encoder.weights(ids)
    assert all(torch.equal(a, b) for a, b in zip(found.weights.tensors(), own.tensors()))


@pytest.mark.parametrize("strength", [1, 0.9])
def test_what_is_too_far_for_the_steps_is_the_steps_bit_for_bit(encoder: TextEncoder, strength: float) -> None:
    whole, found = run(encoder, None, steps=3), run(encoder, strength, steps=3)
    assert found.similarities == whole.similarities
    assert all(torch.equal(a, b) for a, b in zip(found.weights.tensors(), whole.weights.tensors()))


def test_a_first_step_that_goes_too_far_is_shortened(encoder: TextEncoder) -> None:
    found = optimize(encoder, torch.tensor(PROMPT), Toward(random_unit()), 5, 3e-3, strength=0.05)
    assert len(found.similarities) == 2
    assert gone(found.similarities) == pytest.approx(0.05, abs=0.005)


def test_a_prompt_that_is_there_already_stays(encoder: TextEncoder) -> None:
    class Own:
        def __call__(self, feature: Tensor) -> Tensor:
            return unit(feature)

    assert run(encoder, 0.5, Own()).similarities[-1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_a_centred_target_is_reached_by_the_same_part(encoder: TextEncoder, strength: float) -> None:
    found = run(encoder, strength, Centred(Toward(random_unit()), random_unit(6), 2.0))
    assert gone(found.similarities) == pytest.approx(strength, abs=0.005)


def test_every_pass_is_announced_with_the_steps_done(encoder: TextEncoder) -> None:
    passes: list[int] = []
    found = run(encoder, 0.3, before_pass=passes.append)
    taken = len(found.similarities) - 1
    assert passes[: taken + 1] == list(range(taken + 1))
    assert set(passes[taken + 1 :]) == {taken}
    assert 1 <= len(passes) - taken - 1 <= 8


def test_it_can_be_stopped_while_the_last_step_is_shortened(encoder: TextEncoder) -> None:
    passes: list[int] = []

    def stop(step: int) -> None:
        passes.append(step)
        if passes.count(step) == 2:
            raise Interrupted

    before = {name: value.clone() for name, value in encoder.module.state_dict().items()}
    with pytest.raises(Interrupted):
        run(encoder, 0.3, before_pass=stop)
    assert all(torch.equal(before[name], value) for name, value in encoder.module.state_dict().items())


def test_nan_is_refused(encoder: TextEncoder) -> None:
    next(iter(encoder.weights(torch.tensor(PROMPT)).parameters.values())).fill_(float("nan"))
    with pytest.raises(AestheticError, match="not a number"):
        run(encoder, 0.3)


# Presets: the same part of the way, whatever the model

BY_STRENGTH = [name for name, values in PRESETS.items() if values.get("strength") is not None]


Case = tuple[TextEncoder, list[int], Tensor, Tensor]
"""A tower, the ids of a prompt, an embedding's vector and a centre's."""


def demonstration() -> Case:
    if not (MODEL / "model_index.json").is_file():
        pytest.skip("no trained model is stored here")
    pytest.importorskip("diffusers")
    pipe, images = loading.load_pipeline(), loading.load_image_encoder()
    vector, *others = (loading.style_embedding(images, style, n=6).vectors[loading.SPACE] for style in world.STYLES)
    ids = pipe.tokenizer(world.HELD_OUT[0].prompt).input_ids
    return loading.load_text_encoder(pipe), ids, vector, unit(torch.stack(others).mean(0))


def small(tower: Callable[..., TextEncoder], **size: int) -> Callable[[], Case]:
    encoder = tower(**size)
    generator = torch.Generator().manual_seed(1)
    vector, centre = (unit(torch.randn(encoder.space.dim, generator=generator)) for _ in range(2))
    return lambda: (encoder, PROMPT, vector, centre)


LIKE: dict[str, Callable[[], Case]] = {
    "demonstration": functools.cache(demonstration),
    "SD 1.x": small(transformers_tower, seed=1),
    "SD 2.x": small(open_clip_tower, seed=2, width=96, dim=48, layers=4),
    "SDXL's first": small(transformers_tower, seed=3, width=48, layers=4),
    "SDXL's second": small(open_clip_tower, seed=4, width=128, dim=64, layers=5),
}


@pytest.mark.parametrize("preset", BY_STRENGTH)
@pytest.mark.parametrize("few", [False, True])
@pytest.mark.parametrize("like", LIKE)
def test_a_preset_goes_the_same_part_of_the_way_on_every_model(like: str, few: bool, preset: str) -> None:
    encoder, ids, vector, centre = LIKE[like]()
    wanted = Settings.from_mapping({"preset": preset})
    target = target_of(wanted, vector, torch.zeros_like(centre) if few else centre)
    found = optimize(encoder, torch.tensor(ids), target, wanted.steps, wanted.lr, strength=wanted.strength)
    assert gone(found.similarities) == pytest.approx(wanted.strength, abs=0.02)
