"""Sums the image features that clip-retrieval writes, so that sets of any size become embeddings.

``clip-retrieval inference`` writes ``img_emb/img_emb_0.npy`` (float16, (N, D), one
row per image) and ``metadata/metadata_0.parquet`` (the same rows in the same order).
"""

from __future__ import annotations

import importlib
import operator
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch

from ..embeddings.metadata import source_hash
from ..errors import AestheticError, first_line
from ..progress import Progress, silent
from ..readers.faults import UnreadableFile, quoted, refuse_other_kinds
from ..spaces import space_of
from .averaging import FeatureSum
from .parts import WHOLE, Part, Shard

_ROWS = 8192  # a batch of ViT-bigG/14 features takes 84 MB in float64
NOT_FINITE, ZERO, FILTERED = "NaN or infinite feature", "all-zero feature", "left out by the filter"

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class Filter:
    """A comparison of a column of the metadata with a number or a text, e.g. ``aesthetic>=7``.

    Rows without a value never pass.
    """

    column: str
    comparison: str
    value: float | str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """``column``, one of >= <= == != > < =, and a number or a text, which may be quoted.

        Raises:
            AestheticError: not of that form.
        """
        match = re.fullmatch(r"\s*([^<>=!]+?)\s*(>=|<=|==|!=|>|<|=)\s*([^<>=!].*?)\s*", text)
        if not match:
            raise AestheticError(
                f"The filter {text!r} can't be read.",
                "It has to be a column, a comparison and a value.",
                "Write for example 'aesthetic>=7' or 'license=cc0', in quotes for the shell.",
            )
        column, comparison, value = match.groups()
        try:
            return cls(column, comparison, float(value))
        except ValueError:
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            return cls(column, comparison, value[1:-1] if quoted else value)

    def __call__(self, values: Any) -> numpy.ndarray:
        """Which rows pass.

        Args:
            values: (N,) pyarrow array.

        Returns:
            (N,) bool.

        Raises:
            TypeError: the column is of another type than the value.
        """
        known = ~values.is_null().to_numpy(zero_copy_only=False)
        column = values.to_numpy(zero_copy_only=False)
        numeric = column.dtype.kind in "biuf"
        if numeric != isinstance(self.value, float) and known.any():
            raise TypeError(f"it holds {values.type}, and {self.value!r} is {'no' if numeric else 'a'} number")
        passed = numpy.zeros(len(column), bool)
        passed[known] = _COMPARISONS[self.comparison](column[known], self.value)
        return passed

    def __str__(self) -> str:
        return f"{self.column}{self.comparison}{self.value}"


def sum_npy(
    files: Sequence[Path],
    *,
    raw: bool = False,
    where: Filter | None = None,
    shard: Shard = WHOLE,
    progress: Progress = silent,
) -> Part:
    """Sum the features in ``.npy`` files, a few thousand rows at a time, so that memory stays flat.

    Args:
        files: float arrays of shape (N, D), all of one CLIP space, in any order.
        raw: add features as they are instead of their unit vectors.
        where: take only rows whose metadata passes; each ``X_emb_N.npy`` then needs its ``metadata_N.parquet``
            in the same folder or in ``metadata`` beside it.
        shard: take only this share of the files.
        progress: is told the rows done and the rows there are.

    Raises:
        AestheticError: a file is missing, damaged, of another kind or another space, or no row is left.
        Interrupted: ``progress`` raised it.
    """
    # By name, so that all machines of a cluster divide them up alike wherever they mount them.
    paths = sorted(dict.fromkeys(files), key=lambda path: (path.name, str(path)))
    sources = source_hash([path.name for path in paths] + ([str(where)] if where else []))
    arrays = {path: _open(path) for path in shard.of_list(paths)}
    if not arrays:
        raise AestheticError(
            "There are no features to sum.",
            f"Shard {shard} of {len(paths)} files is empty.",
            "Name .npy files, and not more shards than files.",
        )
    widths = {array.shape[1]: path.name for path, array in arrays.items()}
    if len(widths) > 1:
        described = ", ".join(f"{name} has width {width}" for width, name in widths.items())
        raise AestheticError(
            "These features can't be summed up.",
            f"They are of different CLIP models: {described}.",
            "Take the files of one model.",
        )
    total = FeatureSum(next(iter(widths)), raw)
    skipped = dict.fromkeys((NOT_FINITE, ZERO, FILTERED), 0)
    rows, done = sum(len(array) for array in arrays.values()), 0
    for path, array in arrays.items():
        masks = _masks(path, len(array), where) if where else None
        for start in range(0, len(array), _ROWS):
            features = numpy.asarray(array[start : start + _ROWS], numpy.float64)
            done += len(features)
            if masks is not None:
                mask = next(masks)
                skipped[FILTERED] += int((~mask).sum())
                features = features[mask]
            finite = numpy.isfinite(features).all(axis=1)
            somewhere = features.any(axis=1)
            skipped[NOT_FINITE] += int((~finite).sum())
            skipped[ZERO] += int((~somewhere).sum())
            total.add(torch.from_numpy(features[finite & somewhere]))
            progress(done, rows, "")
    return Part({space_of(total.dim): total}, sources, shard, {why: count for why, count in skipped.items() if count})


_NPY = b"\x93NUMPY"
_HEADER_BYTES = 2048  # what numpy writes has 128
_HEADER = re.compile(
    r"\{\s*'descr'\s*:\s*'(?P<dtype>[<>=|]?f[0-9]{1,2})'\s*,\s*'fortran_order'\s*:\s*(?P<order>True|False)\s*,"
    r"\s*'shape'\s*:\s*\((?P<rows>[0-9]{1,15})L?\s*,\s*(?P<width>[0-9]{1,9})L?\s*,?\s*\)\s*,?\s*\}\s*",
    re.ASCII,
)
_DTYPES = {"f2", "f4", "f8"}
_WIDEST = 8192
_FOOTER_BYTES = 2**20  # of a parquet table; clip-retrieval's have a few KB


def _open(path: Path) -> numpy.ndarray:
    """The array in a file, mapped into memory instead of read.

    The header is Python to numpy's own reader; here it is one form of text, and its shape is compared with
    the bytes there are.
    """
    subject = f"The features in {path.name} can't be used."
    try:
        if not path.is_file():
            path.open("rb").close()  # the system's own reason
            raise UnreadableFile("It is no ordinary file.", "Name .npy files.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEADER_BYTES + 12)
        return _mapped(path, head, size)
    except UnreadableFile as error:
        raise AestheticError(subject, error.why, error.do) from error
    except OSError as error:
        raise AestheticError(subject, f"{error.strerror or error}: {path}.", "Check the path.") from error


def _mapped(path: Path, head: bytes, size: int) -> numpy.ndarray:
    if not head.startswith(_NPY):
        if head.startswith(b"PAR1"):
            raise UnreadableFile(
                "It is a parquet table, which holds the features' metadata.",
                "Take the img_emb files that clip-retrieval writes; their parquet is found beside them.",
            )
        if head.startswith(b"PK\x03\x04"):
            raise UnreadableFile(
                "It is a zip archive such as .npz, not one .npy file.", "Save the array with numpy.save."
            )
        refuse_other_kinds(head, size)
        raise UnreadableFile("It is no whole .npy file.", "Copy it again, or leave it out.")
    width = 2 if head[6:7] == b"\x01" else 4
    start = 8 + width + int.from_bytes(head[8 : 8 + width], "little")
    text = head[8 + width : start]
    match = _HEADER.fullmatch(text.decode("latin-1")) if start <= len(head) else None
    if match is None or match["dtype"].lstrip("<>=|") not in _DTYPES or not 2 <= int(match["width"]) <= _WIDEST:
        shown = quoted(text.decode("latin-1").strip(), 100)
        raise UnreadableFile(
            f"Its header is {shown}, not that of one row of floats per image.",
            "Take the img_emb files that clip-retrieval writes.",
        )
    dtype = numpy.dtype(match["dtype"])
    shape = int(match["rows"]), int(match["width"])
    if start + shape[0] * shape[1] * dtype.itemsize > size:
        raise UnreadableFile(
            "It is no whole .npy file: it has fewer rows than it says.", "Copy it again, or leave it out."
        )
    if not shape[0]:
        return numpy.zeros(shape, dtype)
    return numpy.memmap(path, dtype, "r", start, shape, "F" if match["order"] == "True" else "C")


def _masks(path: Path, rows: int, where: Filter) -> Iterator[numpy.ndarray]:
    """For each batch of rows of a file, which pass."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise AestheticError(
            "The filter can't be applied.",
            "Reading metadata needs the package pyarrow, which is not there.",
            "Install it: pip install pyarrow.",
        ) from error
    metadata = _metadata(path)
    subject = f"The filter {where} can't be applied to {path.name}."
    try:
        _refuse_large_footer(metadata)
        limits = dict.fromkeys(("thrift_string_size_limit", "thrift_container_size_limit"), _FOOTER_BYTES)
        with parquet.ParquetFile(metadata, **limits) as table:
            if where.column not in table.schema_arrow.names:
                raise AestheticError(
                    subject,
                    f"{metadata.name} has no column {where.column!r}.",
                    f"It has: {quoted(', '.join(table.schema_arrow.names), 300)}.",
                )
            if table.metadata.num_rows != rows:
                raise AestheticError(
                    subject,
                    f"{metadata.name} has {table.metadata.num_rows} rows, the features {rows}.",
                    "Take the two that one run wrote.",
                )
            pending = numpy.zeros(0, bool)
            for batch in table.iter_batches(_ROWS, columns=[where.column]):
                # Batches may end early at a row group.
                pending = numpy.concatenate((pending, where(batch.column(0))))
                while len(pending) >= _ROWS:
                    yield pending[:_ROWS]
                    pending = pending[_ROWS:]
            if len(pending):
                yield pending
    except (AestheticError, GeneratorExit):
        raise
    except Exception as error:  # pyarrow raises its own, subclasses of several built-in types
        raise AestheticError(
            subject, f"{metadata.name}: {first_line(error)}.", "Check the column's type and that the file is whole."
        ) from error


def _refuse_large_footer(path: Path) -> None:
    """The footer is read whole, and says itself how long it is, in the last eight bytes."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        tail = file.read()
    if tail[4:] != b"PAR1" or not 0 < int.from_bytes(tail[:4], "little") <= min(size, _FOOTER_BYTES):
        raise ValueError("it is not a whole parquet table")


def _metadata(path: Path) -> Path:
    number = path.stem.rpartition("_")[2]
    candidates = [folder / f"metadata_{number}.parquet" for folder in (path.parent, path.parent.parent / "metadata")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise AestheticError(
        f"The filter can't be applied to {path.name}.",
        f"There is no {candidates[0].name} beside it.",
        "Put it into the same folder, or into the folder metadata beside that one.",
    )
