"""What a prompt is moved toward, each kind against its formula in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from aesthetic_clip.method.targets import AwayFrom, Centred, Toward, Turned, target_of
from aesthetic_clip.settings import Settings


def drawn(seed: int, length: float = 1) -> Tensor:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return vector / vector.norm() * length


EMBEDDING, CENTRE, TEXT, PROMPT, AWAY = drawn(1), drawn(2), drawn(3, 7), drawn(4, 3), drawn(5)


def angle(a: Tensor, b: Tensor) -> float:
    x, y = a.double().numpy(), b.double().numpy()
    return math.acos(float(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1)))


def test_the_papers_target_is_the_embedding_whatever_the_prompt() -> None:
    assert torch.equal(Toward(EMBEDDING)(PROMPT), EMBEDDING)
    assert Toward(EMBEDDING)(PROMPT.double()).dtype == torch.float64


@pytest.mark.parametrize("part", [0.0, 0.25, 1.0])
def test_a_text_turns_it_by_a_part_of_the_arc(part: float) -> None:
    turned = Turned(Toward(EMBEDDING), TEXT, part, away=False)(PROMPT)
    assert turned.norm() == pytest.approx(1, abs=1e-6)
    assert angle(turned, EMBEDDING) == pytest.approx(part * angle(EMBEDDING, TEXT), abs=1e-3)
    assert angle(turned, TEXT) == pytest.approx((1 - part) * angle(EMBEDDING, TEXT), abs=1e-3)


def test_away_from_a_text_is_toward_what_lacks_it() -> None:
    turned = Turned(Toward(EMBEDDING), TEXT, 1.0, away=True)(PROMPT)
    assert angle(turned, EMBEDDING - TEXT / TEXT.norm()) < 1e-3


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_a_centre_leaves_the_prompts_own_direction_and_the_difference(strength: float) -> None:
    own, vector, centre = (v.double().numpy() for v in (PROMPT, EMBEDDING, CENTRE))
    difference = vector - centre
    expected = own / np.linalg.norm(own) + strength * difference / np.linalg.norm(difference)
    target = Centred(Toward(EMBEDDING), CENTRE, strength)(PROMPT.double())
    assert np.allclose(target.numpy(), expected / np.linalg.norm(expected), atol=1e-6)


@pytest.mark.parametrize("middle", [None, CENTRE], ids=["no centre", "centre"])
@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_away_from_a_second_embedding_goes_by_how_that_differs(middle: Tensor | None, strength: float) -> None:
    goal, away = EMBEDDING.double().numpy(), AWAY.double().numpy()
    difference = away - (goal if middle is None else middle.double().numpy())
    expected = goal - strength * difference / np.linalg.norm(difference)
    target = AwayFrom(Toward(EMBEDDING), AWAY, middle, strength)(PROMPT.double())
    assert np.allclose(target.numpy(), expected / np.linalg.norm(expected), atol=1e-6)
    if strength:
        assert float(target @ AWAY.double()) < float(EMBEDDING.double() @ AWAY.double())


def test_the_settings_choose() -> None:
    settings = Settings(slerp_angle=0.5, text_negative=True, centre_strength=2)
    assert target_of(settings, EMBEDDING) == Toward(EMBEDDING)
    both = target_of(settings, EMBEDDING, CENTRE, TEXT)
    assert isinstance(both, Centred) and both.strength == 2
    assert isinstance(both.target, Turned) and both.target.away
    from_there = target_of(settings, EMBEDDING, CENTRE, away=AWAY, middle=CENTRE)
    assert isinstance(from_there, AwayFrom) and isinstance(from_there.target, Centred)
