"""The trash of an embedding folder: a bin for each thing that was put there, named after the time."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import is_temporary, keep_copy

TRASH = ".trash"
_NAME = "%Y%m%d-%H%M%S-%f"
_TIDY_SECONDS = 3600


class Trashed(NamedTuple):
    """An embedding in the trash.

    Attributes:
        name: what it was called.
        path: its file in the trash.
        folder: the library's folder that it comes from.
        when: it was put there.
    """

    name: str
    path: Path
    folder: Path
    when: datetime.datetime


def new_bin(trash: Path) -> Path:
    """A new folder in a trash folder, named after the time; its folder has to be there.

    Raises:
        OSError: it can't be made.
    """
    while True:
        path = trash / datetime.datetime.now().strftime(_NAME)
        trash.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
        if not path.is_dir():
            raise NotADirectoryError(20, "There is a file in place of the trash folder", str(trash))


def copied(files: Sequence[Path], bin_: Path) -> Path:
    """The same files in a bin as well, so that their place is never empty; returns the bin.

    Raises:
        OSError: they can't be copied; the bin is gone again.
    """
    try:
        for file in files:
            keep_copy(file, bin_ / file.name)
    except OSError:
        discard(bin_)
        raise
    return bin_


def bin_time(bin_: os.DirEntry[str]) -> datetime.datetime:
    """When it was made."""
    try:
        return datetime.datetime.strptime(bin_.name, _NAME)
    except ValueError:  # somebody made it by hand
        return datetime.datetime.fromtimestamp(bin_.stat(follow_symlinks=False).st_mtime)


def discard(bin_: Path) -> None:
    """Take copies back that were made for nothing; the files themselves are where they were."""
    with contextlib.suppress(OSError):
        for copy in bin_.iterdir():
            copy.unlink()
        bin_.rmdir()


def remove_empty(top: Path) -> None:
    """Remove a folder and those in it as far as nothing else is in them."""
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


_tidied: dict[Path, float] = {}


def tidy(root: Path) -> None:
    """Now and then remove what killed programs left in the trash: halves of copies, bins with nothing in them.

    The folder is locked, so nobody is at work there.
    """
    if time.monotonic() - _tidied.get(root, -_TIDY_SECONDS) < _TIDY_SECONDS:
        return
    _tidied[root] = time.monotonic()
    with contextlib.suppress(OSError), os.scandir(root / TRASH) as bins:
        for bin_ in bins:
            if bin_.is_dir(follow_symlinks=False):
                for file in os.listdir(bin_.path):
                    if is_temporary(file):
                        os.unlink(os.path.join(bin_.path, file))
                remove_empty(Path(bin_.path))
