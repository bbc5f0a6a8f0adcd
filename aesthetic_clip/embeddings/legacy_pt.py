"""Reads one tensor out of what ``torch.save`` writes, with no code in the file ever run.

Embeddings are swapped among strangers, and torch's own reader is not made for
that: releases the WebUI is pinned to believe the sizes that a file claims and
read past the end of its storages. Here a pickle is checked opcode by opcode,
builds nothing but stand-ins, and every size is compared with the bytes there are.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

_MAX_PICKLE = 2**20
_MAX_STORAGE = 16 * 2**20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# What torch.save emits, under every pickle protocol it allows; nothing here allocates more than the file holds.
_OPCODES = frozenset(
    (
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "POP",
        "POP_MARK",
        "DUP",
        "GLOBAL",
        "STACK_GLOBAL",
        "REDUCE",
        "BINPERSID",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINSTRING",
        "SHORT_BINSTRING",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_LIST",
        "LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_DICT",
        "DICT",
        "SETITEM",
        "SETITEMS",
        "BINPUT",
        "LONG_BINPUT",
        "MEMOIZE",
        "BINGET",
        "LONG_BINGET",
    )
)

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    numel: int


class _Strided(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> _Strided:
    return _Strided(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: object) -> Any:
    return data


_GLOBALS: Mapping[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{("torch", name): dtype for name, dtype in _DTYPES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(v is not None for v in view):
            raise pickle.UnpicklingError("it names a storage of an unknown kind")
        return _Storage(dtype, str(key), _whole(numel))


def _whole(number: object) -> int:
    if not isinstance(number, int) or not 0 <= number <= _MAX_STORAGE:
        raise ValueError(f"{number!r} is no size")
    return number


def _unpickle(stream: io.BytesIO) -> Any:
    """The next pickle of a stream, which is left behind its end."""
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        # The C unpickler allocates its memo up to the index that the file says.
        if opcode.name not in _OPCODES or ("PUT" in opcode.name and _whole(argument) > 2**14):
            raise pickle.UnpicklingError(f"it has the opcode {opcode.name}")
    data = stream.getvalue()[start : stream.tell()]
    return _Unpickler(io.BytesIO(data), encoding="latin-1").load()


def _tensor(content: object, read: Callable[[_Storage], bytes]) -> object:
    """The tensor that a stand-in describes; anything else as it is."""
    if not isinstance(content, _Strided):
        return content
    storage, offset, size, stride = content
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise TypeError("its tensor has no storage, size or stride")
    size, stride = tuple(map(_whole, size)), tuple(map(_whole, stride))
    data = read(storage)
    itemsize = torch.empty(0, dtype=storage.dtype).element_size()
    last = _whole(offset) + sum((n - 1) * step for n, step in zip(size, stride))
    if len(data) != storage.numel * itemsize or len(size) != len(stride) or last >= storage.numel:
        raise ValueError("its tensor is larger than its storage")
    if not math.prod(size):
        return torch.empty(size, dtype=storage.dtype)
    if math.prod(size) > _MAX_STORAGE:
        raise ValueError("its tensor is too large")
    flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
    return flat.as_strided(size, stride, offset)


def _read_zip(data: bytes) -> object:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:

        def read(name: str, limit: int) -> bytes:
            if archive.getinfo(name).file_size > limit:
                raise ValueError(f"{name} is too large")
            return archive.read(name)

        pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError(f"it holds {len(pickles)} pickles")
        root = pickles[0][: -len("data.pkl")]
        if f"{root}byteorder" in archive.namelist() and read(f"{root}byteorder", 16) != b"little":
            raise ValueError("it was written by a big-endian machine")
        content = _unpickle(io.BytesIO(read(pickles[0], _MAX_PICKLE)))
        return _tensor(content, lambda storage: read(f"{root}data/{storage.key}", _MAX_STORAGE))


def _read_stream(data: bytes) -> object:
    """The format before torch 1.6: three pickles about the file, the object, its storages' keys, their bytes."""
    stream = io.BytesIO(data)
    if _unpickle(stream) != _LEGACY_MAGIC:
        raise ValueError("it is not from torch.save")
    _unpickle(stream)
    if not _unpickle(stream).get("little_endian", True):
        raise ValueError("it was written by a big-endian machine")
    content, keys = _unpickle(stream), _unpickle(stream)

    def read(wanted: _Storage) -> bytes:
        # Other storages would have to be skipped, whose sizes only a whole unpickling tells; one vector has one.
        if keys != [wanted.key]:
            raise ValueError("it holds several storages")
        (count,) = struct.unpack("<q", stream.read(8))
        return stream.read() if count == wanted.numel else b""

    return _tensor(content, read)


def read(data: bytes) -> object:
    """What a ``.pt`` file holds: a CPU tensor of any shape and dtype, or else a plain object.

    Raises:
        pickle.UnpicklingError: more than tensors, dictionaries, lists, numbers and texts is in it.
        Exception: of many types, since damage shows itself in many places.
    """
    return _read_zip(data) if data[:4] == b"PK\x03\x04" else _read_stream(data)
