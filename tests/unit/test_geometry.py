"""Angles and mixtures."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.geometry import blend, mean_direction, rotate, slerp, unit

seeds = st.integers(0, 10**6)
fractions = st.floats(0, 1)


def vectors(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator), torch.randn(*shape, generator=generator)


@given(seeds, fractions)
def test_slerp_of_unit_vectors_covers_that_fraction_of_the_arc(seed: int, t: float) -> None:
    a, b = (unit(v.double()) for v in vectors(seed, 8))
    c = slerp(a, b, t)
    arc = math.acos(float(a @ b))
    assert c.norm() == pytest.approx(1)
    assert math.acos(max(-1, min(1, float(a @ c)))) == pytest.approx(t * arc, abs=1e-6)


@given(seeds, fractions)
def test_slerp_takes_each_token_by_itself(seed: int, t: float) -> None:
    a, b = vectors(seed, 1, 5, 8)
    together = slerp(a, b, t)
    for token in range(5):
        assert torch.allclose(together[0, token], slerp(a[0, token], b[0, token], t), atol=1e-6)


@given(seeds, fractions)
def test_slerp_is_finite_where_the_arc_is_not_defined(seed: int, t: float) -> None:
    a, _ = vectors(seed, 8)
    assert torch.allclose(slerp(a, a, t), a)
    assert torch.isfinite(slerp(a, -a, t)).all()
    assert torch.isfinite(slerp(a, torch.zeros(8), t)).all()
    assert torch.isfinite(rotate(unit(a), a, t, away=True)).all()


def test_blend_ends() -> None:
    a, b = vectors(1, 1, 4, 8)
    for spherical in (False, True):
        assert torch.allclose(blend(a, b, 0, spherical), a, atol=1e-6)
        assert torch.allclose(blend(a, b, 1, spherical), b, atol=1e-6)
    assert blend(a.half(), b.half(), 0.5, False).dtype == torch.float16


def test_mean_direction_weighs_directions_not_lengths() -> None:
    a, b = torch.tensor([10.0, 0]), torch.tensor([0, 0.1])
    assert torch.allclose(mean_direction([a, b], [1, 1]), torch.tensor([0.5**0.5, 0.5**0.5]))
    assert torch.allclose(mean_direction([a, b], [1, -1]), torch.tensor([0.5**0.5, -(0.5**0.5)]))
    assert not mean_direction([a, a], [1, -1]).any()
