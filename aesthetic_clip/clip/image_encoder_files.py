"""Where the weights of CLIP's image encoders are: on the disk, or on the hub, from where they are fetched if allowed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..download import DownloadFailed, fetch_file, is_digest
from ..errors import AestheticError, Remedy, first_line
from ..progress import Progress, silent
from ..readers.faults import UnreadableFile
from ..readers.shards import shards
from ..spaces import Space

AllowDownload = Callable[[int, str], bool]

DOWNLOADS = Path("~/.cache/aesthetic_clip").expanduser()
_OPENAI_CACHE = Path("~/.cache/clip").expanduser()
_TRANSFORMERS_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class Checkpoint:
    """Weights on the disk.

    Attributes:
        library: ``transformers`` (a folder with config.json) or ``open_clip`` (a file).
        path: the folder or the file.
        model_id: what it is called in metadata; never a path.
    """

    library: str
    path: Path
    model_id: str


def nothing_found(
    space: Space, folder: Path, why: str = "", remedy: Remedy | None = Remedy.IMAGE_ENCODER
) -> AestheticError:
    arch, tag = space.open_clip or ("", "")
    place = folder / _folder_name(space)
    if space.hub_id is None:
        return AestheticError(
            f"There is no image encoder for {space.name}.",
            f"It is none of the published spaces, and there are no config.json and model.safetensors in {place}.",
            "Put that CLIP's there, as its makers give them.",
        )
    looked = f"Neither a model's folder nor a file {_OPEN_CLIP_FILES[0]} is at {place}."
    if tag == "openai":
        looked = (
            f"Neither {arch}.pt is in {folder}, nor config.json and model.safetensors of {space.hub_id} in {place}."
        )
    why = why or "It is in none of the caches of Hugging Face, open_clip and OpenAI's CLIP."
    return AestheticError(
        f"There is no image encoder for {space.name}.",
        f"{why} {looked}",
        "Put it there, or name its path, or allow the download.",
        remedy,
    )


def find_checkpoint(space: Space, path: str | Path = "", folders: Sequence[Path] = ()) -> Checkpoint | None:
    """Weights of a space's image encoder that are already on the disk; never touches the network.

    Raises:
        AestheticError: ``path`` is given and holds none.
    """
    if str(path):
        return _given(space, Path(path).expanduser())
    for repo in _repositories(space):
        for library, names in (("transformers", _TRANSFORMERS_FILES), ("open_clip", _OPEN_CLIP_FILES)):
            for name in names:
                file = _cached(repo, name)
                if file is not None and (library == "open_clip" or _is_transformers_folder(file.parent)):
                    return Checkpoint(library, file if library == "open_clip" else file.parent, repo)
    for folder in (*map(Path, folders), DOWNLOADS, _OPENAI_CACHE):
        found = _in_folder(space, folder / _folder_name(space))
        openai = _openai_file(space, folder)
        if found or openai:
            return found or openai
    return None


def _folder_name(space: Space) -> str:
    return (space.hub_id or space.name).rpartition("/")[2]


def _repositories(space: Space) -> Iterator[str]:
    if space.hub_id:
        yield space.hub_id
    if space.open_clip:
        with contextlib.suppress(ImportError):
            import open_clip

            repo = (open_clip.get_pretrained_cfg(*space.open_clip).get("hf_hub") or "").rstrip("/")
            # "owner/name" or "owner/name/file"
            if repo.count("/") == 1 and repo != space.hub_id:
                yield repo


def _cached(repo: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, name)
    return Path(found) if isinstance(found, str) else None


def _given(space: Space, path: Path) -> Checkpoint:
    subject = f"The image encoder for {space.name} can't be loaded from {path}."
    if not path.exists():
        raise AestheticError(
            subject,
            "There is no such file or folder.",
            "Correct the path, or leave it out to have it looked for.",
            Remedy.IMAGE_ENCODER,
        )
    if path.is_dir():
        found = _in_folder(space, path) or _openai_file(space, path)
        if found is None:
            raise AestheticError(
                subject,
                f"The folder holds neither config.json with model.safetensors nor {_OPEN_CLIP_FILES[0]}.",
                "Name the folder or file that does.",
            )
        return found
    if path.name in _TRANSFORMERS_FILES and _is_transformers_folder(path.parent):
        return Checkpoint("transformers", path.parent, path.parent.name)
    return Checkpoint("open_clip", path, path.name)


def _in_folder(space: Space, folder: Path) -> Checkpoint | None:
    model_id = space.hub_id if space.hub_id and folder.name == _folder_name(space) else folder.name
    if _is_transformers_folder(folder):
        return Checkpoint("transformers", folder, model_id)
    file = next((folder / name for name in _OPEN_CLIP_FILES if (folder / name).is_file()), None)
    return Checkpoint("open_clip", file, model_id) if file else None


def _openai_file(space: Space, folder: Path) -> Checkpoint | None:
    arch, tag = space.open_clip or ("", "")
    file = folder / f"{arch}.pt"
    return Checkpoint("open_clip", file, f"openai {arch}") if tag == "openai" and file.is_file() else None


def _is_transformers_folder(folder: Path) -> bool:
    if not (folder / "config.json").is_file():
        return False
    for name in _TRANSFORMERS_FILES:
        if (folder / name).is_file():
            if not name.endswith(".index.json"):
                return True
            # A cache may hold a part of the shards only.
            with contextlib.suppress(OSError, UnreadableFile):
                if all(shard.is_file() for shard in shards(folder / name)):
                    return True
    return False


def offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def download(
    space: Space,
    folder: Path,
    allow: AllowDownload,
    progress: Progress = silent,
) -> Checkpoint:
    """Fetch a space's encoder from the Hugging Face hub into a folder of its own below ``folder``.

    Resumed after a break or a stop, and checked against the hub's hash. The
    whole model is fetched, as it is published; its text half is not loaded.

    Args:
        space: whose encoder.
        folder: where its folder goes.
        allow: is told the size in bytes and a description, and decides.
        progress: is told the bytes done and the bytes in all; may raise to stop.

    Raises:
        AestheticError: refused, no network, no room, or not what the hub announced.
        Interrupted: stopped by ``progress``; what has come is kept for the next try.
    """
    if space.hub_id is None:
        raise nothing_found(space, folder)
    openai = space.open_clip is not None and space.open_clip[1] == "openai"
    # Each with its substitutes; the small one first, since a folder with its weights counts as complete.
    names = (("config.json",), ("model.safetensors",)) if openai else (_OPEN_CLIP_FILES,)
    subject = f"The image encoder for {space.name} was not downloaded."
    parts = [_remote(space.hub_id, name, subject) for name in names]
    total = sum(part.size for part in parts)
    what = f"{space.hub_id}, {total / 1e9:.1f} GB"
    if not allow(total, what):
        raise nothing_found(space, folder, f"It would have to be downloaded ({what}).", Remedy.DOWNLOAD)
    target = folder / _folder_name(space)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target).free < total:
            raise AestheticError(
                subject, f"{target} has no room for {total / 1e9:.1f} GB.", "Free some space, or choose another folder."
            )
        before = 0
        for part in parts:
            fetch_file(part.url, target / part.name, part.size, part.etag, _shifted(space, progress, before, total))
            before += part.size
    except DownloadFailed as failure:
        raise AestheticError(subject, failure.why, failure.do) from failure
    except OSError as error:
        raise AestheticError(
            subject,
            f"{target} can't be written: {error.strerror or error}.",
            "Free some space, or choose another folder; what has come is kept.",
        ) from error
    found = _in_folder(space, target)
    if found is None:
        raise AestheticError(subject, f"{target} is incomplete.", "Try again.")
    return found


def _shifted(space: Space, progress: Progress, before: int, total: int) -> Progress:
    """That of one file, as a part of all of them."""

    def told(done: int, _size: int, _line: str) -> None:
        done += before
        progress(done, total, f"Downloading the image encoder for {space.name}: {done >> 20} of {total >> 20} MB")

    return told


@dataclass(frozen=True)
class _Remote:
    name: str
    url: str
    size: int
    etag: str


def _remote(repo: str, names: Sequence[str], subject: str) -> _Remote:
    """The first of these files that the hub has."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import EntryNotFoundError

    failure: Exception = FileNotFoundError("the hub does not have it")
    for name in names:
        try:
            meta = get_hf_file_metadata(hf_hub_url(repo, name))
            if not meta.size or not is_digest(meta.etag or ""):
                raise ValueError("the hub does not tell its size and its hash")
            return _Remote(name, meta.location, meta.size, meta.etag)
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client has changed its HTTP library, and with it its exceptions
            failure = error
            break
    raise AestheticError(
        subject,
        f"{names[0]} of {repo} can't be reached ({first_line(failure)}).",
        "Check the network, or get it by other means and name its path.",
        Remedy.IMAGE_ENCODER,
    ) from failure
