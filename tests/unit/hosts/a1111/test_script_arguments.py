"""What API clients write as the script's arguments."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from aesthetic_clip.errors import AestheticError
from aesthetic_clip.hosts.a1111 import script_arguments
from aesthetic_clip.hosts.a1111.script_arguments import TITLE, understood, without_switch

OBJECT = {"embedding": "one", "steps": 8}


@pytest.mark.parametrize(
    ("entry", "args"),
    [
        ({"args": [OBJECT]}, [OBJECT]),
        ({"args": [0.5, 8, None]}, [0.5, 8, None]),
        ({"args": []}, []),
        ({"args": OBJECT}, [OBJECT]),
        ({"args": {}}, []),
        ({"args": None}, []),
        ({"args": "one"}, ["one"]),
        (OBJECT, [OBJECT]),
        ([OBJECT], [OBJECT]),
        ({}, []),
        (None, []),
    ],
)
@pytest.mark.parametrize("name", ["Aesthetic embeddings", "AESTHETIC EMBEDDINGS", "Aesthetic Gradients"])
def test_what_is_meant_is_understood(name: str, entry: Any, args: list[Any]) -> None:
    other = {"args": {"as": "it is"}}
    assert understood({name: entry, "Another script": other}) == {TITLE: {"args": args}, "Another script": other}


def test_two_names_of_the_script_are_refused() -> None:
    with pytest.raises(AestheticError, match="names of the same script"):
        understood({"Aesthetic Gradients": {}, "aesthetic embeddings": {}})


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    def init_script_args(self: Any, request: Any, default: Any, *, more: Any = None) -> Any:
        return request.alwayson_scripts, default, more

    own: Any = type("Api", (), {"init_script_args": init_script_args})
    monkeypatch.setitem(sys.modules, "modules.api.api", SimpleNamespace(Api=own))  # type: ignore[arg-type]
    yield own
    assert own.init_script_args is init_script_args, "the host's method is back"


def test_the_api_reads_requests_through_it(api: Any) -> None:
    script_arguments.install(lambda error: error)
    request = SimpleNamespace(alwayson_scripts={"Aesthetic Gradients": {"args": OBJECT}})
    assert api().init_script_args(request, [1], more=2) == ({TITLE: {"args": [OBJECT]}}, [1], 2)
    assert api().init_script_args(SimpleNamespace(alwayson_scripts=None), [], more=2) == (None, [], 2)
    script_arguments.uninstall()


def test_a_refusal_is_the_hosts(api: Any) -> None:
    script_arguments.install(lambda error: KeyError(str(error)))
    request = SimpleNamespace(alwayson_scripts={"Aesthetic Gradients": {}, TITLE: {}})
    with pytest.raises(KeyError, match="names of the same script"):
        api().init_script_args(request, [])
    script_arguments.uninstall()


def test_without_the_api_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modules.api.api", raising=False)
    script_arguments.install(lambda error: error)
    script_arguments.uninstall()


@pytest.mark.parametrize(
    ("values", "rest", "on"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "b", True], ["a", "b"], True),
        (["a", "b", False], ["a", "b"], False),
        (["a"], ["a"], True),
        ([], [], True),
        (["a", "b", None], ["a", "b"], True),
        ([{"embedding": "sea"}, "b", False], [{"embedding": "sea"}], True),
        ([{"embedding": "sea", "enabled": False}], [{"embedding": "sea"}], False),
        ([{"enabled": None}], [{}], True),
    ],
)
def test_the_switch_comes_last_and_is_on_unless_it_is_said_to_be_off(
    values: list[Any], rest: list[Any], on: bool
) -> None:
    assert without_switch(values, 2) == (rest, on)


def test_a_switch_that_is_neither_is_refused() -> None:
    with pytest.raises(AestheticError, match="enabled is 'no'"):
        without_switch([{"enabled": "no"}], 2)
