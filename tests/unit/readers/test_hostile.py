"""Files made to hurt: nothing in them runs, and each costs little and gets one sentence."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from aesthetic_clip.clip.text_projection import ProjectionSources, find_text_projection
from aesthetic_clip.create.parts import load_part
from aesthetic_clip.embeddings import embedding as embeddings
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.readers.faults import UnreadableFile
from aesthetic_clip.readers.tensor_files import open_tensors, read_tensors

from ...fuzz.readers import rezipped, saved
from ...support.limits import limited, needs_limits

VECTOR = torch.arange(1.0, 769.0)
MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def zipped(pickled: bytes, **more: bytes) -> bytes:
    """What torch.save writes, with another pickle."""
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", VECTOR.numpy().tobytes())
        for name, content in more.items():
            archive.writestr(f"archive/{name}", content)
    return result.getvalue()


def streamed(pickled: bytes) -> bytes:
    return MAGIC + b"\x80\x02M\xe9\x03." + b"\x80\x02}q\0X\r\0\0\0little_endianq\x01\x88s." + pickled


def storage(key: bytes = b"X\x01\0\0\x000", numel: bytes = b"M\x00\x03") -> bytes:
    return b"(X\x07\0\0\0storagectorch\nFloatStorage\n" + key + b"X\x03\0\0\0cpu" + numel + b"tQ"


def tensor(of: bytes) -> bytes:
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + of
        + b"K\0M\x00\x03\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR."
    )


def declared_short() -> bytes:
    """A member of 1 GiB (of which a part is there) whose directory entry says 1,000 bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = b"".join([packer.compress(bytes(2**20)) for _ in range(256)]) + packer.flush()
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w") as archive:
        archive.writestr("archive/data.pkl", tensor(storage()))
        start = result.tell()
        name = b"archive/data/0"
        header = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(content), 1000, len(name), 0)
        result.write(b"PK\x03\x04" + header + name + content)
        archive.start_dir = result.tell()
        info = zipfile.ZipInfo("archive/data/0")
        info.CRC = info.external_attr = 0
        info.compress_type, info.compress_size, info.file_size, info.header_offset = 8, len(content), 1000, start
        archive.filelist.append(info)
        archive.NameToInfo[info.filename] = info
        archive._didModify = True  # type: ignore[attr-defined]
    return result.getvalue()


def many_members() -> bytes:
    """A directory of 300,000 entries, all of the same empty member."""
    entry = b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0)
    directory = b"".join(entry + b"%06d" % i for i in range(300_000))
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    start = len(b"PK\x03\x04")
    end64 = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 300_000, 300_000, len(directory), start)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, start + len(directory), 1)
    return b"PK\x03\x04" + directory + end64 + locator + end


def header(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def overlapping() -> bytes:
    """A thousand members that are all the same bytes."""
    whole = saved([torch.zeros(1000)] * 1)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        names = archive.namelist()
    result = bytearray()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        info = next(archive.getinfo(name) for name in names if name.endswith("data/0"))
        size, place, crc = info.file_size, info.header_offset, info.CRC
    for i in range(1000):
        name = b"archive/data/%d" % i
        result += (
            b"PK\x01\x02"
            + struct.pack("<HHHHHHIIIHHHHHII", 20, 20, 0, 0, 0, 0, crc, size, size, len(name), 0, 0, 0, 0, 0, place)
            + name
        )
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1000, 1000, len(result), len(whole), 0)
    return whole + bytes(result) + end


DEEP = b"N" + b"\x85" * 10**6
DOUBLED = b"N\x85" + b"q\0h\0\x86" * 40
KINDS: dict[str, Callable[[], bytes]] = {
    "a key that is a tuple nested a million deep": lambda: zipped(b"\x80\x02}" + DEEP + b"Ns."),
    "a list nested a million deep": lambda: zipped(b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b"."),
    "a storage key that is a tuple doubled 40 times": lambda: zipped(tensor(storage(key=DOUBLED))),
    "a dictionary key that is a tuple doubled 40 times": lambda: zipped(b"\x80\x02}" + DOUBLED + b"Ns."),
    "a member of more than it declares": declared_short,
    "a directory of 300,000 members": many_members,
    "a thousand members on the same bytes": overlapping,
    "16 MB of opcodes in the old format": lambda: streamed(b"\x80\x02](" + b"N" * (15 * 2**20) + b"e."),
    "16 MB of dictionaries in the old format": lambda: streamed(b"\x80\x02](" + b"}" * (15 * 2**20) + b"e."),
    "16 MB of names in the old format": lambda: streamed(b"\x80\x02]" + b"ctorch\nSize\na" * 10**6 + b"."),
    "a memo index of four billion": lambda: zipped(b"\x80\x02Nr\xff\xff\xff\xff."),
    "a text that claims 4 GB": lambda: zipped(b"\x80\x02X\xff\xff\xff\xffabc."),
    "a number of 255 bytes": lambda: zipped(b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b"."),
    "a storage of 2^39 numbers": lambda: zipped(tensor(storage(numel=b"\x8a\x05\xff\xff\xff\xff\x7f"))),
    "a key of a megabyte": lambda: zipped(tensor(storage(key=b"X\0\0\x10\0" + b"A" * 2**20))),
    "a list that holds itself": lambda: zipped(b"\x80\x02]q\0h\0a."),
    "a compressed pickle": lambda: _deflated(tensor(storage())),
    "a header of 2^63 bytes": lambda: header(b"{}", 2**39),
    "a header of 15 MB": lambda: header(b'{"__metadata__":{"a":"' + b"x" * (15 * 2**20) + b'"}}'),
    "a header nested deep": lambda: header(b'{"a":' * 300_000),
    "a header of a million entries": lambda: header(b"{" + b",".join(b'"%d":{}' % i for i in range(140_000)) + b"}"),
    "a header of half a million lists": lambda: header(b'{"a":[' + b"[]," * 500_000 + b"[]]}"),
    "a header with a number of a million digits": lambda: header(b'{"a":' + b"9" * 10**6 + b"}"),
    "tensors on the same bytes": lambda: (
        header(
            json.dumps(
                {str(i): {"dtype": "F32", "shape": [768], "data_offsets": [0, 3072]} for i in range(1000)}
            ).encode()
        )
        + bytes(3072)
    ),
    "a shape beyond the bytes": lambda: (
        header(b'{"ViT-L/14":{"dtype":"F32","shape":[281474976710655,281474976710655],"data_offsets":[0,3072]}}')
        + bytes(3072)
    ),
    "negative places": lambda: header(b'{"a":{"dtype":"F32","shape":[-768],"data_offsets":[-3072,0]}}') + bytes(3072),
    "metadata of lists": lambda: header(b'{"__metadata__":{"a":["b"]}}'),
}


HARMLESS = {
    "a list that holds itself",
    "a memo index of four billion",
}  # they hold no tensors, which is all there is to say


def _deflated(pickled: bytes) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", VECTOR.numpy().tobytes())
    return result.getvalue()


def refusals(path: Path) -> list[str]:
    """What each way in says of a file; each has to refuse it."""
    ways: tuple[Callable[[], object], ...] = (
        lambda: embeddings.load(path),
        lambda: read_tensors(path, lambda name: True, 2**25),
        lambda: find_text_projection(768, ProjectionSources(path)),
        lambda: load_part(path),
    )
    said = []
    for way in ways:
        with pytest.raises((AestheticError, UnreadableFile)) as caught:
            way()
        said.append(str(caught.value))
        assert len(said[-1]) < 1000 + len(str(path))
    return said


@needs_limits
@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_costs_little_and_gets_a_sentence(kind: str, tmp_path: Path) -> None:
    data = KINDS[kind]()
    is_table = data[5:9] == b"\0\0\0{" or b"header of" in kind.encode()
    path = tmp_path / ("a.safetensors" if is_table else "a.pt")
    path.write_bytes(data)
    del data
    ways: tuple[Callable[[], object], ...] = (
        functools.partial(embeddings.load, path),
        functools.partial(read_tensors, path, lambda name: True, 2**25),
        functools.partial(find_text_projection, 768, ProjectionSources(path)),
        functools.partial(load_part, path),
    )
    for way in ways:
        outcome = limited(way)
        assert not outcome.failure, outcome
        if kind not in HARMLESS or way is not ways[1]:
            assert outcome.raised in ("AestheticError", "UnreadableFile", "Executable"), outcome
        assert len(outcome.said) < 1000, outcome


# Nothing runs


class _Writes(torch.nn.Module):
    """Its TorchScript writes a file when it is opened."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.text_projection = torch.nn.Parameter(torch.zeros(768, 768))

    def forward(self, x: Tensor) -> Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return (self.path, self.text_projection, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.path = state[0]
        self.text_projection = state[1]  # type: ignore[assignment]
        self.training = state[2]
        torch.save(state[1], self.path)


def hostile_script(path: Path, marker: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.script(_Writes(str(marker)))
        module.save(str(path))
    return path


def test_a_torchscript_archive_is_read_without_being_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = hostile_script(tmp_path / "ViT-L-14.pt", marker)
    for way in (
        lambda: find_text_projection(768, ProjectionSources(path)),
        lambda: embeddings.load(path),
        lambda: read_tensors(path, lambda name: True, 2**25),
    ):
        try:
            way()
        except (AestheticError, UnreadableFile) as error:
            assert str(error)
    assert not marker.exists()
    # The file is what it is meant to be.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(path))
    assert marker.exists()


class _Payload:
    def __init__(self, *call: object) -> None:
        self.call = call[0], call[1:]

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("place", ["top", "value", "beside", "optimizer", "state"])
@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_read_without_being_run(tmp_path: Path, place: str, new: bool, protocol: int) -> None:
    marker = tmp_path / "ran"
    payload = _Payload(os.mkdir, str(marker))
    matrix = torch.zeros(768, 768)
    content: object = {
        "top": payload,
        "value": {"text_projection.weight": payload},
        "beside": {"text_projection.weight": matrix, "more": payload},
        "optimizer": {"state_dict": {"text_projection.weight": matrix}, "optimizer": [payload]},
        "state": {"state_dict": payload},
    }[place]
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(saved(content, new=new, protocol=protocol))
    with pytest.raises(AestheticError, match="not executed"):
        find_text_projection(768, ProjectionSources(path))
    with pytest.raises(UnreadableFile, match="not executed"), open_tensors(path):
        pass
    assert not marker.exists()
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()


def test_names_are_compared_and_never_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "a.pt"
    for name in (b"cevil_module\nX\n", b"X\x0b\0\0\0evil_moduleX\x01\0\0\0X\x93", b"c__torch__\nX\n)\x81"):
        path.write_bytes(zipped(b"\x80\x02" + name + b"."))
        with pytest.raises(AestheticError):
            embeddings.load(path)
    assert "evil_module" not in sys.modules


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs pipes with names")
    os.mkfifo(tmp_path / "a.pt")
    with pytest.raises(AestheticError, match="no ordinary file"):
        embeddings.load(tmp_path / "a.pt")


# What it really is


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".PT", ".SafeTensors"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\n <!DOCTYPE html><html><title>Sign in</title>", "web page"),
        (b"<html>" + bytes(100), "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3819\n", "git-lfs pointer"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "JPEG picture"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP picture"),
        (b"Entry not found", "a text"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (b"", "empty"),
        (bytes(5000), "zeros"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x93NUMPY\x01\0", "numpy"),
    ],
)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, content: bytes, what: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for said in refusals(path)[:3]:
        assert what in said


def test_a_zip_of_something_else_says_what_is_in_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("my taste.safetensors", b"x")
    with pytest.raises(AestheticError, match=r"zip archive.*'my taste\.safetensors'.*Unpack"):
        embeddings.load(tmp_path / "a.pt")


ROW = torch.randn(1, 768)
INVERSIONS = {
    "one vector": {"emb_params": ROW},
    "two encoders": {"clip_l": ROW, "clip_g": torch.randn(1, 1280)},
    "diffusers": {"<cat>": ROW[0]},
    "the WebUI's": {"string_to_token": {"*": 265}, "string_to_param": {"*": ROW}, "name": "cat", "step": 500},
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", INVERSIONS)
def test_a_textual_inversion_is_not_taken_for_an_aesthetic_embedding(tmp_path: Path, kind: str, suffix: str) -> None:
    content: Any = INVERSIONS[kind]
    path = tmp_path / f"cat{suffix}"
    if suffix == ".pt":
        torch.save(content, path)
    elif all(isinstance(value, Tensor) for value in content.values()):
        safetensors.torch.save_file(content, path)  # type: ignore[arg-type]
    else:
        pytest.skip("has no such form")
    with pytest.raises(AestheticError, match="textual inversion"):
        embeddings.load(path)


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"lora_unet_down.lora_up.weight": torch.zeros(768)}, "LoRA"),
        ({"some.weight": torch.zeros(768)}, "called after CLIP spaces"),
        ({"ViT-L/14": torch.ones(1024)}, "width 1024"),
    ],
)
def test_other_tensors_are_not_taken_either(tmp_path: Path, tensors: dict[str, Tensor], what: str) -> None:
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(AestheticError, match=what):
        embeddings.load(tmp_path / "a.safetensors")


def test_a_file_with_the_other_formats_name_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(saved(VECTOR))
    with pytest.raises(AestheticError, match=r"Rename it to end in \.pt"):
        embeddings.load(tmp_path / "a.safetensors")
    (tmp_path / "a.pt").write_bytes(safetensors.torch.save({"ViT-L/14": VECTOR}))
    with pytest.raises(AestheticError, match=r"Rename it to end in \.safetensors"):
        embeddings.load(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", [".PT", ".Pt", ".SAFETENSORS"])
def test_a_suffix_counts_in_any_case(tmp_path: Path, suffix: str) -> None:
    data = saved(VECTOR) if suffix.lower() == ".pt" else safetensors.torch.save({"ViT-L/14": VECTOR})
    (tmp_path / f"a{suffix}").write_bytes(data)
    assert len(embeddings.load(tmp_path / f"a{suffix}").vectors) == 1


def test_damage_beneath_the_checksum_is_noticed(tmp_path: Path) -> None:
    data = bytearray(saved(VECTOR))
    data[data.index(VECTOR.numpy().tobytes()) + 100] ^= 1
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(AestheticError, match="checksum"):
        embeddings.load(tmp_path / "a.pt")
    same = rezipped(saved(VECTOR), lambda name, content: content)
    (tmp_path / "a.pt").write_bytes(same)
    embeddings.load(tmp_path / "a.pt")
