"""The files that belong to an embedding, and moving them together or not at all."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import AestheticError
from ..files import move, reason
from ..files import replace as replace_file
from .embedding import SUFFIXES
from .presets import FILE as PRESETS_FILE
from .scan import PREVIEW_SUFFIXES

# What belongs to an embedding by its name: the WebUI keeps pictures, descriptions and notes beside a file.
_BELONGING = {*SUFFIXES, *PREVIEW_SUFFIXES, ".gif", ".preview.gif", ".json", ".txt", ".description.txt"}


def stem_of(path: Path) -> str:
    """A file's name without its suffix, whatever else has dots in it."""
    return path.name[: -len(path.suffix)]


def belonging(path: Path, any_case: bool = False) -> list[Path]:
    """The files of an embedding: itself first, other formats under its name, pictures, texts; none if the folder is gone."""
    stem = stem_of(path)
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(path.parent) as listing:
        for file in listing:
            start, ending = file.name[: len(stem)], file.name[len(stem) :]
            same = same_name(start, stem) if any_case else start == stem
            if same and ending.lower() in _BELONGING and file.name != PRESETS_FILE and not file.is_dir():
                found.append(path.with_name(file.name))
    return sorted(found, key=lambda file: (file != path, file.name))


def same_name(a: str, b: str) -> bool:
    """Whether two names are one to some system: by case, or by how accents are written."""

    def plain(text: str) -> str:
        return unicodedata.normalize("NFC", text).casefold()

    return plain(a) == plain(b)


@contextlib.contextmanager
def all_or_nothing(failed: str) -> Iterator[Callable[[Path, Path], None]]:
    """Moves files one by one; when one can't be moved, those before it go back to where they were.

    Raises:
        AestheticError: nothing was moved, or it says what is where.
    """
    done: list[tuple[Path, Path]] = []

    def shift(old: Path, new: Path) -> None:
        if os.path.lexists(new) and os.path.samefile(old, new):
            replace_file(old, new)  # only the case differs, on a system that takes no notice of it
        else:
            move(old, new)

    def step(old: Path, new: Path) -> None:
        shift(old, new)
        done.append((old, new))

    try:
        yield step
    except BaseException as error:
        stuck = []
        for old, new in reversed(done):
            try:
                shift(new, old)
            except OSError:
                stuck.append(f"{old} is now {new}")
        if not isinstance(error, OSError):
            raise
        if stuck:
            raise AestheticError(
                f"{failed[:-1]}, and not all of it could be put back.",
                f"{reason(error)}: {error.filename}.",
                f"{'; '.join(stuck)}: move that back by hand.",
            ) from error
        raise _refused(failed, error) from error


@contextlib.contextmanager
def explained(failed: str) -> Iterator[None]:
    """An error of the system becomes an AestheticError that says ``failed``."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise _refused(failed, error) from error


def _refused(failed: str, error: OSError | ValueError) -> AestheticError:
    where = getattr(error, "filename", None)
    return AestheticError(
        failed,
        f"{reason(error)}{f': {where}' if where else ''}.",
        "Check that the folder can be written and has space left; everything is where it was.",
    )
