"""The catalogue of published embeddings, from another address."""

from __future__ import annotations

import functools
from typing import Any

from aesthetic_clip.embeddings import published
from aesthetic_clip.pages.tab import library_form

_form: Any = library_form


def replace(entries: list[tuple[str, int, str]] | None, base_url: str) -> None:
    """Entries by name, size and SHA-256, or the ones that are there; where the files are said to be."""
    if entries is not None:
        _form.CATALOGUE = tuple(published.Entry(*entry, "for a test") for entry in entries)
    _form.download = functools.partial(published.download, base_url=base_url)


def put_back() -> None:
    _form.CATALOGUE, _form.download = published.CATALOGUE, published.download
