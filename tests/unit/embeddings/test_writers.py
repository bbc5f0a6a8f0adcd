"""The library under several writers, full disks and failing moves: old or new, nothing lost, nothing said that is not so."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding, load, save
from aesthetic_clip.embeddings.library import TRASH, Library, open_library
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L


def embedding(seed: int = 0) -> Embedding:
    return Embedding("x", {VIT_L: unit(torch.randn(768, generator=torch.Generator().manual_seed(seed)))})


@pytest.fixture
def lib(tmp_path: Path) -> Library:
    lib = open_library([tmp_path / "home", tmp_path / "other"])
    for folder in lib.folders:
        folder.mkdir()
    return lib


def state(lib: Library) -> dict[str, bytes]:
    """Every file and what is in it."""
    root = lib.folders[0].parent
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def digests(lib: Library) -> dict[str, str]:
    return {name: lib.load(name).digest for name in lib.names()}


# Two at once


def test_of_many_that_save_one_new_name_one_is_told_saved(lib: Library) -> None:
    for turn in range(10):
        start = threading.Barrier(4)

        def save_one(seed: int, start: threading.Barrier = start, name: str = f"new {turn}") -> int | None:
            start.wait()
            try:
                lib.save_new(embedding(seed), name)
            except AestheticError as error:
                assert "already" in error.what
                return None
            return seed

        with ThreadPoolExecutor(4) as pool:
            [winner] = [seed for seed in pool.map(save_one, range(4)) if seed is not None]
        assert lib.load(f"new {turn}").digest == embedding(winner).digest


def test_overwriting_at_once_keeps_each_old_one_and_never_breaks_a_reader(lib: Library) -> None:
    lib.save_new(embedding(0), "a")
    done = threading.Event()
    known = {embedding(seed).digest for seed in range(41)}

    def read() -> None:
        while not done.is_set():
            assert lib.load("a").digest in known

    with ThreadPoolExecutor(6) as pool:
        reader = pool.submit(read)
        for saved in [pool.submit(lib.save_new, embedding(seed), "a", True) for seed in range(1, 41)]:
            saved.result()
        done.set()
        reader.result()
    kept = {load(one.path).digest for one in lib.trashed()} | {lib.load("a").digest}
    assert kept == known


def test_a_pt_replaced_by_a_safetensors_is_readable_all_the_time(lib: Library) -> None:
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            assert lib.load("a").name == "a"

    save(embedding(0), lib.folders[0] / "a.pt")
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        for seed in range(20):
            lib.save_new(embedding(seed), "a", overwrite=True)
            save(embedding(seed), lib.folders[0] / "a.pt")
            lib.folders[0].joinpath("a.safetensors").unlink()
        done.set()
        reader.result()


def test_renaming_and_trashing_at_once_lose_nothing(lib: Library) -> None:
    for seed in range(12):
        lib.save_new(embedding(seed), f"{seed}")

    def act(seed: int) -> None:
        with contextlib.suppress(AestheticError):
            lib.trash(f"{seed % 12}") if seed % 2 else lib.rename(f"{seed % 12}", f"new {seed}")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(act, range(36)))
    left = set(digests(lib).values()) | {load(one.path).digest for one in lib.trashed()}
    assert left == {embedding(seed).digest for seed in range(12)}


# A full disk at every moment

CALLS = ("open", "write", "fsync", "replace", "rename", "link", "mkdir", "unlink")


class FullAt:
    """Lets all calls that change a disk through but the n-th, or all from that one on."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, lasting: bool) -> None:
        self.count, self.number, self.lasting = 0, number, lasting
        for name in CALLS:
            patch.setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def changing(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_CREAT):
                return call(*args, **kwargs)
            self.count += 1
            # Removing always works on a full disk.
            if (self.count >= self.number and name != "unlink") if self.lasting else self.count == self.number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))
            return call(*args, **kwargs)

        return changing


def prepared(lib: Library) -> None:
    lib.save_new(embedding(1), "a")
    for ending in (".preview.png", ".json"):
        (lib.folders[0] / f"a{ending}").write_bytes(b"a's" + ending.encode())
    save(embedding(2), lib.folders[0] / "a.pt")
    (lib.folders[0] / "b.png").write_bytes(b"an orphan")
    save(embedding(3), lib.folders[1] / "sub" / "far.pt")
    (lib.folders[1] / "sub" / "far.png").write_bytes(b"far's")
    lib.save_new(embedding(4), "t")
    lib.trash("t")


ACTIONS: dict[str, Callable[[Library], object]] = {
    "save": lambda lib: lib.save_new(embedding(9), "new"),
    "overwrite": lambda lib: lib.save_new(embedding(9), "a", overwrite=True),
    "rename": lambda lib: lib.rename("a", "b"),
    "trash": lambda lib: lib.trash("a"),
    "restore": lambda lib: lib.restore(lib.trashed()[0].path),
    "move home": lambda lib: lib.move_home("sub/far"),
    "preview": lambda lib: lib.save_preview("a", b"new picture"),
    "export": lambda lib: lib.export("a", lib.folders[1] / "out.pt"),
}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_disk_that_is_full_at_any_moment(
    action: str, lasting: bool, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 60):
        root = tmp_path_factory.mktemp("full")
        lib = open_library([root / "home", root / "other"])
        for folder in lib.folders:
            folder.mkdir()
        prepared(lib)
        before = state(lib)
        with monkeypatch.context() as patch:
            full = FullAt(patch, number, lasting)
            failed = ""
            try:
                ACTIONS[action](lib)
            except AestheticError as error:
                failed = str(error)
        after = state(lib)
        # Whatever happened, nothing is lost, cut off or left lying about.
        kept = list(after.values())
        replaced = {"home/a.preview.png"} if action == "preview" else set()
        assert not [name for name in before.keys() - replaced if before[name] not in kept], (number, failed)
        if lasting:
            assert not [name for name in after if name.endswith(".tmp")], (number, failed)
        for one in lib.trashed():
            load(one.path)
        for name in lib.names():
            lib.load(name)
        if full.count < number:
            assert not failed
            return
        if failed:
            if "stayed beside it" in failed or "put back" in failed:
                assert "was saved" in failed or "is now" in failed
            else:
                assert "not" in failed
                assert {k: v for k, v in after.items() if not k.endswith(".tmp")} == before, (number, failed)
    pytest.fail("it never ends")


def test_a_disk_that_is_full_at_the_preview_tells_that_the_embedding_is_saved(
    lib: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    lib.save_new(embedding(), "a")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AestheticError, match=r"'a' is saved, but its preview picture was not.*No space left"):
        lib.save_preview("a", b"picture")
    assert lib.load("a").digest == embedding().digest


# Renaming


def test_rename_puts_an_orphan_picture_into_the_trash_first(lib: Library) -> None:
    lib.save_new(embedding(1), "a")
    (lib.folders[0] / "a.png").write_bytes(b"a's")
    (lib.folders[0] / "b.png").write_bytes(b"orphan")
    (lib.folders[0] / "B.preview.jpg").write_bytes(b"orphan in other case")
    lib.rename("a", "b")
    assert (lib.folders[0] / "b.png").read_bytes() == b"a's"
    [picture] = (lib.folders[0] / TRASH).rglob("b.png")
    assert picture.read_bytes() == b"orphan"
    assert list((lib.folders[0] / TRASH).rglob("B.preview.jpg"))


def test_a_rename_that_fails_in_the_middle_is_taken_back(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(lib)
    before, replace = state(lib), os.replace

    def failing(old: Path, new: Path) -> None:
        if str(new).endswith("b.preview.png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(new))
        replace(old, new)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(AestheticError, match="'a' was not renamed") as caught:
        lib.rename("a", "b")
    assert "everything is where it was" in caught.value.do
    assert state(lib) == before


def test_what_cannot_be_put_back_is_said(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(lib)
    replace = os.replace

    def failing(old: Path, new: Path) -> None:
        if str(new).endswith((".preview.png", "a.safetensors")):
            raise PermissionError(errno.EACCES, "Permission denied", str(new))
        replace(old, new)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(AestheticError, match="could be put back") as caught:
        lib.rename("a", "b")
    assert f"{lib.folders[0] / 'a.safetensors'} is now {lib.folders[0] / 'b.safetensors'}" in caught.value.do
    assert (lib.folders[0] / "b.safetensors").exists()


def test_everything_of_an_embedding_goes_along(lib: Library) -> None:
    prepared(lib)
    lib.rename("a", "c")
    names = {file.name for file in lib.folders[0].iterdir() if file.is_file()}
    assert names == {"b.png", "c.json", "c.preview.png", "c.pt", "c.safetensors"}
    lib.trash("c")
    assert lib.names() == ["sub/far"]


# Trash and home


def test_trashed_ones_come_back_with_all_that_belongs_to_them(lib: Library) -> None:
    prepared(lib)
    before = state(lib)
    lib.trash("a")
    lib.trash("sub/far")
    assert [one.name for one in lib.trashed()] == ["sub/far", "a", "t"]
    for one in lib.trashed()[:2]:
        assert lib.restore(one.path).exists()
    assert state(lib) == before
    assert len(list((lib.folders[0] / TRASH).iterdir())) == 1


def test_restoring_beside_a_new_one(lib: Library) -> None:
    lib.save_new(embedding(1), "a")
    lib.save_new(embedding(2), "a", overwrite=True)
    [old] = lib.trashed()
    with pytest.raises(AestheticError, match="already"):
        lib.restore(old.path)
    assert lib.restore(old.path, "old a") == lib.folders[0] / "old a.safetensors"
    assert digests(lib) == {"a": embedding(2).digest, "old a": embedding(1).digest}
    assert lib.trashed() == []


@pytest.mark.parametrize("path", ["a.safetensors", "../../etc/passwd", "/etc/passwd", ""])
def test_only_what_is_in_the_trash_is_restored(lib: Library, path: str) -> None:
    lib.save_new(embedding(), "a")
    with pytest.raises(AestheticError, match="not in the trash"):
        lib.restore(lib.folders[0] / path)
    assert lib.names() == ["a"]


def test_move_home(lib: Library) -> None:
    prepared(lib)
    assert lib.move_home("sub/far") == lib.folders[0] / "sub" / "far.pt"
    assert (lib.folders[0] / "sub" / "far.png").read_bytes() == b"far's"
    assert lib.entry("sub/far").folder == lib.folders[0]
    assert lib.move_home("sub/far") == lib.folders[0] / "sub" / "far.pt"


def test_nothing_at_home_is_overwritten(lib: Library) -> None:
    save(embedding(1), lib.folders[1] / "a.safetensors")
    (lib.folders[1] / "a.png").write_bytes(b"its picture")
    (lib.folders[0] / "a.png").write_bytes(b"orphan")
    with pytest.raises(AestheticError, match="'a' was not moved"):
        lib.move_home("a")
    assert (lib.folders[0] / "a.png").read_bytes() == b"orphan"
    assert lib.entry("a").folder == lib.folders[1]


@pytest.fixture(autouse=True)
def _tidy_each_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("aesthetic_clip.embeddings.bins._tidied", {})
    yield


def test_what_kills_leave_in_the_trash_is_tidied(lib: Library) -> None:
    lib.save_new(embedding(), "a")
    lib.trash("a")
    empty = lib.folders[0] / TRASH / "20260101-000000-000000" / "sub"
    half = lib.folders[0] / TRASH / "20260101-000000-000001"
    empty.mkdir(parents=True)
    half.mkdir()
    (half / ".aesthetic-0123456789abcdef.tmp").write_bytes(b"half")
    fresh = open_library(lib.folders)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aesthetic_clip.embeddings.bins._tidied", {})
        fresh.save_new(embedding(), "b")
    assert len(list((lib.folders[0] / TRASH).iterdir())) == 1
    assert [one.name for one in lib.trashed()] == ["a"]
