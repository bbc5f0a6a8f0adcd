"""CLIP's image encoders: found on the disk, downloaded only if allowed, only the vision half in memory."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import http.client
import inspect
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .errors import AestheticError, Interrupted
from .preprocess import CLIP_MEAN, CLIP_STD
from .spaces import Space
from .weights import read_tensors

AllowDownload = Callable[[int, str], bool]
DownloadProgress = Callable[[int, int], None]

DOWNLOADS = Path("~/.cache/aesthetic_clip").expanduser()
_OPENAI_CACHE = Path("~/.cache/clip").expanduser()
_TRANSFORMERS_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
_CHUNK = 2**20
_TRIES = 5


class ImageEncoder:
    """The vision half of a CLIP model.

    Attributes:
        space: the space of its features.
        size: side of the square images it takes.
        mean, std: what their pixels are normalised with.
        model_id: which model it is, for people and for the metadata of embeddings.
        device: where it computes.
    """

    def __init__(
        self,
        space: Space,
        tower: nn.Module,
        size: int,
        model_id: str,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        self.space, self.size, self.model_id = space, size, model_id
        self.mean, self.std = tuple(mean), tuple(std)
        self._tower: nn.Module | None = tower.eval().requires_grad_(False)
        self.to("cpu")

    def to(self, device: str | torch.device) -> ImageEncoder:
        """Move it; it computes in half precision on a GPU and in fp32 on the CPU."""
        self.device = torch.device(device)
        self._dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self._live().to(self.device, self._dtype)
        return self

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) normalised pixels to (B, D) raw projected features, fp32, on the encoder's device."""
        with torch.no_grad():
            return self._live()(pixels.to(self.device, self._dtype)).float()

    def close(self) -> None:
        """Give its memory back; it can't be used afterwards."""
        self._tower = None
        gc.collect()
        if self.device.type != "cpu":
            # cuda, mps and xpu each have one.
            getattr(getattr(torch, self.device.type, None), "empty_cache", lambda: None)()

    def _live(self) -> nn.Module:
        if self._tower is None:
            raise RuntimeError("this image encoder is closed")
        return self._tower

    def __enter__(self) -> ImageEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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


def load_encoder(
    space: Space,
    path: str | Path = "",
    folders: Sequence[Path] = (),
    device: str | torch.device = "cpu",
    allow_download: AllowDownload | None = None,
    progress: DownloadProgress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> ImageEncoder:
    """The image encoder of a space, from where it is found first.

    Args:
        space: whose encoder.
        path: the user's own copy, a folder or a file; nothing else is tried then.
        folders: more places to look in; a download goes to the first of them.
        device: where it is to compute.
        allow_download: is told size in bytes and a description, and decides; None is no.
        progress: is told bytes done and bytes in all during a download.
        stopped: ends a download when it says True; what has come is kept for the next try.

    Raises:
        AestheticError: there is none, or what is there can't be used.
        Interrupted: stopped while downloading.
    """
    checkpoint = find_checkpoint(space, path, folders)
    if checkpoint is None:
        folder = Path(folders[0]) if folders else DOWNLOADS
        if allow_download is None or space.hub_id is None or _offline():
            why = "Downloads are switched off (HF_HUB_OFFLINE)." if _offline() else ""
            raise _nothing_found(space, folder, why)
        checkpoint = download(space, folder, allow_download, progress, stopped)
    return load(space, checkpoint).to(device)


def _nothing_found(space: Space, folder: Path, why: str = "") -> AestheticError:
    arch, tag = space.open_clip or ("", "")
    name = _folder_name(space)
    do = f"Put the model's folder {name} or its file {_OPEN_CLIP_FILES[0]} as {folder / name}, "
    if tag == "openai":
        do = f"Put {arch}.pt into {folder}, or config.json and model.safetensors of {space.hub_id} into {folder / name}, "
    return AestheticError(
        f"There is no image encoder for {space.name}.",
        why or "It is in none of the caches of Hugging Face, open_clip and OpenAI's CLIP.",
        do + "or give its path in the settings, or allow the download.",
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
        found = _in_folder(space, folder / _folder_name(space)) if space.hub_id else None
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
            subject, "There is no such file or folder.", "Correct the path in the settings, or empty it."
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
            with contextlib.suppress(OSError, ValueError, KeyError, AttributeError):
                shards = set(json.loads((folder / name).read_text("utf-8"))["weight_map"].values())
                if all((folder / shard).is_file() for shard in shards):
                    return True
    return False


def load(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    """Read weights into an encoder on the CPU; code in them is never executed.

    Raises:
        AestheticError: damaged, incomplete, or of another model.
    """
    subject = f"The image encoder for {space.name} can't be loaded from {checkpoint.path}."
    try:
        if checkpoint.library == "transformers":
            encoder = _from_transformers(space, checkpoint)
        else:
            encoder = _from_open_clip(space, checkpoint)
        # One blank image says more about width and size than any configuration.
        width = encoder.encode(torch.zeros(1, 3, encoder.size, encoder.size)).shape[-1]
    except AestheticError:
        raise
    except ImportError as error:
        raise AestheticError(subject, f"{error}.", "Install open_clip_torch and transformers.") from error
    except Exception as error:  # damaged weights fail in as many ways as there are readers
        raise AestheticError(
            subject,
            f"The weights are damaged or of another model ({_first_line(error)}).",
            "Get them again, or name another path in the settings.",
        ) from error
    if width != space.dim:
        raise AestheticError(
            subject,
            f"Its features have the width {width}, those of {space.name} have {space.dim}.",
            "Name the path of the right model.",
        )
    return encoder


class _Projected(nn.Module):
    """A transformers vision tower that returns its projected features and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).image_embeds


def _from_transformers(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    raw = json.loads((checkpoint.path / "config.json").read_text("utf-8"))
    config = CLIPVisionConfig.from_dict(raw.get("vision_config", raw))
    # In LAION's configurations the vision half repeats a default width; the whole model's is the true one.
    config.projection_dim = raw.get("projection_dim", config.projection_dim)
    with _quiet_transformers():
        model, info = CLIPVisionModelWithProjection.from_pretrained(
            str(checkpoint.path), config=config, local_files_only=True, output_loading_info=True
        )
    missing = [key for key in info["missing_keys"] if not key.endswith("position_ids")]
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, e.g. {missing[0]}")
    norm: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        norm = json.loads((checkpoint.path / "preprocessor_config.json").read_text("utf-8"))
    return ImageEncoder(
        space,
        _Projected(model),
        config.image_size,
        checkpoint.model_id,
        norm.get("image_mean", CLIP_MEAN),
        norm.get("image_std", CLIP_STD),
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its list of the text half's tensors, which are left out on purpose."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _from_open_clip(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    if space.open_clip is None:
        raise ValueError(f"open_clip knows no architecture for {space.name}")
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    arch, tag = space.open_clip
    config = open_clip.get_model_config(arch)
    if config is None:
        raise ValueError(f"this version of open_clip does not know {arch}")
    # OpenAI trained with a quicker GELU, which open_clip says in the tag and not in the architecture.
    quick_gelu = config.get("quick_gelu", False) or tag == "openai"
    weights = _visual_weights(checkpoint.path)
    # On the meta device nothing is allocated or drawn at random; needs a torch that can take tensors over.
    lean = "assign" in inspect.signature(nn.Module.load_state_dict).parameters
    with torch.device("meta" if lean else "cpu"):
        tower = _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), quick_gelu)
    tower.load_state_dict(weights, **({"assign": True} if lean else {}))
    return ImageEncoder(space, tower, config["vision_cfg"]["image_size"], checkpoint.model_id)


def _visual_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of ``visual.*`` in an open_clip or OpenAI checkpoint, without that prefix."""
    weights = read_tensors(path, lambda key: key.startswith("visual."))
    if not weights:
        raise ValueError("it holds no tensors called visual.*")
    return {key.removeprefix("visual."): value for key, value in weights.items()}


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def download(
    space: Space,
    folder: Path,
    allow: AllowDownload,
    progress: DownloadProgress | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Fetch a space's encoder from the Hugging Face hub into a folder of its own below ``folder``.

    Resumed after a break or a stop, and checked against the hub's hash. The
    whole model is fetched, as it is published; its text half is not loaded.

    Raises:
        AestheticError: refused, no network, no room, or not what the hub announced.
        Interrupted: stopped.
    """
    if space.hub_id is None:
        raise _nothing_found(space, folder)
    openai = space.open_clip is not None and space.open_clip[1] == "openai"
    # Each with its substitutes; the small one first, since a folder with its weights counts as complete.
    names = (("config.json",), ("model.safetensors",)) if openai else (_OPEN_CLIP_FILES,)
    subject = f"The image encoder for {space.name} was not downloaded."
    parts = [_remote(space.hub_id, name, subject) for name in names]
    total = sum(part.size for part in parts)
    if not allow(total, f"{space.hub_id}, {total / 1e9:.1f} GB"):
        raise _nothing_found(space, folder, "You did not want to download it.")
    target = folder / _folder_name(space)
    try:
        target.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(target).free < total:
            raise AestheticError(
                subject, f"{target} has no room for {total / 1e9:.1f} GB.", "Free some space, or choose another folder."
            )
        before = 0
        for part in parts:
            _fetch(part, target, _shifted(progress, before, total), stopped, subject)
            before += part.size
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


def _shifted(progress: DownloadProgress | None, before: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(before + done, total) if progress else None


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
            if not meta.size or not meta.etag:
                raise ValueError("the hub tells neither its size nor its hash")
            return _Remote(name, meta.location, meta.size, meta.etag)
        except EntryNotFoundError:
            continue
        except Exception as error:  # the hub's client has changed its HTTP library, and with it its exceptions
            failure = error
            break
    raise AestheticError(
        subject,
        f"{names[0]} of {repo} can't be reached ({_first_line(failure)}).",
        "Check the network, or get it by other means and name its path in the settings.",
    ) from failure


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _fetch(
    remote: _Remote, folder: Path, progress: Callable[[int], object], stopped: Callable[[], bool], subject: str
) -> None:
    # The hash in its name keeps a rest of an older version from being continued with a newer one.
    part = folder / f".{remote.name}.{remote.etag[:16]}.part"
    failures = 0
    while (have := part.stat().st_size if part.exists() else 0) < remote.size:
        try:
            _continue(remote, part, have, progress, stopped)
            failure = "the connection ended early"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            failure = str(error)
        progressed = part.exists() and part.stat().st_size > have
        failures = 0 if progressed else failures + 1
        if failures >= _TRIES:
            raise AestheticError(
                subject, f"{remote.name} did not come whole ({failure}).", "Try again: it continues where it ended."
            )
    if not _is_whole(part, remote):
        part.unlink()
        raise AestheticError(
            subject,
            f"What came as {remote.name} is not what the hub announced (wrong hash).",
            "Try again; if it happens again, something between you and the hub changes files.",
        )
    os.replace(part, folder / remote.name)


def _continue(
    remote: _Remote, part: Path, have: int, progress: Callable[[int], object], stopped: Callable[[], bool]
) -> None:
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as response:
        resumed = response.status == 206
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            while data := response.read(_CHUNK):
                file.write(data)
                have += len(data)
                progress(have)
                if stopped():
                    raise Interrupted


def _is_whole(part: Path, remote: _Remote) -> bool:
    # The hub's tag is the SHA-256 of large files and git's name, a SHA-1, of small ones.
    git = len(remote.etag) == 40
    digest = hashlib.sha1(f"blob {remote.size}\0".encode()) if git else hashlib.sha256()
    with part.open("rb") as file:
        while data := file.read(_CHUNK):
            digest.update(data)
    return part.stat().st_size == remote.size and digest.hexdigest() == remote.etag
