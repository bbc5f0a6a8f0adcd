"""The embeddings that the paper's author published, and how they are fetched: none of them is shipped."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import AestheticError
from ..files import write_atomically

REPOSITORY = "https://github.com/vicgalle/stable-diffusion-aesthetic-gradients"
COMMIT = "30ca347d39eb7c92dd651a513cf4f795ed995708"
BASE_URL = (
    f"https://raw.githubusercontent.com/vicgalle/stable-diffusion-aesthetic-gradients/{COMMIT}/aesthetic_embeddings"
)
_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Entry:
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
    wanted: Sequence[Entry], folder: Path, progress: Callable[[int, int], None] | None = None, base_url: str = BASE_URL
) -> Downloads:
    """Fetch published embeddings into a folder; one that fails does not stop the others.

    Args:
        wanted: what to fetch.
        folder: where to; a file there of the same name but other content is left alone.
        progress: is told the entries done and the entries there are.
        base_url: the address that holds the files.
    """
    result = Downloads()
    for done, entry in enumerate(wanted):
        if progress:
            progress(done, len(wanted))
        path = folder / entry.file_name
        try:
            if _kept(entry, path):
                result.kept.append(path)
            else:
                write_atomically(path, _fetch(entry, f"{base_url}/{entry.file_name}"))
                result.saved.append(path)
        except AestheticError as error:
            result.failures[entry.name] = error
    if progress:
        progress(len(wanted), len(wanted))
    return result


def _kept(entry: Entry, path: Path) -> bool:
    """Whether the very file is there already."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise AestheticError(
            f"{entry.name} was not downloaded.",
            f"{path} can't be read: {error.strerror or error}.",
            "Check its permissions.",
        ) from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise AestheticError(
            f"{entry.name} was not downloaded.",
            f"There is another file {path} with other content.",
            "Rename it or move it to the trash, then download again.",
        )
    return True


def _fetch(entry: Entry, url: str) -> bytes:
    """The file behind an address, complete and with the right hash."""
    subject = f"{entry.name} was not downloaded."
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            # One byte more than it should have shows that it is another file, however large.
            data: bytes = response.read(entry.size + 1)
    except urllib.error.HTTPError as error:
        raise AestheticError(
            subject,
            f"The server answered {error.code} {error.reason} for {url}.",
            f"Try again later; if it stays so, fetch the file from {REPOSITORY} by hand.",
        ) from error
    except http.client.IncompleteRead as error:
        data = error.partial
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise AestheticError(
            subject,
            f"{url} can't be reached: {reason or type(error).__name__}.",
            "Check the internet connection and any proxy, then try again.",
        ) from error
    if len(data) < entry.size:
        raise AestheticError(subject, f"The connection broke after {len(data)} of {entry.size} bytes.", "Try again.")
    if len(data) > entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise AestheticError(
            subject,
            f"What {url} holds is not the published file: its SHA-256 differs.",
            "Nothing was saved. Something on the way may have replaced it, for example a login page: "
            "try another network.",
        )
    return data
