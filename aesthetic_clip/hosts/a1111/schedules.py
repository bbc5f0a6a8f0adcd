"""The WebUI's schedules: which conditioning the sampler reads at which step (modules/prompt_parser.py)."""

from __future__ import annotations

import bisect
import copy
import sys
from collections.abc import Sequence
from typing import Any

from modules import processing, sd_samplers_common

_FOR_GOOD = sys.maxsize


def steps_sampled(p: Any, steps: int, hires_steps: int | None) -> int:
    """How many steps the sampler takes of a pass for which conditioning is computed, as its denoiser counts them.

    Args:
        p: the job.
        steps: of the first pass, twice as many for samplers of the second order.
        hires_steps: of the hires pass, where it is that one's conditioning.
    """
    if hires_steps is not None:
        return hires_steps
    if isinstance(p, processing.StableDiffusionProcessingImg2Img):
        _, last = sd_samplers_common.setup_img2img_steps(p)
        return int(last + 1) * (steps // p.steps)
    return steps


def in_part(ordinary: Any, personalised: Any, part: range, total: int) -> Any:
    """Conditioning that is the personalised one in a part of the steps, and the ordinary one before and after.

    Args:
        ordinary: what the prompt parser makes of the prompts: a list of schedules, or a MulticondLearnedConditioning.
        personalised: the same of the same prompts, personalised.
        part: the steps, counted from 0; at least one.
        total: of how many.

    Returns:
        Of the type of ``personalised``, which stays as it is; edited prompts keep their edits.
    """
    if part.stop >= total:  # some samplers take more steps than they say
        part = range(part.start, _FOR_GOOD + 1)
    if not hasattr(personalised, "batch"):
        return [_split(*schedules, part) for schedules in zip(ordinary, personalised)]
    result = copy.copy(personalised)
    result.batch = [
        [_composed(*parts, part) for parts in zip(*prompts)] for prompts in zip(ordinary.batch, personalised.batch)
    ]
    return result


def _composed(ordinary: Any, personalised: Any, part: range) -> Any:
    """One part of a prompt with AND, with its weight."""
    result = copy.copy(personalised)
    result.schedules = _split(ordinary.schedules, personalised.schedules, part)
    return result


def _split(ordinary: Sequence[Any], personalised: Sequence[Any], part: range) -> list[Any]:
    """One schedule: entries with ``end_at_step``, the last step of each counted from 0, and ``cond``."""
    # Beyond the last entry's end the WebUI would go back to the first one, which may be the other of the two.
    ends = [*(entry.end_at_step for entry in personalised[:-1]), _FOR_GOOD]
    cuts = sorted({*ends, *(edge - 1 for edge in (part.start, part.stop) if edge > 0)})
    return [
        (personalised if cut in part else ordinary)[bisect.bisect_left(ends, cut)]._replace(end_at_step=cut)
        for cut in cuts
    ]
