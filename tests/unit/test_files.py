"""Whole files whoever writes at once, locks that no kill leaves behind, and no litter."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aesthetic_clip import files
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.files import locked, move, sweep, write_atomically

HOUR = 3600


@pytest.fixture(autouse=True)
def _unswept() -> None:
    files._swept.clear()


def test_readers_meet_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 50_000 for i in range(8)]
    write_atomically(path, contents[0])
    done = threading.Event()

    def write(content: bytes) -> None:
        for _ in range(25):
            write_atomically(path, content)

    def read() -> int:
        count = 0
        while not done.is_set():
            assert path.read_bytes() in contents
            count += 1
        return count

    with ThreadPoolExecutor(10) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for writer in [pool.submit(write, content) for content in contents]:
            writer.result()
        done.set()
        assert all(reader.result() for reader in readers)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("links", [True, False], ids=["with hard links", "without"])
def test_of_many_that_write_one_new_file_one_succeeds(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:

        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)

    def write(i: int) -> int | None:
        try:
            with locked(tmp_path):
                write_atomically(tmp_path / "file", str(i).encode(), new=True)
        except FileExistsError:
            return None
        return i

    with ThreadPoolExecutor(8) as pool:
        [winner] = [i for i in pool.map(write, range(40)) if i is not None]
    assert (tmp_path / "file").read_bytes() == str(winner).encode()
    assert os.listdir(tmp_path) == ["file"]


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), b"data")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"data"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "y" * 300])
def test_a_place_that_can_be_none_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    with pytest.raises(AestheticError, match="was not saved"):
        write_atomically(tmp_path / name, b"")


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_litter(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(AestheticError, match=r"file was not saved.*No space left"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_writes_that_the_system_cuts_short_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_atomically(tmp_path / "file", b"0123456789")
    assert (tmp_path / "file").read_bytes() == b"0123456789"


def test_moving_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = os.replace

    def other_disk(old: Path, new: Path) -> None:
        if Path(old).suffix != ".tmp":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(old, new)

    monkeypatch.setattr(os, "replace", other_disk)
    (tmp_path / "old").write_bytes(b"data")
    move(tmp_path / "old", tmp_path / "new")
    assert os.listdir(tmp_path) == ["new"]
    (tmp_path / "third").write_bytes(b"other")
    with pytest.raises(FileExistsError):
        move(tmp_path / "third", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"data"


# Locks


HOLDS = """
import sys, time
from pathlib import Path
from aesthetic_clip.files import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_lock_keeps_other_processes_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"locked"
        start = time.monotonic()
        with pytest.raises(AestheticError, match="Another program"), locked(tmp_path, patience=0.1):
            pass
        assert time.monotonic() - start < 5
        holder.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
        holder.wait()
        with locked(tmp_path, patience=5):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.communicate()
    assert os.listdir(tmp_path) == []


def test_a_lock_keeps_other_threads_out_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    inside, most = [], []

    def work(i: int) -> None:
        with locked(tmp_path / ("real" if i % 2 else "link")):
            inside.append(i)
            most.append(len(inside))
            time.sleep(0.001)
            inside.remove(i)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert max(most) == 1


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path, patience=0):
        pass
    with pytest.raises(OSError), locked(tmp_path / "nothing"):
        pass


# Litter


def test_only_own_and_old_temporary_files_are_swept(tmp_path: Path) -> None:
    old = [
        ".aesthetic-0123456789abcdef.tmp",
        ".my taste.safetensors.4711.tmp",  # of version 1.0
        ".a.preview.png.12.tmp",
    ]
    strange = [".aesthetic-mine.tmp", "notes.tmp", ".other.12.tmp", "a.safetensors", ".a.safetensors"]
    for name in [*old, *strange]:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - 2 * HOUR,) * 2)
    (tmp_path / ".aesthetic-00112233445566ff.tmp").write_bytes(b"somebody writes this now")
    write_atomically(tmp_path / "new", b"")
    assert sorted(os.listdir(tmp_path)) == sorted([*strange, ".aesthetic-00112233445566ff.tmp", "new"])


def test_sweeping_looks_once_an_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path)
    litter = tmp_path / ".aesthetic-0123456789abcdef.tmp"
    litter.write_bytes(b"")
    os.utime(litter, (time.time() - 2 * HOUR,) * 2)
    sweep(tmp_path)
    assert litter.exists()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + HOUR + 1)
    sweep(tmp_path)
    assert not litter.exists()
