"""The part of the sampling in which the personalised prompt is read, and the ordinary one before and after it."""

from __future__ import annotations

import math

from ..errors import AestheticError
from ..settings import Settings

# 0.07 * 100 is a little more than 7.
_ROUNDING = 1e-9


def part_of(settings: Settings) -> tuple[float, float] | None:
    """Where the part starts and ends, 0 to 1 of the sampling; None is all of it."""
    part = settings.guidance_start, settings.guidance_end
    return None if part == (0, 1) else part


def steps_of(part: tuple[float, float], total: int) -> range:
    """The steps of so many, counted from 0, that read the personalised prompt.

    A step counts by where it begins: step i of n is in the part if start <= i / n < end, so that two parts
    that meet share no step and leave none out. With few steps there may be none in a narrow part.
    """
    first, end = (math.ceil(edge * total - _ROUNDING) for edge in part)
    return range(first, end)


def nothing_in(part: tuple[float, float], total: int) -> str:
    """What to tell where :func:`steps_of` is empty."""
    return (
        f"None of the {total} steps begins between {part[0]:g} and {part[1]:g} of the sampling, so the prompt was "
        "left as it is. Take more steps or a wider part."
    )


def is_empty(settings: Settings) -> bool:
    """Whether the personalised prompt is read in no step, however many there are.

    Raises:
        AestheticError: the part ends before it starts.
    """
    start, end = settings.guidance_start, settings.guidance_end
    if start > end:
        raise AestheticError(
            f"The part of the sampling ends at {end:g}, before it starts at {start:g}.",
            "The personalised prompt is used between the two.",
            "Choose a starting step that is less than the ending step.",
        )
    return start == end
