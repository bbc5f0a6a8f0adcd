"""Folders in every state: what is found, what is left out, and that nothing in them stops the rest."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from aesthetic_clip.create.sources import (
    SHOWN,
    Skipped,
    Source,
    Sources,
    find_images,
    left_out_line,
    skipped_lines,
)
from aesthetic_clip.embeddings.metadata import source_hash
from aesthetic_clip.errors import AestheticError, Interrupted

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX file systems only")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(sources: Sources) -> list[str]:
    return [path.name for path in sources if isinstance(path, Path)]


def reasons(sources: Sources) -> dict[str, str]:
    """Of the last iteration, by the last part of the name."""
    list(sources)
    return {Path(name).name: reason for name, reason in sources.skipped}


def test_finds_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "sub/c.webp", ".hidden.png", "Thumbs.db", ".git/d.png", "__MACOSX/e.png", "noext")
    assert list(find_images([tmp_path])) == [tmp_path / name for name in ("a.JPG", "b.png", "noext")]
    assert list(find_images([tmp_path], recursive=True))[-1] == tmp_path / "sub" / "c.webp"
    assert len(find_images([tmp_path, tmp_path / "sub"], recursive=True)) == 4
    assert len(find_images([tmp_path / "sub", tmp_path], recursive=True)) == 4


def test_a_training_set_is_one_line(tmp_path: Path) -> None:
    for i in range(20):
        touch(tmp_path, f"{i}.png", f"{i}.txt")
    touch(tmp_path, "a.mp4", "b.MOV", ".DS_Store", "Thumbs.db", "desktop.ini", "x.npy", "x.safetensors", "x.json")
    found = find_images([tmp_path])
    assert len(found) == len(list(found)) == 20
    assert not found.skipped
    assert left_out_line(found.left_out) == (
        "3 data files, 3 hidden or system files, 20 text files and 2 videos beside the pictures were left out."
    )
    assert left_out_line({"video": 1}) == "1 video beside the pictures was left out."
    assert left_out_line({}) == ""


def test_uploads_beside_folders(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    more: list[Source] = [("b.png", b""), ("b.txt", b""), tmp_path / "c.png"]
    sources = Sources([tmp_path], more)
    assert list(sources) == [tmp_path / "a.png", ("b.png", b""), tmp_path / "c.png"]
    assert sources.left_out == {"text file": 1}


def test_what_is_shown_has_a_bound() -> None:
    skipped = [Skipped(f"{i}.png", "it is damaged") for i in range(1234)]
    lines = skipped_lines(skipped, {"text file": 2})
    assert len(lines) == SHOWN + 2
    assert lines[0] == "0.png: it is damaged"
    assert lines[-2:] == ["and 1,184 more", "2 text files beside the pictures were left out."]


def test_shards_divide_the_pictures(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(10)), *(f"{i}.txt" for i in range(10)))
    found = find_images([tmp_path])
    shards = [found.shard(number, 3) for number in (1, 2, 3)]
    assert [len(shard) for shard in shards] == [len(list(shard)) for shard in shards] == [4, 3, 3]
    assert sorted(name for shard in shards for name in names(shard)) == names(found)


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("gone", "no such folder"),
        ("file.png", "a file, not a folder"),
        ("empty", "no file"),
        ("deep", "only folders"),
        ("captions", "2 text files"),
        ("x" * 300, "can't be read"),
        ("~nosuchuser/x", "no such folder"),
        ("nul\0nul", "can't be read"),
    ],
)
def test_folders_that_hold_nothing(folder: str, why: str, tmp_path: Path) -> None:
    touch(tmp_path, "file.png", "captions/a.txt", "captions/b.caption")
    (tmp_path / "empty").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    with pytest.raises(AestheticError, match=why) as caught:
        find_images([tmp_path / folder])
    assert caught.value.do
    assert str(caught.value).isprintable()


def test_no_folder() -> None:
    with pytest.raises(AestheticError, match="No folder"):
        find_images([])


def _closed(folder: Path) -> Callable[[], None]:
    folder.chmod(0)
    if os.access(folder, os.R_OK):
        folder.chmod(0o700)
        pytest.skip("this user may read everything")
    return lambda: folder.chmod(0o700)


def test_a_forbidden_folder_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "secret/a.png")
    reopen = _closed(tmp_path / "secret")
    try:
        with pytest.raises(AestheticError, match="ermission"):
            find_images([tmp_path / "secret"])
    finally:
        reopen()


def _unreadable(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like a folder without permission, also for a user who may read everything."""
    scandir = os.scandir

    def closed(path: str | Path = ".") -> object:
        if Path(path).name == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)


def test_an_unreadable_folder_on_a_drive_costs_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a.png", "lost+found/b.png", "z/c.png")
    _unreadable("lost+found", monkeypatch)
    found = find_images([tmp_path], recursive=True)
    assert names(found) == ["a.png", "c.png"]
    assert reasons(found) == {"lost+found": "the folder can't be read (Permission denied)"}


def test_a_folder_that_vanishes_meanwhile(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.png", "d/e.png")
    found = find_images([tmp_path], recursive=True)
    (tmp_path / "b" / "c.png").unlink()
    walk = iter(found)
    assert next(walk) == tmp_path / "a.png"
    (tmp_path / "b").rmdir()
    assert list(walk) == [tmp_path / "d" / "e.png"]
    assert "No such file" in found.skipped[0].reason


def test_all_folders_vanish_after_they_were_counted(tmp_path: Path) -> None:
    touch(tmp_path, "drive/a.png")
    found = find_images([tmp_path / "drive"])
    (tmp_path / "drive").rename(tmp_path / "unplugged")
    assert list(found) == []
    assert len(found.skipped) == 1


@POSIX
def test_pipes_sockets_and_broken_links_never_block(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "nothing.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "itself.png").symlink_to(tmp_path / "itself.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path is short
        try:
            server.bind("socket.png")
        finally:
            os.chdir(here)
        found = find_images([tmp_path])
        assert names(found) == ["a.png"]
        told = reasons(found)
    assert told.keys() == {"pipe.png", "nothing.png", "itself.png", "null.png", "socket.png"}
    assert "pipe" in told["pipe.png"]
    assert "link to nothing" in told["nothing.png"]


@POSIX
def test_links_in_circles_and_files_that_come_twice(tmp_path: Path) -> None:
    touch(tmp_path, "pictures/a.png", "pictures/sub/b.png", "elsewhere/c.png")
    root = tmp_path / "pictures"
    (root / "again").symlink_to(root)
    (root / "sub" / "up").symlink_to(tmp_path)
    (root / "link.png").symlink_to(root / "sub" / "b.png")
    (root / "one.png").symlink_to(tmp_path / "other.png")
    (root / "two.png").symlink_to(tmp_path / "other.png")
    touch(tmp_path, "other.png")
    found = [path for path in find_images([root], recursive=True) if isinstance(path, Path)]
    real = [path.resolve() for path in found]
    assert {path.name for path in real} == {"a.png", "b.png", "c.png", "other.png"}
    # The link upward leads to one of them a second time only where it was linked before it was reached.
    assert len([path for path in real if path.name != "other.png"]) == 3
    # Without subfolders the file behind the link does not come by itself.
    assert names(find_images([root])) == ["a.png", "link.png", "one.png"]


@POSIX
def test_folders_deeper_than_the_stack(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1050):
            os.mkdir("d")
            os.chdir("d")
        Path("a.png").touch()
        touch(tmp_path, "z.png")
        assert names(find_images([tmp_path], recursive=True)) == ["z.png", "a.png"]
    finally:
        # pytest's own clearing up would recurse as deep.
        Path("a.png").unlink(missing_ok=True)
        while Path.cwd() != tmp_path:
            os.chdir(os.pardir)
            os.rmdir("d")
        os.chdir(here)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems take UTF-8 only")
def test_names_that_are_not_utf8_can_be_shown(tmp_path: Path) -> None:
    os.mkfifo(os.path.join(os.fsencode(tmp_path), b"caf\xe9\x1b[2J\n.png"))
    touch(tmp_path, "a.png")
    (name,) = reasons(find_images([tmp_path]))
    assert name == "caf\\xe9\\x1b[2J\\x0a.png"
    assert name.encode("utf-8")


@pytest.mark.parametrize("after", [1, 5])
def test_interrupt_while_counting(after: int, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}/{i}.png" for i in range(20)))
    told: list[str] = []

    def progress(done: int, total: int, line: str) -> None:
        told.append(line)
        if len(told) > after:
            raise Interrupted

    with pytest.raises(Interrupted):
        find_images([tmp_path], recursive=True, progress=progress)
    assert told[-1] == f"Counting the pictures: {after - 1} so far"


def test_interrupt_where_no_picture_comes_for_long(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", *(f"captions/{i}.txt" for i in range(3000)))
    found = find_images([tmp_path], recursive=True)
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    list(found.each(tick))
    assert ticks >= 4


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    import tracemalloc

    for i in range(40):
        touch(tmp_path, *(f"{i:03}/{j:03}.png" for j in range(50)))
    tracemalloc.start()
    try:
        peaks = []
        for folders in ([tmp_path / "000"], [tmp_path]):
            tracemalloc.reset_peak()
            for _ in find_images(folders, recursive=True):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()
    # Forty times as many; what grows are the folders' names.
    assert peaks[1] < peaks[0] + 60_000


def test_the_hash_is_of_the_whole_set_wherever_it_is_and_whatever_the_shard(tmp_path: Path) -> None:
    for place in ("here", "there"):
        touch(tmp_path / place, "a", "b")
    touch(tmp_path / "more", "a", "b", "c")
    here = find_images([tmp_path / "here"])
    assert here.hash == find_images([tmp_path / "there"]).hash == here.shard(1, 2).hash == source_hash(["b", "a"])
    assert len({source_hash(names) for names in ("ab", "a", "", "abb", ["ab"])}) == 5
    assert find_images([tmp_path / "more"]).hash != here.hash


def test_threads_may_walk_at_once(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(200)))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(len(list(find_images([tmp_path]))))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [200] * 4
