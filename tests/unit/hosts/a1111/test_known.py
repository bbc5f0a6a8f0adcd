"""Which hosts are taken for one of the WebUI's family: by what they have."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from aesthetic_clip.hosts.a1111.known import unknown_host


@pytest.fixture
def processing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a host's module ``modules.processing`` in place, whose job class has these methods."""

    def put(**methods: Any) -> None:
        module = types.ModuleType("modules.processing")
        module.StableDiffusionProcessing = type("StableDiffusionProcessing", (), methods)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "modules", types.ModuleType("modules"))
        monkeypatch.setitem(sys.modules, "modules.processing", module)

    return put


def method(self: object) -> None:
    pass


def test_a_job_with_both_methods_is_one_of_the_family(processing: Callable[..., None]) -> None:
    processing(cached_params=method, get_conds_with_caching=method)
    assert unknown_host() == ""


def test_a_job_whose_prompts_are_encoded_otherwise_gets_a_sentence(processing: Callable[..., None]) -> None:
    processing(get_conds_with_caching=method)
    assert unknown_host().startswith("Aesthetic Gradients does not know this WebUI and stays off")
