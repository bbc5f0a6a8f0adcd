"""The embedding folders: which embeddings there are, names that are safe as file names, and the files' upkeep."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AestheticError
from ..files import probe_writable, write_atomically
from ..settings import NO_EMBEDDING
from .embedding import SUFFIXES, Embedding, load, save, to_bytes

# Letters, digits and the marks that some scripts put on them; the rest by name.
_WORD_CATEGORIES = ("L", "Nd", "M")
_OTHERS = " .-_"
# Letters and marks without a shape of their own: two names could look alike, or like nothing.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 100
_LONGEST_NAME_BYTES = 200  # file systems allow 255, and suffixes and the mark of a temporary file come on top

# What the WebUI looks for beside a file, in its order.
_PREVIEW_SUFFIXES = tuple(f"{dot}{kind}" for kind in ("png", "jpg", "jpeg", "webp") for dot in (".", ".preview."))
TRASH = ".trash"


def check_name(name: str) -> str:
    """A name that may become a file in an embedding folder, on every system, in Unicode's composed form (NFC).

    Raises:
        AestheticError: empty, too long, with path parts or odd characters, or reserved.
    """
    name = unicodedata.normalize("NFC", name.strip())
    odd = next(
        (
            c
            for c in name
            if _INVISIBLE.match(c) or not (c in _OTHERS or unicodedata.category(c).startswith(_WORD_CATEGORIES))
        ),
        None,
    )
    problem = ""
    if not name:
        problem = "It is empty."
    elif len(name) > _LONGEST_NAME:
        problem = f"It has {len(name)} characters, {_LONGEST_NAME} are allowed."
    elif "/" in name or "\\" in name or ".." in name:
        problem = "It has path parts, and embeddings stay in their folder."
    elif odd is not None:
        problem = f"It has {odd!r}, and only letters, digits, space, dot, dash and underscore are allowed."
    elif not unicodedata.category(name[0]).startswith(("L", "Nd")) or name[-1] in " .":
        problem = "It has to begin with a letter or a digit, and can't end with a dot."
    elif len(name.encode()) > _LONGEST_NAME_BYTES:
        problem = f"It takes {len(name.encode())} bytes, file systems allow {_LONGEST_NAME_BYTES}."
    elif _WINDOWS_DEVICES.fullmatch(unicodedata.normalize("NFKC", name)):
        problem = "Windows reserves that word for a device."
    elif name.lower() == NO_EMBEDDING.lower():
        problem = "That word stands for no embedding."
    elif name.lower().endswith(".preview"):
        problem = "That ending is for preview pictures."
    if problem:
        raise AestheticError(
            f"An aesthetic embedding can't be called {name!r}.", problem, "Choose a name such as 'my taste 1'."
        )
    return name


@dataclass(frozen=True)
class Library:
    """Embeddings in one or several folders; where a name stands twice, the first folder wins.

    Attributes:
        folders: searched in this order, with their subfolders; the first is where new ones go.
    """

    folders: tuple[Path, ...]

    def paths(self) -> dict[str, Path]:
        """Every embedding, by name: its path below its folder, with forward slashes, without suffix."""
        found: dict[str, Path] = {}
        for folder in self.folders:
            # A .safetensors comes before the .pt of the same name, which it may hold and more.
            files = [path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
            for path in sorted(files, key=lambda path: (SUFFIXES.index(path.suffix), path)):
                relative = path.relative_to(folder)
                # Dot folders hold the trash and other tools' files.
                if not any(part.startswith(".") for part in relative.parts):
                    found.setdefault(relative.with_suffix("").as_posix(), path)
        return dict(sorted(found.items(), key=lambda item: item[0].lower()))

    def names(self) -> list[str]:
        return list(self.paths())

    def find(self, name: str) -> Path:
        """The file of this embedding; only files in the folders are ever found.

        Raises:
            AestheticError: there is none.
        """
        paths = self.paths()
        if name in paths:
            return paths[name]
        near = difflib.get_close_matches(name, paths, n=1, cutoff=0.5)
        raise AestheticError(
            f"There is no aesthetic embedding {name!r}.",
            f"There are {len(paths)} in {', '.join(str(f) for f in self.folders)}.",
            f"Did you mean {near[0]!r}?" if near else "Put the file there and refresh the list, or pick another one.",
        )

    def load(self, name: str) -> Embedding:
        """Read an embedding by name.

        Raises:
            AestheticError: there is none, or its file can't be used.
        """
        return load(self.find(name), name)

    def preview(self, name: str) -> Path | None:
        """The picture beside an embedding's file, if there is one.

        Raises:
            AestheticError: there is no such embedding.
        """
        return next(iter(_previews(self.find(name))), None)

    def save_preview(self, name: str, png: bytes) -> Path:
        """Write ``name.preview.png`` beside an embedding.

        Raises:
            AestheticError: there is no such embedding, or the folder can't be written.
        """
        path = self.find(name)
        preview = self._own(path.with_name(f"{_stem(path)}.preview.png"))
        write_atomically(preview, png)
        return preview

    def refuse_taken(self, name: str, overwrite: bool = False) -> str:
        """The checked name, if it is free (or may be overwritten): to be asked before long work.

        Raises:
            AestheticError: a bad name, or one that exists.
        """
        name = check_name(name)
        self._refuse_same(name, allowed=name if overwrite else None)
        return name

    def reserve(self, name: str, overwrite: bool = False) -> str:
        """The checked name, free and in a folder that can be written: to be asked before long work.

        Raises:
            AestheticError: it is not.
        """
        name = self.refuse_taken(name, overwrite)
        folder = self.folders[0]
        try:
            probe_writable(folder)
        except OSError as error:
            raise AestheticError(
                f"{name!r} could not be saved.",
                f"{folder} can't be written: {error.strerror or error}.",
                "Make it a folder that this program may write to, and try again.",
            ) from error
        return name

    def save_new(self, embedding: Embedding, name: str, overwrite: bool = False) -> Path:
        """Write an embedding into the first folder under a plain name, as ``.safetensors``.

        What stood there under that name, pictures included, goes to the trash.

        Raises:
            AestheticError: a bad name, one that exists, or the folder can't be written.
        """
        name = self.refuse_taken(name, overwrite)
        path = self._own(self.folders[0] / f"{name}.safetensors")
        content = replace(embedding, name=name)
        old = [file for suffix in SUFFIXES if (file := path.with_name(name + suffix)).is_file()]
        old += _previews(path)
        if old:
            # The file itself is copied, so that its place is never empty: the new one replaces it in one step.
            bin_ = self._new_bin(self.folders[0])
            with _explained(name):
                for file in old:
                    shutil.copy2(file, bin_ / file.name)
        save(content, path)
        with _explained(name):
            for file in old:
                if file != path:
                    file.unlink()
        return path

    def rename(self, name: str, new_name: str) -> Path:
        """Give an embedding and its pictures a new plain name in the folder where they are.

        Raises:
            AestheticError: there is none, a bad name, one that exists, or the folder can't be written.
        """
        path, new_name = self._own(self.find(name)), check_name(new_name)
        prefix = name.rpartition("/")[0]
        new_full = f"{prefix}/{new_name}" if prefix else new_name
        self._refuse_same(new_full, allowed=name, but_spelling=True)
        stem = _stem(path)
        files = [path, *_previews(path)]
        moves = [(file, self._own(file.with_name(new_name + file.name[len(stem) :]))) for file in files]
        with _explained(name):
            for old, new in moves:
                os.replace(old, new)
        return moves[0][1]

    def trash(self, name: str) -> Path:
        """Move an embedding and its pictures into the trash of its folder; nothing is deleted for good.

        Returns:
            The file's new place, ``.trash/<time>/`` and its path below the folder.

        Raises:
            AestheticError: there is none, or the folder can't be written.
        """
        path = self._own(self.find(name))
        root = next(folder for folder in self.folders if path.is_relative_to(folder))
        bin_ = self._new_bin(root) / path.relative_to(root).parent
        with _explained(name):
            bin_.mkdir(parents=True, exist_ok=True)
            for file in (path, *_previews(path)):
                os.replace(file, bin_ / file.name)
        return bin_ / path.name

    def export(
        self, name: str, target: Path | None = None, suffix: str | None = None, overwrite: bool = False
    ) -> bytes:
        """An embedding as the content of a file, also written to ``target`` if given.

        Args:
            name: which one.
            target: a file anywhere; the user names it.
            suffix: ``.safetensors``, or ``.pt`` for the old tools; by default that of ``target``.
            overwrite: replace a file that is there.

        Raises:
            AestheticError: there is none, it does not fit the format, or ``target`` is taken or can't be written.
        """
        if target is not None and (target.is_dir() or (target.exists() and not overwrite)):
            raise AestheticError(
                f"{name!r} was not exported.",
                f"There is already something at {target}.",
                "Name a file that does not exist yet, or allow to overwrite it.",
            )
        data = to_bytes(self.load(name), suffix or (target.suffix if target else SUFFIXES[0]))
        if target is not None:
            write_atomically(target, data)
        return data

    def _refuse_same(self, name: str, allowed: str | None, but_spelling: bool = False) -> None:
        """Refuse a name that is there, or one that differs only in case, which Windows takes for the same."""
        for there in self.names():
            if _same(there, name) and not (there == allowed and (there == name or but_spelling)):
                raise AestheticError(
                    f"There is already an aesthetic embedding {there!r}.",
                    "" if there == name else f"{name!r} would be the same file on some systems.",
                    "Choose another name, or allow to overwrite it."
                    if there == name
                    else "Choose another name, or the same spelling.",
                )

    def _own(self, path: Path) -> Path:
        """``path``, if neither it nor a folder on the way is a link out of the library's folders."""
        roots = [folder.resolve() for folder in self.folders]
        if not any(path.resolve().is_relative_to(root) for root in roots):
            raise AestheticError(
                f"{path.name} was not written.",
                f"{path} leads out of the embedding folders.",
                "Replace the link by a real file or folder, or work on it where it really is.",
            )
        return path

    def _new_bin(self, root: Path) -> Path:
        """A new folder in the trash of ``root``, named after the time."""
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        path = self._own(root / TRASH / now)
        with _explained(TRASH):
            path.mkdir(parents=True)
        return path


def _stem(path: Path) -> str:
    return path.name[: -len(path.suffix)]


def _previews(path: Path) -> list[Path]:
    """The pictures beside an embedding's file."""
    return [file for suffix in _PREVIEW_SUFFIXES if (file := path.with_name(_stem(path) + suffix)).is_file()]


def _same(a: str, b: str) -> bool:
    def plain(text: str) -> str:
        return unicodedata.normalize("NFC", text).casefold()

    return plain(a) == plain(b)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AestheticError(
            f"The files of {name!r} were not changed.",
            f"{error.strerror or error}: {error.filename}.",
            "Check that the folder can be written and has space left.",
        ) from error


def library(folders: Sequence[Path | str]) -> Library:
    """A library of these folders, each once, missing ones included (they may appear later)."""
    return Library(tuple(dict.fromkeys(Path(folder).absolute() for folder in folders)))
