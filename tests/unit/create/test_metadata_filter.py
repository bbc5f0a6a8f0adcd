"""Rows of features chosen by a column of a parquet table."""

import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from aesthetic_clip.create import features_npy
from aesthetic_clip.create.features_npy import FILTERED, sum_npy
from aesthetic_clip.create.metadata_filter import Filter
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.spaces import VIT_L

from ...support.limits import needs_limits

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features_npy, "_ROWS", 7)


def shards(folder: Path, sizes: list[int]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"img_emb_{number}.npy" for number in range(len(sizes))]
    for number, (path, size) in enumerate(zip(paths, sizes)):
        numpy.save(path, (numpy.random.default_rng(number).normal(size=(size, 768)) + 0.3).astype(numpy.float16))
    return paths


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("aesthetic>=7", ("aesthetic", ">=", 7.0)),
        (" a b < -1.5e3 ", ("a b", "<", -1500.0)),
        ("x=cc0", ("x", "=", "cc0")),
        ("x=='7'", ("x", "==", "7")),
        ("x!=a b", ("x", "!=", "a b")),
        ("x>1", ("x", ">", 1.0)),
        ("x<=1", ("x", "<=", 1.0)),
    ],
)
def test_filter_is_read(text: str, parsed: tuple[str, str, object]) -> None:
    where = Filter.parse(text)
    assert (where.column, where.comparison, where.value) == parsed


@pytest.mark.parametrize("text", ["", "aesthetic", ">=7", "aesthetic>=", "a=>7", "a><7", "a>=>7"])
def test_filter_is_refused(text: str) -> None:
    with pytest.raises(AestheticError, match="can't be read"):
        Filter.parse(text)


def test_filter_without_pyarrow_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AestheticError, match="pip install pyarrow"):
        sum_npy(shards(tmp_path, [3]), where=Filter.parse("a>1"))


def write_metadata(path: Path, **columns: list[object]) -> None:
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path, row_group_size=5)


@needs_pyarrow
@pytest.mark.parametrize("folder", ["img_emb", "metadata"])
def test_filter_takes_the_rows_that_pass(tmp_path: Path, small_batches: None, folder: str) -> None:
    (path,) = shards(tmp_path / "img_emb", [33])
    scores: list[Any] = [None if i % 11 == 0 else i % 10 for i in range(33)]
    write_metadata(
        tmp_path / folder / "metadata_0.parquet",
        aesthetic=scores,
        licence=["cc0" if i % 2 else "by" for i in range(33)],
    )
    rows = numpy.load(path).astype(numpy.float64)
    for text, passed in (
        ("aesthetic>=7", [s is not None and s >= 7 for s in scores]),
        ("aesthetic!=7", [s is not None and s != 7 for s in scores]),
        ("licence=cc0", [bool(i % 2) for i in range(33)]),
    ):
        part = sum_npy([path], raw=True, where=Filter.parse(text))
        assert torch.allclose(part.sums[VIT_L].total, torch.from_numpy(rows[passed].sum(0)))
        assert part.sums[VIT_L].count == sum(passed) == 33 - part.skipped[FILTERED]


@needs_pyarrow
def test_filter_faults(tmp_path: Path) -> None:
    (path,) = shards(tmp_path, [4])
    metadata = tmp_path / "metadata_0.parquet"
    where = Filter.parse("aesthetic>=7")
    with pytest.raises(AestheticError, match=r"no metadata_0\.parquet beside"):
        sum_npy([path], where=where)
    write_metadata(metadata, other=[1, 2, 3, 4])
    with pytest.raises(AestheticError, match="It has: 'other'"):
        sum_npy([path], where=where)
    write_metadata(metadata, aesthetic=[1, 2, 3])
    with pytest.raises(AestheticError, match="3 rows, the features 4"):
        sum_npy([path], where=where)
    write_metadata(metadata, aesthetic=["a", "b", "c", "d"])
    with pytest.raises(AestheticError, match=r"7\.0 is a number"):
        sum_npy([path], where=where)
    metadata.write_bytes(b"PAR1 damaged")
    with pytest.raises(AestheticError, match="whole"):
        sum_npy([path], where=where)


@needs_limits
@needs_pyarrow
def test_a_small_table_that_unpacks_to_hundreds_of_gigabytes(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = 8192
    (path,) = shards(tmp_path, [rows])
    # Each row refers to one text, which is stored once.
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), ["a" * 40_000_000])
    table = tmp_path / "metadata_0.parquet"
    parquet.write_table(pyarrow.table({"caption": column}), table, compression="zstd", store_schema=False)
    assert table.stat().st_size < 100_000
    before, begun = _memory_at_peak(), time.process_time()
    with pytest.raises(AestheticError, match=r"unpacks to more than 1024 MB|whole"):
        sum_npy([path], where=Filter.parse("caption=a"))
    assert _memory_at_peak() - before < 50e6
    assert time.process_time() - begun < 2


@needs_pyarrow
def test_its_reader_ends_with_whoever_asked(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    (path,) = shards(tmp_path, [30_000])
    write_metadata(tmp_path / "metadata_0.parquet", aesthetic=list(range(30_000)))

    def stop(done: int, total: int, line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sum_npy([path], where=Filter.parse("aesthetic>=7"), progress=stop)
    assert not [child for child in psutil.Process().children() if "metadata_table" in " ".join(child.cmdline())]


def _memory_at_peak() -> float:
    """Bytes that this process has had at once."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
