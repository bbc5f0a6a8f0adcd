"""Listing folders: whatever lies in them or is wrong with them, the rest is listed."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from aesthetic_clip.embeddings import scan as scanning
from aesthetic_clip.embeddings.embedding import Embedding, save, to_bytes
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.scan import Entry
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names or folders")


def embedding(seed: int = 0) -> Embedding:
    return Embedding("x", {VIT_L: unit(torch.randn(768, generator=torch.Generator().manual_seed(seed)))})


DATA = to_bytes(embedding(), ".safetensors")


@pytest.fixture
def lib(tmp_path: Path) -> Library:
    """A good folder with one embedding in it, and a second one."""
    lib = open_library([tmp_path / "first", tmp_path / "good"])
    for folder in lib.folders:
        folder.mkdir()
    save(embedding(), lib.folders[1] / "fine.safetensors")
    return lib


@pytest.fixture
def mortal() -> Iterator[Path]:
    """A folder, for a user whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if getattr(os, "geteuid", lambda: 1)() != 0:
            yield folder
            return
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def told(lib: Library, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is logged by listing twice."""
    with caplog.at_level(logging.WARNING):
        lib.names()
        lib.names()
    return [record.getMessage() for record in caplog.records]


# Names


@posix_only
@pytest.mark.parametrize(
    "name",
    [
        "a>b",
        "a:b",
        "style #1",
        "[a]",
        "100%",
        "it's",
        'say "hi"',
        " a ",
        "😀",
        "&lt;",
        "two\nlines",
        "None",
        "-rf",
        "a\\b",
    ],
)
def test_any_name_is_listed_found_and_loaded(lib: Library, name: str) -> None:
    (lib.folders[0] / f"{name}.safetensors").write_bytes(DATA)
    [listed] = [one for one in lib.names() if one != "fine"]
    for asked in (listed, name):
        assert lib.find(asked).name == f"{name}.safetensors"
    assert lib.load(listed).digest == embedding().digest


@posix_only
@pytest.mark.parametrize("place", [b"caf\xe9.pt", b"caf\xe9/a.pt", b"\xff\xfe.safetensors"])
def test_a_name_that_is_not_utf8_is_left_out_and_told_once(
    lib: Library, place: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = os.path.join(os.fsencode(lib.folders[0]), place)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(os.fsdecode(path)).write_bytes(DATA)
    lines = told(lib, caplog)
    assert len(lines) == 1
    assert "not UTF-8" in lines[0] and re.search(r"\\x[ef]", lines[0])
    lines[0].encode()
    assert lib.names() == ["fine"]
    assert len(lib.left_out()) == 1


@pytest.mark.parametrize("suffix", [".pt", ".PT", ".Pt", ".safetensors", ".SAFETENSORS"])
def test_suffixes_count_in_any_case(lib: Library, suffix: str) -> None:
    (lib.folders[0] / f"a.b{suffix}").write_bytes(to_bytes(embedding(), suffix.lower()))
    assert lib.names() == ["a.b", "fine"]


@posix_only
def test_what_is_no_file_is_not_listed(lib: Library) -> None:
    folder = lib.folders[0]
    os.mkfifo(folder / "pipe.pt")
    (folder / "folder.pt").mkdir()
    (folder / "gone.pt").symlink_to(folder / "nothing")
    (folder / ".pt").write_bytes(DATA)
    assert lib.names() == ["fine"]


# Folders


def looped(folder: Path) -> Path:
    (folder.parent / "loop").symlink_to(folder.parent / "loop")
    return folder.parent / "loop"


def a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file"


@posix_only
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: folder / ("x" * 300), "too long"),
        (lambda folder: folder.joinpath(*["y" * 200] * 30), "too long"),
        (looped, "symbolic links"),
        (a_file, "Not a directory"),
        (lambda folder: Path(f"{folder}/a\0b"), "null"),
        (lambda folder: Path(f"{folder}/\udce9"), "not UTF-8"),
        (lambda folder: Path(f"{folder}/\ud800"), "not UTF-8"),
    ],
    ids=["name too long", "path too long", "link to itself", "a file", "NUL", "surrogate", "no byte's surrogate"],
)
def test_a_folder_that_cannot_be_looked_at_is_told_once_and_the_rest_listed(
    lib: Library, make: object, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    lib = open_library([*lib.folders, make(lib.folders[0])])  # type: ignore[operator]
    lines = told(lib, caplog)
    assert len(lines) == 1
    assert why in lines[0]
    lines[0].encode()
    assert lib.names() == ["fine"]
    with pytest.raises(AestheticError, match="There is no"):
        lib.find("other")


@pytest.mark.parametrize("number", [5, 107, 110, 116], ids=["EIO", "ENOTCONN", "ETIMEDOUT", "ESTALE"])
def test_a_dead_mount(
    lib: Library, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dead, listing = str(lib.folders[0]), os.scandir

    def scandir(path: str) -> object:
        if str(path) == dead:
            raise OSError(number, os.strerror(number), path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    lines = told(lib, caplog)
    assert len(lines) == 1
    assert os.strerror(number) in lines[0] and dead in lines[0]
    assert lib.names() == ["fine"]


@posix_only
@pytest.mark.parametrize("mode", [0o000, 0o644, 0o300], ids=oct)
@pytest.mark.parametrize("below", [False, True], ids=["named", "inside"])
def test_a_folder_without_permission(mortal: Path, mode: int, below: bool, caplog: pytest.LogCaptureFixture) -> None:
    shut = mortal / "a" / "b" if below else mortal / "a"
    shut.mkdir(parents=True)
    (shut / "x.safetensors").write_bytes(DATA)
    (mortal / "good").mkdir()
    (mortal / "good" / "fine.safetensors").write_bytes(DATA)
    lib = open_library([mortal / "a", mortal / "good"])
    shut.chmod(mode)
    try:
        lines = told(lib, caplog)
        assert lib.names() == ["fine"]
        assert len(lines) == 1
        assert "Permission denied" in lines[0] and str(shut) in lines[0]
    finally:
        shut.chmod(0o700)


@pytest.mark.parametrize("called", [1, 2, 3])
def test_folders_that_disappear_while_they_are_listed(
    lib: Library, called: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        (lib.folders[0] / name).mkdir()
    listing, calls = os.scandir, []

    def scandir(path: str) -> object:
        calls.append(path)
        if len(calls) == called:
            raise FileNotFoundError(2, "No such file or directory", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert lib.names() == ["fine"]


@posix_only
def test_links_to_folders_are_not_followed_and_told(lib: Library, caplog: pytest.LogCaptureFixture) -> None:
    (lib.folders[0] / "around").symlink_to(lib.folders[0])
    (lib.folders[0] / "up").symlink_to(lib.folders[0].parent)
    lines = told(lib, caplog)
    assert len(lines) == 2
    assert all("link to a folder" in line for line in lines)
    assert lib.names() == ["fine"]


def test_deep_and_large_trees_have_a_bound(
    lib: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deep = lib.folders[0].joinpath(*["d"] * 60)
    deep.mkdir(parents=True)
    (deep / "x.pt").write_bytes(DATA)
    assert lib.names() == ["fine"]
    assert "deep" in str(lib.left_out()[0])
    for i in range(20):
        (lib.folders[0] / f"{i}.pt").write_bytes(DATA)
    monkeypatch.setattr(scanning, "_MOST_FILES", 10)
    assert lib.names() == ["fine"]
    assert "more than 10 files" in told(lib, caplog)[-1]


# Speed, and what is inside


def test_a_thousand_are_listed_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(1000):
        (tmp_path / f"{i}.safetensors").write_bytes(DATA)
    lib = open_library([tmp_path])
    start = time.process_time()
    entries = lib.entries()
    assert time.process_time() - start < 0.15
    assert len(entries) == 1000
    reads: list[object] = []

    def reading(path: Path, name: str) -> Embedding:
        reads.append(path)
        return embedding()

    monkeypatch.setattr(scanning, "load", reading)
    monkeypatch.setattr(scanning, "_SETTLED_NS", -1)
    for _ in range(3):
        for entry in lib.entries():
            entry.load()
    assert len(reads) == 1000


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as unchanging from the start."""
    monkeypatch.setattr(scanning, "_SETTLED_NS", -1)


def only(lib: Library) -> Entry:
    [entry] = lib.entries()
    return entry


@pytest.mark.usefixtures("settled")
def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    lib = open_library([tmp_path])
    save(embedding(1), tmp_path / "a.safetensors")
    assert only(lib).load().digest == embedding(1).digest
    time.sleep(0.02)
    save(embedding(2), tmp_path / "a.safetensors")
    assert only(lib).load().digest == embedding(2).digest
    time.sleep(0.02)
    (tmp_path / "a.safetensors").write_bytes(b"broken")
    for _ in range(2):
        with pytest.raises(AestheticError, match="can't be used"):
            only(lib).load()
    (tmp_path / "a.safetensors").unlink()
    save(embedding(3), tmp_path / "a.safetensors")
    assert only(lib).load().digest == embedding(3).digest


def test_one_that_changed_within_a_clock_tick_is_read_again(tmp_path: Path) -> None:
    lib = open_library([tmp_path])
    for seed in range(20):
        save(embedding(seed), tmp_path / "a.safetensors")
        assert only(lib).load().digest == embedding(seed).digest


@pytest.mark.usefixtures("settled")
def test_what_was_read_in_inference_mode_serves_gradients(tmp_path: Path) -> None:
    save(embedding(), tmp_path / "a.safetensors")
    entry = only(open_library([tmp_path]))
    with torch.inference_mode():
        entry.load()
    weight = torch.ones(768, requires_grad=True)
    (weight * entry.load().vectors[VIT_L]).sum().backward()
    assert weight.grad is not None


@pytest.mark.usefixtures("settled")
def test_what_is_kept_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "_CACHE_BYTES", 20_000)
    for i in range(30):
        (tmp_path / f"{i}.safetensors").write_bytes(DATA)
    for entry in open_library([tmp_path]).entries():
        entry.load()
    assert scanning._cache._bytes <= 20_000
    assert len(scanning._cache._kept) < 10


def test_an_entry_knows_its_picture(lib: Library) -> None:
    folder = lib.folders[0] / "sub"
    folder.mkdir()
    (folder / "a.safetensors").write_bytes(DATA)
    assert lib.entry("sub/a").preview is None
    for name in ("a.preview.png", "a.png"):
        (folder / name).write_bytes(b"")
        assert lib.entry("sub/a").preview == folder / name
    assert lib.entry("sub/a").folder == lib.folders[0]


if sys.platform == "darwin":  # its file systems hold texts only
    del test_a_name_that_is_not_utf8_is_left_out_and_told_once
