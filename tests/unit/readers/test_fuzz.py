"""A few seconds of each reader's endless damaged files; ``python -m tests.fuzz`` goes on."""

from __future__ import annotations

import functools
import itertools
import time
from pathlib import Path

import pytest

from ...fuzz.readers import attempt, cases, readers
from ...support.limits import limited_each, needs_limits

SECONDS = 2.5
_AT_ONCE = 100


@needs_limits
@pytest.mark.parametrize("name", readers())
def test_whole_files_are_read_and_damaged_ones_refused_cheaply(name: str, tmp_path: Path) -> None:
    reader = readers()[name]
    path = tmp_path / reader.name
    for good in reader.good:
        assert attempt(name, path, good)
    end = time.monotonic() + SECONDS
    stream = cases(name, 0)
    accepted = tried = 0
    while time.monotonic() < end:
        batch = list(itertools.islice(stream, _AT_ONCE))
        outcomes = limited_each([functools.partial(attempt, name, path, data) for data in batch], may_write=path)
        for outcome in outcomes:
            assert not outcome.failure, f"case {tried}: {outcome}"
            assert not outcome.raised, f"case {tried}: {outcome}"
            accepted += bool(outcome.said)
            tried += 1
    assert accepted < tried
