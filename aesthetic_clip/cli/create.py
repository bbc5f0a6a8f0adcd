"""``create``: an embedding from pictures or their features."""

from __future__ import annotations

import argparse
import functools
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ..create.features_npy import sum_npy
from ..create.metadata_filter import Filter
from ..create.parts import WHOLE, Part, Shard, embedding_of, save_part
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from ..errors import AestheticError, Remedy
from . import arguments
from .command import Command
from .encoders import add_encoder_arguments, open_encoders
from .knobs import parsed
from .terminal import bar, say, tell

PARTS = ".parts"


class Create(Command):
    name = "create"
    help = "make an embedding from pictures or their features"
    usage = "NAME FOLDER..."
    examples = (
        "create 'my taste' ~/Pictures/liked --recursive --yes",
        "create fog --from-npy img_emb_*.npy --filter 'aesthetic>=7'",
        "create big /mnt/pictures --shard 3/8",
    )
    remedies: ClassVar = {Remedy.MEMORY: "Choose a smaller --batch-size, or compute elsewhere with --device."}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it is to be called")
        parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folders of pictures")
        add_picture_arguments(parser)
        parser.add_argument(
            "--raw",
            action="store_true",
            help="average raw features, as the paper's code does, instead of counting each picture alike",
        )
        arguments.add_note(parser)
        parser.add_argument(
            "--shard",
            type=functools.partial(parsed, Shard.parse),
            default=WHOLE,
            metavar="i/n",
            help="do the i-th of n shares (from 1) and save a part for merge instead of an embedding",
        )
        parser.add_argument(
            "--from-npy",
            nargs="+",
            default=None,
            type=Path,
            metavar="FILE",
            help="sum the features in these img_emb_*.npy files of clip-retrieval instead of pictures",
        )
        parser.add_argument(
            "--filter",
            type=functools.partial(parsed, Filter.parse),
            default=None,
            metavar="EXPR",
            help="with --from-npy: take rows whose metadata passes, e.g. 'aesthetic>=7'",
        )

    def run(self, args: argparse.Namespace) -> None:
        library = arguments.library_of(args)
        name = library.reserve(args.name, args.overwrite)
        if args.from_npy:
            if args.folders or args.space or args.encoder:
                raise AestheticError(
                    "Features can't be combined with folders, --space or --encoder.",
                    "The files of --from-npy hold features of one CLIP space already.",
                    "Leave the others out.",
                )
            with bar("row", unit_scale=True) as progress:
                part = sum_npy(args.from_npy, raw=args.raw, where=args.filter, shard=args.shard, progress=progress)
            keep_part(part, args, library, name)
            return
        if args.filter:
            raise AestheticError(
                "Pictures can't be filtered.",
                "--filter reads the metadata of .npy files.",
                "Give it with --from-npy, or leave it out.",
            )
        from_pictures(args, library, name)


def add_picture_arguments(parser: argparse.ArgumentParser) -> None:
    """Add those that say how pictures are read, but for the folders."""
    parser.add_argument("--recursive", action="store_true", help="take the pictures in subfolders too")
    add_encoder_arguments(parser)
    parser.add_argument(
        "--batch-size",
        type=arguments.positive,
        default=16,
        metavar="N",
        help="pictures per step (default: %(default)s)",
    )


def from_pictures(args: argparse.Namespace, library: Library, name: str) -> None:
    """Make the embedding, or this machine's part of it, and print it.

    Raises:
        AestheticError: no pictures, no encoder, or nothing can be saved.
    """
    # Here, so that the other commands start without image and encoder libraries.
    from ..create.limits import checked_batch_size
    from ..create.pictures import create, save_result
    from ..create.sources import find_images, left_out_line, skipped_lines

    batch_size = checked_batch_size(args.batch_size)
    with bar("picture", bar_format="{desc}", leave=False) as progress:
        pictures = find_images(args.folders, args.recursive, progress)
    share = pictures.shard(args.shard.number, args.shard.of)
    with open_encoders(args) as encoders, bar("picture") as progress:
        result = create(share, encoders, batch_size=batch_size, raw=args.raw, progress=progress)
    for line in skipped_lines(result.skipped):
        tell(f"skipped {line}")
    if result.left_out:
        tell(left_out_line(result.left_out))
    if args.shard != WHOLE:
        reasons = Counter(skipped.reason for skipped in result.skipped)
        keep_part(Part(result.sums, result.source_hash, args.shard, reasons, result.model_ids), args, library, name)
        return
    embedding, preview = save_result(result, library, name, args.note, args.overwrite)
    say(embedding.path)
    if preview:
        say(preview)
    arguments.describe(embedding, library)


def part_path(library: Library, name: str, shard: Shard) -> Path:
    """Where a part of an embedding to be is kept."""
    return library.folders[0] / PARTS / f"{name}.{shard.number}-of-{shard.of}.safetensors"


def keep_part(part: Part, args: argparse.Namespace, library: Library, name: str) -> None:
    """Save a part for ``merge``, or all there is as an embedding, and print it."""
    for why, count in part.skipped.items():
        tell(f"skipped {count}: {why}")
    if part.shard == WHOLE:
        keep_embedding(embedding_of(part, name, args.note), args.overwrite, library)
        return
    path = part_path(library, name, part.shard)
    save_part(part, path)
    say(path)


def keep_embedding(embedding: Embedding, overwrite: bool, library: Library) -> None:
    """Save an embedding and print all about it."""
    path = library.save_new(embedding, embedding.name, overwrite)
    say(path)
    arguments.describe(replace(embedding, path=path), library)
