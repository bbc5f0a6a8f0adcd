"""The embeddings that the paper's author published, and how they are fetched: none of them is shipped."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..download import DownloadFailed, fetch_bytes
from ..errors import AestheticError
from ..files import write_atomically
from ..progress import Progress, silent

REPOSITORY = "https://github.com/vicgalle/stable-diffusion-aesthetic-gradients"
COMMIT = "30ca347d39eb7c92dd651a513cf4f795ed995708"
BASE_URL = (
    f"https://raw.githubusercontent.com/vicgalle/stable-diffusion-aesthetic-gradients/{COMMIT}/aesthetic_embeddings"
)


class Entry(NamedTuple):
    """One published embedding.

    Attributes:
        name: its name there and here.
        size: bytes.
        sha256: of the file.
        provenance: what it was made from, as far as its author's repository says.
    """

    name: str
    size: int
    sha256: str
    provenance: str

    @property
    def file_name(self) -> str:
        return f"{self.name}.pt"

    @property
    def url(self) -> str:
        return f"{BASE_URL}/{self.file_name}"


_LISTED = "One of the six embeddings of the paper (arXiv 2209.12330), which says how the set was obtained."
_LATER = "Added to the author's repository on 2022-10-16, after the paper; it does not say how the set was obtained."

CATALOGUE: tuple[Entry, ...] = (
    Entry(
        "sac_8plus",
        3819,
        "d3e267a606c90742c0b47c0010365c257240020cd73c1419201a30ba70d4a678",
        f"{_LISTED} From the SAC dataset; its author notes a bias towards fantasy aesthetics.",
    ),
    Entry(
        "laion_7plus",
        3819,
        "0ef2afc5fe81641ff67b7872d8d2c4c00d1d9100a5ebb887c6931f17843d7d56",
        f"{_LISTED} From the LAION aesthetics dataset; its author notes floral patterns.",
    ),
    Entry(
        "aivazovsky",
        2283,
        "56b94ef535483b6cf3cfcb711b74fe6521b3c1fb48455a1f603e0401aa1e404b",
        f"{_LISTED} From three works of the painter Ivan Aivazovsky.",
    ),
    Entry("cloudcore", 2283, "e43033d6b8b5d3544e61a1d2d8efd21bfedddd2fbed1deef4891d1be4a22708e", _LISTED),
    Entry("gloomcore", 2283, "c36bd2b13a2cd1ddb5251dce812e693f0d635d86b141508c4f91148ad5120af5", _LISTED),
    Entry("glowwave", 2283, "99065e72453bf08440912114cf429c26312c730b41f3c42eda053656736a738e", _LISTED),
    Entry("fantasy", 3819, "b23246edcbacc7db39032ca0c97bffb54becbc0dc456f7d14081bec50bb69de6", _LATER),
    Entry("flower_plant", 2283, "2b7fe366b35f1c4b83349ef9414ea565d725fd0ad219a9750e4113a88d91ef7f", _LATER),
)


def entries(names: Sequence[str]) -> list[Entry]:
    """The entries with these names, all of them if there are no names.

    Raises:
        AestheticError: a name that is not in the catalogue.
    """
    by_name = {entry.name: entry for entry in CATALOGUE}
    for name in names:
        if name not in by_name:
            raise AestheticError(
                f"There is no published embedding {name!r}.",
                f"There are: {', '.join(by_name)}.",
                "Choose among them, or leave the names out to get all.",
            )
    return [by_name[name] for name in names] or list(CATALOGUE)


@dataclass
class Downloads:
    """What became of a download.

    Attributes:
        saved: files that were fetched.
        kept: files that were there already, with the right hash.
        failures: what went wrong with the others, by name.
    """

    saved: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failures: dict[str, AestheticError] = field(default_factory=dict)


def download(
    wanted: Sequence[Entry],
    folder: Path,
    progress: Progress = silent,
    base_url: str = BASE_URL,
    others: Sequence[Path] = (),
) -> Downloads:
    """Fetch published embeddings into a folder; one that fails does not stop the others.

    Args:
        wanted: what to fetch.
        folder: where to; a file there of the same name but other content is left alone.
        progress: is told the entries done and the entries there are; may raise to stop.
        base_url: the address that holds the files.
        others: more folders where a file may be already, with their subfolders.

    Raises:
        Interrupted: stopped by ``progress``; what has come whole stays.
    """
    result = Downloads()
    for done, entry in enumerate(wanted):

        def fetching(_have: int, _size: int, _line: str, done: int = done, name: str = entry.name) -> None:
            progress(done, len(wanted), f"Downloading {name}")

        fetching(0, entry.size, "")
        path = folder / entry.file_name
        try:
            there = _found(entry, [folder, *others])
            if there:
                result.kept.append(there)
                continue
            try:
                content = fetch_bytes(f"{base_url}/{entry.file_name}", entry.size, entry.sha256, progress=fetching)
            except DownloadFailed as failure:
                raise AestheticError(f"{entry.name} was not downloaded.", failure.why, failure.do) from failure
            write_atomically(path, content)
            result.saved.append(path)
        except AestheticError as error:
            result.failures[entry.name] = error
    progress(len(wanted), len(wanted), "")
    return result


def _found(entry: Entry, folders: Sequence[Path]) -> Path | None:
    """Where the very file is already.

    Raises:
        AestheticError: in its place there is another one.
    """
    for path in _candidates(entry.file_name, folders):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AestheticError(
                f"{entry.name} was not downloaded.",
                f"{path} can't be read: {error.strerror or error}.",
                "Check its permissions.",
            ) from error
        if hashlib.sha256(data).hexdigest() == entry.sha256:
            return path
        if path.parent in folders:
            raise AestheticError(
                f"{entry.name} was not downloaded.",
                f"There is another file {path} with other content.",
                "Rename it or move it to the trash, then download again.",
            )
    return None


def _candidates(file_name: str, folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for place, subfolders, files in os.walk(folder):
            # Dot folders hold the trash and other tools' files.
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            if file_name in files:
                yield Path(place, file_name)
