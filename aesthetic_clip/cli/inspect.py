"""``inspect``: all about one embedding."""

from __future__ import annotations

import argparse

from . import arguments
from .command import Command
from .terminal import say


class Inspect(Command):
    name = "inspect"
    help = "show all about one embedding"
    usage = "NAME"
    examples = ("inspect 'my taste'",)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="see list")

    def run(self, args: argparse.Namespace) -> None:
        lib = arguments.library_of(args)
        embedding = lib.load(args.name)
        say(embedding.path)
        arguments.describe(embedding, lib)
