"""Taste profiles: embeddings that grow from the pictures that people like, one by one.

A profile is an ordinary embedding, usable from its first picture on. Its metadata say which folder
below ``.tastes``, in the folder of embeddings where it was begun, holds its pictures, so it can be
renamed, moved to the trash and restored as any other: the pictures stay where they are, and are
found from it. A copy of the embedding alone, such as an exported one, can be used, but no longer grows.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..errors import AestheticError
from ..files import locked, reason, write_atomically
from ..printable import printable
from .embedding import Embedding, to_bytes
from .library import Entry, Library
from .metadata import Metadata
from .opinions import Counts, Opinion
from .profile_files import FOLDER as FOLDER
from .profile_files import Change, Picture, ProfileFiles, State

__all__ = ["Change", "Counts", "Opinion", "Outcome", "Picture", "Profile", "last_used", "opinion", "pictures", "profiles",
           "rate", "refuse_other", "remove", "thumbnail", "undo"]  # fmt: skip

DEFAULT_NAME = "my taste"
"""Of a profile that nobody has named."""
_UNFINISHED_SECONDS = 3600


class Profile(NamedTuple):
    """A profile of a library.

    Attributes:
        name: the embedding's.
        counts: of its pictures.
    """

    name: str
    counts: Counts


class Outcome(NamedTuple):
    """What became of a request.

    Attributes:
        profile: as it is now; without pictures there is none any more.
        picture: what people know the picture by.
        before, after: what was thought of the picture, and now is; None: it is not there.
    """

    profile: Profile
    picture: str
    before: Opinion | None
    after: Opinion | None


def profiles(library: Library) -> list[Profile]:
    """Every profile, by name."""
    if not any((folder / FOLDER).is_dir() for folder in library.folders):
        return []
    found = []
    for entry in library.entries():
        with contextlib.suppress(AestheticError):  # it can't be read, so it is none
            about = entry.load().about
            if _folder(library, entry, about) is not None:
                found.append(Profile(entry.name, Counts(about.liked or 0, about.disliked or 0)))
    return found


def last_used(library: Library) -> str | None:
    """The profile that was changed last."""
    times = []
    for profile in profiles(library):
        with contextlib.suppress(AestheticError, OSError):
            times.append((library.find(profile.name).stat().st_mtime, profile.name))
    return max(times)[1] if times else None


def refuse_other(library: Library, name: str) -> str:
    """The name, if it is that of a profile or may become one: to be asked before long work.

    Raises:
        AestheticError: it is not.
    """
    entry = _entry(library, name)
    if entry is None:
        return library.reserve(name)
    _files(library, entry)
    return entry.name


def opinion(library: Library, name: str, digest: str) -> Opinion | None:
    """What a profile thinks of a picture already; None also if there is no such profile.

    Raises:
        AestheticError: there is an embedding of that name that is none.
    """
    entry = _entry(library, name)
    return None if entry is None else _files(library, entry).opinion(digest)


def rate(library: Library, name: str, picture: Picture, opinion: Opinion) -> Outcome:
    """Have a profile like or dislike a picture, which begins it if it is not there.

    One that is there already is counted once: it moves over if it was on the other side. It takes as
    long for the ten-thousandth as for the first. When this has returned it is on the disk.

    Raises:
        AestheticError: the name is that of another embedding or can't be one, or nothing can be written.
    """
    with _changing(library, name) as (entry, files, state):
        if entry is None or files is None:
            name, before = library.refuse_taken(name), None
            files = ProfileFiles(_new_folder(library))
            path = library.folders[0] / f"{name}.safetensors"
            # The embedding before the state: pictures that no embedding knows of would stay for ever.
            state = files.change(state, picture, opinion, partial(_save, path, name, files))
        else:
            name, before = entry.name, files.opinion(picture.digest)
            if before is not opinion:
                state = files.change(state, picture, opinion)
            _save(entry.path, name, files, state)
    return Outcome(Profile(name, state.pictures), picture.name, before, opinion)


def undo(library: Library, name: str) -> Outcome:
    """Take the last change of a profile back, whatever it was; its vectors are those from before, bit by bit.

    With its only picture the profile goes, as if it had never been begun.

    Raises:
        AestheticError: there is no such profile, or nothing to take back.
    """
    with _changing(library, name) as (entry, files, state):
        if entry is None or files is None:
            raise _missing(library, name)
        undone = files.undo(state)
        if undone is None:
            raise AestheticError(f"There is nothing to take back in {entry.name!r}.", "It has no pictures.", "")
        state, change = undone
        if any(state.pictures):
            _save(entry.path, entry.name, files, state)
        else:
            # Not to the trash: what is restored from there could not grow any more.
            entry.path.unlink()
    if not any(state.pictures):
        files.delete()
    return Outcome(Profile(entry.name, state.pictures), change.name, change.after, change.before)


def remove(library: Library, name: str, digest: str) -> Outcome:
    """Take a picture out of a profile. Its small copy is kept, so that this can be undone.

    Raises:
        AestheticError: there is no such profile or picture, or it is the only one.
    """
    with _changing(library, name) as (entry, files, state):
        if entry is None or files is None:
            raise _missing(library, name)
        before = files.opinion(digest)
        if before is None:
            raise AestheticError(
                f"There is no picture {digest[:100]!r} in {entry.name!r}.", "", "Take one of its list of pictures."
            )
        if sum(state.pictures) == 1:
            raise AestheticError(
                f"The picture was not removed from {entry.name!r}.",
                "It is the only one, and nothing would be left.",
                "Undo it, or move the whole embedding to the trash.",
            )
        picture = files.picture(digest, before.value)
        state = files.change(state, picture, None)
        _save(entry.path, entry.name, files, state)
    return Outcome(Profile(entry.name, state.pictures), picture.name, before, None)


def pictures(library: Library, name: str) -> list[Change]:
    """The pictures of a profile, the latest first: for each the change that made it liked or disliked.

    Raises:
        AestheticError: there is no such profile, or its pictures can't be read.
    """
    files = _files(library, _existing(library, name))
    with locked(files.folder):
        return files.pictures(files.state())


def thumbnail(library: Library, name: str, digest: str) -> bytes:
    """The small copy of a picture, as the content of a JPEG file.

    Raises:
        AestheticError: there is no such profile or picture.
    """
    files = _files(library, _existing(library, name))
    with locked(files.folder):
        found = files.opinion(digest)
        if found is not None:
            return files.picture(digest, found.value).thumbnail
    raise AestheticError(f"There is no picture {digest[:100]!r} in {name!r}.", "", "Take one of its list of pictures.")


@contextlib.contextmanager
def _changing(library: Library, name: str) -> Iterator[tuple[Entry | None, ProfileFiles | None, State]]:
    """A profile that nobody else changes meanwhile, neither its pictures nor its name; as settled after kills."""
    failed = f"{name!r} was not changed."
    try:
        while True:
            entry = _entry(library, name)
            folder = entry.folder if entry else library.folders[0]
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                stack.enter_context(locked(folder))
                entry = _entry(library, name)
                if (entry.folder if entry else library.folders[0]) != folder:
                    continue  # it was moved just now
                if entry is None:
                    yield None, None, State()
                    return
                files = _files(library, entry)
                stack.enter_context(locked(files.folder))
                state = files.settle()
                yield entry, files, state
                return
    except (OSError, ValueError) as error:
        where = getattr(error, "filename", None)
        raise AestheticError(
            failed,
            f"{reason(error)}{f': {printable(str(where))}' if where else ''}.",
            "Check that the folder can be written and has space left.",
        ) from error


def _save(path: Path, name: str, files: ProfileFiles, state: State) -> None:
    note = ""
    with contextlib.suppress(AestheticError):
        note = Entry(name, str(path), path.parent).load().about.note
    embedding = _embedding(name, files, state, note)
    write_atomically(path, to_bytes(embedding, path.suffix))


def _embedding(name: str, files: ProfileFiles, state: State, note: str) -> Embedding:
    metadata = Metadata.of_profile(
        profile=files.folder.name,
        created=state.created,
        liked=state.pictures.liked,
        disliked=state.pictures.disliked,
        sources=state.sources,
        model_ids=state.model_ids,
        mean_cosine=state.sums.mean_cosine,
        note=note,
    )
    return Embedding(name, state.sums.vectors(), metadata)


def _entry(library: Library, name: str) -> Entry | None:
    wanted = name.strip()
    return next((entry for entry in library.entries() if entry.name == wanted), None)


def _existing(library: Library, name: str) -> Entry:
    entry = _entry(library, name)
    if entry is None:
        raise _missing(library, name)
    return entry


def _missing(library: Library, name: str) -> AestheticError:
    names = [profile.name for profile in profiles(library)]
    return AestheticError(
        f"There is no taste profile {name[:200]!r}.",
        f"There are: {', '.join(names[:20])}." if names else "",
        "Like a picture for it, which begins it.",
    )


def _files(library: Library, entry: Entry) -> ProfileFiles:
    """Where the pictures of a profile are.

    Raises:
        AestheticError: it is none.
    """
    about = entry.load().about
    folder = _folder(library, entry, about)
    if folder is not None:
        return ProfileFiles(folder)
    raise AestheticError(
        f"{entry.name!r} can't like pictures.",
        "It is a copy of a taste profile, whose pictures are not here."
        if about.profile
        else "It is an embedding that was made in another way, not a taste profile.",
        "Choose another name.",
    )


def _folder(library: Library, entry: Entry, about: Metadata) -> Path | None:
    if not about.profile or entry.path.suffix.lower() != ".safetensors":
        return None
    places = (folder / FOLDER / about.profile for folder in (entry.folder, *library.folders))
    return next((place for place in places if place.is_dir()), None)


def _new_folder(library: Library) -> Path:
    """A place for a new profile, after those were tidied away that were begun and never came to be."""
    root = library.folders[0] / FOLDER
    with contextlib.suppress(OSError):
        unfinished = [folder for folder in root.iterdir() if ProfileFiles(folder).is_unfinished]
        old = [folder for folder in unfinished if time.time() - folder.stat().st_mtime > _UNFINISHED_SECONDS]
        known = {entry.load().about.profile for entry in library.entries() if _is_readable(entry)} if old else set()
        for folder in old:
            if folder.name not in known:
                ProfileFiles(folder).delete()
    return root / secrets.token_hex(8)


def _is_readable(entry: Entry) -> bool:
    try:
        entry.load()
    except AestheticError:
        return False
    return True
