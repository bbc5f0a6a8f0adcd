"""Taste profiles: every thumb counts once, can be taken back to the bit, and is on the disk when it is answered."""

from __future__ import annotations

import errno
import functools
import io
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from aesthetic_clip.create.averaging import FeatureSum
from aesthetic_clip.embeddings import profile_files, profiles
from aesthetic_clip.embeddings.embedding import Embedding, load
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.profiles import Counts, Opinion, Picture, pictures, rate, remove, thumbnail, undo
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_L, Space

LIKED, DISLIKED = Opinion.LIKED, Opinion.DISLIKED
NAME = "my taste"


def vector(seed: int, dim: int = 768) -> Tensor:
    common = torch.randn(dim, generator=torch.Generator().manual_seed(1000))
    return unit(common + torch.randn(dim, generator=torch.Generator().manual_seed(seed)))


def picture(seed: int, *spaces: Space) -> Picture:
    jpeg = io.BytesIO()
    Image.new("RGB", (16, 16), (seed % 256, 0, 0)).save(jpeg, "JPEG")
    vectors = {space: vector(seed, space.dim) for space in spaces or (VIT_L,)}
    return Picture(f"{seed:032x}", f"{seed:04}.png", vectors, jpeg.getvalue(), f"/out/{seed:04}.png", {VIT_L: "tiny"})


@pytest.fixture
def lib(tmp_path: Path) -> Library:
    return open_library([tmp_path / "home", tmp_path / "other"])


def assert_near(one: Tensor, other: Tensor) -> None:
    assert (one.double() - other.double()).abs().max() < 1e-6


def like(lib: Library, *seeds: int, name: str = NAME) -> None:
    for seed in seeds:
        rate(lib, name, picture(seed), LIKED)


def dislike(lib: Library, *seeds: int) -> None:
    for seed in seeds:
        rate(lib, NAME, picture(seed), DISLIKED)


def snapshot(lib: Library, name: str = NAME) -> tuple[bytes, dict[str, str], bytes, bytes]:
    """All bits of a profile that say what it is, and its journal."""
    embedding = load(lib.find(name))
    folder = next(folder / ".tastes" / embedding.about.profile for folder in lib.folders)
    files = profile_files.ProfileFiles(folder)
    totals = b"".join(total.numpy().tobytes() for total in files.state().sums.totals.values())
    journal = (folder / "journal.jsonl").read_bytes()
    return embedding.vectors[VIT_L].numpy().tobytes(), dict(embedding.metadata), totals, journal


def names(lib: Library) -> list[str]:
    return [change.name for change in pictures(lib, NAME)]


# Growing


def test_the_first_picture_makes_an_embedding_and_more_make_it_their_mean(lib: Library) -> None:
    assert rate(lib, NAME, picture(0), LIKED).profile == profiles.Profile(NAME, Counts(1, 0))
    assert_near(lib.load(NAME).vectors[VIT_L], vector(0))
    like(lib, *range(1, 30))
    at_once = FeatureSum(768)
    at_once.add(torch.stack([vector(seed) for seed in range(30)]))
    assert_near(lib.load(NAME).vectors[VIT_L], at_once.vector)
    about = lib.load(NAME).about
    assert (about.image_count, about.liked, about.disliked, about.model_ids) == (30, 30, 0, {"ViT-L/14": "tiny"})
    assert about.mean_cosine == pytest.approx(at_once.mean_cosine, abs=1e-4)


def test_a_picture_counts_once_and_moves_over(lib: Library) -> None:
    like(lib, 1, 2)
    before = snapshot(lib)
    again = rate(lib, NAME, picture(2), LIKED)
    assert (again.before, again.after, again.profile.counts) == (LIKED, LIKED, Counts(2, 0))
    assert snapshot(lib) == before
    moved = rate(lib, NAME, picture(2), DISLIKED)
    assert (moved.before, moved.after, moved.profile.counts) == (LIKED, DISLIKED, Counts(1, 1))
    assert_near(lib.load(NAME).vectors[VIT_L], unit(vector(1).double() - 0.2 * vector(2).double()))


def test_a_picture_of_two_spaces_and_one_of_one(lib: Library) -> None:
    like(lib, 1)
    rate(lib, NAME, picture(2, VIT_L, VIT_BIGG), LIKED)
    assert_near(lib.load(NAME).vectors[VIT_BIGG], vector(2, 1280))
    undo(lib, NAME)
    assert list(lib.load(NAME).vectors) == [VIT_L]


# Taking back


@pytest.mark.parametrize(
    "change",
    [
        lambda lib: like(lib, 9),
        lambda lib: dislike(lib, 9),
        lambda lib: dislike(lib, 2),
        lambda lib: rate(lib, NAME, picture(9, VIT_L, VIT_BIGG), LIKED),
        lambda lib: remove(lib, NAME, picture(1).digest),
        lambda lib: remove(lib, NAME, picture(4).digest),
        lambda lib: like(lib, 5),
    ],
    ids=["liked", "disliked", "moved over", "with another space", "removed", "disliked removed", "liked after removal"],
)
def test_undo_gives_the_bits_from_before(lib: Library, change: Callable[[Library], object]) -> None:
    like(lib, 1, 2, 3, 5)
    dislike(lib, 4)
    remove(lib, NAME, picture(5).digest)
    before, shown = snapshot(lib), names(lib)
    change(lib)
    assert snapshot(lib) != before
    undo(lib, NAME)
    assert snapshot(lib) == before
    assert names(lib) == shown


def test_everything_can_be_undone_down_to_nothing(lib: Library) -> None:
    steps = []
    for seed in range(6):
        (like if seed % 2 else dislike)(lib, seed)
        steps.append(snapshot(lib))
    for expected in steps[-2::-1]:
        undo(lib, NAME)
        assert snapshot(lib) == expected
    last = undo(lib, NAME)
    assert (last.before, last.after, last.profile.counts) == (DISLIKED, None, Counts())
    assert lib.names() == []
    assert not any((lib.folders[0] / ".tastes").iterdir())
    with pytest.raises(AestheticError, match="no taste profile 'my taste'"):
        undo(lib, NAME)


def test_removing_a_picture_is_as_if_it_had_never_been_there(lib: Library) -> None:
    like(lib, 1, 2, 3)
    outcome = remove(lib, NAME, picture(2).digest)
    assert (outcome.before, outcome.after, outcome.profile.counts) == (LIKED, None, Counts(2, 0))
    like(lib, 1, 3, name="never")
    assert torch.equal(lib.load(NAME).vectors[VIT_L], lib.load("never").vectors[VIT_L])
    assert lib.load(NAME).about.source_hash == lib.load("never").about.source_hash
    with pytest.raises(AestheticError, match="no picture"):
        remove(lib, NAME, picture(2).digest)


def test_the_only_picture_is_not_removed(lib: Library) -> None:
    like(lib, 1)
    before = snapshot(lib)
    with pytest.raises(AestheticError, match=r"the only one.*Undo it, or move the whole embedding to the trash"):
        remove(lib, NAME, picture(1).digest)
    assert snapshot(lib) == before


# Pictures


def test_pictures_are_listed_with_where_they_were_and_can_be_seen(lib: Library) -> None:
    like(lib, 1, 2, 3)
    dislike(lib, 1)
    listed = pictures(lib, NAME)
    assert [(change.name, change.after, change.path) for change in listed] == [
        ("0001.png", DISLIKED, "/out/0001.png"),
        ("0003.png", LIKED, "/out/0003.png"),
        ("0002.png", LIKED, "/out/0002.png"),
    ]
    for change in listed:
        with Image.open(io.BytesIO(thumbnail(lib, NAME, change.digest))) as small:
            assert small.size == (16, 16)


@pytest.mark.parametrize("digest", ["../../secret", "", "0" * 31, "A" * 32, f"{7:032x}"])
def test_a_picture_that_is_not_there_is_a_sentence(lib: Library, digest: str) -> None:
    like(lib, 1)
    for action in (thumbnail, remove):
        with pytest.raises(AestheticError, match="There is no picture"):
            action(lib, NAME, digest)


def test_names_from_outside_are_harmless_and_short(lib: Library) -> None:
    odd = Picture("a" * 32, "\x1b[31m" + "n" * 10_000, {VIT_L: vector(1)}, b"x", "/p\n" * 10_000)
    rate(lib, NAME, odd, LIKED)
    (change,) = pictures(lib, NAME)
    assert change.name.startswith("\\x1b[31m") and len(change.name) == 200 and len(change.path) == 1000
    assert "\n" not in change.path
    undo(lib, NAME)


# In the library


def test_profiles_are_listed_and_the_one_changed_last_is_known(lib: Library) -> None:
    assert profiles.profiles(lib) == [] and profiles.last_used(lib) is None
    like(lib, 1, 2)
    like(lib, 3, name="other")
    lib.save_new(Embedding("x", {VIT_L: vector(1)}), "ordinary")
    assert [(profile.name, profile.counts.liked) for profile in profiles.profiles(lib)] == [(NAME, 2), ("other", 1)]
    os.utime(lib.find("other"), (time.time() - 100,) * 2)
    assert profiles.last_used(lib) == NAME


def test_a_renamed_trashed_or_moved_profile_goes_on_where_it_was(lib: Library) -> None:
    like(lib, 1, 2)
    lib.rename(NAME, "renamed")
    like(lib, 3, name="renamed")
    path = lib.trash("renamed")
    like(lib, 4, name="renamed")
    assert lib.load("renamed").about.liked == 1
    lib.restore(path, "restored")
    dislike_outcome = rate(lib, "restored", picture(9), DISLIKED)
    assert dislike_outcome.profile.counts == Counts(3, 1)
    seen_from_elsewhere = open_library([lib.folders[1], lib.folders[0]])
    seen_from_elsewhere.move_home("restored")
    assert rate(seen_from_elsewhere, "restored", picture(5), LIKED).profile.counts == Counts(4, 1)


@pytest.mark.parametrize("other_disk", [False, True])
def test_a_profile_that_moves_home_takes_its_pictures_along(
    lib: Library, other_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    like(lib, 1, 2)
    digest = lib.load(NAME).digest
    old, home = lib.folders
    rename = os.rename

    def refused(source: Path, target: Path) -> None:
        if Path(source).parent.parent != Path(target).parent.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    if other_disk:
        monkeypatch.setattr(os, "rename", refused)
    seen_from_elsewhere = open_library([home, old])
    seen_from_elsewhere.move_home(NAME)
    assert not list((old / profiles.FOLDER).iterdir())
    alone = open_library([home])
    assert alone.load(NAME).digest == digest
    assert len(profiles.pictures(alone, NAME)) == 2
    assert rate(alone, NAME, picture(5), LIKED).profile.counts == Counts(3, 0)


def test_a_note_stays(lib: Library) -> None:
    like(lib, 1)
    embedding = lib.load(NAME)
    lib.find(NAME).unlink()
    lib.save_new(Embedding(NAME, embedding.vectors, embedding.about.with_note("mine")), NAME)
    like(lib, 2)
    assert lib.load(NAME).about.note == "mine" and lib.load(NAME).about.liked == 2


def test_an_ordinary_embedding_does_not_grow(lib: Library) -> None:
    lib.save_new(Embedding("x", {VIT_L: vector(1)}), NAME)
    before = lib.find(NAME).read_bytes()
    with pytest.raises(AestheticError, match=r"made in another way.*Choose another name"):
        like(lib, 1)
    assert lib.find(NAME).read_bytes() == before
    with pytest.raises(AestheticError, match="already"):
        like(lib, 1, name="MY taste")


def test_an_exported_copy_can_be_used_but_does_not_grow(lib: Library, tmp_path: Path) -> None:
    like(lib, 1)
    other = open_library([tmp_path / "elsewhere"])
    lib.export(NAME, other.folders[0] / f"{NAME}.safetensors")
    assert_near(other.load(NAME).vectors[VIT_L], vector(1))
    with pytest.raises(AestheticError, match="whose pictures are not here"):
        like(other, 2)
    assert profiles.profiles(other) == []


@pytest.mark.parametrize("name", ["", "../up", "None", "a/b", "con"])
def test_a_name_that_can_be_none_is_refused(lib: Library, name: str) -> None:
    with pytest.raises(AestheticError, match="can't be called"):
        like(lib, 1, name=name)
    assert not lib.folders[0].exists() or lib.names() == []


def test_overwriting_a_profile_leaves_it_whole_in_the_trash(lib: Library) -> None:
    like(lib, 1, 2)
    lib.save_new(Embedding("x", {VIT_L: vector(1)}), NAME, overwrite=True)
    (old,) = lib.trashed()
    lib.restore(old.path, "old")
    assert rate(lib, "old", picture(3), LIKED).profile.counts == Counts(3, 0)


# Many, several at once, and faults


def test_the_ten_thousandth_costs_what_the_first_did(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in bytes read: the journal of ten thousand is made, and nothing may read it."""
    like(lib, *range(3))
    folder = lib.folders[0] / ".tastes" / lib.load(NAME).about.profile
    files = profile_files.ProfileFiles(folder)
    line = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)[-1]
    with (folder / "journal.jsonl").open("ab") as journal:
        journal.write(line * 10_000)
    state = files.state()
    files._commit(state._replace(journal=(folder / "journal.jsonl").stat().st_size))
    monkeypatch.setattr(files.__class__, "_changes", lambda *_: pytest.fail("the journal was read"))
    start = time.process_time()
    like(lib, 5, 6)
    dislike(lib, 5)
    undo(lib, NAME)
    assert time.process_time() - start < 2


def _like_one(folders: list[Path], seed: int) -> None:
    torch.set_num_threads(1)
    rate(open_library(folders), NAME, picture(seed), LIKED)


def test_two_pages_at_once_lose_none(lib: Library) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: like(lib, seed), range(20)))
    assert lib.load(NAME).about.liked == 20
    assert_near(lib.load(NAME).vectors[VIT_L], unit(torch.stack([vector(seed).double() for seed in range(20)]).mean(0)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks programs")
def test_two_programs_at_once_lose_none(lib: Library) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_like_one, args=(list(lib.folders), seed)) for seed in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert sorted(names(lib)) == [f"{seed:04}.png" for seed in range(6)]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("action", ["like", "dislike", "move", "remove", "undo", "first"])
@pytest.mark.parametrize("where", ["os.fsync", "os.replace", "os.truncate", "pathlib.Path.unlink", "os.unlink"])
@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
def test_a_kill_at_any_step_loses_at_most_that_thumb(
    lib: Library, monkeypatch: pytest.MonkeyPatch, action: str, where: str, after: bool
) -> None:
    """Every call of the system that changes something is the last one once."""
    actions: dict[str, Callable[[Library], object]] = {
        "like": lambda lib: like(lib, 9),
        "dislike": lambda lib: dislike(lib, 9),
        "move": lambda lib: dislike(lib, 2),
        "remove": lambda lib: remove(lib, NAME, picture(2).digest),
        "undo": lambda lib: undo(lib, NAME),
        "first": lambda lib: like(lib, 1, name="first"),
    }
    like(lib, 1, 2, 3)
    before = snapshot(lib)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # it takes time, and no power fails here
    for number in range(30):
        trial = open_library([lib.folders[1] / str(number)])
        shutil.copytree(lib.folders[0], trial.folders[0])
        finished = _killed(monkeypatch, where, number, after, functools.partial(actions[action], trial))
        if action == "first":
            like(trial, 2, name="first")
            assert trial.load("first").about.liked in (1, 2)
            assert len(pictures(trial, "first")) == trial.load("first").about.liked
        else:
            # The next one finds it as it was, or with the thumb, and goes on.
            changed = {picture(seed).digest: seed for seed in (9, 2, 3)}
            like(trial, 7)
            undo(trial, NAME)
            now = snapshot(trial)
            if now != before:
                assert now[3].startswith(before[3][: len(now[3])])
                undo(trial, NAME) if action != "undo" else like(trial, 3)
                assert snapshot(trial)[0] == before[0] and snapshot(trial)[2] == before[2]
            assert {change.digest for change in pictures(trial, NAME)} <= {*changed, picture(1).digest}
        if finished:
            return
    pytest.fail("it never came to its end")


def _killed(
    monkeypatch: pytest.MonkeyPatch, where: str, number: int, after: bool, action: Callable[[], object]
) -> bool:
    """Have the ``number``-th call of a function be the last thing that a program does; whether it came to its end."""
    module, _, name = where.rpartition(".")
    owner: object = {"os": os, "pathlib.Path": Path}[module]
    real, calls = getattr(owner, name), 0

    def deadly(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > number:
            if after and calls == number + 1:
                real(*args, **kwargs)
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, deadly)
        try:
            action()
        except Killed:
            return False
        return True


def test_a_profile_cut_off_at_its_beginning_is_tidied_away(lib: Library) -> None:
    like(lib, 1)
    (unfinished, unfinished_but_used) = (lib.folders[0] / ".tastes" / name for name in ("0" * 16, "1" * 16))
    for folder in (unfinished, unfinished_but_used):
        shutil.copytree(lib.folders[0] / ".tastes" / lib.load(NAME).about.profile, folder)
        (folder / "state.safetensors").unlink()
        os.utime(folder, (time.time() - 7200,) * 2)
    used = lib.load(NAME)
    about = {**used.metadata, "profile": unfinished_but_used.name}
    lib.save_new(Embedding("used", used.vectors, about), "used")
    like(lib, 2, name="new")
    assert not unfinished.exists() and unfinished_but_used.exists()
    assert rate(lib, "used", picture(3), LIKED).profile.counts == Counts(2, 0)


@pytest.mark.parametrize("name", ["state.safetensors", "journal.jsonl"])
@pytest.mark.parametrize("content", [b"", b"{}\n", b"\xff" * 500, b'{"picture": "../../x"}\n'])
def test_a_damaged_profile_is_a_sentence_and_its_embedding_stays(lib: Library, name: str, content: bytes) -> None:
    like(lib, 1, 2)
    (lib.folders[0] / ".tastes" / lib.load(NAME).about.profile / name).write_bytes(content)
    before = lib.find(NAME).read_bytes()
    for action in (lambda: like(lib, 3), lambda: undo(lib, NAME), lambda: pictures(lib, NAME)):
        with pytest.raises(AestheticError, match=r"can't be read.*begin a new one under another name"):
            action()
    assert lib.find(NAME).read_bytes() == before


def test_a_full_disk_changes_nothing(lib: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    like(lib, 1, 2)
    before = snapshot(lib)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(AestheticError, match="No space left on device"):
                like(lib, 3)
        like(lib, 4)
        undo(lib, NAME)
        assert snapshot(lib) == before
