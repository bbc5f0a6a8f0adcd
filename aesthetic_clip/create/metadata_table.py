"""A program that reads one column of a parquet table within a limit, for :mod:`.metadata_filter`.

It writes a byte for each row, 1 where the row passes. What stops it is written to the standard error, as a JSON list of
why and what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path

from pyarrow import parquet

from ..errors import first_line
from .metadata_filter import Filter

_MEMORY = 2**30
_FOOTER_BYTES = 2**20  # clip-retrieval's have a few KB
_ROWS = 8192


class _Refused(Exception):
    """Why, and what to do."""


def main(path: Path, column: str, comparison: str, value: float | str, rows: int) -> None:
    """Write which rows pass to the standard output."""
    where = Filter(column, comparison, value)
    limits = dict.fromkeys(("thrift_string_size_limit", "thrift_container_size_limit"), _FOOTER_BYTES)
    _refuse_large_footer(path)
    with parquet.ParquetFile(path, **limits) as table:
        there = table.schema_arrow.names
        if column not in there:
            shown = ", ".join(there)
            raise _Refused(f"it has no column {column!r}", f"It has: {shown[:300]!r}.")
        if table.metadata.num_rows != rows:
            raise _Refused(
                f"it has {table.metadata.num_rows} rows, the features {rows}", "Take the two that one run wrote."
            )
        for batch in table.iter_batches(_ROWS, columns=[column], use_threads=False):
            sys.stdout.buffer.write(where(batch.column(0)).tobytes())


def _refuse_large_footer(path: Path) -> None:
    """The footer is read whole, and says itself how long it is, in the last eight bytes."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 8, 0))
        tail = file.read()
    if tail[4:] != b"PAR1" or not 0 < int.from_bytes(tail[:4], "little") <= min(size, _FOOTER_BYTES):
        raise ValueError("it is not a whole parquet table")


def _limit_memory() -> None:
    """Where the system can: Linux and the like."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        wanted = used + _MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (wanted if most < 0 else min(wanted, most), most))


if __name__ == "__main__":
    _limit_memory()
    try:
        main(Path(sys.argv[1]), *json.loads(sys.argv[2]))
        sys.exit(0)
    except _Refused as refused:
        answer = list(refused.args)
    except MemoryError:
        answer = [f"it unpacks to more than {_MEMORY >> 20} MB", "Leave it out, or make a table of that column alone."]
    except Exception as error:  # pyarrow raises its own, subclasses of several built-in types
        answer = [first_line(error), "Check the column's type and that the file is whole."]
    print(json.dumps(answer), file=sys.stderr)
    sys.exit(1)
