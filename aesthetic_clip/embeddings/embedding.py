"""Aesthetic embeddings as files: one unit vector per CLIP space.

``.safetensors`` is the project's own format: one fp32 vector of shape (D,) per
space, named after it, with text metadata. ``.pt`` is the paper's: one tensor of
shape (1, D) or (D,), any float dtype and any length.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ..errors import AestheticError
from ..files import write_atomically
from ..geometry import unit
from ..readers.faults import Executable, UnreadableFile, quoted
from ..readers.tensor_files import SAFETENSORS, SCRIPT, TensorFile, open_tensors
from ..spaces import Space, space_named, space_of
from .metadata import Metadata

SUFFIXES = (".safetensors", ".pt")
FORMAT_VERSION = "1"
_MAX_BYTES = 16 * 2**20  # the largest plausible file is some 12 KB; anything this big is a model
_INVERSION_KEYS = {"emb_params", "string_to_param", "string_to_token", "clip_l", "clip_g", "t5xxl"}
_SPACE_NAME = re.compile(r"CLIP-[0-9]{1,5}")
_PART = "aesthetic part"


@dataclass(frozen=True)
class Embedding:
    """An aesthetic embedding.

    Attributes:
        name: how it is picked; a path below an embedding folder, without suffix.
        vectors: CLIP space to unit vector, fp32 (D,) on the CPU.
        metadata: text that travels with the file; any mapping is made one that is harmless to show.
        digest: hash of the vectors, so that caches notice a changed file.
        path: where it was read from, if it was.
    """

    name: str
    vectors: Mapping[Space, Tensor]
    metadata: Mapping[str, str] = field(default_factory=Metadata)
    path: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", self.about)

    @property
    def about(self) -> Metadata:
        """The metadata, with the types of its entries."""
        return self.metadata if isinstance(self.metadata, Metadata) else Metadata(self.metadata)

    @property
    def digest(self) -> str:
        sha = hashlib.sha256()
        for space in sorted(self.vectors, key=lambda s: s.dim):
            sha.update(self.vectors[space].numpy().tobytes())
        return sha.hexdigest()[:16]

    @property
    def spaces(self) -> str:
        return " and ".join(str(space) for space in self.vectors)


def suffix_of(path: Path | str) -> str | None:
    """Which of ``SUFFIXES`` a file name ends in, in any case; None if it is no embedding's."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in SUFFIXES else None


def load(path: Path | str, name: str | None = None) -> Embedding:
    """Read an embedding file; nothing in it is ever executed.

    Raises:
        AestheticError: missing, unreadable, not an embedding, or not usable as one.
    """
    path = Path(path)
    name = name or path.stem
    subject = f"The aesthetic embedding {name!r} can't be used."
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise UnreadableFile(
                f"{path.name} has {size / 2**20:.0f} MB, an embedding a few KB.",
                "Perhaps a model was put into the embedding folder: move it out.",
            )
        with open_tensors(path) as file:
            _refuse_other_files(file, path)
            tensors = file.read(file.tensors, _MAX_BYTES)
            metadata = Metadata(file.metadata)
    except UnreadableFile as error:
        raise AestheticError(subject, error.why, error.do) from error
    except OSError as error:
        raise AestheticError(
            subject, f"{path} can't be read: {error.strerror or error}.", "Refresh the list, or put the file back."
        ) from error
    vectors: dict[Space, Tensor] = {}
    for key, tensor in tensors.items():
        vector = _unit_vector(tensor, f"tensor {key!r} in {path.name}" if key else path.name, subject)
        space = space_of(vector.numel())
        if key and key != space.name and space_named(key) != space:
            raise AestheticError(
                subject, f"What {path.name} calls {key!r} has width {space.dim}.", "Make it again from its pictures."
            )
        if space in vectors:
            raise AestheticError(
                subject, f"{path.name} holds two vectors of width {space.dim}.", "Keep one per CLIP space."
            )
        vectors[space] = vector
    if not vectors:
        raise AestheticError(subject, f"{path.name} holds no vector.", "Make it again from its pictures.")
    return Embedding(name, dict(sorted(vectors.items(), key=lambda item: item[0].dim)), metadata, path)


def _refuse_other_files(file: TensorFile, path: Path) -> None:
    """Only what the paper's tools and this package write is an aesthetic embedding, whatever its widths.

    Raises:
        UnreadableFile: it is something else, said as precisely as can be told.
    """
    if file.kind == SCRIPT:
        raise Executable("is a TorchScript archive, a program")
    named_so, is_so = path.suffix.lower() == SAFETENSORS, file.kind == SAFETENSORS
    if named_so != is_so:
        there, other = (".pt", ".safetensors") if named_so else (".safetensors", ".pt")
        raise UnreadableFile(
            f"{path.name} is no whole {other} file: inside it is a {there}.", f"Rename it to end in {there}."
        )
    if file.content == "tensor":
        return
    keys = set(file.keys)
    if keys & _INVERSION_KEYS or (len(keys) == 1 and next(iter(keys)).startswith("<")):
        raise UnreadableFile(
            f"{path.name} is a textual inversion (a {file.content} with {quoted(min(keys))}), not an aesthetic embedding.",
            "Keep it where textual inversions are kept, and write its name into the prompt.",
        )
    if any("lora" in key for key in keys):
        raise UnreadableFile(f"{path.name} is a LoRA.", "Keep it where LoRAs are kept.")
    if not is_so:
        raise UnreadableFile(
            f"{path.name} holds a {file.content}, not a tensor.",
            "An aesthetic embedding is one tensor; take the file that its maker calls so.",
        )
    if file.metadata.get("kind", "").startswith(_PART):
        raise UnreadableFile(f"{path.name} is a part of an embedding.", "Merge all of its parts.")
    strange = next((key for key in file.keys if not _SPACE_NAME.fullmatch(key) and space_named(key) is None), None)
    if strange is not None:
        raise UnreadableFile(
            f"{path.name} holds a tensor {quoted(strange)}; an aesthetic embedding's are called after CLIP spaces.",
            "Perhaps it is another kind of file: move it out of the embedding folder.",
        )


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
    suffix = suffix.lower()
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
