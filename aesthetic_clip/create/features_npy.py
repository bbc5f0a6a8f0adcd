"""Sums the image features that clip-retrieval writes, so that sets of any size become embeddings.

``clip-retrieval inference`` writes ``img_emb/img_emb_0.npy`` (float16, (N, D), one
row per image) and ``metadata/metadata_0.parquet`` (the same rows in the same order).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch

from ..embeddings.metadata import source_hash
from ..errors import AestheticError
from ..progress import Progress, silent
from ..readers.faults import UnreadableFile, quoted, refuse_other_kinds
from ..spaces import space_of
from .averaging import FeatureSum
from .metadata_filter import Filter, masks
from .parts import WHOLE, Part, Shard

_ROWS = 512  # in float64 what a processor's cache holds, and little more
NOT_FINITE, ZERO, FILTERED = "NaN or infinite feature", "all-zero feature", "left out by the filter"


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
        passing = masks(path, len(array), where, _ROWS) if where else None
        for start in range(0, len(array), _ROWS):
            features = numpy.asarray(array[start : start + _ROWS], numpy.float64)
            done += len(features)
            if passing is not None:
                mask = next(passing)
                skipped[FILTERED] += int((~mask).sum())
                features = features[mask]
            finite = numpy.isfinite(features).all(axis=1)
            somewhere = features.any(axis=1)
            skipped[NOT_FINITE] += int((~finite).sum())
            skipped[ZERO] += int((~somewhere).sum())
            good = finite & somewhere
            total.add(torch.from_numpy(features if good.all() else features[good]))
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
