"""Faults and interruptions at one place of the method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from aesthetic_clip.clip.text_encoder import TextEncoder
from aesthetic_clip.method.adam import AdamInBackward

Place = Literal["pass", "inside", "update"]
"""Before a pass over the text encoder, after it and before it is cleared up, before a weight is updated."""
Event = Literal["fault", "out of GPU memory", "out of memory", "interrupted", "skipped"]

_call, _update = TextEncoder.call, AdamInBackward._update
_count = 0


def _happen(event: Event) -> None:
    if event == "fault":
        raise RuntimeError("made up")
    if event == "out of GPU memory":
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
    if event == "out of memory":
        raise MemoryError
    from modules import shared

    setattr(shared.state, event, True)


def break_at(place: Place, at: int, event: Event = "fault") -> None:
    """Count what a job does at a place, and let something happen at the n-th time; never if that is 0."""
    global _count
    _count = 0

    def passed() -> None:
        global _count
        _count += 1
        if _count == at:
            _happen(event)

    def call(self: TextEncoder, function: Callable[..., Any], *args: Any) -> Any:
        def inside(*inner: Any) -> Any:
            result = function(*inner)
            passed()
            return result

        if place == "inside":
            return _call(self, inside, *args)
        passed()
        return _call(self, function, *args)

    def update(self: AdamInBackward, parameter: Tensor) -> None:
        passed()
        _update(self, parameter)

    if place == "update":
        AdamInBackward._update = update  # type: ignore[method-assign]
    else:
        TextEncoder.call = call  # type: ignore[method-assign, assignment]


def mend() -> int:
    """Take the fault out; how many times its place was passed."""
    TextEncoder.call = _call  # type: ignore[method-assign]
    AdamInBackward._update = _update  # type: ignore[method-assign]
    return _count
