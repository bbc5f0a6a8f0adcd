"""``python -m aesthetic_clip``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType


def main() -> int:
    """The command line as a program: however it is interrupted, it ends with one line at most."""
    # While its libraries are loaded, which takes seconds, there is nothing to put in order; and an exception
    # would come up in the middle of an import, where libraries catch it or show it as another one.
    _on_interrupt(_leave)
    from .cli.main import main as command_line

    _on_interrupt(signal.default_int_handler)
    try:
        return command_line()
    except KeyboardInterrupt:  # while the first one was answered
        return _STOPPED
    finally:
        # Nor is there anything to put in order at the interpreter's end.
        _on_interrupt(_leave)


_STOPPED = 130


def _on_interrupt(handler: Callable[[int, FrameType | None], object]) -> None:
    # A program in the background is started so that it ignores the terminal's interrupts.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(_STOPPED)


if __name__ == "__main__":
    sys.exit(main())
