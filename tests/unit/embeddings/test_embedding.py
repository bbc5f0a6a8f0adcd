"""Embedding files: every legacy shape, every kind of damage, writing that survives a kill."""

import collections
import errno
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aesthetic_clip.embeddings.embedding import Embedding, load, save, to_bytes
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.files import write_atomically
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_H, VIT_L

VECTOR = unit(torch.randn(768, generator=torch.Generator().manual_seed(1)))
MULTI = Embedding(
    "multi",
    {
        space: unit(torch.randn(space.dim, generator=torch.Generator().manual_seed(2)))
        for space in (VIT_L, VIT_H, VIT_BIGG)
    },
    {"note": "für mich", "images": "3"},
)


def pt(content: object, *, new: bool = True, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def loaded(folder: Path, data: bytes, suffix: str = ".pt") -> Embedding:
    path = folder / f"x{suffix}"
    path.write_bytes(data)
    return load(path)


# What the paper and its followers wrote


@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(768,), (1, 768)])
def test_legacy_shapes_and_dtypes(
    tmp_path: Path, new: bool, protocol: int, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    for norm in (0.5, 1.0, 18.6):
        tensor = (VECTOR * norm).to(dtype).reshape(shape)
        vector = loaded(tmp_path, pt(tensor, new=new, protocol=protocol)).vectors[VIT_L]
        assert vector.dtype == torch.float32
        assert vector.shape == (768,)
        assert float(vector.norm()) == pytest.approx(1, abs=1e-6)
        assert float(vector @ VECTOR) > 0.9999


@pytest.mark.parametrize(("dim", "space"), [(768, VIT_L), (1024, VIT_H), (1280, VIT_BIGG)])
def test_width_tells_the_space(tmp_path: Path, dim: int, space: object) -> None:
    assert list(loaded(tmp_path, pt(torch.randn(1, dim))).vectors) == [space]


def test_other_widths_get_a_space_of_their_own(tmp_path: Path) -> None:
    assert [s.name for s in loaded(tmp_path, pt(torch.randn(512))).vectors] == ["CLIP-512"]


def test_round_trip(tmp_path: Path) -> None:
    save(MULTI, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", "folder/m")
    assert again.name == "folder/m"
    assert again.digest == MULTI.digest
    assert again.metadata == {"note": "für mich", "images": "3", "format_version": "1", "name": "multi"}


def test_a_renamed_embedding_is_saved_under_its_new_name(tmp_path: Path) -> None:
    old = Embedding("new", MULTI.vectors, {"name": "old"})
    assert loaded(tmp_path, to_bytes(old, ".safetensors"), ".safetensors").metadata["name"] == "new"


def test_pt_export_is_what_old_tools_read(tmp_path: Path) -> None:
    save(MULTI, tmp_path / "m.pt")
    tensor = torch.load(tmp_path / "m.pt", weights_only=True)
    assert tensor.shape == (1, 768)
    assert tensor.dtype == torch.float32
    assert torch.equal(tensor[0], MULTI.vectors[VIT_L])


# What is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.zeros(768), "all zeros"),
        (torch.full((768,), float("nan")), "NaN"),
        (torch.full((1, 768), float("inf")), "NaN"),
        (torch.ones(2, 768), "shape"),
        (torch.ones(1, 1, 768), "shape"),
        (torch.tensor(1.0), "shape"),
        (torch.zeros(0), "shape"),
        (torch.ones(768, dtype=torch.int64), "int64"),
        ({"a": torch.ones(768)}, "dict"),
        ([1], "list"),
        (None, "NoneType"),
        ("text", "str"),
        (collections.OrderedDict(a=1), "dict"),
    ],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
def test_refuses_what_is_no_vector(tmp_path: Path, content: object, reason: str, new: bool) -> None:
    with pytest.raises(AestheticError, match=reason):
        loaded(tmp_path, pt(content, new=new))


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pt", tmp_path):
        with pytest.raises(AestheticError, match="can't be read"):
            load(path)
    for suffix in (".pt", ".safetensors"):
        with pytest.raises(AestheticError, match="is empty"):
            loaded(tmp_path, b"", suffix)
        big = tmp_path / f"model{suffix}"
        with big.open("wb") as file:
            file.truncate(17 * 2**20)
        with pytest.raises(AestheticError, match="Perhaps a model"):
            load(big)


def test_refuses_two_vectors_of_one_space(tmp_path: Path) -> None:
    data = safetensors.torch.save({"ViT-L/14": VECTOR.clone(), "vit-l-14": VECTOR.clone()})
    with pytest.raises(AestheticError, match="two vectors"):
        loaded(tmp_path, data, ".safetensors")
    with pytest.raises(AestheticError, match="no vector"):
        loaded(tmp_path, safetensors.torch.save({}), ".safetensors")


def test_tiny_and_huge_vectors_keep_their_direction(tmp_path: Path) -> None:
    for scale in (1e-30, 1e30):
        vector = loaded(tmp_path, pt(VECTOR * scale)).vectors[VIT_L]
        assert float(vector @ VECTOR) == pytest.approx(1, abs=1e-5)


# What would run code


class Payload:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call


def payloads(marker: Path) -> list[object]:
    touch = f"open({str(marker)!r}, 'w').close()"
    run = [
        Payload(os.system, f"touch {marker}"),
        Payload(exec, touch),
        Payload(eval, touch),
        Payload(subprocess.check_call, ["touch", str(marker)]),
    ]
    return [*run, *({"a": p} for p in run), *([VECTOR, p] for p in run)]


def test_payloads_work_in_pickle_itself(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(payloads(marker)[1]))
    assert marker.exists()


def test_nothing_is_ever_executed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for payload in payloads(marker):
        zipped, stream = pt(payload), pt(payload, new=False)
        tarred = io.BytesIO()
        with tarfile.open(fileobj=tarred, mode="w") as tar:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                data = pickle.dumps(payload, protocol=2)
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        for data in (
            zipped,
            stream,
            tarred.getvalue(),
            *(pickle.dumps(payload, protocol=p) for p in range(6)),
            stream[:14] + pickle.dumps(payload, protocol=2),
        ):
            for suffix in (".pt", ".safetensors"):
                with pytest.raises(AestheticError) as caught:
                    loaded(tmp_path, data, suffix)
                assert caught.value.do
    assert not marker.exists()


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    data = rezipped(
        pt(VECTOR), lambda name, data: b"\x80\x02c__torch__.Module\nModule\n)R." if name.endswith("data.pkl") else data
    )
    with pytest.raises(AestheticError, match="not executed"):
        loaded(tmp_path, data)


# What claims more than it holds


def rezipped(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return result.getvalue()


@pytest.mark.parametrize("claimed", [769, 5000, 10**6, 2**31 - 1])
@pytest.mark.parametrize("part", ["storage", "size", "both", "stride"])
def test_claimed_sizes_are_not_believed(tmp_path: Path, claimed: int, part: str) -> None:
    number, wide = b"M\x00\x03", b"J" + claimed.to_bytes(4, "little")

    def lie(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        if part in ("storage", "both"):
            data = data.replace(number + b"tq", wide + b"tq", 1)
        if part in ("size", "both"):
            data = data.replace(number + b"\x85", wide + b"\x85", 1)
        if part == "stride":
            data = data.replace(b"K\x01\x85", wide + b"\x85", 1)
        return data

    data = rezipped(pt(VECTOR), lie)
    assert data != rezipped(pt(VECTOR), lambda _, same: same)
    with pytest.raises(AestheticError, match=r"larger than its storage|is no size|cut off|too much|checksum"):
        loaded(tmp_path, data)


def test_a_huge_memo_index_is_refused(tmp_path: Path) -> None:
    bomb = b"\x80\x02Nr\xff\xff\xff\x7f."
    for data in (rezipped(pt(VECTOR), lambda name, data: bomb if name.endswith("data.pkl") else data), bomb):
        with pytest.raises(AestheticError):
            loaded(tmp_path, data)


# Damage by the thousand

SOURCES = {
    "zip": (pt(VECTOR.half()), ".pt"),
    "stream": (pt(VECTOR.half().reshape(1, -1), new=False), ".pt"),
    "safetensors": (to_bytes(MULTI, ".safetensors"), ".safetensors"),
}
# Bytes that matter are few among the numbers: half of the damage goes into the first and last 1200.
PLACES = st.one_of(st.floats(0, 1, exclude_max=True), st.integers(-1200, 1199))


def damaged(data: bytes, damage: list[tuple[float | int, int]], cut: float) -> bytes:
    result = bytearray(data)
    for place, bit in damage:
        at = int(place * len(data)) if isinstance(place, float) else place % len(data)
        result[at] ^= 1 << bit
    return bytes(result[: round(cut * len(data))])


@pytest.mark.parametrize("kind", SOURCES)
def test_damage_raises_only_our_error(tmp_path: Path, kind: str) -> None:
    data, suffix = SOURCES[kind]
    whole = loaded(tmp_path, data, suffix)

    @hypothesis_settings(max_examples=1000, deadline=None, database=None)
    @given(st.lists(st.tuples(PLACES, st.integers(0, 7)), max_size=4), st.one_of(st.just(1.0), st.floats(0, 1)))
    def run(damage: list[tuple[float | int, int]], cut: float) -> None:
        try:
            result = loaded(tmp_path, damaged(data, damage, cut), suffix)
        except AestheticError as error:
            assert error.what
            assert error.why
            assert error.do
            return
        # A flipped bit in a number or a text can't be told from an intended one; the vectors have to be usable.
        for vector in result.vectors.values():
            assert float(vector.norm()) == pytest.approx(1, abs=1e-4)
        if not damage and cut == 1:
            assert result.digest == whole.digest

    run()


@hypothesis_settings(max_examples=1000, deadline=None, database=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", SOURCES["stream"][0][:40], b"\x10" + b"\0" * 7 + b"{"]),
    st.sampled_from([".pt", ".safetensors"]),
)
def test_noise_raises_only_our_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, start: bytes, suffix: str
) -> None:
    with pytest.raises(AestheticError):
        loaded(tmp_path_factory.getbasetemp(), start + noise, suffix)


# Writing


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(MULTI, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AestheticError, match="No space left"):
        save(Embedding("a", {VIT_L: VECTOR}), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(AestheticError, match="not saved"):
        write_atomically(tmp_path / "a.safetensors", b"")
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def write_forever(path: Path, started: Event) -> None:
    started.set()
    while True:
        for size, letter in ((3_000_000, b"0"), (2_000_000, b"1")):
            write_atomically(path, letter * size)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"0" * 3_000_000)
    context = multiprocessing.get_context("fork")
    for attempt in range(25):
        started = context.Event()
        writer = context.Process(target=write_forever, args=(path, started))
        writer.start()
        started.wait(10)
        time.sleep(0.003 * attempt)
        writer.kill()
        writer.join()
        data = path.read_bytes()
        assert len(data) == (2_000_000 if data[:1] == b"1" else 3_000_000)
        assert data == data[:1] * len(data)
