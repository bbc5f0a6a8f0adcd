"""Features from clip-retrieval, shards and parts."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aesthetic_clip.create import features_npy
from aesthetic_clip.create.averaging import FeatureSum
from aesthetic_clip.create.features_npy import NOT_FINITE, ZERO, sum_npy
from aesthetic_clip.create.parts import Part, Shard, embedding_of, load_part, merge_parts, save_part
from aesthetic_clip.errors import AestheticError, Interrupted
from aesthetic_clip.spaces import VIT_H, VIT_L, Space


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_npy, "_ROWS", 7)


def features(rows: int, seed: int = 0, dim: int = 768) -> numpy.ndarray:
    return numpy.random.default_rng(seed).normal(size=(rows, dim)) + 0.3


def shards(folder: Path, sizes: list[int], dtype: type = numpy.float16) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"img_emb_{i}.npy" for i in range(len(sizes))]
    for i, (path, size) in enumerate(zip(paths, sizes)):
        numpy.save(path, features(size, i).astype(dtype))
    return paths


def plain_mean(paths: list[Path], raw: bool = False) -> torch.Tensor:
    rows = numpy.concatenate([numpy.load(path) for path in paths]).astype(numpy.float64)
    if not raw:
        rows /= numpy.linalg.norm(rows, axis=1, keepdims=True)
    mean = rows.mean(0)
    return torch.from_numpy(mean / numpy.linalg.norm(mean)).float()


# Summing


@pytest.mark.parametrize("dtype", [numpy.float16, numpy.float32, numpy.float64])
@pytest.mark.parametrize("raw", [False, True])
def test_equals_the_plain_mean(tmp_path: Path, small_batches: None, dtype: type, raw: bool) -> None:
    paths = shards(tmp_path, [20, 0, 7, 1], dtype)
    seen: list[tuple[int, int]] = []
    part = sum_npy(paths, raw=raw, progress=lambda done, total, _: seen.append((done, total)))
    total = part.sums[VIT_L]
    assert total.count == 28
    assert torch.allclose(total.vector, plain_mean(paths, raw), atol=1e-6)
    assert seen[-1] == (28, 28)
    assert not part.skipped


def test_order_and_repeats_do_not_matter(tmp_path: Path) -> None:
    paths = shards(tmp_path, [5, 6, 7])
    one, other = sum_npy(paths), sum_npy([paths[2], paths[0], paths[1], paths[0]])
    assert torch.equal(one.sums[VIT_L].total, other.sums[VIT_L].total)
    assert one.sources == other.sources


def test_unusable_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = features(10).astype(numpy.float32)
    rows[2, 5], rows[3, 0], rows[7] = numpy.nan, numpy.inf, 0
    numpy.save(tmp_path / "img_emb_0.npy", rows)
    for raw in (False, True):
        part = sum_npy([tmp_path / "img_emb_0.npy"], raw=raw)
        assert part.sums[VIT_L].count == 7
        assert part.skipped == {NOT_FINITE: 2, ZERO: 1}
        assert part.sums[VIT_L].vector.isfinite().all()


def test_memory_stays_flat(tmp_path: Path) -> None:
    path = tmp_path / "img_emb_0.npy"
    array = numpy.lib.format.open_memmap(path, "w+", numpy.float16, (60_000, 768))
    array[:] = 1
    del array
    tracemalloc.start()
    part = sum_npy([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert part.sums[VIT_L].count == 60_000
    assert peak < 200 * 2**20 < 60_000 * 768 * 8  # less than the file as float64 would take


def test_stops(tmp_path: Path, small_batches: None) -> None:
    seen = []

    def stop_soon(done: int, total: int, line: str) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        sum_npy(shards(tmp_path, [50]), progress=stop_soon)
    assert seen[-1] < 50


def header(text: bytes) -> bytes:
    """A file of that header and no numbers."""
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (numpy.zeros(768), "shape"),
        (numpy.zeros((2, 768), int), "<i8"),
        (numpy.zeros((1, 2, 3)), "shape"),
        (numpy.array([[object()]]), r"\|O"),
        (numpy.zeros((2, 768), [("a", "f4"), ("b", "f4")]), "header"),
        (numpy.zeros((2, 768), complex), "<c16"),
        (numpy.zeros((2, 768), "S4"), r"\|S4"),
        (b"", "is empty"),
        (b"hello", "is a text"),
        (b"<!DOCTYPE html><title>Not found</title>", "web page"),
        (b"PAR1" + bytes(100) + b"PAR1", "parquet"),
        (b"PK\x03\x04" + bytes(100), "npz"),
        (header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 768), }"), "fewer rows"),
        (header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 768), }"), "header"),
        (header(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1" + b"0" * 1500 + b", 768), }"), "header"),
        (header(b"(" * 1500), "header"),
        (header(b"9**9**9**9"), "header"),
        (header(b"{'descr': '<f4', 'fortran_order':\xa0False, 'shape': (0, 768), }"), "header"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff" + b" " * 5000, "header"),
        ("truncated", "fewer rows"),
    ],
)
def test_refuses_other_files(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "img_emb_0.npy"
    if isinstance(content, numpy.ndarray):
        numpy.save(path, content, allow_pickle=True)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        numpy.save(path, features(10))
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AestheticError, match=reason) as caught:
        sum_npy([path])
    assert caught.value.do
    assert "unsafe" not in str(caught.value)
    assert "pickle" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_refuses_missing_mixed_and_none(tmp_path: Path) -> None:
    paths = shards(tmp_path, [3])
    with pytest.raises(AestheticError, match="No such file"):
        sum_npy([tmp_path / "no.npy"])
    with pytest.raises(AestheticError, match="no features"):
        sum_npy([])
    with pytest.raises(AestheticError, match="Shard 2/2 of 1"):
        sum_npy(paths, shard=Shard(2, 2))
    numpy.save(tmp_path / "h.npy", features(3, dim=1024))
    with pytest.raises(AestheticError, match="different CLIP models"):
        sum_npy([*paths, tmp_path / "h.npy"])


# Shards and parts


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", ""])
def test_no_such_shard(text: str) -> None:
    with pytest.raises(AestheticError, match="counted from 1"):
        Shard.parse(text)


@given(st.integers(1, 9), st.integers(0, 40))
def test_shards_cover_everything_once(of: int, items: int) -> None:
    together = [item for number in range(1, of + 1) for item in Shard.parse(f"{number}/{of}").of_list(range(items))]
    assert sorted(together) == list(range(items))


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=4, max_size=9), st.integers(1, 4), st.booleans(), st.randoms())
def test_parts_merge_exactly(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], of: int, raw: bool, random: object
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    paths = shards(folder, sizes)
    whole = sum_npy(paths, raw=raw)
    saved = []
    for number in range(1, of + 1):
        saved.append(folder / f"{number}.safetensors")
        save_part(sum_npy(paths, raw=raw, shard=Shard(number, of)), saved[-1])
    random.shuffle(saved)  # type: ignore[attr-defined]
    merged = merge_parts([load_part(path) for path in saved])
    assert merged.sums[VIT_L].count == whole.sums[VIT_L].count == sum(sizes)
    assert merged.sums[VIT_L].raw == raw
    assert merged.sources == whole.sources
    assert torch.allclose(merged.sums[VIT_L].vector, whole.sums[VIT_L].vector, atol=1e-6)
    assert torch.allclose(merged.sums[VIT_L].total, whole.sums[VIT_L].total, rtol=1e-12)


def part(
    number: int = 1, of: int = 2, sources: str = "s", raw: bool = False, spaces: tuple[Space, ...] = (VIT_L,)
) -> Part:
    sums = {space: FeatureSum(space.dim, raw) for space in spaces}
    for total in sums.values():
        total.add(torch.ones(3, total.dim))
    return Part(sums, sources, Shard(number, of), {ZERO: number})


def test_merge_adds_up_what_was_skipped() -> None:
    assert merge_parts([part(1), part(2)]).skipped == {ZERO: 3}
    assert merge_parts([part(2)], incomplete=True).sums[VIT_L].count == 3


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "There are none"),
        ([part(1), part(1)], "there twice"),
        ([part(1)], "1 are missing"),
        ([part(1), part(2, sources="t")], "same list"),
        ([part(1), part(2, of=3)], "same list"),
        ([part(1), part(2, spaces=(VIT_L, VIT_H))], "same CLIP spaces"),
        ([part(1), part(2, raw=True)], "raw"),
    ],
)
def test_merge_refuses(parts: list[Part], reason: str) -> None:
    with pytest.raises(AestheticError, match=reason):
        merge_parts(parts)


def test_damaged_parts(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(AestheticError, match="can't be read"):
        load_part(path)
    save_part(part(spaces=(VIT_L, VIT_H)), path)
    data = path.read_bytes()
    assert load_part(path).shard == Shard(1, 2)
    for damaged in (
        data[:-1],
        data[:100],
        b"",
        b"x" * 200,
        data.replace(b"aesthetic part", b"aesthetic xxxx"),
        data.replace(b"counts", b"xxxxxx"),
        data.replace(b"F64", b"I64"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(AestheticError) as caught:
            load_part(path)
        assert caught.value.do


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shard": "1/999999999"}, "no shard"),
        ({"shard": "0/0"}, "no shard"),
        ({"shard": 3}, "no short text"),
        ({"counts": {"ViT-L/14": 1e30}}, "impossible number"),
        ({"counts": {"ViT-L/14": -1}}, "impossible number"),
        ({"counts": {"ViT-L/14": True}}, "impossible number"),
        ({"counts": {"ViT-L/14": 10**29}}, "impossible number"),
        ({"counts": {}}, "impossible number"),
        ({"counts": {"ViT-L/14": float("nan")}}, "damaged"),
        ({"counts": [1]}, "no counts"),
        ({"raw": "no"}, "damaged"),
        ({"sources": "x" * 10_000}, "no short text"),
        ({"skipped": {"why": -5}}, "impossible number"),
        ({"model_ids": None}, "no model_ids"),
        (None, "within each other"),
    ],
)
def test_parts_that_lie_are_refused_in_one_sentence(tmp_path: Path, change: dict[str, Any] | None, reason: str) -> None:
    facts = {
        "counts": {"ViT-L/14": 3},
        "raw": False,
        "sources": "s",
        "shard": "1/2",
        "skipped": {},
        "model_ids": {},
    }
    text = "[" * 100_000 if change is None else json.dumps({**facts, **change})
    path = tmp_path / "p.safetensors"
    tensors = {"ViT-L/14": torch.ones(768, dtype=torch.float64)}
    safetensors.torch.save_file(tensors, path, {"kind": "aesthetic part 1", "part": text})
    with pytest.raises(AestheticError, match=reason) as caught:
        load_part(path)
    assert len(str(caught.value)) < 400


def test_a_merge_without_some_shards_says_so_in_the_file() -> None:
    assert embedding_of(merge_parts([part(1)], incomplete=True), "a").metadata["complete"] == "false"
    assert "complete" not in embedding_of(merge_parts([part(1), part(2)]), "a").metadata
