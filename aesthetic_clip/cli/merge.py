"""``merge``: one embedding from the parts that several machines made."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..create.parts import load_part, merge_parts
from ..embeddings.library import Library
from ..errors import AestheticError
from . import arguments
from .command import Command
from .create import PARTS, keep_part


class Merge(Command):
    name = "merge"
    help = "make an embedding from the parts that several machines made"
    usage = "NAME [PART...]"
    examples = ("merge big", "merge big parts/big.*-of-8.safetensors --incomplete")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it is to be called")
        parser.add_argument(
            "parts",
            nargs="*",
            type=Path,
            metavar="PART",
            help=f"what create --shard wrote (default: those of NAME in {PARTS} of the library)",
        )
        parser.add_argument("--incomplete", action="store_true", help="do without shards that are missing")
        arguments.add_note(parser)

    def run(self, args: argparse.Namespace) -> None:
        lib = arguments.library_of(args)
        name = lib.refuse_taken(args.name, args.overwrite)
        paths = args.parts or _parts_of(name, lib)
        if not paths:
            raise AestheticError(
                f"There are no parts of {name!r}.",
                f"None lies in {lib.folders[0] / PARTS}.",
                f"Make them with create {name!r} … --shard i/n, or name their files.",
            )
        keep_part(merge_parts([load_part(path) for path in paths], args.incomplete), args, lib, name)


def _parts_of(name: str, lib: Library) -> list[Path]:
    """Those of this very name: of "taste" and not of "taste.v2"."""
    folder = lib.folders[0] / PARTS
    pattern = re.compile(re.escape(name) + r"\.\d+-of-\d+\.safetensors")
    try:
        return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AestheticError(
            f"The parts of {name!r} can't be looked for.", f"{error.strerror or error}: {folder}.", "Name their files."
        ) from error
