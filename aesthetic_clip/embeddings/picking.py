"""Names that leave a choice: ``a|b`` is one of the two, ``warm*`` one of those that begin so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from ..errors import AestheticError
from .names import listed

Names = Callable[[], Sequence[str]]
"""Asked for the names that there are, where a name leaves a choice."""

_MOST_PARTS = 100


def pick(written: str, names: Names, seed: int, place: int = 0) -> str:
    """The embedding that a name means for a picture.

    The same seed, names and place give the same one, on every system. Each of those that fit comes up as often as the
    others, and one that joins them takes only the pictures that it is picked for.

    Args:
        written: a name; several with ``|`` between them; ``*`` in one stands for any letters. One that is there
            as it is written means itself.
        names: those that there are.
        seed: of the picture.
        place: of the name in the prompt, so that two equal ones need not pick the same.

    Raises:
        AestheticError: there is none that fits.
    """
    if "|" not in written and "*" not in written:
        return written
    there = list(names())
    if (exact := _exact(written, there)) is not None:
        return exact
    fitting: dict[str, None] = {}
    parts = [part.strip() for part in written.split("|")]
    if len(parts) > _MOST_PARTS:
        raise AestheticError(
            f"There are {len(parts)} names with | between them.",
            f"There can be {_MOST_PARTS}.",
            "Write fewer, or some that share letters as one with *.",
        )
    for part in parts:
        found = [] if not part else _fitting(part, there)
        if not found:
            raise AestheticError(
                f"No aesthetic embedding fits {part!r} in {written!r}." if part else f"{written!r} has an empty part.",
                f"There are {len(there)} to pick from.",
                "Write names of embeddings with | between them, or with * for any letters.",
            )
        fitting.update(dict.fromkeys(found))
    return max(fitting, key=lambda name: hashlib.sha256(f"{seed} {place} {name}".encode()).digest())


def _fitting(part: str, there: Sequence[str]) -> list[str]:
    if (exact := _exact(part, there)) is not None:
        return [exact]
    return [name for name in there if _fits(part.split("*"), name)]


def _fits(pieces: Sequence[str], name: str) -> bool:
    """Whether a name is these pieces with anything between them; in one pass, however many there are."""
    first, *rest = pieces
    if not rest:
        return name == first
    if len(name) < len(first) + len(rest[-1]) or not (name.startswith(first) and name.endswith(rest[-1])):
        return False
    at, end = len(first), len(name) - len(rest[-1])
    for piece in rest[:-1]:
        at = name.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _exact(name: str, there: Sequence[str]) -> str | None:
    return next((one for one in (name, listed(name)) if one in there), None)
