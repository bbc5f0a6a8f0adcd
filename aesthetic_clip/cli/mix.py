"""``mix``: an embedding from others with weights."""

from __future__ import annotations

import argparse
from dataclasses import replace

from ..embeddings.mixing import mix
from ..errors import AestheticError
from . import arguments
from .command import Command
from .create import keep_embedding


class Mix(Command):
    name = "mix"
    help = "make an embedding from others with weights"
    usage = "NAME A:0.7 B:0.3..."
    examples = ("mix dream fantasy:0.7 glowwave:0.3", "mix 'less cloudy' 'my taste' cloudcore:-0.5")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what the new one is to be called")
        parser.add_argument(
            "ingredients",
            nargs="+",
            metavar="A:0.7",
            help="an embedding and its weight (default 1, negative to subtract)",
        )
        arguments.add_note(parser)

    def run(self, args: argparse.Namespace) -> None:
        lib = arguments.library_of(args)
        name = lib.refuse_taken(args.name, args.overwrite)
        ingredients = [_ingredient(text) for text in args.ingredients]
        mixed = mix([lib.load(other) for other, _ in ingredients], [weight for _, weight in ingredients], name)
        note = {"note": args.note.strip()} if args.note.strip() else {}
        keep_embedding(replace(mixed, metadata={**mixed.metadata, **note}), args.overwrite, lib)


def _ingredient(text: str) -> tuple[str, float]:
    name, colon, weight = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise AestheticError(
            f"{text!r} can't be mixed.",
            f"{weight!r} is not a number.",
            "Write a name, a colon and a weight, such as 'fantasy:0.7'.",
        ) from None
