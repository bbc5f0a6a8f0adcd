"""CLIP ViT-L/14's text projection, which SD 1.x and SDXL checkpoints leave out.

It is the 768 x 768 matrix that takes the pooled hidden state into the space of the
image features. It is looked for on the disk; if it is nowhere, only that one
tensor (2.4 MB) is read from the published 1.7 GB file.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
import safetensors.torch
import torch
from torch import Tensor

from ..download import DownloadFailed, fetch_bytes
from ..errors import AestheticError, Remedy, first_line
from ..files import write_atomically
from ..progress import Progress, silent
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json
from ..readers.tensor_files import read_tensors
from ..spaces import VIT_L

HUB_REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"
_KEY = "text_projection.weight"
_CACHED_NAME = "clip-vit-large-patch14.text_projection.safetensors"
_MAX_BYTES = 32 * 2**20  # the largest published one, 1280 x 1280 in fp64, has 13 MB
_MAX_FETCH = 3 * 2**20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProjectionSources:
    """Where a text projection may come from, in this order.

    Attributes:
        path: a file or model folder named by the user.
        clip_folders: folders that may hold OpenAI's ``ViT-L-14.pt``.
        cache_folder: where the fetched matrix is kept.
        url: overrides the published file's address.
        progress: is told the bytes done of a fetch; may raise to stop.
    """

    path: Path | None = None
    clip_folders: Sequence[Path] = (Path.home() / ".cache" / "clip",)
    cache_folder: Path = Path.home() / ".cache" / "aesthetic_clip"
    url: str | None = None
    progress: Progress = silent

    @property
    def key(self) -> Hashable:
        """Tells apart what the user's own file was and is: a result with another projection is another one."""
        if self.path is None:
            return None
        stamps = []
        for file in _candidates(self.path):
            with contextlib.suppress(OSError, ValueError):
                found = file.stat()
                stamps.append((str(file), found.st_mtime_ns, found.st_size))
        return (str(self.path), *stamps)


def find_text_projection(width: int, sources: ProjectionSources) -> Tensor:
    """The projection for a text encoder of hidden size ``width``: (width, dim), fp32.

    Raises:
        AestheticError: it is nowhere and can't be fetched, or the user's file does not hold it.
    """
    if sources.path is not None:
        return _checked(_from_user(sources.path), width, sources.path)
    if width != VIT_L.dim:
        raise _missing(f"Its hidden size is {width}, and no published text projection has that.")
    kept = sources.cache_folder / _CACHED_NAME
    if kept.is_file():
        with contextlib.suppress(AestheticError):  # a damaged one is simply made again
            return _checked(_read(kept), width, kept)
    projection = _checked(_from_caches(sources) or _fetch(sources), width, kept)
    try:
        write_atomically(kept, safetensors.torch.save({_KEY: projection.T.contiguous()}))
    except AestheticError as error:
        _log.warning("%s The text projection will be looked for again next time.", error)
    return projection


def _candidates(path: Path) -> list[Path]:
    """The files that a path named by the user may mean."""
    if not path.is_dir():
        return [path]
    return [
        path / folder / name for folder in ("", "text_encoder") for name in ("model.safetensors", "pytorch_model.bin")
    ]


def _from_user(path: Path) -> _Found:
    for candidate in _candidates(path):
        if candidate.is_file():
            return _read(candidate)
    raise _missing(f"The given path, {path}, has no model file.")


def _from_caches(sources: ProjectionSources) -> _Found | None:
    files = []
    for name in ("model.safetensors", "pytorch_model.bin"):
        found = huggingface_hub.try_to_load_from_cache(str(VIT_L.hub_id), name)
        if isinstance(found, str):
            files.append(Path(found))
    files += [folder / "ViT-L-14.pt" for folder in sources.clip_folders]
    for file in files:
        if file.is_file():
            _log.info("Reading CLIP ViT-L/14's text projection from %s.", file)
            try:
                return _read(file)
            except AestheticError as error:
                _log.warning("%s", error)
    return None


def _read(path: Path) -> _Found:
    """The text projection in a model file, in its layout there."""
    try:
        found = read_tensors(path, _is_projection, _MAX_BYTES)
    except UnreadableFile as error:
        raise _missing(f"{path} can't be read: {error}") from error
    except OSError as error:
        raise _missing(f"{path} can't be read: {error.strerror or error}.") from error
    if not found:
        raise _missing(f"{path} holds no text_projection.")
    return _Found(*next(iter(found.items())))


def _is_projection(key: str) -> bool:
    return key.endswith(("text_projection", "text_projection.weight"))


@dataclass(frozen=True)
class _Found:
    key: str
    tensor: Tensor


def _checked(found: _Found, width: int, path: Path) -> Tensor:
    tensor = found.tensor.detach().float()
    # A Linear's weight is (out, in); OpenAI and open_clip keep the bare matrix (in, out).
    matrix = tensor.T if found.key.endswith(".weight") and tensor.ndim == 2 else tensor
    if matrix.ndim != 2 or matrix.shape[0] != width or not torch.isfinite(matrix).all():
        raise _missing(
            f"{path} holds a text projection of shape {tuple(tensor.shape)}, the text encoder has hidden size {width}."
        )
    return matrix.contiguous()


def _fetch(sources: ProjectionSources) -> _Found:
    url = sources.url or huggingface_hub.hf_hub_url(str(VIT_L.hub_id), "model.safetensors", revision=HUB_REVISION)
    if huggingface_hub.constants.HF_HUB_OFFLINE and sources.url is None:
        raise _missing("It is not on the disk, and HF_HUB_OFFLINE forbids to fetch it.")
    _log.info("Fetching CLIP ViT-L/14's text projection (2.4 MB, once) from %s.", url)

    def part(begin: int, length: int) -> bytes:
        return fetch_bytes(url, length, begin=begin, progress=sources.progress, line="Fetching CLIP's text projection")

    try:
        length = int.from_bytes(part(0, 8), "little")
        if not 0 < length < _MAX_FETCH:
            raise ValueError("the file is no .safetensors")
        entry = parse_json(part(8, length), "table of tensors", _MAX_FETCH)[_KEY]
        begin, end = entry["data_offsets"]
        if entry["dtype"] != "F32" or not 0 < end - begin < _MAX_FETCH - length:
            raise ValueError("the tensor has another type or size than expected")
        data = bytearray(part(8 + length + begin, end - begin))
        return _Found(_KEY, torch.frombuffer(data, dtype=torch.float32).reshape(entry["shape"]))
    except DownloadFailed as failure:
        raise _missing(f"It is not on the disk, and fetching it failed. {failure.why}") from failure
    except (UnreadableFile, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _missing(f"It is not on the disk, and fetching it from {url} failed ({first_line(error)}).") from error


def _missing(why: str) -> AestheticError:
    return AestheticError(
        "CLIP's text projection is missing, without which the text encoder can't be compared with an embedding.",
        why,
        "Download model.safetensors of openai/clip-vit-large-patch14, put it anywhere, and name its path.",
        Remedy.TEXT_PROJECTION,
    )
