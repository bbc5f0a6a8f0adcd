"""The thread for a page's jobs, as reForge and Classic have it: it prints what a job raises, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from .host import Host


def run_and_wait_result(function: Callable[..., Any], *args: Any) -> Any:
    results: list[Any] = []

    def loop() -> None:
        try:
            results.append(function(*args))
        except Exception:
            results.append(None)

    thread = threading.Thread(target=loop)
    thread.start()
    thread.join()
    return results[0]


@pytest.fixture
def waiting(host: Host) -> Callable[..., Any]:
    found: Callable[..., Any] = host.extension("hosts.a1111.page_jobs").telling(run_and_wait_result)
    return found


def test_what_a_job_refused_is_raised_where_the_page_waits(host: Host, waiting: Callable[..., Any]) -> None:
    refused = host.extension("errors").AestheticError("It does not fit.")

    def job() -> None:
        raise refused

    with pytest.raises(type(refused), match="It does not fit"):
        waiting(job)
    assert waiting(lambda a, b: a + b, 1, 2) == 3


def test_what_others_raise_is_the_hosts_business(waiting: Callable[..., Any]) -> None:
    def job() -> None:
        raise KeyError("another's")

    assert waiting(job) is None
