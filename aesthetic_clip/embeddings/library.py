"""The embedding folders: which embeddings there are, and the upkeep of their files."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import AestheticError, Remedy
from ..files import locked, probe_writable, reason, write_atomically
from ..printable import printable
from .bins import TRASH, Trashed, bin_time, copied, discard, new_bin, remove_empty, tidy
from .embedding import SUFFIXES, Embedding, load, to_bytes
from .moving import all_or_nothing, belonging, explained, same_name, stem_of
from .names import check_name, listed
from .profile_files import FOLDER, ProfileFiles
from .scan import Entry, LeftOut, scan, tell_once

__all__ = ["TRASH", "Entry", "LeftOut", "Library", "Trashed", "check_name", "open_library"]


@dataclass(frozen=True)
class Library:
    """Embeddings in one or several folders; where a name stands twice, the first folder wins.

    Any number of threads and programs may read and change the same folders at once.

    Attributes:
        folders: searched in this order, with their subfolders; the first is where new ones go.
    """

    folders: tuple[Path, ...]

    def entries(self) -> list[Entry]:
        """Every embedding, sorted by name; no file is opened. What had to be left out is logged once."""
        entries, left_out = self._scan()
        tell_once(left_out)
        return entries

    def left_out(self) -> list[LeftOut]:
        """Files and folders that can't be used as they are."""
        return self._scan()[1]

    def _scan(self) -> tuple[list[Entry], list[LeftOut]]:
        found: dict[str, Entry] = {}
        left_out: list[LeftOut] = []
        for folder in self.folders:
            entries, problems = scan(folder)
            left_out += problems
            for entry in entries:
                found.setdefault(entry.name, entry)
        return sorted(found.values(), key=lambda entry: (entry.name.lower(), entry.name)), left_out

    def paths(self) -> dict[str, Path]:
        """The file of every embedding, by name: its path below its folder, with forward slashes, without suffix."""
        return {entry.name: entry.path for entry in self.entries()}

    def names(self) -> list[str]:
        return [entry.name for entry in self.entries()]

    def entry(self, name: str) -> Entry:
        """The embedding of this name; only files in the folders are ever found.

        Raises:
            AestheticError: there is none.
        """
        by_name = {entry.name: entry for entry in self.entries()}
        # The name as its file has it is understood as well.
        if (entry := by_name.get(name) or by_name.get(listed(name))) is not None:
            return entry
        near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)
        raise AestheticError(
            f"There is no aesthetic embedding {name!r}.",
            f"There are {len(by_name)} in {', '.join(printable(str(folder)) for folder in self.folders)}.",
            f"Did you mean {near[0]!r}?" if near else "Put the file there and refresh the list, or pick another one.",
        )

    def find(self, name: str) -> Path:
        """The file of this embedding; only files in the folders are ever found.

        Raises:
            AestheticError: there is none.
        """
        return self.entry(name).path

    def load(self, name: str) -> Embedding:
        """Read an embedding by name.

        Raises:
            AestheticError: there is none, or its file can't be used.
        """
        for _ in range(5):
            path = self.find(name)
            try:
                return load(path, name)
            except AestheticError as error:
                # Somebody may have replaced a .pt by a .safetensors since it was found.
                if path.exists() and not isinstance(error.__cause__, FileNotFoundError):
                    raise
        return load(self.find(name), name)

    def readable(self) -> list[Embedding]:
        """All that can be read, sorted by name; each file is read once as long as it stays the same."""
        found = []
        for entry in self.entries():
            with contextlib.suppress(AestheticError):
                found.append(entry.load())
        return found

    def preview(self, name: str) -> Path | None:
        """The picture beside an embedding's file, if there is one.

        Raises:
            AestheticError: there is no such embedding.
        """
        return self.entry(name).preview

    def save_preview(self, name: str, png: bytes) -> Path:
        """Write ``name.preview.png`` beside an embedding.

        Raises:
            AestheticError: there is no such embedding, or the folder can't be written.
        """
        failed = f"{name!r} is saved, but its preview picture was not."
        with self._changing(self.entry(name).folder, failed):
            path = self.find(name)
            preview = self._own(path.with_name(f"{stem_of(path)}.preview.png"))
            try:
                write_atomically(preview, png)
            except AestheticError as error:
                raise AestheticError(
                    failed, error.why, "Free some space; the embedding can be used as it is."
                ) from error
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
        except (OSError, ValueError) as error:
            raise AestheticError(
                f"{name!r} could not be saved.",
                f"{folder} can't be written: {reason(error)}.",
                "Make it a folder that this program may write to, and try again.",
            ) from error
        return name

    def save_new(self, embedding: Embedding, name: str, overwrite: bool = False) -> Path:
        """Write an embedding into the first folder under a plain name, as ``.safetensors``.

        What stood there under that name, pictures included, goes to the trash. Of two
        that save one new name at the same time, one is told that it is taken.

        Raises:
            AestheticError: a bad name, one that exists, or the folder can't be written.
        """
        name = check_name(name)
        path = self.folders[0] / f"{name}.safetensors"
        content = to_bytes(replace(embedding, name=name), path.suffix)
        with self._changing(self.folders[0], f"{name!r} was not saved."):
            self._refuse_same(name, allowed=name if overwrite else None)
            self._own(path)
            old = belonging(path)
            bin_ = copied(old, self._new_bin(self.folders[0])) if old else None
            try:
                write_atomically(path, content, new=not overwrite)
            except FileExistsError as error:
                raise _taken(name, name) from error
            except AestheticError:
                if bin_ is not None:
                    discard(bin_)
                raise
            for file in old:
                if file != path:
                    try:
                        file.unlink()
                    except OSError as error:
                        raise AestheticError(
                            f"{name!r} was saved, but the old {file.name} stayed beside it.",
                            f"It can't be removed: {reason(error)}.",
                            f"Remove {file} by hand; a copy is in {bin_}.",
                        ) from error
        return path

    def rename(self, name: str, new_name: str) -> Path:
        """Give an embedding and what belongs to it a new plain name in the folder where they are.

        Pictures that lie there under the new name without an embedding go to the trash.

        Raises:
            AestheticError: there is none, a bad name, one that exists, or the folder can't be written.
        """
        new_name = check_name(new_name)
        folder = self.entry(name).folder
        with self._changing(folder, f"{name!r} was not renamed."):
            entry = self.entry(name)
            path = self._own(entry.path)
            prefix = entry.name.rpartition("/")[0]
            new_full = f"{prefix}/{new_name}" if prefix else new_name
            self._refuse_same(new_full, allowed=entry.name, but_spelling=True)
            stem, files = stem_of(path), belonging(path)
            moves = [(file, self._own(file.with_name(new_name + file.name[len(stem) :]))) for file in files]
            orphans = [file for file in belonging(path.with_name(new_name + path.suffix), True) if file not in files]
            with all_or_nothing(f"{name!r} was not renamed.") as step:
                if orphans:
                    bin_ = self._new_bin(folder) / path.relative_to(folder).parent
                    bin_.mkdir(parents=True, exist_ok=True)
                    for file in orphans:
                        step(file, bin_ / file.name)
                for old, new in moves:
                    step(old, new)
        return path.with_name(new_name + path.name[len(stem) :])

    def trash(self, name: str) -> Path:
        """Move an embedding and what belongs to it into the trash of its folder; nothing is deleted for good.

        Returns:
            The file's new place, ``.trash/<time>/`` and its path below the folder.

        Raises:
            AestheticError: there is none, or the folder can't be written.
        """
        failed = f"The files of {name!r} were not changed."
        with self._changing(self.entry(name).folder, failed):
            entry = self.entry(name)
            path = self._own(entry.path)
            top = self._new_bin(entry.folder)
            bin_ = top / path.relative_to(entry.folder).parent
            try:
                with all_or_nothing(failed) as step:
                    bin_.mkdir(parents=True, exist_ok=True)
                    for file in belonging(path):
                        step(file, bin_ / file.name)
            except AestheticError:
                remove_empty(top)
                raise
        return bin_ / path.name

    def trashed(self) -> list[Trashed]:
        """The embeddings in the folders' trash, the latest first."""
        found = []
        for folder in self.folders:
            with contextlib.suppress(OSError, AestheticError), os.scandir(self._own(folder / TRASH)) as bins:
                for bin_ in bins:
                    if bin_.is_dir(follow_symlinks=False):
                        when = bin_time(bin_)
                        entries, _ = scan(Path(bin_.path))
                        found += [Trashed(entry.name, entry.path, folder, when) for entry in entries]
        return sorted(found, key=lambda one: (one.when, one.name), reverse=True)

    def restore(self, path: Path | str, new_name: str | None = None) -> Path:
        """Move an embedding and what belongs to it from the trash back to where it was.

        Args:
            path: of its file in the trash, see :meth:`trashed`; nothing else is accepted.
            new_name: what to call it now, e.g. since its old name is taken.

        Raises:
            AestheticError: it is not in the trash, the name is taken, or the folder can't be written.
        """
        one = next((one for one in self.trashed() if one.path == Path(path)), None)
        if one is None:
            raise AestheticError(
                f"{Path(path).name} was not restored.", "It is not in the trash.", "Choose something that is there."
            )
        stem = stem_of(one.path)
        new_stem = stem if new_name is None else check_name(new_name)
        prefix = one.name.rpartition("/")[0]
        full = one.name if new_name is None else f"{prefix}/{new_stem}" if prefix else new_stem
        top = one.folder / TRASH / one.path.relative_to(one.folder / TRASH).parts[0]
        target = one.folder / one.path.relative_to(top).parent
        failed = f"{one.name!r} was not restored."
        with self._changing(one.folder, failed):
            self._refuse_same(full, allowed=None)
            self._own(target)
            with all_or_nothing(failed) as step:
                target.mkdir(parents=True, exist_ok=True)
                for file in belonging(one.path):
                    step(file, target / (new_stem + file.name[len(stem) :]))
            remove_empty(top)
        return target / (new_stem + one.path.name[len(stem) :])

    def move_home(self, name: str) -> Path:
        """Move an embedding and what belongs to it, a taste's pictures too, into the first folder, to the same path.

        Returns:
            Its file's new place; its old one, if it is in the first folder already.

        Raises:
            AestheticError: there is none, something is in its place, or a folder can't be written.
        """
        entry, home = self.entry(name), self.folders[0]
        if entry.folder == home:
            return entry.path
        failed = f"{name!r} was not moved."
        with contextlib.ExitStack() as stack:
            # In one order, so that two that move things between the same folders don't wait for each other.
            for folder in sorted((entry.folder, home)):
                stack.enter_context(self._changing(folder, failed))
            path = self._own(entry.path)
            target = home / path.relative_to(entry.folder)
            stack.enter_context(explained(failed))
            target.parent.mkdir(parents=True, exist_ok=True)
            self._own(target)
            # First: what was stopped in between goes on where it is called again, and is found at either place.
            self._move_pictures(entry)
            with all_or_nothing(failed) as step:
                for file in belonging(path):
                    step(file, target.with_name(file.name))
        return target

    def _move_pictures(self, entry: Entry) -> None:
        """Those of a taste profile, if it is one; who changes one holds the lock of its embedding's folder."""
        with contextlib.suppress(AestheticError):  # a file that can't be read is moved all the same
            profile = entry.load().about.profile
            pictures = entry.folder / FOLDER / profile
            home = self.folders[0] / FOLDER / profile
            if profile and pictures.is_dir() and not home.exists():
                self._own(home)
                ProfileFiles(pictures).move(home)

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
        taken = AestheticError(
            f"{name!r} was not exported.",
            f"There is already something at {target}.",
            "Name a file that does not exist yet, or allow to overwrite it.",
            Remedy.OVERWRITE,
        )
        if target is not None and (os.path.isdir(target) or (os.path.lexists(target) and not overwrite)):
            raise taken
        data = to_bytes(self.load(name), suffix or (target.suffix if target else SUFFIXES[0]))
        if target is not None:
            try:
                write_atomically(target, data, new=not overwrite)
            except FileExistsError as error:
                raise taken from error
        return data

    def _refuse_same(self, name: str, allowed: str | None, but_spelling: bool = False) -> None:
        """Refuse a name that is there, or one that differs only in case, which Windows takes for the same."""
        for there in self.names():
            if same_name(there, name) and not (there == allowed and (there == name or but_spelling)):
                raise _taken(there, name)

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

    @contextlib.contextmanager
    def _changing(self, folder: Path, failed: str) -> Iterator[None]:
        """Nobody else changes this folder meanwhile; an error of the system becomes one that says ``failed``."""
        with explained(failed):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder):
                tidy(folder)
                yield

    def _new_bin(self, folder: Path) -> Path:
        return new_bin(self._own(folder / TRASH))


def _taken(there: str, name: str) -> AestheticError:
    if there == name:
        return AestheticError(
            f"There is already an aesthetic embedding {there!r}.",
            "",
            "Choose another name, or allow to overwrite it.",
            Remedy.OVERWRITE,
        )
    return AestheticError(
        f"There is already an aesthetic embedding {there!r}.",
        f"{name!r} would be the same file on some systems.",
        "Choose another name, or the same spelling.",
    )


def open_library(folders: Sequence[Path | str]) -> Library:
    """A library of these folders, each once, missing ones included (they may appear later)."""
    return Library(tuple(dict.fromkeys(Path(folder).absolute() for folder in folders)))
