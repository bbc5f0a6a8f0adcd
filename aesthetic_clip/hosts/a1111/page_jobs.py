"""The thread in which Forge's family runs the jobs of its page: what is refused there has to reach the page.

reForge's and Classic's prints what a job raises and hands back nothing, so that the page shows a TypeError of the host.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ...errors import AestheticError

try:
    from modules_forge import main_thread
except ImportError:  # AUTOMATIC1111's has none
    main_thread = None

THREAD: Any = main_thread


def telling(original: Callable[..., Any]) -> Callable[..., Any]:
    """``run_and_wait_result`` that raises, where it waits, what a job refused in that thread."""

    @functools.wraps(original)
    def run_and_wait_result(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        refused: list[AestheticError] = []

        def work(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except AestheticError as error:
                refused.append(error)
                raise

        result = original(work, *args, **kwargs)
        if refused:
            raise refused[0]
        return result

    return run_and_wait_result
