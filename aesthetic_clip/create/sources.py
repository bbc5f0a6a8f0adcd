"""Where pictures come from: folders of any size and state, and pictures at hand, counted but never held all at once."""

from __future__ import annotations

import copy
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

from ..embeddings.metadata import source_hash
from ..errors import AestheticError
from ..printable import printable
from ..progress import Progress, silent

Source = Path | tuple[str, bytes | BinaryIO | Image.Image | Path]
"""A file, or a picture under the name that people know it by."""

SHOWN = 50
_TICK_EVERY = 1000

_SYSTEM = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
_HIDDEN, _HIDDEN_FOLDER = "hidden or system file", "hidden or system folder"
# What lies beside pictures and is evidently none, by the ends of its names.
_KINDS = {
    "text file": "txt caption tag tags md rst log csv tsv html htm doc docx pdf rtf srt vtt",
    "data file": "json jsonl ndjson xml xmp yaml yml toml ini cfg npy npz parquet arrow safetensors pt pth ckpt pkl bin "
    "db sqlite aae dat lock part tmp",
    "program": "py ipynb sh bat ps1 exe js",
    "archive": "zip tar gz tgz bz2 xz 7z rar",
    "video": "mp4 m4v mov avi mkv webm wmv flv mpg mpeg 3gp mts m2ts ogv",
    "sound": "mp3 m4a wav flac ogg opus aac wma",
}
_KIND_OF = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}


class Skipped(NamedTuple):
    """A picture that was not used, or a folder that was not read, and why; the name can always be shown."""

    name: str
    reason: str


def name_of(source: Source) -> str:
    """What people are told that a picture is called."""
    return printable(source[0] if isinstance(source, tuple) else str(source))


def kind_beside(name: str) -> str | None:
    """What a file is that is evidently no picture, such as ``text file``; None of one that may be a picture."""
    if _is_hidden(name):
        return _HIDDEN
    return _KIND_OF.get(name.rpartition(".")[2].lower()) if "." in name else None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _name_in_hash(source: Source) -> str:
    return source[0] if isinstance(source, tuple) else source.name


class Sources:
    """The pictures of some folders, and more pictures, in an order that is always the same.

    Made, they have been counted; each iteration walks through the folders anew, so
    that a million pictures take no more memory than the names in the largest folder.

    Args:
        folders: every file in them that may be a picture is one source, each once, sorted within its
            folder. Whether it is a picture shows when it is decoded.
        more: pictures at hand.
        recursive: with the folders in them. Hidden ones are left out; linked ones are followed, but not in circles.
        progress: is told how many have been found so far.

    Attributes:
        skipped: folders and files that can't be read, as far as the last iteration came.
        left_out: how many files of each kind lie beside the pictures, likewise.
        hash: of all of them, see :func:`~aesthetic_clip.embeddings.metadata.source_hash`; a shard has that of the whole.

    Raises:
        AestheticError: a folder is missing, not a folder, not readable, or without pictures; or nothing was given.
        Interrupted: ``progress`` raised it.
    """

    def __init__(
        self,
        folders: Iterable[Path | str] = (),
        more: Sequence[Source] = (),
        recursive: bool = False,
        progress: Progress = silent,
    ) -> None:
        self.folders = [Path(os.path.expanduser(folder)) for folder in folders]
        self.more = more
        self.recursive = recursive
        self.skipped: list[Skipped] = []
        self.left_out: Counter[str] = Counter()
        self._count = 0
        self._shard: tuple[int, int] = (1, 1)
        self.hash = source_hash(map(_name_in_hash, self._counting(progress)))

    def __len__(self) -> int:
        number, of = self._shard
        return len(range(number - 1, self._count, of))

    def __iter__(self) -> Iterator[Source]:
        return self.each()

    def shard(self, number: int, of: int) -> Sources:
        """Every ``of``-th picture from the ``number``-th, counted from 1, so that large and small ones spread evenly."""
        share = copy.copy(self)
        share._shard = (number, of)
        return share

    def each(self, tick: Callable[[], object] = lambda: None) -> Iterator[Source]:
        """The pictures.

        Args:
            tick: called every now and then, also where none is found; may raise to stop.
        """
        number, of = self._shard
        return itertools.islice(self._all(tick), number - 1, None, of)

    def _counting(self, progress: Progress) -> Iterator[Source]:
        for source in self._all(lambda: progress(0, 0, f"Counting the pictures: {self._count:,} so far"), strict=True):
            self._count += 1
            yield source

    def _all(self, tick: Callable[[], object], strict: bool = False) -> Iterator[Source]:
        self.skipped, self.left_out = [], Counter()
        if strict:
            for folder in self.folders:
                _check_folder(folder)
        walk = _Walk(self.folders, self.recursive, self.skipped, self.left_out, tick)
        for folder in self.folders:
            found = False
            is_new = _identity(folder) not in walk.seen
            for path in walk.files(folder):
                found = True
                yield path
            if strict and is_new and not found:
                raise _nothing_in(folder, walk)
        for source in self.more:
            if kind := kind_beside(os.path.basename(name_of(source))):
                self.left_out[kind] += 1
            else:
                yield source


def find_images(folders: Iterable[Path | str], recursive: bool = False, progress: Progress = silent) -> Sources:
    """The pictures in these folders, see :class:`Sources`.

    Raises:
        AestheticError: a folder is missing, not a folder, not readable, or without pictures; or none was given.
        Interrupted: ``progress`` raised it.
    """
    named = list(folders)
    if not named:
        raise AestheticError("There are no pictures to use.", "No folder was given.", "Name a folder with pictures.")
    return Sources(named, recursive=recursive, progress=progress)


class _Walk:
    """One way through folders; ``seen`` are those that it came through."""

    def __init__(
        self,
        folders: Sequence[Path],
        recursive: bool,
        skipped: list[Skipped],
        left_out: Counter[str],
        tick: Callable[[], object],
    ) -> None:
        self.roots = [os.path.realpath(folder) for folder in folders]
        self.recursive, self.skipped, self.left_out, self.tick = recursive, skipped, left_out, tick
        self.seen: set[tuple[int, int] | str] = set()
        self.has_subfolders = False
        self._linked: set[str] = set()

    def files(self, root: Path) -> Iterator[Path]:
        """Every file below a folder that may be a picture, those of each folder before those of its subfolders."""
        waiting = [str(root)]
        while waiting:
            folder = waiting.pop()
            identity = _identity(folder)
            if identity in self.seen:
                continue
            self.seen.add(identity)
            subfolders = []
            for entry in self._entries(folder):
                try:
                    is_folder, is_file = entry.is_dir(), entry.is_file()
                except OSError as error:  # a link in a circle, or behind a folder that is closed
                    self._skip(entry.path, f"it can't be looked at ({error.strerror or error})")
                    continue
                if is_folder:
                    self.has_subfolders = True
                    if _is_hidden(entry.name):
                        self.left_out[_HIDDEN_FOLDER] += 1
                    elif self.recursive:
                        subfolders.append(entry.path)
                elif kind := kind_beside(entry.name):
                    self.left_out[kind] += 1
                elif not is_file:
                    is_link = entry.is_symlink()
                    self._skip(
                        entry.path, "it is a link to nothing" if is_link else "it is a pipe, a socket or a device"
                    )
                elif not (entry.is_symlink() and self._comes_anyway(entry.path)):
                    yield Path(entry.path)
            waiting += reversed(subfolders)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What is in a folder, by name; as far as it can be read."""
        entries: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    entries.append(entry)
                    if len(entries) % _TICK_EVERY == 0:
                        self.tick()
        except OSError as error:
            self._skip(folder, f"the folder can't be read ({error.strerror or error})")
        self.tick()
        return sorted(entries, key=lambda entry: entry.name)

    def _comes_anyway(self, link: str) -> bool:
        """Whether the file behind a link is one of the others, so that it would count twice."""
        real = os.path.realpath(link)
        if real in self._linked or any(self._covers(root, real) for root in self.roots):
            return True
        self._linked.add(real)
        return False

    def _covers(self, root: str, file: str) -> bool:
        way = os.path.relpath(file, root).split(os.sep) if file.startswith(os.path.join(root, "")) else [os.pardir]
        if way[0] == os.pardir or (len(way) > 1 and not self.recursive):
            return False
        return not any(map(_is_hidden, way)) and kind_beside(way[-1]) is None

    def _skip(self, path: str, reason: str) -> None:
        self.skipped.append(Skipped(printable(path), reason))


def _identity(folder: Path | str) -> tuple[int, int] | str:
    """The same for all ways to a folder."""
    try:
        status = os.stat(folder)
    except OSError:
        return str(folder)
    # Some network drives number nothing.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _check_folder(folder: Path) -> None:
    subject = f"The pictures in {printable(str(folder))} can't be used."
    try:
        with os.scandir(folder):
            return
    except FileNotFoundError:
        why, do = "There is no such folder.", "Check the path; it is one of the machine that this runs on."
    except NotADirectoryError:
        why = "It is a file, not a folder."
        do = f"Name the folder that it is in: {printable(str(folder.parent))}."
    except (OSError, ValueError) as error:
        why = f"It can't be read: {getattr(error, 'strerror', None) or error}."
        do = "Give yourself the permission, or leave it out."
    raise AestheticError(subject, why, do)


def _nothing_in(folder: Path, walk: _Walk) -> AestheticError:
    subject = f"The pictures in {printable(str(folder))} can't be used."
    beside = f" {left_out_line(walk.left_out)}" if walk.left_out else ""
    if walk.has_subfolders and not walk.recursive:
        return AestheticError(
            subject, f"There are only folders in it.{beside}", "Include the subfolders, or name one of them."
        )
    skipped = f" {walk.skipped[-1].name}: {walk.skipped[-1].reason}." if walk.skipped else ""
    return AestheticError(
        subject,
        f"There is no file in it that may be a picture.{skipped}{beside}",
        "Put pictures there, or name another.",
    )


def left_out_line(left_out: Mapping[str, int]) -> str:
    """One sentence about the files beside the pictures, or nothing."""
    parts = [f"{count:,} {kind}{'s' if count > 1 else ''}" for kind, count in sorted(left_out.items()) if count]
    if not parts:
        return ""
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"{listed} beside the pictures {'was' if sum(left_out.values()) == 1 else 'were'} left out."


def skipped_lines(skipped: Sequence[Skipped], left_out: Mapping[str, int] = {}, most: int = SHOWN) -> list[str]:
    """What was not used, in lines for people: the first ones with their reasons, how many more, and what lay beside."""
    lines = [f"{name}: {reason}" for name, reason in skipped[:most]]
    if len(skipped) > most:
        lines.append(f"and {len(skipped) - most:,} more")
    return [*lines, *filter(None, [left_out_line(left_out)])]
