"""Which embeddings do something with a model, told from their files alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import AestheticError
from ..spaces import Space
from .scan import Entry

_LONGEST = 200


def misfit(entry: Entry, spaces: Sequence[Space]) -> str:
    """Why an embedding can't be used with a model, in a few words; empty if it can, or if nothing is known of the model.

    As :class:`~aesthetic_clip.method.session.Session` decides it: one vector for one of the model's encoders is enough.

    Args:
        entry: its file is read once as long as it stays the same.
        spaces: the model's; none if that is not known.
    """
    try:
        vectors = entry.load().vectors
    except AestheticError as error:
        return f"can't be used: {error.why or error.what}"[:_LONGEST]
    if not spaces or any(space in vectors for space in spaces):
        return ""
    return f"does not fit: made for {' and '.join(_user(space) for space in vectors)}"


def fitting_first(entries: Iterable[Entry], spaces: Sequence[Space]) -> list[Entry]:
    """The entries in their order, those that can't be used last; no file is read if nothing is known of the model."""
    return sorted(entries, key=lambda entry: bool(misfit(entry, spaces))) if spaces else list(entries)


def _user(space: Space) -> str:
    return f"{space.used_by} ({space.name})"
