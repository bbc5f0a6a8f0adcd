"""Long functions behind a page's buttons, for programs that have no way of their own to run such."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..errors import Interrupted
from . import messages
from .forms import Job

_SECONDS_BETWEEN_NEWS = 0.3


class Jobs:
    """Long functions, one at a time, with news for the page and a way to stop them."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._stop = threading.Event()
        self._news = ""

    def progress(self, done: int, total: int, line: str) -> None:
        """Say how far the running job is; ends it with Interrupted if it is to stop."""
        if self._stop.is_set():
            raise Interrupted
        self._news = messages.progress(done, total, line)

    def alone(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` so that it waits for the running job: two at once would see each other's weights."""

        def waiting(*values: Any) -> Any:
            with self._one:
                return function(*values)

        return waiting

    def interrupt(self) -> None:
        self._stop.set()

    def make(self, run: Job, nothing: list[Any]) -> Job:
        """A generator for gradio: ``nothing`` and the news until ``run`` is done, then what it returns."""

        def job(*values: Any) -> Iterator[Any]:
            with self._one, ThreadPoolExecutor(1) as pool:
                self._stop.clear()
                self._news = ""
                future = pool.submit(run, *values)
                told = None
                try:
                    while not future.done():
                        if self._news != told:
                            told = self._news
                            yield [*nothing, told]
                        threading.Event().wait(_SECONDS_BETWEEN_NEWS)
                finally:
                    # A page that was closed wants nothing any more.
                    if not future.done():
                        self._stop.set()
                yield future.result()

        return job
