"""``download``: the embeddings that the paper's author published."""

from __future__ import annotations

import argparse

from ..embeddings.published import CATALOGUE, download, entries
from . import arguments
from .command import Command
from .terminal import bar, say, tell


class Download(Command):
    name = "download"
    help = "fetch the embeddings that the paper's author published"
    usage = "[NAME...]"
    examples = ("download", "download sac_8plus aivazovsky --library ~/embeddings")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        names = ", ".join(entry.name for entry in CATALOGUE)
        parser.add_argument("names", nargs="*", metavar="NAME", help=f"from {names} (default: all)")

    def run(self, args: argparse.Namespace) -> None:
        wanted = entries(args.names)
        folder, *others = arguments.library_of(args).folders
        with bar("file") as progress:
            result = download(wanted, folder, progress, others=others)
        provenance = {entry.file_name: entry.provenance for entry in wanted}
        for what, paths in (("downloaded", result.saved), ("already there", result.kept)):
            for path in paths:
                say(f"{what}: {path}")
                say(f"  {provenance[path.name]}")
        failures = list(result.failures.values())
        for failure in failures[:-1]:
            tell(failure)
        if failures:
            raise failures[-1]
