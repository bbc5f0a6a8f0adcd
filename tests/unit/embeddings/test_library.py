"""Names and the upkeep of the embedding folders."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from aesthetic_clip.embeddings.embedding import Embedding, load, save
from aesthetic_clip.embeddings.library import TRASH, Library, open_library
from aesthetic_clip.embeddings.names import check_name
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_L

from .test_names import NAMES


def embedding(name: str = "x", seed: int = 0, **metadata: str) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(name, {VIT_L: unit(torch.randn(768, generator=generator))}, metadata)


@pytest.fixture
def lib(tmp_path: Path) -> Library:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    return open_library([tmp_path / "first", tmp_path / "second"])


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


# Names


@hypothesis_settings(max_examples=60, deadline=None)
@given(NAMES)
def test_accepted_names_round_trip_and_stay_inside(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lib = open_library([Path(folder) / "lib"])
        try:
            path = lib.save_new(embedding(), name)
        except AestheticError:
            assert not list(Path(folder).rglob("*"))
            return
        good = check_name(name)
        assert files(Path(folder)) == [f"lib/{good}.safetensors"]
        assert lib.names() == [good]
        assert lib.find(good) == path
        assert lib.load(good).metadata["name"] == good


# Finding


def test_first_folder_wins_and_dot_folders_are_hidden(lib: Library) -> None:
    save(embedding(seed=1), lib.folders[0] / "a.safetensors")
    save(embedding(seed=2), lib.folders[1] / "a.safetensors")
    save(embedding(seed=2), lib.folders[1] / "sub" / "b.pt")
    save(embedding(seed=3), lib.folders[0] / ".parts" / "c.safetensors")
    assert lib.names() == ["a", "sub/b"]
    assert lib.find("a").parent == lib.folders[0]


def test_safetensors_wins_over_pt(lib: Library) -> None:
    for suffix in (".pt", ".safetensors"):
        save(embedding(), lib.folders[0] / f"a{suffix}")
    assert lib.find("a").suffix == ".safetensors"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "nothing", ""])
def test_finds_nothing_outside(lib: Library, name: str) -> None:
    save(embedding(), lib.folders[0].parent / "x.safetensors")
    with pytest.raises(AestheticError, match="There is no aesthetic embedding"):
        lib.find(name)


# New


def test_an_existing_name_is_refused_unless_overwritten(lib: Library) -> None:
    lib.save_new(embedding(seed=1), "a")
    before = lib.load("a").digest
    for taken in ("a", "A"):
        with pytest.raises(AestheticError, match="already"):
            lib.save_new(embedding(seed=2), taken)
    assert lib.load("a").digest == before
    with pytest.raises(AestheticError, match="same file"):
        lib.save_new(embedding(seed=2), "A", overwrite=True)
    lib.save_new(embedding(seed=2), "a", overwrite=True)
    assert lib.load("a").digest == embedding(seed=2).digest


def test_overwriting_keeps_the_old_in_the_trash(lib: Library) -> None:
    save(embedding(seed=1), lib.folders[0] / "a.pt")
    (lib.folders[0] / "a.preview.png").write_bytes(b"picture")
    lib.save_new(embedding(seed=2), "a", overwrite=True)
    assert lib.find("a").suffix == ".safetensors"
    left = files(lib.folders[0])
    assert left[-1] == "a.safetensors"
    assert [Path(f).name for f in left[:-1]] == ["a.preview.png", "a.pt"]
    assert all(f.startswith(f"{TRASH}/") for f in left[:-1])


def test_overwriting_one_of_a_later_folder_leaves_it(lib: Library) -> None:
    save(embedding(seed=1), lib.folders[1] / "a.safetensors")
    with pytest.raises(AestheticError, match="already"):
        lib.save_new(embedding(seed=2), "a")
    lib.save_new(embedding(seed=2), "a", overwrite=True)
    assert lib.load("a").digest == embedding(seed=2).digest
    assert load(lib.folders[1] / "a.safetensors").digest == embedding(seed=1).digest


# Renaming


def test_rename_takes_the_pictures_along(lib: Library) -> None:
    save(embedding(), lib.folders[1] / "sub" / "a.b.safetensors")
    for suffix in (".png", ".preview.png"):
        (lib.folders[1] / "sub" / f"a.b{suffix}").write_bytes(b"picture")
    assert lib.rename("sub/a.b", "c") == lib.folders[1] / "sub" / "c.safetensors"
    assert lib.names() == ["sub/c"]
    assert files(lib.folders[1]) == ["sub/c.png", "sub/c.preview.png", "sub/c.safetensors"]


def test_rename_may_change_case_but_not_replace(lib: Library) -> None:
    lib.save_new(embedding(seed=1), "a")
    lib.save_new(embedding(seed=2), "b")
    with pytest.raises(AestheticError, match="already"):
        lib.rename("a", "b")
    with pytest.raises(AestheticError, match="path parts"):
        lib.rename("a", "../b")
    lib.rename("a", "a")
    lib.rename("a", "A")
    assert lib.names() == ["A", "b"]


# Trash


def test_trash_moves_and_deletes_nothing(lib: Library) -> None:
    folder = lib.folders[0]
    for _ in range(2):
        lib.save_new(embedding(), "a")
        (folder / "a.png").write_bytes(b"picture")
        place = lib.trash("a")
        assert load(place).digest == embedding().digest
        assert (place.parent / "a.png").read_bytes() == b"picture"
    assert lib.names() == []
    assert len(files(folder)) == 4


def test_trash_keeps_subfolders(lib: Library) -> None:
    save(embedding(), lib.folders[0] / "sub" / "a.pt")
    place = lib.trash("sub/a")
    assert place.relative_to(lib.folders[0]).parts[0] == TRASH
    assert place.parent.name == "sub"


def test_preview(lib: Library) -> None:
    lib.save_new(embedding(), "a")
    assert lib.preview("a") is None
    (lib.folders[0] / "a.preview.png").write_bytes(b"")
    assert lib.preview("a") == lib.folders[0] / "a.preview.png"
    with pytest.raises(AestheticError):
        lib.preview("b")


# Links


def test_writes_through_no_link_out_of_the_folder(lib: Library, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    save(embedding(), outside / "real.safetensors")
    (lib.folders[0] / "link.safetensors").symlink_to(outside / "real.safetensors")
    (lib.folders[0] / TRASH).symlink_to(outside)
    lib.save_new(embedding(), "mine")
    for operation in (
        lambda: lib.rename("link", "new"),
        lambda: lib.trash("link"),
        lambda: lib.trash("mine"),
        lambda: lib.save_new(embedding(seed=1), "link", overwrite=True),
        lambda: lib.save_new(embedding(seed=1), "mine", overwrite=True),
    ):
        with pytest.raises(AestheticError, match="leads out"):
            operation()
    assert files(outside) == ["real.safetensors"]
    assert load(outside / "real.safetensors").digest == embedding().digest


def test_a_linked_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    lib = open_library([tmp_path / "link"])
    lib.save_new(embedding(), "a")
    lib.trash("a")
    assert len(files(tmp_path / "disk")) == 1


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "lib").write_bytes(b"")
    lib = open_library([tmp_path / "lib"])
    with pytest.raises(AestheticError, match="not saved"):
        lib.save_new(embedding(), "a")
    (tmp_path / "ok").mkdir()
    lib = open_library([tmp_path / "ok"])
    lib.save_new(embedding(), "a")
    (tmp_path / "ok" / TRASH).write_bytes(b"")
    with pytest.raises(AestheticError, match="not changed"):
        lib.trash("a")
    assert lib.names() == ["a"]


# Export


def test_export(lib: Library, tmp_path: Path) -> None:
    lib.save_new(embedding(note="hello"), "a")
    assert torch.load(_write(tmp_path, lib.export("a", suffix=".pt")), weights_only=True).shape == (1, 768)
    target = tmp_path / "out" / "b.safetensors"
    lib.export("a", target)
    assert load(target).metadata["note"] == "hello"
    with pytest.raises(AestheticError, match="already something"):
        lib.export("a", target)
    lib.export("a", target, overwrite=True)
    with pytest.raises(AestheticError, match="already something"):
        lib.export("a", tmp_path, overwrite=True)
    with pytest.raises(AestheticError, match=r"can't be written as '\.txt'"):
        lib.export("a", tmp_path / "b.txt")


def test_no_pt_without_vit_l(lib: Library) -> None:
    lib.save_new(Embedding("g", {VIT_BIGG: unit(torch.randn(1280))}), "g")
    with pytest.raises(AestheticError, match="ViT-L/14"):
        lib.export("g", suffix=".pt")


def _write(folder: Path, data: bytes) -> Path:
    path = folder / "exported"
    path.write_bytes(data)
    return path
