"""Rows of features chosen by their metadata: a column of a parquet table, compared with a value.

What a table's pages unpack to is said nowhere that can be believed, and pyarrow takes the memory for it without
asking. So the table is read by a program of its own, which has a limit (:mod:`.metadata_table`).
"""

from __future__ import annotations

import importlib.util
import json
import operator
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from ..errors import AestheticError
from ..printable import printable

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


def masks(path: Path, rows: int, where: Filter, size: int) -> Iterator[numpy.ndarray]:
    """Which rows of a file of features pass, so many at a time.

    Args:
        path: the ``.npy`` file; its metadata lie beside it.
        rows: how many it has.
        where: what is asked of them.
        size: rows of a mask; the last has what is left.

    Yields:
        (size,) bool.

    Raises:
        AestheticError: there are no metadata, they do not belong to these features, have no such column, are damaged
            or take too much memory; or pyarrow is missing.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise AestheticError(
            "The filter can't be applied.",
            "Reading metadata needs the package pyarrow, which is not there.",
            "Install it: pip install pyarrow.",
        )
    table = _metadata(path)
    request = json.dumps([where.column, where.comparison, where.value, rows])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        # The others set addresses aside by the gigabyte, which a limit would count.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [sys.executable, "-m", f"{__package__}.metadata_table", str(table.absolute()), request]
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=told)
        try:
            yielded = 0
            while process.stdout and (piece := process.stdout.read(size)):
                yielded += len(piece)
                yield numpy.frombuffer(piece, bool)
            if process.wait() or yielded < rows:
                told.seek(0)
                raise _refused(where, path, table, told.read(10_000).decode(errors="replace"))
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


def _refused(where: Filter, path: Path, table: Path, told: str) -> AestheticError:
    try:
        why, do = json.loads(told.strip().splitlines()[-1])
    except (ValueError, IndexError):
        why, do = "its reader ended early", "Check that the file is whole."
    subject = f"The filter {where} can't be applied to {path.name}."
    return AestheticError(subject, f"{printable(table.name)}: {printable(str(why))}.", str(do))


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
