"""What a prompt is moved toward.

The paper's target is the aesthetic embedding itself (Gallego 2022, section 2). Others are made
of it and of the prompt: a target is asked once for each prompt, with the prompt's own feature.
A new kind of target is one class here, and a line in :func:`target_of` that says when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..geometry import centred, rotate, unit
from ..settings import Settings


class Target(Protocol):
    """Says where one prompt's feature is to go."""

    def __call__(self, feature: Tensor) -> Tensor:
        """Unit vector (D,) of the dtype and on the device of ``feature``, the prompt's feature (D,) of any length."""


@dataclass(frozen=True)
class Toward:
    """The paper's target: the embedding, whatever the prompt says.

    Attributes:
        vector: (D,) unit vector.
    """

    vector: Tensor

    def __call__(self, feature: Tensor) -> Tensor:
        return self.vector.to(feature)


@dataclass(frozen=True)
class Turned:
    """Another target, turned toward what a text says, or away from it.

    Attributes:
        target: what is turned.
        text: (D,) feature of the text.
        angle: the part of the arc, 0 to 1.
        away: turn to the side that lacks the text.
    """

    target: Target
    text: Tensor
    angle: float
    away: bool

    def __call__(self, feature: Tensor) -> Tensor:
        return rotate(self.target(feature), self.text.to(feature), self.angle, self.away)


@dataclass(frozen=True)
class Centred:
    """The prompt's own direction, plus how another target differs from the centre of many pictures.

    Attributes:
        target: what is compared with the centre.
        centre: (D,) what the embedding, or a mixture, has of the centre in it.
        strength: of the difference, against 1 for the prompt's own direction.
    """

    target: Target
    centre: Tensor
    strength: float

    def __call__(self, feature: Tensor) -> Tensor:
        return centred(feature, self.target(feature), self.centre.to(feature), self.strength)


@dataclass(frozen=True)
class AwayFrom:
    """Another target, and from there away from a second embedding.

    Attributes:
        target: where it would go without that.
        away: (D,) unit vector of the second embedding.
        middle: (D,) unit vector of the centre of many pictures: what counts is how the second embedding differs
            from that, or from the target where there is none.
        strength: of the difference, against 1 for the target.
    """

    target: Target
    away: Tensor
    middle: Tensor | None
    strength: float

    def __call__(self, feature: Tensor) -> Tensor:
        goal = self.target(feature)
        origin = goal if self.middle is None else self.middle.to(feature)
        return unit(goal - self.strength * unit(self.away.to(feature) - origin))


def target_of(
    settings: Settings,
    vector: Tensor,
    centre: Tensor | None = None,
    text: Tensor | None = None,
    away: Tensor | None = None,
    middle: Tensor | None = None,
) -> Target:
    """What the settings ask for.

    Args:
        settings: as they take effect.
        vector: (D,) unit vector of the embedding, or of a mixture.
        centre: (D,) what it has of the centre in it, where one is chosen.
        text: (D,) feature of the aesthetic text, where it counts.
        away: (D,) unit vector of the second embedding, to be kept away from, where there is one.
        middle: (D,) unit vector of the chosen centre itself.
    """
    target: Target = Toward(vector)
    if text is not None:
        target = Turned(target, text, settings.slerp_angle, settings.text_negative)
    if centre is not None:
        target = Centred(target, centre, settings.centre_strength)
    if away is not None:
        target = AwayFrom(target, away, middle, settings.away_strength)
    return target
