"""Writing files so that a kill, a full disk or another writer never leaves half of one."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import AestheticError, first_line

# What a kill can leave behind: this module's own temporary files, and those of version 1.0.
_OWN_TEMPORARY = re.compile(r"\.aesthetic-[0-9a-f]{16}\.tmp|\..+\.(?:safetensors|pt|png|npz)\.\d+\.tmp", re.DOTALL)
_OLD_SECONDS = 3600
_PATIENCE = 30.0
_LOCK_FILE = ".aesthetic.lock"  # where folders themselves can't be locked

_thread_locks: dict[str, threading.Lock] = {}
_swept: dict[str, float] = {}
_guard = threading.Lock()


def reason(error: BaseException) -> str:
    """Why the system refused, in its words."""
    return (error.strerror if isinstance(error, OSError) else None) or first_line(error)


def probe_writable(folder: Path) -> None:
    """Make the folder, if need be, and try to write in it, leaving nothing behind.

    Raises:
        OSError: it can't be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_atomically(path: Path, data: bytes, new: bool = False) -> None:
    """Put ``data`` at ``path`` so that a kill at any moment leaves the old file or the new one.

    Any number of threads and processes may write at once: each file that a reader meets is whole.

    Args:
        path: where to; missing folders are made.
        data: the whole content.
        new: refuse if something is there, even if it came a moment ago.

    Raises:
        FileExistsError: ``new``, and something is there.
        AestheticError: no permission, disk full; the old file is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = _temporary(path)
        try:
            _write(temporary, data)
            if new:
                _publish_new(temporary, path)
            else:
                replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except FileExistsError as error:
        if new and error.filename2 is not None:
            raise
        raise _unsaved(path, error) from error
    except (OSError, ValueError) as error:
        raise _unsaved(path, error) from error


def _unsaved(path: Path, error: Exception) -> AestheticError:
    return AestheticError(
        f"{path.name} was not saved.",
        f"{path.parent} can't be written: {reason(error)}.",
        "Free some space or choose another folder; what stood there before is untouched.",
    )


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(old: Path, new: Path) -> None:
    """``os.replace``, with patience: Windows refuses while somebody has the file open, such as a virus scanner."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return os.replace(old, new)
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _publish_new(temporary: Path, path: Path) -> None:
    if os.name == "nt":
        return os.rename(temporary, path)  # refuses by itself when something is there
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        # No hard links here (FAT, some network drives); the folder's lock keeps this program's other writers out.
        if os.path.lexists(path):
            raise FileExistsError(17, "File exists", str(temporary), None, str(path)) from None
        replace(temporary, path)


def _sync_folder(folder: Path) -> None:
    """So that the name, too, survives a power failure, where the system can do that."""
    if os.name != "nt":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def keep_copy(path: Path, copy: Path) -> None:
    """A second name for a file that is about to be replaced; whole, or not there at all.

    It takes no space where the file system has hard links.

    Raises:
        OSError: it can't be made.
    """
    try:
        os.link(path, copy)
    except OSError:
        _copy(path, copy)


def move(old: Path, new: Path) -> None:
    """Move a file to a place that is free, also to another disk; whole at either place at any moment.

    Raises:
        FileExistsError: something is there.
        OSError: it can't be moved; it is where it was.
    """
    if os.path.lexists(new):
        raise FileExistsError(17, "File exists", str(new))
    try:
        replace(old, new)
    except OSError as error:
        if error.errno != 18:  # EXDEV: another disk
            raise
        _copy(old, new)
        old.unlink()


def _copy(old: Path, new: Path) -> None:
    temporary = _temporary(new)
    try:
        _write(temporary, old.read_bytes())
        replace(temporary, new)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    # The name does not grow with the file's, which may be as long as the file system allows.
    return path.with_name(f".aesthetic-{secrets.token_hex(8)}.tmp")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one of those that this package renames when they are whole."""
    return _OWN_TEMPORARY.fullmatch(name) is not None


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed programs left in a folder: only own ones, only old ones.

    It looks at most once an hour, so that it can be called before each write.
    """
    key, now = os.fspath(folder), time.time()
    with _guard:
        if now - _swept.get(key, -_OLD_SECONDS) < _OLD_SECONDS:
            return
        _swept[key] = now
    with contextlib.suppress(OSError), os.scandir(folder) as listing:
        for entry in listing:
            if is_temporary(entry.name):
                with contextlib.suppress(OSError):
                    if now - entry.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS:
                        os.unlink(entry.path)


@contextlib.contextmanager
def locked(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Keep every other thread and process that asks for the same lock out of a folder.

    The system drops the lock when its holder ends, however it ends, so none is ever stale and no file
    stays. Where a file system knows no locks (some network drives) only threads are kept out.
    Not reentrant.

    Raises:
        OSError: there is no such folder.
        AestheticError: somebody else has held it for ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    with _guard:
        lock = _thread_locks.setdefault(os.path.realpath(folder), threading.Lock())
    if not lock.acquire(timeout=patience):
        raise _busy(folder)
    try:
        with _process_lock(folder, deadline):
            yield
    finally:
        lock.release()


def _busy(folder: Path) -> AestheticError:
    return AestheticError(
        f"Nothing in {folder} was changed.",
        "Another program has been changing embeddings there for longer than that can take.",
        "Wait or end that program, and try again.",
    )


if sys.platform == "win32":

    @contextlib.contextmanager
    def _process_lock(folder: Path, deadline: float) -> Iterator[None]:
        # The file is gone when its handle is, also after a kill.
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY
        path = os.path.join(folder, _LOCK_FILE)
        forbidden = time.monotonic() + 1
        while True:
            try:
                descriptor = os.open(path, flags)
                break
            except FileExistsError:
                pass
            except PermissionError:  # it is just going away, or the folder can't be written
                if time.monotonic() > forbidden:
                    raise
            if time.monotonic() > deadline:
                raise _busy(folder)
            time.sleep(0.01)
        try:
            yield
        finally:
            os.close(descriptor)

else:
    import fcntl

    @contextlib.contextmanager
    def _process_lock(folder: Path, deadline: float) -> Iterator[None]:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise _busy(folder) from None
                    time.sleep(0.005)
                except OSError:  # no locks on this file system
                    break
            try:
                yield
            finally:
                # By hand, since a child that was forked meanwhile holds the same lock.
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)
