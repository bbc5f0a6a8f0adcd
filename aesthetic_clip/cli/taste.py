"""``taste``: embeddings that grow from pictures that one likes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ..embeddings import profiles
from ..embeddings.library import Library
from ..embeddings.profiles import Counts, Opinion, Outcome
from ..errors import AestheticError, Interrupted, Remedy
from . import arguments
from .command import Command
from .encoders import add_encoder_arguments, open_encoders
from .terminal import bar, say, tell

_OPINIONS = {"like": Opinion.LIKED, "dislike": Opinion.DISLIKED}


class Taste(Command):
    name = "taste"
    help = "let an embedding grow from pictures that you like"
    usage = "ACTION NAME [PICTURE...]"
    details = """
        The first picture makes the embedding, and each one more makes it better: it points to the mean of the liked
        pictures, less a fifth of that of the disliked ones. A picture counts once; one that is on the other side moves
        over. undo takes the last change back, whatever it was; show lists the tastes, or the pictures of one; remove
        takes pictures out, by their names in that list.
    """
    examples = (
        "taste like 'my taste' ~/Pictures/liked 00012.png --yes",
        "taste undo 'my taste'",
        "taste remove 'my taste' 0f343b0931126a20f133d67c2b018a3b",
    )
    remedies: ClassVar = {Remedy.MEMORY: "Compute elsewhere with --device."}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "action",
            choices=[*_OPINIONS, "undo", "show", "remove"],
            metavar="ACTION",
            help="like, dislike, undo, show or remove",
        )
        parser.add_argument("name", nargs="?", default="", metavar="NAME", help="of the embedding")
        parser.add_argument(
            "pictures", nargs="*", metavar="PICTURE", help="files, folders, or for remove names as show prints them"
        )
        parser.add_argument("--recursive", action="store_true", help="take the pictures in subfolders too")
        add_encoder_arguments(parser)

    def run(self, args: argparse.Namespace) -> None:
        library = arguments.library_of(args)
        if args.action == "show":
            _show(library, args.name)
            return
        if not args.name:
            raise AestheticError(f"There is nothing to {args.action}.", "No embedding is named.", "Name it first.")
        if args.action == "undo":
            _refuse_pictures(args.pictures, "It takes back what was done last.")
            _say_outcome(profiles.undo(library, args.name))
            return
        if not args.pictures:
            raise AestheticError(f"There is nothing to {args.action}.", "No picture is named.", "Name them at the end.")
        if args.action == "remove":
            for digest in args.pictures:
                _say_outcome(profiles.remove(library, args.name, digest))
            return
        _rate(args, library, _OPINIONS[args.action])


def _rate(args: argparse.Namespace, library: Library, opinion: Opinion) -> None:
    # Here, so that the other commands start without image and encoder libraries.
    from ..create.looking import look
    from ..create.sources import Sources, skipped_lines

    name = profiles.refuse_other(library, args.name)
    named = [Path(text).expanduser() for text in args.pictures]
    folders = [path for path in named if path.is_dir()]
    sources = Sources(folders, [path for path in named if path not in folders], args.recursive)
    outcomes: list[Outcome] = []
    skipped: list[str] = []
    with open_encoders(args) as encoders, bar("picture") as progress:
        try:
            for number, source in enumerate(sources):
                progress(number, len(sources))
                try:
                    known = profiles.opinion(library, name, look(source, []).digest) is opinion
                    picture = look(source, [] if known else encoders)
                except AestheticError as error:
                    skipped.append(f"{error.what} {error.why}")
                    continue
                outcomes.append(profiles.rate(library, name, picture, opinion))
        except KeyboardInterrupt:
            raise Interrupted(f"Stopped; {len(outcomes)} pictures were counted.") from None
        progress(len(sources), len(sources))
    for line in [*skipped_lines(sources.skipped, sources.left_out), *skipped]:
        tell(line)
    if not outcomes:
        raise AestheticError(
            f"{args.name!r} was not changed.", "None of the pictures could be used.", "Name pictures, such as PNG."
        )
    already = sum(outcome.before is outcome.after for outcome in outcomes)
    if already:
        tell(f"{already} {'was' if already == 1 else 'were'} there already.")
    _say_outcome(outcomes[-1])


def _show(library: Library, name: str) -> None:
    if not name:
        for profile in profiles.profiles(library):
            say(f"{profile.name}: {_counted(profile.counts)}")
        return
    for change in profiles.pictures(library, name):
        say(
            f"{change.digest}  {change.after.value if change.after else '':8}  {change.when}  {change.path or change.name}"
        )


def _say_outcome(outcome: Outcome) -> None:
    what = f"{outcome.picture} is {outcome.after.value}" if outcome.after else f"{outcome.picture} is taken out"
    say(f"{outcome.profile.name}: {_counted(outcome.profile.counts)}; {what}")


def _counted(counts: Counts) -> str:
    return f"{counts.liked} liked, {counts.disliked} disliked"


def _refuse_pictures(pictures: Sequence[str], why: str) -> None:
    if pictures:
        raise AestheticError("No pictures can be named for that.", why, "Leave them out.")
