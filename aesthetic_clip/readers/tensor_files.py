"""Tensors out of ``.safetensors``, what ``torch.save`` writes, and TorchScript archives; code in them never runs.

One table of what a file holds is made first, from a bounded part of it; then single tensors are read by
their places. What a table says is compared with the bytes there are before anything is allocated.

safetensors' own reader takes a header of up to 100 MB and no file name that is not UTF-8; the format is simple
enough to read the bytes by what a bounded header says.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from . import pickles
from .faults import Executable, UnreadableFile, quoted, read_exactly, refuse_other_kinds
from .json_text import parse_json
from .pickles import Again, ScriptObject, Storage, StoredTensor
from .zips import START as ZIP
from .zips import StoredZip

SAFETENSORS, TORCH, SCRIPT = ".safetensors", "torch.save", "TorchScript"
_HEADER_BYTES = 2 * 2**20
_MAGIC = 0x1950A86A20F9469CFC6C
_HEAD = 4096
_FEW = 200  # opcodes of the pickles that say something about the file
_DEEPEST_MODULE = 32
_LITTLE = b"little"

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class TensorFile:
    """What an open file holds.

    Attributes:
        kind: ``SAFETENSORS``, ``TORCH`` or ``SCRIPT``.
        tensors: every tensor's name and shape; of a single tensor without a name, the name is empty.
        keys: the names at the top, tensors or not.
        content: the kind of thing at the top, e.g. ``dict``.
        metadata: the text in a ``.safetensors``.
    """

    kind: str
    tensors: Mapping[str, tuple[int, ...]]
    keys: tuple[str, ...]
    content: str
    metadata: Mapping[str, str]
    _read: Callable[[Iterable[str], int], dict[str, Tensor]]

    def read(self, names: Iterable[str], at_most: int) -> dict[str, Tensor]:
        """These tensors, on the CPU, in the dtype of the file.

        Args:
            names: of ``tensors``.
            at_most: bytes of all of them together.

        Raises:
            UnreadableFile: they are larger, or not whole.
        """
        return self._read(names, at_most)


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """The table of a file; tensors can be read from it while it is open.

    Raises:
        Executable: a pickle that names more than tensors are made of.
        UnreadableFile: damaged, too large in what it describes, or of another kind.
        OSError: it can't be opened or read.
    """
    if not stat.S_ISREG(mode := path.stat().st_mode) and not stat.S_ISDIR(mode):
        raise UnreadableFile("It is no ordinary file.", "Give a file.")  # opening a pipe would wait for ever
    with path.open("rb", buffering=0) as raw:
        file: BinaryIO = raw
        yield tensor_file(file, os.fstat(raw.fileno()).st_size)


def tensor_file(file: BinaryIO, size: int) -> TensorFile:
    """The table of an open file of ``size`` bytes; faults as :func:`open_tensors`."""
    head = bytes(read_exactly(file, 0, min(size, _HEAD)))
    if is_safetensors(head):
        return _safetensors(file, size)
    refuse_other_kinds(head[:512], size)
    if head.startswith(ZIP) or head.startswith(b"PK\x05\x06"):
        return _archive(file, size)
    return _stream(file, size)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins with these bytes is meant as a ``.safetensors``."""
    # The length before the table is far below a terabyte.
    return head[5:9] == b"\0\0\0{"


def read_tensors(path: Path, wanted: Callable[[str], bool], at_most: int) -> dict[str, Tensor]:
    """The wanted tensors of a model file, by name, without the ``module.`` that training scripts leave before it.

    Args:
        path: any of the three formats, whatever it is called.
        wanted: by name.
        at_most: bytes of all of them together.

    Raises:
        UnreadableFile, OSError: as :func:`open_tensors`.
    """
    with open_tensors(path) as file:
        names = [name for name in file.tensors if wanted(name.removeprefix("module."))]
        return {name.removeprefix("module."): tensor for name, tensor in file.read(names, at_most).items()}


def _itemsize(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


# safetensors


def _safetensors(file: BinaryIO, size: int) -> TensorFile:
    length = int.from_bytes(read_exactly(file, 0, 8), "little")
    if length > _HEADER_BYTES:
        raise UnreadableFile(f"Its table of tensors has {length / 2**20:.0f} MB, no model's has more than 2.")
    start = 8 + length
    if start > size:
        raise UnreadableFile("It is cut off: a part of the file is missing.")
    header = parse_json(read_exactly(file, 8, length), "table of tensors")
    if not isinstance(header, dict):
        raise _no_table()
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UnreadableFile("Its metadata is not text.")
    places: dict[str, tuple[torch.dtype | None, tuple[int, ...], int, int]] = {}
    for name, entry in header.items():
        places[name] = _entry(name, entry)
    last = 0
    for _, _, begin, end in sorted(places.values(), key=lambda place: place[2:]):
        # The format allows neither gaps nor overlaps.
        if begin != last:
            raise UnreadableFile("Its table of tensors is damaged: their places overlap or leave gaps.")
        last = end
    if start + last != size:
        raise UnreadableFile(
            "It is cut off: a part of the file is missing." if start + last > size else "It has bytes of no tensor."
        )

    def read(names: Iterable[str], at_most: int) -> dict[str, Tensor]:
        names = list(names)
        _refuse_more(sum(places[name][3] - places[name][2] for name in names), at_most)
        found = {}
        for name in names:
            dtype, shape, begin, end = places[name]
            if dtype is None:
                raise UnreadableFile(f"Its tensor {quoted(name)} is of a type that no CLIP has.")
            if begin == end:
                found[name] = torch.empty(shape, dtype=dtype)
            else:
                found[name] = torch.frombuffer(read_exactly(file, start + begin, end - begin), dtype=dtype).view(shape)
        return found

    shapes = {name: place[1] for name, place in places.items()}
    return TensorFile(SAFETENSORS, shapes, tuple(shapes), "dict", metadata, read)


def _entry(name: str, entry: object) -> tuple[torch.dtype | None, tuple[int, ...], int, int]:
    if not isinstance(entry, dict):
        raise _no_table()
    shape, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not isinstance(shape, list) or len(shape) > 16 or not isinstance(offsets, list) or len(offsets) != 2:
        raise _no_table()
    if not all(type(number) is int and 0 <= number < 2**48 for number in (*shape, *offsets)):
        raise _no_table()
    dtype = _DTYPES.get(kind) if isinstance(kind, str) else None
    begin, end = offsets
    elements = 1
    for number in shape:
        elements *= number
    if begin > end or (dtype is not None and elements * _itemsize(dtype) != end - begin):
        raise UnreadableFile(f"Its tensor {quoted(name)} has another size than its table says.")
    return dtype, tuple(shape), begin, end


def _no_table() -> UnreadableFile:
    return UnreadableFile("Its table of tensors is damaged.")


def _refuse_more(size: int, at_most: int) -> None:
    if size > at_most:
        raise UnreadableFile(
            f"The tensors in it have {size / 2**20:.0f} MB, {at_most / 2**20:.0f} MB are the most they can have.",
            "Take the file of the right model.",
        )


# What torch writes


def _archive(file: BinaryIO, size: int) -> TensorFile:
    archive = StoredZip(file, size)
    roots = [name[: -len("data.pkl")] for name in archive.members if name.rpartition("/")[2] == "data.pkl"]
    if len(roots) != 1:
        inside = next(iter(archive.members), "nothing")
        raise UnreadableFile(
            f"It is a zip archive, not a file of torch.save; it holds {quoted(inside)}.", "Unpack it, and look inside."
        )
    root = roots[0]
    if f"{root}byteorder" in archive.members and archive.read(f"{root}byteorder", 16) != _LITTLE:
        raise UnreadableFile("A big-endian machine wrote it.", "Save it as .safetensors there.")
    script = f"{root}constants.pkl" in archive.members or any(
        name.startswith(f"{root}code/") for name in archive.members
    )
    pickle = pickles.parse(bytes(archive.read(f"{root}data.pkl", pickles.MOST_BYTES)), script=script)

    def data(storage: Storage) -> bytearray:
        return archive.read(f"{root}data/{storage.key}", storage.numel * _itemsize(storage.dtype))

    if script:
        if not isinstance(pickle.value, ScriptObject):
            raise Executable("is a TorchScript archive that holds no module")
        return _described(SCRIPT, dict(_attributes(pickle.value)), data, size)
    return _described(TORCH, pickle.value, data, size)


def _stream(file: BinaryIO, size: int) -> TensorFile:
    """The format before torch 1.6: three pickles about the file, the object, its storages' keys, their bytes."""
    head = bytes(read_exactly(file, 0, min(size, 2 * pickles.MOST_BYTES)))
    try:
        magic = pickles.parse(head, opcodes=_FEW)
        if magic.value != _MAGIC or type(magic.value) is not int:
            raise UnreadableFile("It is a pickle, but not from torch.save.", "Get it as .safetensors.")
        system = pickles.parse(head, pickles.parse(head, magic.end, opcodes=_FEW).end, opcodes=_FEW)
        content = pickles.parse(head, system.end)
        keys = pickles.parse(head, content.end, opcodes=_FEW + 3 * len(content.storages))
    except Executable:
        raise
    except UnreadableFile as error:
        if head[:1] != b"\x80":
            raise UnreadableFile("It is no .safetensors and no file of torch.save.") from error
        raise
    if not isinstance(system.value, dict) or system.value.get("little_endian", True) is not True:
        raise UnreadableFile("A big-endian machine wrote it.", "Save it as .safetensors there.")
    places: dict[str, int] = {}
    at = keys.end
    for key in keys.value if isinstance(keys.value, list) else ():
        storage = content.storages.get(key) if isinstance(key, str) else None
        if storage is None or key in places or at + 8 > size:
            raise UnreadableFile("Its list of storages is damaged.")
        if int.from_bytes(read_exactly(file, at, 8), "little") != storage.numel:
            raise UnreadableFile("It describes a tensor that is larger than its storage.")
        places[key] = at + 8
        at += 8 + storage.numel * _itemsize(storage.dtype)
    if at > size:
        raise UnreadableFile("It is cut off: a part of the file is missing.")

    def data(storage: Storage) -> bytearray:
        if storage.key not in places:
            raise UnreadableFile("Its list of storages is damaged.")
        return read_exactly(file, places[storage.key], storage.numel * _itemsize(storage.dtype))

    return _described(TORCH, content.value, data, size)


def _attributes(module: ScriptObject) -> Iterator[tuple[str, StoredTensor]]:
    """The tensors of a module and of those in it, by their dotted names."""
    pending = [("", module)]
    while pending:
        prefix, current = pending.pop()
        for name, value in current.attributes.items():
            if isinstance(value, StoredTensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, ScriptObject) and prefix.count(".") < _DEEPEST_MODULE:
                pending.append((f"{prefix}{name}.", value))


def _described(kind: str, content: object, data: Callable[[Storage], bytearray], size: int) -> TensorFile:
    """What a pickle's value holds: one tensor, or a dict of tensors, which may lie in a ``state_dict``."""
    keys = tuple(key for key in content if isinstance(key, str)) if isinstance(content, dict) else ()
    if isinstance(content, StoredTensor):
        stored = {"": content}
    else:
        named = content if isinstance(content, dict) else {}
        inner = named.get("state_dict")
        named = inner if isinstance(inner, dict) else named
        stored = {k: v for k, v in named.items() if isinstance(k, str) and isinstance(v, StoredTensor)}

    if any(tensor.storage.numel * _itemsize(tensor.storage.dtype) > size for tensor in stored.values()):
        raise UnreadableFile("It describes a tensor that is larger than its storage.")

    def read(names: Iterable[str], at_most: int) -> dict[str, Tensor]:
        names = list(names)
        storages = {stored[name].storage.key: stored[name].storage for name in names}
        _refuse_more(sum(s.numel * _itemsize(s.dtype) for s in storages.values()), at_most)
        flat = {key: _flat(storage, data) for key, storage in storages.items()}
        found = {}
        for name in names:
            storage, offset, shape, stride = stored[name]
            whole = flat[storage.key]
            found[name] = whole.as_strided(shape, stride, offset) if 0 not in shape else whole.new_empty(shape)
        return found

    what = "tensor" if isinstance(content, StoredTensor) else _type_name(content)
    return TensorFile(kind, {name: tensor.size for name, tensor in stored.items()}, keys, what, {}, read)


def _type_name(content: object) -> str:
    return "several objects" if isinstance(content, (ScriptObject, Again)) else type(content).__name__


def _flat(storage: Storage, data: Callable[[Storage], bytearray]) -> Tensor:
    if not storage.numel:
        return torch.empty(0, dtype=storage.dtype)
    content = data(storage)
    if len(content) != storage.numel * _itemsize(storage.dtype):
        raise UnreadableFile("It describes a tensor that is larger than its storage.")
    return torch.frombuffer(content, dtype=storage.dtype)
