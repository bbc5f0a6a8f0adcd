"""A few kills at random moments; ``python -m tests.kills`` makes as many as one likes."""

import os

import pytest

from ...kills import run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked programs")
def test_kills_lose_nothing_and_leave_nothing() -> None:
    seen = run(10)
    assert seen["kills"] == 10
    assert seen["saved"]
