"""The one exception that users are meant to read."""

from __future__ import annotations


class AestheticError(Exception):
    """A fault with its cause and its cure, each a full sentence.

    Args:
        what: what went wrong.
        why: the cause, as far as it is known.
        do: what the user can do about it.
    """

    def __init__(self, what: str, why: str = "", do: str = "") -> None:
        self.what, self.why, self.do = what, why, do
        super().__init__(" ".join(part for part in (what, why, do) if part))


class Interrupted(Exception):
    """The user asked to stop; nothing computed so far may be used or cached."""


def first_line(error: Exception) -> str:
    """What a library's exception says, short enough for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
