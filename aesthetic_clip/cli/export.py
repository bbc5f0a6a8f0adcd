"""``export``: an embedding as a file for others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import ClassVar

from ..errors import Remedy
from . import arguments
from .command import Command
from .terminal import say


class Export(Command):
    name = "export"
    help = "write an embedding to a file for others"
    usage = "NAME FILE"
    examples = ("export 'my taste' taste.safetensors", "export 'my taste' taste.pt")
    remedies: ClassVar = {Remedy.OVERWRITE: "Name a file that does not exist yet, or replace it with --overwrite."}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="see list")
        parser.add_argument("file", type=Path, metavar="FILE", help="FILE.safetensors, or FILE.pt for the old tools")
        parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")

    def run(self, args: argparse.Namespace) -> None:
        arguments.library_of(args).export(args.name, args.file, overwrite=args.overwrite)
        say(args.file)
