"""Good files of every format that is read, ways to damage them, and independent readers to compare with."""

from __future__ import annotations

import functools
import io
import json
import math
import random
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import safetensors.torch
import torch
from torch import Tensor, nn

from aesthetic_clip.clip.image_encoder import _vision_config
from aesthetic_clip.create.averaging import FeatureSum
from aesthetic_clip.create.features_npy import sum_npy
from aesthetic_clip.create.parts import Part, Shard, load_part, save_part
from aesthetic_clip.embeddings import embedding as embeddings
from aesthetic_clip.embeddings.embedding import Embedding, to_bytes
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.readers.faults import UnreadableFile
from aesthetic_clip.readers.tensor_files import SCRIPT, tensor_file
from aesthetic_clip.spaces import VIT_BIGG, VIT_H, VIT_L

REFUSALS = (AestheticError, UnreadableFile)
UNCOMPARED = "accepted, and refused by the other reader"
_ROOM = 16 * 2**20


@dataclass(frozen=True)
class Reader:
    """A way in.

    Attributes:
        good: whole files.
        read: reads a file, compares what it accepts with an independent reader, and says what it was.
        name: of the file.
    """

    good: tuple[bytes, ...]
    read: Callable[[Path], str]
    name: str


def saved(content: object, *, new: bool = True, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def scripted(module: nn.Module) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def rezipped(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """A zip with its members changed and right checksums."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return result.getvalue()


def compare(mine: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, tensor in mine.items():
        assert name in other, f"{name!r} is not there for the other reader"
        assert tensor.dtype == other[name].dtype, name
        assert tensor.shape == other[name].shape, name
        same = torch.equal(_bits(tensor), _bits(other[name]))
        assert same, f"{name!r} differs"


def _bits(tensor: Tensor) -> Tensor:
    # NaN is not equal to itself.
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def oracle(data: bytes) -> dict[str, Tensor] | None:
    """All tensors, by torch's or safetensors' own reader; None if that refuses the file."""
    try:
        if data[5:9] == b"\0\0\0{":
            return safetensors.torch.load(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # each fails in its own ways
        return None
    if isinstance(content, Tensor):
        return {"": content}
    inner = content.get("state_dict", content) if isinstance(content, dict) else {}
    inner = inner if isinstance(inner, dict) else content
    return {k: v for k, v in inner.items() if isinstance(v, Tensor)}


def steady(data: bytes) -> dict[str, Tensor] | None:
    """The oracle's answer, if it gives the same one again: torch 2.14 reads memory that it has not filled out of some
    damaged archives, and then says something else each time.
    """
    answers = [oracle(data) for _ in range(3)]
    first = answers[0]
    if first is None:
        return None
    for other in answers[1:]:
        if other is None or not all(torch.equal(_bits(tensor), _bits(other[name])) for name, tensor in first.items()):
            return None
    return first


def read_model(path: Path) -> str:
    data = path.read_bytes()
    file = tensor_file(io.BytesIO(data), len(data))
    tensors = file.read(file.tensors, _ROOM)
    if file.kind != SCRIPT:  # torch's reader would run it
        others = steady(data)
        if others is None:
            return UNCOMPARED
        compare(tensors, others)
    return f"{len(tensors)} tensors"


def read_embedding(path: Path) -> str:
    embedding = embeddings.load(path)
    others = steady(path.read_bytes())
    if others is None:
        return UNCOMPARED
    for space, vector in embedding.vectors.items():
        (other,) = (t for t in others.values() if t.numel() == space.dim)
        wide = other.detach().double().reshape(-1)
        assert torch.allclose(vector.double(), wide / wide.norm(), atol=1e-5), space
        assert math.isclose(float(vector.norm()), 1, abs_tol=1e-4)
    for key, value in embedding.metadata.items():
        (key + value).encode()
    return embedding.spaces


def read_part(path: Path) -> str:
    part = load_part(path)
    others = safetensors.torch.load(path.read_bytes())
    compare({space.name: total.total for space, total in part.sums.items()}, others)
    return str(part.shard)


def read_npy(path: Path) -> str:
    part = sum_npy([path], raw=True)
    try:
        rows = numpy.load(path, allow_pickle=False).astype(numpy.float64)
    except ValueError:
        return UNCOMPARED
    kept = rows[numpy.isfinite(rows).all(1) & rows.any(1)]
    (total,) = part.sums.values()
    assert total.count == len(kept)
    assert numpy.allclose(total.total.numpy(), kept.sum(0), equal_nan=True)
    return str(total.count)


def read_config(path: Path) -> str:
    return str(_vision_config(path.parent))


class _Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)])
        self.text_projection = nn.Parameter(torch.randn(4, 4))
        self.names = ["a", "b"]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x @ self.text_projection


@functools.cache
def readers() -> dict[str, Reader]:
    torch.manual_seed(0)
    vector = unit(torch.randn(768))
    multi = Embedding("a", {s: unit(torch.randn(s.dim)) for s in (VIT_L, VIT_H, VIT_BIGG)}, {"note": "für mich"})
    tower = _Tower()
    state = tower.half().state_dict()
    training = {"epoch": 3, "lr": 0.5, "name": "x", "state_dict": {f"module.{k}": v for k, v in state.items()}}
    npy = io.BytesIO()
    numpy.save(npy, numpy.random.default_rng(0).standard_normal((5, 64)).astype(numpy.float16))
    with tempfile.TemporaryDirectory() as folder:
        total = FeatureSum(VIT_L.dim)
        total.add(torch.randn(3, VIT_L.dim))
        save_part(Part({VIT_L: total}, "s" * 64, Shard(1, 2), {"why": 2}, {VIT_L: "m"}), Path(folder) / "p.safetensors")
        part = (Path(folder) / "p.safetensors").read_bytes()
    config = json.dumps(
        {
            "projection_dim": 24,
            "vision_config": {"hidden_size": 48, "image_size": 32, "patch_size": 8, "num_hidden_layers": 2},
        }
    ).encode()
    pts = (saved(vector.half()), saved(vector[None], new=False), saved(nn.Parameter(vector), protocol=4))
    return {
        "embedding .pt": Reader(pts, read_embedding, "a.pt"),
        "embedding .safetensors": Reader((to_bytes(multi, ".safetensors"),), read_embedding, "a.safetensors"),
        "model, torch.save": Reader(
            (saved(state), saved(training), saved(training, new=False), saved(training, new=False, protocol=5)),
            read_model,
            "m.bin",
        ),
        "model, TorchScript": Reader((scripted(tower),), read_model, "m.pt"),
        "model, .safetensors": Reader((safetensors.torch.save(state, {"a": "b"}),), read_model, "m.safetensors"),
        "part": Reader((part,), read_part, "p.safetensors"),
        ".npy": Reader((npy.getvalue(),), read_npy, "n.npy"),
        "config.json": Reader((config,), read_config, "config.json"),
    }


def attempt(name: str, path: Path, data: bytes) -> str:
    """What a reader says of a damaged file, or nothing if it refuses it in the way that it should."""
    path.write_bytes(data)
    try:
        return readers()[name].read(path)
    except REFUSALS as error:
        said = str(error)
        assert error.why
        assert error.do
        assert len(said) < 1500
        said.encode()
        return ""


# Damage

_OPCODES = (
    b"\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95()]}lteausdNJKMGXBCcqrhjQRb.0125IFLSTUVPgpio\x82\x8e\x92\x90"
)
_SNIPPETS = (
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\ngetattr\n", b"c__torch__\nX\n)\x81", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n)R", b"\x85" * 100, b"h\x00\x86q\x00" * 20, b"(" * 50, b"X\xff\xff\xff\x7f",
    b"\x8a\xff" + b"\xff" * 255, b"r\xff\xff\xff\xffN", b"J\xff\xff\xff\xff", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"}N)s", b"Q", b"R", b"b",
)  # fmt: skip
_TEXTS = (
    b"[" * 200, b'{"a":' * 50, b"-1", b"1e30", b"1e999", b"NaN", b"null", b"true", b"99999999999999999999", b"0", b'""', b"[]", b"{}",
    b'"\\ud800"', b'"\\u001b[31m"', b'"F8_E4M3"', b'"I64"', b"9" * 5000, b"\xff\xfe", b"4294967296", b"18446744073709551615",
)  # fmt: skip
_LENGTHS = (0, 1, 7, 0xFF, 0xFFFF, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def damaged(data: bytes, seed: int) -> bytes:
    """One of endlessly many damaged copies; the same for the same seed."""
    drawn = random.Random(seed)
    if data[:4] == b"PK\x03\x04" and drawn.random() < 0.7:
        # Damage beneath right checksums, mostly where the structure is.
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
        likely = [name for name in names if name.endswith("data.pkl")] * 5 + names
        target = drawn.choice(likely)
        return rezipped(data, lambda name, content: _mutated(content, drawn, True) if name == target else content)
    if data[5:9] == b"\0\0\0{" and drawn.random() < 0.7:
        length = int.from_bytes(data[:8], "little")
        header = _mutated(data[8 : 8 + length], drawn, False)
        length = len(header) if drawn.random() < 0.8 else drawn.choice(_LENGTHS)
        return struct.pack("<Q", length) + header + data[8 + int.from_bytes(data[:8], "little") :]
    return _mutated(data, drawn, data[:1] in b"\x80P")


def _mutated(data: bytes, drawn: random.Random, pickled: bool) -> bytes:
    result = bytearray(data)
    for _ in range(drawn.choice((1, 1, 1, 2, 3, 8))):
        # The structure is at the beginning and at the end.
        near = drawn.random() < 0.6 and len(result) > 800
        at = drawn.randrange(min(len(result), 800)) if near else drawn.randrange(len(result) + 1)
        at = len(result) - at if near and drawn.random() < 0.3 else at
        kind = drawn.randrange(7)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << drawn.randrange(8)
        elif kind == 1:
            del result[at : at + drawn.choice((1, 2, 4, 16, 200))]
        elif kind == 2:
            result[at:at] = drawn.choice(_SNIPPETS if pickled else _TEXTS)
        elif kind == 3:
            other = drawn.randrange(len(result) + 1)
            result[at:at] = result[other : other + drawn.choice((1, 4, 30, 300))]
        elif kind == 4 and pickled:
            result[at : at + drawn.randrange(2)] = bytes((drawn.choice(_OPCODES),))
        elif kind == 5:
            size = drawn.choice((1, 2, 4, 8))
            result[at : at + size] = (drawn.choice(_LENGTHS) % 2 ** (8 * size)).to_bytes(size, "little")
        elif not pickled:
            # A value in the place of another.
            digits = [i for i, c in enumerate(result[:2000]) if 48 <= c < 58]
            if digits:
                start = drawn.choice(digits)
                result[start : start + 1] = drawn.choice(_TEXTS)
        if not result:
            break
    return bytes(result if drawn.random() < 0.9 else result[: drawn.randrange(len(result) + 1)])


def cases(name: str, first: int) -> Iterator[bytes]:
    """Damaged files for a reader, from a seed on, for ever."""
    reader = readers()[name]
    seed = first
    while True:
        yield damaged(reader.good[seed % len(reader.good)], seed)
        seed += 1
