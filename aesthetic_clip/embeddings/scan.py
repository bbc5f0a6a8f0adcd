"""What lies in an embedding folder, whatever else lies there."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from ..errors import AestheticError
from ..files import reason
from ..printable import printable
from .embedding import SUFFIXES, Embedding, load
from .names import listed

_log = logging.getLogger(__name__)

# What the WebUI looks for beside a file, in its order.
PREVIEW_SUFFIXES = tuple(f"{dot}{kind}" for kind in ("png", "jpg", "jpeg", "webp") for dot in (".", ".preview."))

# Of a folder with more than this, such as a whole disk, the rest is not looked at.
_MOST_FILES = 200_000
_DEEPEST = 40
# A file that changed just now may change again within the clock tick of its file system.
_SETTLED_NS = 3 * 10**9
_CACHE_BYTES = 64 * 2**20


class LeftOut(NamedTuple):
    """Something in an embedding folder, or a whole one, that can't be used, and why; texts that can be printed."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is left out: {self.reason}."


class Entry(NamedTuple):
    """One embedding in a library; its file has not been read.

    Attributes:
        name: how it is picked, see :func:`~aesthetic_clip.embeddings.names.listed`.
        file, picture: as texts, since a list of a thousand paths takes ten times as long; picture may be empty.
        folder: the library's folder that it lies in.
    """

    name: str
    file: str
    folder: Path
    picture: str = ""

    @property
    def path(self) -> Path:
        """Its file."""
        return Path(self.file)

    @property
    def preview(self) -> Path | None:
        """The picture beside it, if there is one."""
        return Path(self.picture) if self.picture else None

    def load(self) -> Embedding:
        """What is inside, which is read once as long as the file stays the same; not to be written to.

        Raises:
            AestheticError: its file can't be used.
        """
        return _cache.load(self)


def scan(folder: Path) -> tuple[list[Entry], list[LeftOut]]:
    """The embeddings in a folder and its subfolders, by name, and what had to be left out.

    Names that begin with a dot are not looked at: the trash, and other tools' files. A folder that
    is not there has nothing in it. Links to folders inside it are not followed.
    """
    found: dict[str, tuple[int, Entry]] = {}
    left_out: list[LeftOut] = []

    def leave_out(path: str, why: str) -> None:
        left_out.append(LeftOut(printable(path), why))

    if not is_text(os.fspath(folder)):
        leave_out(os.fspath(folder), "the folder's name is not UTF-8")
        return [], left_out
    waiting, seen = [(os.fspath(folder), "")], 0
    while waiting:
        place, prefix = waiting.pop()
        try:
            with os.scandir(place) as listing:
                files = list(itertools.islice(listing, _MOST_FILES + 1 - seen))
            os.stat(os.path.join(place, os.curdir))  # a folder may be listed and yet not entered
        except FileNotFoundError:  # not made yet, or gone since its parent was looked at
            continue
        except (OSError, ValueError) as error:
            leave_out(place, f"the folder can't be looked at ({reason(error)})")
            continue
        seen += len(files)
        if seen > _MOST_FILES:
            leave_out(place, f"there are more than {_MOST_FILES} files, so this is no folder for embeddings only")
            break
        names: set[str] = {file.name for file in files}
        for file in sorted(files, key=lambda file: file.name):
            if file.name.startswith("."):
                continue
            stem, dot, ending = file.name.rpartition(".")
            suffix = f"{dot}{ending}".lower()
            try:
                if file.is_dir(follow_symlinks=False):
                    if not is_text(file.name):
                        leave_out(file.path, "the folder's name is not UTF-8")
                    elif prefix.count("/") >= _DEEPEST:
                        leave_out(file.path, f"it lies more than {_DEEPEST} folders deep")
                    else:
                        waiting.append((file.path, f"{prefix}{file.name}/"))
                elif file.is_symlink() and file.is_dir():
                    leave_out(file.path, "it is a link to a folder; name that as an embedding folder of its own")
                elif suffix in SUFFIXES and file.is_file():
                    if not is_text(file.name):
                        leave_out(file.path, "its name is not UTF-8; rename it")
                        continue
                    entry = Entry(listed(prefix + stem), file.path, folder, _picture(place, stem, names))
                    # A .safetensors comes before the .pt of the same name, which it may hold and more.
                    rank = SUFFIXES.index(suffix)
                    if entry.name not in found or rank < found[entry.name][0]:
                        found[entry.name] = (rank, entry)
            except OSError as error:
                leave_out(file.path, f"it can't be looked at ({reason(error)})")
    return [entry for _, entry in found.values()], left_out


def is_text(name: str) -> bool:
    """Whether a path can be shown, sent and stored: a file system may hold bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _picture(place: str, stem: str, names: set[str]) -> str:
    return next((os.path.join(place, stem + suffix) for suffix in PREVIEW_SUFFIXES if stem + suffix in names), "")


_told: set[LeftOut] = set()


def tell_once(left_out: list[LeftOut]) -> None:
    """Log a line for each that none was logged for yet."""
    for one in left_out:
        if one not in _told:
            if len(_told) < 1000:
                _told.add(one)
            _log.warning("%s", one)


class _Cache:
    """What the files hold, as long as they stay the same; its size has a bound."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[tuple[int, ...], Embedding | AestheticError, int]] = (
            OrderedDict()
        )
        self._bytes = 0
        self._lock = threading.Lock()

    def load(self, entry: Entry) -> Embedding:
        key = (entry.file, entry.name)
        signature = file_signature(entry.file)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept[0] == signature:
                self._kept.move_to_end(key)
                content = kept[1]
                if isinstance(content, AestheticError):
                    # A new one, since an exception remembers where it was raised.
                    raise AestheticError(content.what, content.why, content.do, content.remedy)
                return content
        try:
            # Kept for later callers, who may need gradients through it.
            with torch.inference_mode(False):
                content = load(entry.file, entry.name)
        except AestheticError as error:
            # A file that could not be read now may be readable in a moment, without any change of its own.
            if signature and not isinstance(error.__cause__, OSError):
                self._keep(key, signature, AestheticError(error.what, error.why, error.do, error.remedy), 4096)
            raise
        if signature:
            self._keep(key, signature, content, 2048 + _size(content))
        return content

    def _keep(
        self, key: tuple[str, str], signature: tuple[int, ...], content: Embedding | AestheticError, size: int
    ) -> None:
        with self._lock:
            if (old := self._kept.pop(key, None)) is not None:
                self._bytes -= old[2]
            self._kept[key] = (signature, content, size)
            self._bytes += size
            while self._bytes > _CACHE_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1][2]


_cache = _Cache()


def file_signature(path: str) -> tuple[int, ...]:
    """Changes whenever the file does; empty if that can't be told."""
    with contextlib.suppress(OSError):
        now, stat = time.time_ns(), os.stat(path)
        # On Windows ctime is the time of creation; elsewhere no program can set it.
        changed = stat.st_mtime_ns if os.name == "nt" else stat.st_ctime_ns
        if now - changed > _SETTLED_NS:
            return (stat.st_mtime_ns, changed, stat.st_size, stat.st_ino)
    return ()


def _size(embedding: Embedding) -> int:
    texts: Mapping[str, str] = embedding.metadata
    return sum(v.numel() * 4 for v in embedding.vectors.values()) + sum(len(k) + len(v) for k, v in texts.items())
