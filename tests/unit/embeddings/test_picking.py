"""One of several embeddings, by a picture's seed."""

from __future__ import annotations

import time
from collections import Counter
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.embeddings.picking import pick
from aesthetic_clip.errors import AestheticError

NAMES = ["cold", "sub/warm 3", "warm", "warm 1", "warm 2"]


def picks(written: str, seeds: int = 300, place: int = 0, names: list[str] = NAMES) -> list[str]:
    return [pick(written, lambda: names, seed, place) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("written", "from_these"),
    [
        ("warm|cold", {"warm", "cold"}),
        (" warm | cold ", {"warm", "cold"}),
        ("warm*", {"warm", "warm 1", "warm 2"}),
        ("*warm*", {"warm", "warm 1", "warm 2", "sub/warm 3"}),
        ("warm ?*|cold", None),
        ("w*m 1|cold", {"warm 1", "cold"}),
        ("*", set(NAMES)),
        ("warm*|warm 1", {"warm", "warm 1", "warm 2"}),
    ],
)
def test_each_that_fits_comes_up_about_as_often(written: str, from_these: set[str] | None) -> None:
    if from_these is None:
        with pytest.raises(AestheticError, match="No aesthetic embedding fits"):
            picks(written, 1)
        return
    counted = Counter(picks(written))
    assert set(counted) == from_these
    assert min(counted.values()) > 0.6 * 300 / len(from_these)


def test_the_pick_is_the_same_for_ever() -> None:
    # Written down, so that old pictures are made again by later versions.
    assert picks("warm|cold", 8) == PICKED
    assert picks("cold|warm", 8) == PICKED


PICKED = ["cold", "warm", "cold", "cold", "cold", "warm", "cold", "warm"]


def test_an_embedding_that_joins_changes_only_the_pictures_it_is_picked_for() -> None:
    before, after = picks("warm*"), picks("warm*", names=[*NAMES, "warm 9"])
    assert {new for old, new in zip(before, after) if old != new} == {"warm 9"}


def test_places_pick_each_for_itself() -> None:
    assert 20 < sum(a != b for a, b in zip(picks("warm|cold", 100), picks("warm|cold", 100, place=1))) < 80


@pytest.mark.parametrize("name", ["a|b", "a*", "*", "|"])
def test_one_that_is_called_so_means_itself(name: str) -> None:
    assert pick(name, lambda: ["a", "b", name], 3) == name
    assert set(picks("a*|b", names=["a*", "a1", "b"])) == {"a*", "b"}


def test_a_plain_name_asks_for_no_list() -> None:
    def fail() -> list[str]:
        raise AssertionError

    assert pick("warm", fail, 1) == "warm"


@pytest.mark.parametrize(
    "written", ["warm|", "|", "warm||cold", "hot*", "warm|hot", "|".join("warm" for _ in range(101))]
)
def test_what_fits_nothing_is_refused(written: str) -> None:
    with pytest.raises(AestheticError):
        pick(written, lambda: NAMES, 1)


@given(st.text("ab*", max_size=12), st.text("ab", max_size=14))
def test_stars_fit_what_they_fit_in_a_shell(written: str, name: str) -> None:
    written += "*"
    try:
        fits = pick(written, lambda: [name], 1) == name
    except AestheticError:
        fits = False
    assert fits == fnmatchcase(name, written)


def test_many_stars_cost_no_time() -> None:
    start = time.perf_counter()
    with pytest.raises(AestheticError):
        pick("a*" * 5000 + "b", lambda: ["a" * 200] * 1000, 1)
    assert time.perf_counter() - start < 5
