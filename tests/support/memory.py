"""How much memory torch hands out on the CPU, to the byte."""

from __future__ import annotations

from collections.abc import Callable

import torch


def peak_allocated(work: Callable[[], object]) -> int:
    """The most bytes that tensors made by ``work`` had together at any time."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        work()
    live = peak = 0
    for event in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return peak
