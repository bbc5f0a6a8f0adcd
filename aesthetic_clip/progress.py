"""How long work says how far it is, and how it is stopped: one signature for both."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with ``(done, total, line)`` before, between and after the parts of a piece of work.

``done`` and ``total`` count what the work is made of (pictures, bytes, steps); ``line`` is one
line for people, or empty. It may raise :class:`~aesthetic_clip.errors.Interrupted`: the work
then ends at once, gives back what it holds, and lets the exception through.
"""


def silent(done: int, total: int, line: str = "") -> None:
    """Nobody is watching."""


def part(progress: Progress, before: int, total: int | None = None) -> Progress:
    """The progress of one part of a longer piece of work.

    Args:
        progress: of the whole.
        before: what is done of the whole when the part begins.
        total: what the whole is made of; None if the part says that itself.
    """

    def shifted(done: int, of_part: int, line: str = "") -> None:
        progress(before + done, of_part if total is None else total, line)

    return shifted
