"""One signature for progress and stopping."""

from __future__ import annotations

import pytest

from aesthetic_clip.errors import Interrupted
from aesthetic_clip.progress import part, silent


def test_a_part_counts_within_the_whole() -> None:
    told: list[tuple[int, int, str]] = []
    inner = part(lambda *news: told.append(news), before=10, total=30)
    inner(0, 5, "a")
    inner(5, 5, "b")
    assert told == [(10, 30, "a"), (15, 30, "b")]


def test_a_part_that_knows_the_total_says_it_itself() -> None:
    told: list[tuple[int, int, str]] = []
    part(lambda *news: told.append(news), before=2)(1, 7, "")
    assert told == [(3, 7, "")]


def test_stopping_the_whole_stops_the_part() -> None:
    def stop(done: int, total: int, line: str) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        part(stop, 0, 1)(0, 1, "")
    silent(0, 1)
