"""Long work in the WebUI's queue, with its progress bar and its Interrupt."""

from __future__ import annotations

import time
from typing import Any

from modules import call_queue, shared

from ...errors import Interrupted
from ...pages.forms import Job


class Jobs:
    """The tab's jobs in the WebUI's queue: its Interrupt is for them alone, not for a generation before them."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._running = False

    def make(self, run: Job, nothing: list[Any]) -> Job:
        """``run`` as a job of the WebUI: it gets a task id first, and ``nothing`` stands for what it leaves as it is."""

        def begin(task: str, *values: Any) -> Any:
            if task not in self._waiting:
                shared.state.interrupt()
            self._waiting.discard(task)
            self._running = True
            try:
                return run(task, *values)
            finally:
                self._running = False

        queued = call_queue.wrap_gradio_gpu_call(begin, extra_outputs=nothing)

        def job(task: str, *values: Any) -> Any:
            self._waiting.add(task)
            return queued(task, *values)

        return job

    def interrupt(self) -> None:
        """End the tab's job that runs, and those that wait."""
        self._waiting.clear()
        if self._running:
            shared.state.interrupt()


def show_progress(done: int, total: int, line: str) -> None:
    """In the WebUI's bar; ends the job with Interrupted if the user wants it."""
    state = shared.state
    if state.interrupted:
        raise Interrupted
    state.job_count, state.job_no, state.textinfo = total, done, line
    if not done:  # loading the encoder would count as slow pictures in the time left
        state.time_start = time.time()
