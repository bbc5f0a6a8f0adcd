"""What the package logs, in the WebUI's console."""

from __future__ import annotations

import logging

_NAME = "aesthetic_gradients"


def show() -> None:
    """Print the package's lines; once, however often the WebUI loads its scripts again."""
    logger = logging.getLogger("aesthetic_clip")
    for handler in logger.handlers[:]:
        if handler.get_name() == _NAME:
            logger.removeHandler(handler)
    handler = _Console()
    handler.set_name(_NAME)
    handler.setFormatter(logging.Formatter("Aesthetic Gradients: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    # The WebUI's own handlers would print each line a second time.
    logger.propagate = False


class _Console(logging.Handler):
    """Prints to what is the standard output at that moment: other extensions replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), flush=True)
        except (OSError, ValueError):  # closed, full, or of few letters
            self.handleError(record)
