"""The embedding folders: which embeddings there are, and names that are safe as file names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .embeddings import SUFFIXES, Embedding, load
from .errors import AestheticError
from .settings import NO_EMBEDDING

_NAME = re.compile(r"[^\W_]|[^\W_][\w .\-]*[\w\-]", re.ASCII)
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 100


def check_name(name: str) -> str:
    """A name that may become a file in an embedding folder, on every system.

    Raises:
        AestheticError: empty, too long, with path parts or odd characters, or reserved.
    """
    name = name.strip()
    problem = ""
    if not name:
        problem = "It is empty."
    elif len(name) > _LONGEST_NAME:
        problem = f"It has {len(name)} characters, {_LONGEST_NAME} are allowed."
    elif "/" in name or "\\" in name or ".." in name:
        problem = "It has path parts, and embeddings stay in their folder."
    elif not _NAME.fullmatch(name):
        problem = "It has other characters than letters, digits, space, dot, dash and underscore, or begins or ends with one that file systems drop."
    elif _WINDOWS_DEVICES.fullmatch(name) or name.lower() == NO_EMBEDDING.lower():
        problem = "That word is reserved."
    if problem:
        raise AestheticError(f"An aesthetic embedding can't be called {name!r}.", problem,
                             "Choose a name such as 'my taste 1'.")
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
            for path in sorted(folder.rglob("*")):
                relative = path.relative_to(folder)
                # Dot folders hold the trash and other tools' files.
                if path.suffix in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in relative.parts):
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
            f"Did you mean {near[0]!r}?" if near else "Put the file there and refresh the list, or pick another one.")

    def load(self, name: str) -> Embedding:
        """Read an embedding by name.

        Raises:
            AestheticError: there is none, or its file can't be used.
        """
        return load(self.find(name), name)


def library(folders: Sequence[Path | str]) -> Library:
    """A library of these folders, each once, missing ones included (they may appear later)."""
    return Library(tuple(dict.fromkeys(Path(folder).absolute() for folder in folders)))
