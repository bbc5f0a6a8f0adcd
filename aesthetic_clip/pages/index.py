"""What lists of embeddings show beside the names: which fit the model, and small pictures.

A page asks for it when a list is first looked at (``page.js``), so that one which nobody looks at costs nothing, and then
for the pictures of the rows that are in sight.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..create.images import UnreadableImage, thumbnail
from ..embeddings import profiles
from ..embeddings.fitting import fitting_first, misfit
from ..embeddings.library import Entry, Library
from ..errors import AestheticError
from ..spaces import Space
from .forms import json_object, refused

MOST_PICTURES = 50
"""in one question"""
_SIDE = 96
_KEPT = 2000
_LONGEST_QUESTION = 2**16


class Question(NamedTuple):
    """What a page asks.

    Attributes:
        number: of the question, so that the page knows its answer, and no two answers are the same text.
        version: what the page knows already.
        pictures: names of embeddings whose pictures are wanted.
        still: a list is open, whose rows must not move.
    """

    number: int
    version: str = ""
    pictures: Sequence[str] = ()
    still: bool = False


@dataclass(frozen=True)
class Index:
    """The embeddings as lists show them.

    Attributes:
        library: the folders.
        spaces: those of the model, as far as it is known without loading one.
    """

    library: Callable[[], Library]
    spaces: Callable[[], Sequence[Space]]

    def names(self) -> list[str]:
        """Of every embedding, those that do not fit the model last."""
        return [entry.name for entry in fitting_first(self.library().entries(), self.spaces())]

    def answer(self, question: Question, late: bool = False) -> str:
        """JSON for the page; what it knows already is left out.

        Args:
            late: the page is to ask again when its lists may change.
        """
        entries = self.library().entries()
        spaces = self.spaces()
        misfits = {entry.name: why for entry in entries if (why := misfit(entry, spaces))}
        pictured = {entry.name: mark for entry in entries if (mark := _picture_mark(entry))}
        version = digest([misfits, pictured])
        known = {} if version == question.version else {"misfits": misfits, "pictures": pictured}
        wanted = {name: self._picture(name, entries) for name in question.pictures if name in pictured}
        return json.dumps({"number": question.number, "version": version, "late": late, **known, "shown": wanted})

    def _picture(self, name: str, entries: Sequence[Entry]) -> str:
        """A small picture as a data URL, of an embedding of the library; empty if it can't be read."""
        entry = next(entry for entry in entries if entry.name == name)
        with contextlib.suppress(UnreadableImage, OSError, AestheticError):
            return file_url(entry.preview, _SIDE) if entry.preview else self.latest_liked(entry, _SIDE)
        return ""

    def latest_liked(self, entry: Entry, side: int) -> str:
        """The latest picture that a taste profile likes, as a data URL; empty if the embedding is none."""
        with contextlib.suppress(UnreadableImage, AestheticError):
            if entry.load().about.profile:
                return _profile_url(self.library(), entry.name, _file_mark(entry.file), side)
        return ""


def digest(value: object) -> str:
    """Tells values apart that JSON can write."""
    return hashlib.sha256(json.dumps(value).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _picture_mark(entry: Entry) -> str:
    """Changes whenever the picture of an embedding does; empty if it has none."""
    with contextlib.suppress(OSError, AestheticError):
        if entry.picture:
            return _file_mark(entry.picture)
        if entry.load().about.profile:
            return _file_mark(entry.file)
    return ""


def _file_mark(path: str) -> str:
    return f"{os.stat(path).st_mtime_ns:x}"


def question(value: object) -> Question:
    """A check for what a page sends.

    Raises:
        AestheticError: it is no question.
    """
    sent = json_object(value, _LONGEST_QUESTION)
    if sent is not None:
        number, version, names = sent.get("number"), sent.get("version", ""), sent.get("pictures", [])
        texts = isinstance(names, list) and len(names) <= MOST_PICTURES and all(isinstance(n, str) for n in names)
        if isinstance(number, int) and not isinstance(number, bool) and isinstance(version, str) and texts:
            return Question(number, version, names, sent.get("still") is True)
    raise refused("The question about embeddings", value, "what this page sends")


def file_url(path: Path, side: int) -> str:
    """A picture at most ``side`` pixels wide and high, as a data URL; it is kept as long as the file stays the same.

    Raises:
        UnreadableImage: it can't be read.
        OSError: it is gone.
    """
    stat = os.stat(path)
    return _file_url(path, side, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=_KEPT)
def _file_url(path: Path, side: int, _changed: int, _size: int) -> str:
    return _url(thumbnail(path, side))


@functools.lru_cache(maxsize=_KEPT)
def _profile_url(library: Library, name: str, _mark: str, side: int) -> str:
    found = profiles.pictures(library, name)
    liked = next((one for one in found if one.after is profiles.Opinion.LIKED), None)
    return _url(thumbnail(profiles.thumbnail(library, name, liked.digest), side)) if liked else ""


def _url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
