"""``gen_aesthetic_embedding``: ``create`` under the name of the paper's script, and as that does it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import ClassVar

from ..create.parts import WHOLE
from . import arguments
from .command import Command
from .create import Create, add_picture_arguments, from_pictures

_REFERENCE = Path("reference_images")


class GenAestheticEmbedding(Command):
    name = "gen_aesthetic_embedding"
    help = "create, as the paper's script does it"
    details = f"""
        Averages the raw features of ViT-L/14 (create --raw). The paper's script takes no arguments: the name is
        written into it, and the pictures lie in {_REFERENCE}/NAME. So they do here if no FOLDER is given.
    """
    usage = "NAME [FOLDER...]"
    examples = (
        "gen_aesthetic_embedding aivazovsky",
        "gen_aesthetic_embedding aivazovsky reference_images/aivazovsky",
    )
    remedies: ClassVar = Create.remedies

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it is to be called")
        parser.add_argument(
            "folders", nargs="*", type=Path, metavar="FOLDER", help=f"folders of pictures (default: {_REFERENCE}/NAME)"
        )
        add_picture_arguments(parser)
        arguments.add_note(parser)
        parser.set_defaults(raw=True, shard=WHOLE)

    def run(self, args: argparse.Namespace) -> None:
        library = arguments.library_of(args)
        name = library.reserve(args.name, args.overwrite)
        args.folders = args.folders or [_REFERENCE / name]
        from_pictures(args, library, name)
