"""The one exception that users are meant to read, and the one that stops a piece of work."""

from __future__ import annotations

import enum
from collections.abc import Mapping

_LONGEST = 1200


class Remedy(enum.Enum):
    """A way out that most programs around this package offer, each under a name of its own.

    The core says what is the matter and what a Python caller can do; a host puts what
    exists there in place of that (see :meth:`AestheticError.told`).
    """

    TEXT_PROJECTION = "name the file that holds CLIP's text projection"
    IMAGE_ENCODER = "name the file or folder of the image encoder"
    DOWNLOAD = "allow the download"
    MEMORY = "use less memory"
    OVERWRITE = "allow to overwrite"


class AestheticError(Exception):
    """A fault with its cause and its cure, each a full sentence.

    Args:
        what: what went wrong.
        why: the cause, as far as it is known.
        do: what the caller can do about it, in words that are true everywhere.
        remedy: which of the ways out that a host names in its own words this is.
    """

    def __init__(self, what: str, why: str = "", do: str = "", remedy: Remedy | None = None) -> None:
        self.what, self.why, self.do, self.remedy = _bounded(what), _bounded(why), do, remedy
        super().__init__(" ".join(part for part in (self.what, self.why, do) if part))

    def in_words_of(self, remedies: Mapping[Remedy, str]) -> AestheticError:
        """The same fault, with the way out as a host calls it, for hosts that show the exception itself."""
        return AestheticError(self.what, self.why, remedies.get(self.remedy, self.do) if self.remedy else self.do)

    def told(self, remedies: Mapping[Remedy, str]) -> str:
        """The three sentences, the last one as the host calls that way out, if it has it."""
        return str(self.in_words_of(remedies))


def _bounded(sentence: str) -> str:
    # It may quote what someone sent, and that may be megabytes.
    return sentence if len(sentence) <= _LONGEST else f"{sentence[: _LONGEST - 200]}…{sentence[-199:]}"


class Interrupted(Exception):
    """The user asked to stop; nothing computed so far may be used or cached."""


def first_line(error: BaseException) -> str:
    """What a library's exception says, short enough for a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
