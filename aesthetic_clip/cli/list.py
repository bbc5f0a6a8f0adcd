"""``list``: which embeddings there are."""

from __future__ import annotations

import argparse

from ..errors import AestheticError
from . import arguments
from .command import Command
from .terminal import say, shown, tell

_HEAD = ("NAME", "SPACES", "IMAGES", "DATE", "NOTE")
_WIDEST = 80


class List(Command):
    name = "list"
    help = "show what there is"
    examples = ("list", "list --library ~/embeddings")

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        pass

    def run(self, args: argparse.Namespace) -> None:
        lib = arguments.library_of(args)
        rows: list[tuple[str, ...]] = [_HEAD]
        for entry in lib.entries():
            try:
                embedding = entry.load()
            except AestheticError as error:
                rows.append((entry.name, "unusable", "", "", error.why))
                continue
            about = embedding.metadata
            spaces = ", ".join(space.name for space in embedding.vectors)
            rows.append(
                (entry.name, spaces, about.get("image_count", ""), about.get("created", "")[:10], about.get("note", ""))
            )
        if len(rows) == 1:
            folders = ", ".join(map(str, lib.folders))
            tell(f"There are no embeddings in {folders}. Make one with create, or fetch the paper's with download.")
            return
        table = [[_cell(text) for text in row] for row in rows]
        # The name is what one types; it is never cut.
        for cells, (name, *_) in zip(table, rows):
            cells[0] = shown(name)
        widths = [max(map(len, column)) for column in zip(*table)]
        for cells in table:
            say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


def _cell(text: str) -> str:
    text = shown(text[: _WIDEST + 1])
    return text if len(text) <= _WIDEST else text[: _WIDEST - 2] + ".."
