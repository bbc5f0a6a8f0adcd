"""Kills programs that change embedding folders at random moments, and looks at what is left.

    python -m tests.kills --times 300

What a finished action saved has to be there for ever, in the library or in its trash; every file
there is has to be whole; and what the kills leave behind must be gone after an hour. POSIX only.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aesthetic_clip import files
from aesthetic_clip.create.averaging import FeatureSum
from aesthetic_clip.create.parts import Part, Shard, embedding_of, load_part, merge_parts, save_part
from aesthetic_clip.embeddings import bins, profiles
from aesthetic_clip.embeddings.embedding import Embedding, load
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.mixing import mix
from aesthetic_clip.embeddings.opinions import Sums
from aesthetic_clip.embeddings.profile_files import Picture, ProfileFiles
from aesthetic_clip.embeddings.profiles import Opinion
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L

_KILLS_PER_FOLDER = 10
_LONGEST_RUN = 0.25  # seconds
_NAMES = [f"taste {i}" for i in range(6)]
_PROFILE = "thumbs"


class Worker:
    """Changes a library at random for ever, and notes down what was saved."""

    def __init__(self, root: Path, seed: int) -> None:
        self.library = library_in(root)
        self.random = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.root = root
        self.log = os.open(root / "saved.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.actions: list[Callable[[], object]] = [
            self.create,
            self.create,
            self.rename,
            self.trash,
            self.restore,
            self.mix,
            self.merge,
            self.like,
            self.like,
            self.take_back,
            lambda: self.library.export(self.name(), root / "out" / f"{self.name()}.pt", overwrite=True),
            lambda: self.library.move_home(self.random.choice(self.library.names() or [""])),
        ]

    def run(self) -> None:
        while True:
            with contextlib.suppress(AestheticError):  # a name that is taken, or not there
                self.random.choice(self.actions)()

    def name(self) -> str:
        return self.random.choice(_NAMES)

    def vector(self) -> torch.Tensor:
        return unit(torch.randn(768, generator=self.generator))

    def save(self, embedding: Embedding) -> None:
        name, overwrite = self.name(), self.random.random() < 0.5
        shelf = self.library if self.random.random() < 0.7 else open_library(self.library.folders[1:])
        shelf.save_new(embedding, name, overwrite)
        os.write(self.log, f"{embedding.digest}\n".encode())
        with contextlib.suppress(AestheticError):
            shelf.save_preview(name, b"picture of " + name.encode())

    def create(self) -> None:
        self.save(Embedding("x", {VIT_L: self.vector()}))

    def mix(self) -> None:
        names = self.random.sample(self.library.names(), 2) if len(self.library.names()) > 1 else []
        if names:
            self.save(mix([self.library.load(name) for name in names], [0.7, 0.3], "x"))

    def merge(self) -> None:
        paths = []
        for number in (1, 2):
            total = FeatureSum(768)
            total.add(self.vector().reshape(1, -1))
            paths.append(self.library.folders[0] / ".parts" / f"x.{number}-of-2.safetensors")
            save_part(Part({VIT_L: total}, "sources", Shard(number, 2)), paths[-1])
        self.save(embedding_of(merge_parts([load_part(path) for path in paths], False), "x", ""))

    def like(self) -> None:
        digest = f"{self.random.getrandbits(128):032x}"
        if self.random.random() < 0.3 and _PROFILE in self.library.names():
            digest = self.random.choice(profiles.pictures(self.library, _PROFILE)).digest
        opinion = self.random.choice(list(Opinion))
        picture = Picture(digest, digest, {VIT_L: self.vector()}, b"picture")
        profiles.rate(self.library, _PROFILE, picture, opinion)
        self.thought(digest, opinion)

    def take_back(self) -> None:
        if self.random.random() < 0.5:
            outcome = profiles.undo(self.library, _PROFILE)
        else:
            listed = profiles.pictures(self.library, _PROFILE)
            outcome = profiles.remove(self.library, _PROFILE, self.random.choice(listed).digest)
        self.thought(outcome.picture, outcome.after)

    def thought(self, digest: str, opinion: Opinion | None) -> None:
        with (self.root / "thumbs.log").open("a") as log:
            log.write(f"{digest} {opinion.value if opinion else 'nothing'}\n")

    def rename(self) -> None:
        self.library.rename(self.name(), self.name())

    def trash(self) -> None:
        self.library.trash(self.name())

    def restore(self) -> None:
        if trashed := self.library.trashed():
            self.library.restore(self.random.choice(trashed).path)


def library_in(root: Path) -> Library:
    return open_library([root / "home", root / "old home"])


def kill_one(root: Path, seed: int, after: float) -> None:
    """Start a worker and kill it after so many seconds."""
    child = os.fork()
    if child == 0:
        try:
            Worker(root, seed).run()
        finally:
            os._exit(1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the worker of seed {seed} ended by itself"


def check(root: Path) -> int:
    """Every file is whole, and everything that was saved is somewhere; how many that are."""
    lib = library_in(root)
    assert not lib.left_out()
    there = {lib.load(name).digest for name in lib.names()} | {load(one.path).digest for one in lib.trashed()}
    # One that a later folder holds as well is behind the first one's.
    there |= {load(path).digest for folder in lib.folders for path in folder.glob("*.safetensors")}
    saved = (root / "saved.log").read_text().split() if (root / "saved.log").exists() else []
    lost = [digest for digest in saved if digest not in there]
    assert not lost, f"{len(lost)} of {len(saved)} are lost"
    for path in (root / "out").glob("*.pt"):
        load(path)
    check_profile(root, lib)
    return len(saved)


def check_profile(root: Path, lib: Library) -> None:
    """It holds every thumb that was answered, but for the one of the moment, and its sums are those of its pictures."""
    log = root / "thumbs.log"
    answered: dict[str, str] = dict(line.split() for line in log.read_text().splitlines()) if log.exists() else {}
    expected = {digest: opinion for digest, opinion in answered.items() if opinion != "nothing"}
    there: dict[str, str] = {}
    if _PROFILE in lib.names():
        path = lib.find(_PROFILE)
        files = ProfileFiles(path.parent / profiles.FOLDER / load(path).about.profile)
        state, sums = files.settle(), Sums()
        for change in files.pictures(state):
            assert change.after is not None
            there[change.digest] = change.after.value
            sums = sums.changed(files.picture(change.digest, change.after.value).vectors, None, change.after)
        assert sums.counts == state.sums.counts
        assert all(torch.equal(total, state.sums.totals[space]) for space, total in sums.totals.items())
    differing = [digest for digest in there.keys() | expected.keys() if there.get(digest) != expected.get(digest)]
    assert len(differing) <= 1, f"{len(differing)} thumbs are lost"
    log.write_text("".join(f"{digest} {opinion}\n" for digest, opinion in there.items()))


def litter(root: Path) -> list[Path]:
    """Temporary files, and empty folders of the trash."""
    folders = library_in(root).folders
    trash = [path for folder in folders for path in (folder / bins.TRASH).rglob("*")]
    empty = [path for path in trash if path.is_dir() and not any(path.iterdir())]
    begun = [path for path in (folders[0] / profiles.FOLDER).glob("*") if ProfileFiles(path).is_unfinished]
    return [path for path in root.rglob(".*") if files.is_temporary(path.name)] + empty + begun


def an_hour_later(root: Path) -> None:
    """What the next programs do, an hour after the kills."""
    for path in (*root.rglob(".*.tmp"), *root.glob(f"*/{profiles.FOLDER}/*")):
        os.utime(path, (time.time() - 2 * 3600,) * 2)
    files._swept.clear()
    bins._tidied.clear()
    worker = Worker(root, 0)
    last = Embedding("x", {VIT_L: worker.vector()})
    for folder in worker.library.folders:
        open_library([folder]).save_new(last, "last", overwrite=True)
    worker.library.export("last", root / "out" / "last.pt", overwrite=True)
    with contextlib.suppress(AestheticError):  # the name it takes may be taken
        worker.merge()
    for name in (_PROFILE, "another"):
        for opinion, digest in zip(Opinion, ("e" * 32, "f" * 32)):
            profiles.rate(worker.library, name, Picture(digest, "last", {VIT_L: worker.vector()}, b""), opinion)
        for _ in Opinion:
            profiles.undo(worker.library, name)


def run(times: int, seed: int = 0) -> dict[str, int]:
    """Kill so many times; counts of what was seen. Raises AssertionError for what must not be."""
    chance = random.Random(seed)
    seen = {"kills": 0, "saved": 0, "left behind": 0}
    while seen["kills"] < times:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for _ in range(min(_KILLS_PER_FOLDER, times - seen["kills"])):
                seen["kills"] += 1
                kill_one(root, seed * 1_000_003 + seen["kills"], chance.uniform(0.0, _LONGEST_RUN))
                saved = check(root)
            seen["saved"] += saved
            seen["left behind"] += len(litter(root))
            an_hour_later(root)
            check(root)
            assert not litter(root), f"{len(litter(root))} are there for ever"
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(", ".join(f"{what}: {count}" for what, count in run(args.times, args.seed).items()))


if __name__ == "__main__":
    main()
