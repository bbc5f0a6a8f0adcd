"""What a taste profile keeps beside its embedding: its pictures, a journal of them, and their sums.

A folder per profile::

    state.safetensors              the sums; how much of the journal is in them
    journal.jsonl                  a line for each change, only ever added to or taken from at its end
    liked/<picture>.safetensors    vectors, a small copy, and where the picture was; likewise disliked/ and removed/

The state is replaced at once, so each change is made when it is: what the journal holds beyond is of a
program that was killed, and is taken back. Nothing here takes longer with more pictures but a list of them.
Who changes something has to keep others out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy
import safetensors.torch
import torch
from torch import Tensor

from ..errors import AestheticError
from ..files import replace as replace_file
from ..files import write_atomically
from ..printable import printable
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json
from ..readers.tensor_files import open_tensors
from ..spaces import Space, space_of
from .metadata import now, source_hash
from .opinions import Counts, Opinion, Sums

FOLDER = ".tastes"
"""Of all profiles' folders, in a folder of embeddings."""

_STATE, _JOURNAL, _REMOVED = "state.safetensors", "journal.jsonl", "removed"
_KIND = "aesthetic profile"
_THUMBNAIL = "thumbnail"
_DIGEST = re.compile(r"[0-9a-f]{32}")
_LARGEST_FILE = 4 * 2**20
_LARGEST_JOURNAL = 2**30
_LONGEST_LINE = 16 * 2**10
_LONGEST_NAME, _LONGEST_PATH = 200, 1000


class Picture(NamedTuple):
    """A picture, as a profile gets it and keeps it.

    Attributes:
        digest: 32 hex digits, the same for the same pixels.
        name: what people know it by.
        vectors: (D,) fp32 unit vector of its features, by CLIP space.
        thumbnail: a small copy, as the content of a JPEG file.
        path: where it was, if it was a file.
        model_ids: which encoders made the vectors.
    """

    digest: str
    name: str
    vectors: Mapping[Space, Tensor]
    thumbnail: bytes
    path: str = ""
    model_ids: Mapping[Space, str] = MappingProxyType({})


class Change(NamedTuple):
    """A line of the journal.

    Attributes:
        digest, name, path: of the picture.
        before, after: what was thought of it; None: it was not there.
        when: ISO 8601, UTC.
        was_removed: its files are still there from an earlier time.
    """

    digest: str
    name: str
    path: str
    before: Opinion | None
    after: Opinion | None
    when: str
    was_removed: bool = False

    def line(self) -> bytes:
        return (
            json.dumps(
                {
                    "picture": self.digest,
                    "from": _REMOVED if self.was_removed else self.before.value if self.before else "",
                    "to": self.after.value if self.after else _REMOVED,
                    "when": self.when,
                    "name": self.name,
                    "path": self.path,
                }
            ).encode()
            + b"\n"
        )

    @classmethod
    def parse(cls, line: bytes) -> Change:
        """Raises UnreadableFile: it is none."""
        found = parse_json(line, _JOURNAL, _LONGEST_LINE)
        opinions = {opinion.value: opinion for opinion in Opinion}
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            before, after, digest = found.get("from"), found.get("to"), found.get("picture", "")
            if before in {*opinions, "", _REMOVED} and after in {*opinions, _REMOVED} and _DIGEST.fullmatch(digest):
                return cls(
                    digest,
                    printable(found.get("name", "")),
                    printable(found.get("path", "")),
                    opinions.get(before),
                    opinions.get(after),
                    printable(found.get("when", "")),
                    before == _REMOVED,
                )
        raise UnreadableFile(f"A line of {_JOURNAL} is none of a taste profile.", "Begin a new one.")


class State(NamedTuple):
    """A profile as it is.

    Attributes:
        sums: of its pictures.
        pictures: how many there are.
        sources: their :func:`~aesthetic_clip.embeddings.metadata.source_hash`.
        created: when it was begun.
        model_ids: the encoder of the first picture, by the name of its space.
        journal: bytes of the journal that are in it.
    """

    sums: Sums = Sums()
    pictures: Counts = Counts()
    sources: str = "0" * 64
    created: str = ""
    model_ids: Mapping[str, str] = MappingProxyType({})
    journal: int = 0

    def changed(self, change: Change, picture: Picture, journal: int) -> State:
        """After a change, with which the journal has this length."""
        sums = self.sums.changed(picture.vectors, change.before, change.after)
        source = int(source_hash([picture.name]), 16)
        sources = int(self.sources, 16) + source * ((change.after is not None) - (change.before is not None))
        models = {space.name: model for space, model in picture.model_ids.items()} | dict(self.model_ids)
        return State(
            sums,
            self.pictures.changed(change.before, change.after),
            f"{sources % 2**256:064x}",
            self.created or change.when,
            {space.name: models[space.name] for space in sums.totals if space.name in models},
            journal,
        )


class ProfileFiles:
    """The folder of one profile.

    Everything raises AestheticError where something there can't be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_unfinished(self) -> bool:
        """Whether it has no state: it is just being begun, or its beginning or end was cut off."""
        return not (self.folder / _STATE).exists()

    def state(self) -> State:
        """What it is now; of a folder without a state, that of a profile without pictures."""
        path = self.folder / _STATE
        if not path.exists():
            return State()
        tensors, metadata = self._read(path)
        with self._reading():
            if metadata.get("kind") != _KIND:
                raise UnreadableFile(f"{_STATE} is none of a taste profile.", "Begin a new one.")
            if any(tensor.shape[:-1] != (2,) or tensor.dtype != torch.int64 for tensor in tensors.values()):
                raise UnreadableFile(f"{_STATE} holds other sums.", "Begin a new one.")
            totals = {space_of(tensor.shape[-1]): tensor for tensor in tensors.values()}
            counts = _json(metadata["counts"])
            return State(
                Sums(totals, {space: Counts(*map(int, counts[space.name])) for space in totals}),
                Counts(*map(int, _json(metadata["pictures"]))),
                f"{int(metadata['sources'], 16):064x}",
                metadata["created"],
                dict(_json(metadata["model_id"])),
                int(metadata["journal"]),
            )

    def settle(self) -> State:
        """The state, after what killed programs had begun was taken back or finished."""
        state = self.state()
        path = self.folder / _JOURNAL
        with self._writing():
            if not path.exists() and not state.journal:
                return state
            if not state.journal and (begun := self._begun(0)) and (opinion := begun[0].after):
                # There is an embedding of its first picture, so only the state was still to come.
                picture = self.picture(begun[0].digest, opinion.value)
                with path.open("rb") as journal:
                    state = state.changed(begun[0], picture, len(journal.readline()))
                self._commit(state)
            if path.stat().st_size > state.journal:
                for change in reversed(self._begun(state.journal)):
                    self._put(change, back=True)
                os.truncate(path, state.journal)
            if (last := self._last(state)) is not None:
                self._put(last[0])
        return state

    def opinion(self, digest: str) -> Opinion | None:
        """What is thought of a picture, None if it is not there."""
        return next((opinion for opinion in Opinion if self._file(digest, opinion.value).is_file()), None)

    def picture(self, digest: str, place: str) -> Picture:
        """A picture that is there."""
        tensors, metadata = self._read(self._file(digest, place))
        with self._reading():
            thumbnail = bytes(tensors.pop(_THUMBNAIL).numpy())
            vectors = {space_of(tensor.numel()): tensor for tensor in tensors.values()}
            models = _json(metadata["model_id"])
            return Picture(
                digest,
                printable(metadata["name"]),
                vectors,
                thumbnail,
                printable(metadata["path"]),
                {space: str(models[space.name]) for space in vectors if space.name in models},
            )

    def change(
        self,
        state: State,
        picture: Picture,
        after: Opinion | None,
        first: Callable[[State], object] = lambda state: None,
    ) -> State:
        """Have a picture liked, disliked or removed; the state as it was committed.

        Args:
            state: as it is.
            picture: which; of one that is there already, what is there counts.
            after: None removes it.
            first: called before the state is committed.
        """
        before = self.opinion(picture.digest)
        was_removed = before is None and self._file(picture.digest, _REMOVED).is_file()
        if before is not None or was_removed:
            # With the very vectors that were added, or are going to be taken out again.
            picture = self.picture(picture.digest, before.value if before else _REMOVED)
        name, path = (
            printable(text)[:most] for text, most in ((picture.name, _LONGEST_NAME), (picture.path, _LONGEST_PATH))
        )
        picture = picture._replace(name=name, path=path)
        change = Change(picture.digest, name, path, before, after, now(), was_removed)
        line = change.line()
        new = state.changed(change, picture, state.journal + len(line))
        new.sums.vectors()  # refused before anything is written
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._append(line)
            if before is None and not was_removed and after is not None:
                write_atomically(self._file(picture.digest, after.value), _picture_bytes(picture))
            first(new)
            self._commit(new)
            self._put(change)
        return new

    def undo(self, state: State) -> tuple[State, Change] | None:
        """Take the last change back, whatever it was; None if there is none."""
        with self._writing():
            found = self._last(state)
            if found is None:
                return None
            last, length = found
            picture = self.picture(last.digest, last.after.value if last.after else _REMOVED)
            back = last._replace(before=last.after, after=last.before)
            new = state.changed(back, picture, state.journal - length)
            if not any(new.pictures):
                # Without a state it is a profile without pictures.
                (self.folder / _STATE).unlink()
                return State(), last
            self._commit(new)
            self._put(last, back=True)
            os.truncate(self.folder / _JOURNAL, new.journal)
        return new, last

    def pictures(self, state: State) -> list[Change]:
        """The pictures that are there, the latest first: for each the change that brought it where it is."""
        found: dict[str, Change] = {}
        with self._writing():
            for change in self._changes(0, state.journal) if state.journal else ():
                found.pop(change.digest, None)
                if change.after is not None:
                    found[change.digest] = change
        return list(found.values())[::-1]

    def delete(self) -> None:
        """Remove everything."""
        with self._writing():
            shutil.rmtree(self.folder)

    def move(self, target: Path) -> None:
        """Move the folder to a free place, also to another disk; at any moment it is whole at one of them.

        Raises:
            OSError: it can't be moved; it is where it was.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self.folder, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy = target.with_name(f"{target.name}.moving")
            shutil.rmtree(copy, ignore_errors=True)  # of a program that was killed
            shutil.copytree(self.folder, copy)
            os.rename(copy, target)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, digest: str, place: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise AestheticError(
                f"There is no picture {digest[:100]!r}.", "That is no picture's name here.", "Take one of the list."
            )
        return self.folder / place / f"{digest}.safetensors"

    def _put(self, change: Change, back: bool = False) -> None:
        """Have a picture's file where it belongs after a change, or before it."""
        after = self._file(change.digest, change.after.value if change.after else _REMOVED)
        earlier = change.before.value if change.before else _REMOVED if change.was_removed else ""
        if not earlier:  # it came with this change
            if back:
                after.unlink(missing_ok=True)
            return
        old = self._file(change.digest, earlier)
        source, target = (after, old) if back else (old, after)
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(source, target)

    def _append(self, line: bytes) -> None:
        with (self.folder / _JOURNAL).open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _last(self, state: State) -> tuple[Change, int] | None:
        """The last change, and how long its line is."""
        if not state.journal:
            return None
        with (self.folder / _JOURNAL).open("rb") as file:
            start = max(0, state.journal - _LONGEST_LINE)
            file.seek(start)
            content = file.read(state.journal - start)
        if len(content) < state.journal - start:
            raise self._damaged("Its journal is shorter than it has to be.")
        with self._reading():
            line = content.rstrip(b"\n").rpartition(b"\n")[2]
            return Change.parse(line), len(line) + 1

    def _begun(self, start: int) -> list[Change]:
        """Changes behind this place, as far as they can be read: a failing disk may have left anything there."""
        found = []
        with (self.folder / _JOURNAL).open("rb") as file:
            file.seek(start)
            for line in file.read(_LARGEST_FILE).split(b"\n")[:-1]:
                with contextlib.suppress(UnreadableFile):
                    found.append(Change.parse(line))
        return found

    def _changes(self, start: int, end: int) -> list[Change]:
        """The whole lines of a part of the journal."""
        if end > _LARGEST_JOURNAL:
            raise self._damaged("Its journal is too large.")
        with (self.folder / _JOURNAL).open("rb") as file:
            file.seek(start)
            content = file.read(end - start)
        with self._reading():
            if len(content) < end - start or not content.endswith(b"\n"):
                raise UnreadableFile("Its journal is not whole.")
            return [Change.parse(line) for line in content.split(b"\n")[:-1]]

    def _commit(self, state: State) -> None:
        metadata = {
            "kind": _KIND,
            "counts": json.dumps({space.name: counts for space, counts in state.sums.counts.items()}),
            "pictures": json.dumps(state.pictures),
            "sources": state.sources,
            "created": state.created,
            "model_id": json.dumps(dict(state.model_ids)),
            "journal": str(state.journal),
        }
        tensors = {space.name: total.contiguous() for space, total in state.sums.totals.items()}
        write_atomically(self.folder / _STATE, safetensors.torch.save(tensors, metadata))

    def _read(self, path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
        with self._reading(), open_tensors(path) as file:
            return file.read(file.tensors, _LARGEST_FILE), file.metadata

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except UnreadableFile as error:
            raise self._damaged(error.why) from error
        except FileNotFoundError as error:
            raise self._damaged(f"{Path(str(error.filename)).name} is not there.") from error
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}.") from error

    def _damaged(self, why: str) -> AestheticError:
        return AestheticError(
            f"The pictures of a taste profile can't be read: {printable(str(self.folder))}.",
            why,
            "Its embedding can be used as it is; to like more pictures, begin a new one under another name.",
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AestheticError(
                "The taste profile was not changed.",
                f"{error.strerror or error}: {printable(str(error.filename or self.folder))}.",
                "Check that the folder can be written and has space left.",
            ) from error


def _json(text: str) -> Any:
    return parse_json(text.encode(), _STATE)


def _picture_bytes(picture: Picture) -> bytes:
    metadata = {
        "name": picture.name,
        "path": picture.path,
        "model_id": json.dumps({space.name: model for space, model in picture.model_ids.items()}),
    }
    tensors = {space.name: vector.contiguous() for space, vector in picture.vectors.items()}
    tensors[_THUMBNAIL] = torch.from_numpy(numpy.frombuffer(picture.thumbnail, numpy.uint8).copy())
    return safetensors.torch.save(tensors, metadata)
