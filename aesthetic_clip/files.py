"""Writing files so that a kill, a full disk or another writer never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from .errors import AestheticError


def probe_writable(folder: Path) -> None:
    """Make the folder, if need be, and try to write in it, leaving nothing behind.

    Raises:
        OSError: it can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` so that a kill at any moment leaves the old file or the new one.

    Raises:
        AestheticError: no permission, disk full; the old file is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise AestheticError(
            f"{path.name} was not saved.",
            f"{path.parent} can't be written: {error.strerror or error}.",
            "Free some space or choose another folder; what stood there before is untouched.",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
