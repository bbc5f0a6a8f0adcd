"""How much one request may ask for: the same for pages, REST, command line and Python."""

from __future__ import annotations

from ..errors import AestheticError
from ..printable import printable

MAX_BATCH_SIZE = 256
MAX_UPLOADS = 10_000
MAX_SENT = 1000
"""Pictures from a gallery, or in the body of a request."""


def checked_batch_size(value: object) -> int:
    """How many pictures an encoder gets at once, from whatever a caller gives.

    Raises:
        AestheticError: not a whole number from 1 to 256.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value in range(1, MAX_BATCH_SIZE + 1):
        return int(value)
    raise AestheticError(
        f"The batch size is {printable(repr(value)[:50])}.",
        f"It has to be a whole number from 1 to {MAX_BATCH_SIZE}.",
        "Try 16.",
    )


def check_count(count: int, most: int) -> None:
    """Refuse a request with too many pictures before any is read.

    Raises:
        AestheticError: more than ``most``.
    """
    if count > most:
        raise AestheticError(
            f"There are {count:,} pictures in one request.",
            f"At most {most:,} can be sent at once.",
            "Send fewer, or name the folder that they are in, which may hold any number.",
        )
