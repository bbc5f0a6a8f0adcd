"""The table of hosts that the suite in the WebUI runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..webui import hosts
from ..webui.hosts import A1111, HOSTS, LEFT_OUT, Host, host_in, left_out

SUITE = Path(hosts.__file__).parent


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_a_host_is_told_by_what_it_has(tmp_path: Path, host: Host) -> None:
    # The others of its kin came out of it, and have what it has.
    for part in {A1111.told_by, host.told_by}:
        (tmp_path / part).mkdir(parents=True)
    assert host_in(tmp_path) is host


def test_what_is_none_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is none of"):
        host_in(tmp_path)


@pytest.mark.parametrize("part", {part for _, part, _ in LEFT_OUT})
def test_what_is_left_out_is_in_the_suite(part: str) -> None:
    names = [path.name for path in SUITE.glob("test_*.py")]
    assert any(part in name for name in names) or any(part in path.read_text() for path in SUITE.glob("test_*.py"))


def test_the_first_host_leaves_out_only_what_it_has_not() -> None:
    assert left_out(A1111, "tests/webui/test_generation.py::test_refiner") is None
    assert left_out(A1111, "tests/webui/test_flux.py::test_its_clip_moves_the_picture_and_off_is_as_before")
