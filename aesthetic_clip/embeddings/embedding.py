"""Aesthetic embeddings as files: one unit vector per CLIP space.

``.safetensors`` is the project's own format: one fp32 vector of shape (D,) per
space, named after it, with text metadata. ``.pt`` is the paper's: one tensor of
shape (1, D) or (D,), any float dtype and any length.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import AestheticError
from ..files import write_atomically
from ..geometry import unit
from ..spaces import Space, space_of
from . import legacy_pt

SUFFIXES = (".safetensors", ".pt")
FORMAT_VERSION = "1"
_MAX_BYTES = 16 * 2**20  # the largest plausible file is some 12 KB; anything this big is a model


@dataclass(frozen=True)
class Embedding:
    """An aesthetic embedding.

    Attributes:
        name: how it is picked; a path below an embedding folder, without suffix.
        vectors: CLIP space to unit vector, fp32 (D,) on the CPU.
        metadata: text that travels with the file.
        digest: hash of the vectors, so that caches notice a changed file.
        path: where it was read from, if it was.
    """

    name: str
    vectors: Mapping[Space, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None

    @property
    def digest(self) -> str:
        sha = hashlib.sha256()
        for space in sorted(self.vectors, key=lambda s: s.dim):
            sha.update(self.vectors[space].numpy().tobytes())
        return sha.hexdigest()[:16]

    @property
    def spaces(self) -> str:
        return " and ".join(str(space) for space in self.vectors)


def load(path: Path | str, name: str | None = None) -> Embedding:
    """Read an embedding file; nothing in it is ever executed.

    Raises:
        AestheticError: missing, unreadable, not an embedding, or not usable as one.
    """
    path = Path(path)
    name = name or path.stem
    subject = f"The aesthetic embedding {name!r} can't be used."
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise AestheticError(
                subject,
                f"{path.name} has {path.stat().st_size / 2**20:.0f} MB, an embedding a few KB.",
                "Perhaps a model was put into the embedding folder: move it out.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise AestheticError(
            subject, f"{path} can't be read: {error.strerror or error}.", "Refresh the list, or put the file back."
        ) from error
    if not data:
        raise AestheticError(subject, f"{path.name} is empty.", "Copy or download it again.")
    tensors, metadata = _read_safetensors(data, subject) if path.suffix == ".safetensors" else _read_pt(data, subject)
    vectors: dict[Space, Tensor] = {}
    for key, tensor in tensors.items():
        vector = _unit_vector(tensor, f"tensor {key!r} in {path.name}" if key else path.name, subject)
        space = space_of(vector.numel())
        if space in vectors:
            raise AestheticError(
                subject, f"{path.name} holds two vectors of width {space.dim}.", "Keep one per CLIP space."
            )
        vectors[space] = vector
    if not vectors:
        raise AestheticError(subject, f"{path.name} holds no vector.", "Make it again from its pictures.")
    return Embedding(name, dict(sorted(vectors.items(), key=lambda item: item[0].dim)), metadata, path)


def _read_safetensors(data: bytes, subject: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        tensors = safetensors.torch.load(data)
        # The library's reader of bytes drops the metadata; the header is JSON after an 8-byte length.
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        metadata = {str(k): str(v) for k, v in header.get("__metadata__", {}).items()}
    except Exception as error:  # the library raises its own and several built-in types
        raise AestheticError(
            subject, f"It is not a whole .safetensors file ({error}).", "Copy or download it again."
        ) from error
    return tensors, metadata


def _read_pt(data: bytes, subject: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        content = legacy_pt.read(data)
    except pickle.UnpicklingError as error:
        raise AestheticError(
            subject,
            "It is a damaged pickle, or one that holds more than tensors and could run code; it was not executed.",
            "Get it from a source that you trust, best as .safetensors.",
        ) from error
    except Exception as error:  # a damaged file can fail anywhere: zip, pickle, sizes
        raise AestheticError(
            subject, f"It is not a whole .pt file ({error or type(error).__name__}).", "Copy or download it again."
        ) from error
    if not isinstance(content, Tensor):
        raise AestheticError(
            subject,
            f"Its .pt file holds a {type(content).__name__}, not a tensor.",
            "A textual inversion is not an aesthetic embedding; those go to embeddings/.",
        )
    return {"": content}, {}


def _unit_vector(tensor: Tensor, where: str, subject: str) -> Tensor:
    shape = tuple(tensor.shape)
    if not tensor.is_floating_point() or tensor.layout is not torch.strided:
        raise AestheticError(subject, f"The {where} is of type {tensor.dtype}.", "It has to be a float vector.")
    if not (len(shape) == 1 or (len(shape) == 2 and shape[0] == 1)) or shape[-1] < 2:
        raise AestheticError(
            subject,
            f"The {where} has the shape {shape}.",
            "It has to be one vector: (D,) or (1, D), e.g. (1, 768) for SD 1.x.",
        )
    vector = tensor.detach().to("cpu", torch.float32).reshape(-1)
    if not torch.isfinite(vector).all():
        raise AestheticError(subject, f"The {where} holds NaN or infinite numbers.", "Make it again from its pictures.")
    # In float64, since the square of a tiny fp32 number is 0.
    wide = vector.double()
    length = float(wide.norm())
    if not length > 0:
        raise AestheticError(
            subject, f"The {where} is all zeros and points nowhere.", "Make it again from its pictures."
        )
    # A unit vector stays as it is to the last bit, so that its digest does.
    return vector.clone() if abs(length - 1) < 1e-6 else unit(wide).float()


def to_bytes(embedding: Embedding, suffix: str) -> bytes:
    """The file's content: ``.safetensors``, or ``.pt`` as (1, 768) fp32 for the old tools.

    Raises:
        AestheticError: another suffix, or ``.pt`` was asked for with no ViT-L/14 vector.
    """
    if suffix not in SUFFIXES:
        raise AestheticError(
            f"{embedding.name!r} can't be written as {suffix or 'a file without suffix'!r}.",
            f"An embedding is a {' or '.join(SUFFIXES)} file.",
            "Choose one of them.",
        )
    if suffix == ".safetensors":
        metadata = {**embedding.metadata, "format_version": FORMAT_VERSION, "name": embedding.name}
        return safetensors.torch.save({s.name: v.contiguous() for s, v in embedding.vectors.items()}, metadata)
    vector = next((v for s, v in embedding.vectors.items() if s.dim == 768), None)
    if vector is None:
        raise AestheticError(
            f"{embedding.name!r} can't be exported as .pt.",
            f"Old tools read ViT-L/14 vectors only, and this one has {embedding.spaces}.",
            "Export it as .safetensors.",
        )
    buffer = io.BytesIO()
    torch.save(vector.reshape(1, -1).clone(), buffer)
    return buffer.getvalue()


def save(embedding: Embedding, path: Path) -> None:
    """Write the format that ``path`` ends in, see :func:`to_bytes`.

    The file appears whole or not at all: it is written beside its place and renamed.

    Raises:
        AestheticError: the folder can't be written, or this format can't hold the embedding.
    """
    write_atomically(path, to_bytes(embedding, path.suffix))
