"""The command line: ``python -m aesthetic_clip COMMAND``; one function per command, see ``COMMANDS``."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..create.features_npy import Filter, sum_npy
from ..create.parts import WHOLE, Part, Shard, digest, embedding_of, load_part, merge_parts, save_part
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library, library
from ..embeddings.mixing import mix, nearest
from ..embeddings.published import CATALOGUE, download, entries
from ..errors import AestheticError, Interrupted
from ..spaces import PUBLISHED, VIT_L, Space, space_named
from . import demo as cli_demo
from . import generate as cli_generate
from . import page as cli_page
from .terminal import agreed, bar

if TYPE_CHECKING:
    from ..clip.image_encoder import ImageEncoder

FOLDER_VARIABLE = "AESTHETIC_EMBEDDINGS_DIR"
_PARTS = ".parts"
_SIMILAR = 3


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        help: what it does.
        arguments: adds its arguments to a parser.
        run: does it.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, 2 for a fault that was explained on stderr, 130 when interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # consoles that can't show a name's letters
            stream.reconfigure(errors="replace")
    args = _parser().parse_args(arguments)
    try:
        args.run(args)
    except AestheticError as error:
        if args.debug:
            raise
        print(error, file=sys.stderr)
        return 2
    except (Interrupted, KeyboardInterrupt):
        if args.debug:
            raise
        print("Stopped; nothing was saved.", file=sys.stderr)
        return 130
    return 0


def default_folder() -> Path:
    """Where embeddings are kept unless a command says otherwise."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(__file__).resolve().parents[2] / "aesthetic_embeddings")


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--library",
        type=Path,
        default=None,
        metavar="DIR",
        help=f"folder of the embeddings (default: ${FOLDER_VARIABLE} or {default_folder()})",
    )
    common.add_argument("--debug", action="store_true", help="show where in the program a fault arose")
    parser = argparse.ArgumentParser("python -m aesthetic_clip", description="Aesthetic embeddings of CLIP.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, parents=[common], help=command.help, description=command.help)
        command.arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _library(args: argparse.Namespace) -> Library:
    return library([args.library or default_folder()])


# create


def _create_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="folders of pictures")
    parser.add_argument("--recursive", action="store_true", help="take the pictures in subfolders too")
    parser.add_argument(
        "--space",
        nargs="+",
        default=None,
        metavar="SPACE",
        help=f"CLIP spaces, from {', '.join(space.name for space in PUBLISHED)} (default: {VIT_L.name})",
    )
    parser.add_argument(
        "--encoder",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="folder or file of the image encoder; once for each space, in their order",
    )
    parser.add_argument(
        "--device", default=None, help="where to compute, e.g. cuda or cpu (default: cuda if there is one)"
    )
    parser.add_argument("--yes", action="store_true", help="agree to download an encoder that is not on this machine")
    parser.add_argument(
        "--batch-size", type=int, default=16, metavar="N", help="pictures per step (default: %(default)s)"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="average raw features, as the paper's code does, instead of counting each picture alike",
    )
    parser.add_argument("--note", default="", help="a text to keep in the file")
    parser.add_argument("--overwrite", action="store_true", help="replace one of that name; the old goes to the trash")
    parser.add_argument(
        "--shard",
        type=_shard,
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
        type=_filter,
        default=None,
        metavar="EXPR",
        help="with --from-npy: take rows whose metadata passes, e.g. 'aesthetic>=7'",
    )


def _create(args: argparse.Namespace) -> None:
    lib = _library(args)
    name = lib.reserve(args.name, args.overwrite)
    if args.from_npy:
        if args.folders or args.space or args.encoder:
            raise AestheticError(
                "Features can't be combined with folders, spaces or encoders.",
                "The files hold features of one CLIP space already.",
                "Leave the others out.",
            )
        with bar("row", unit_scale=True) as progress:
            part = sum_npy(args.from_npy, raw=args.raw, where=args.filter, shard=args.shard, progress=progress)
        _keep_part(args, lib, name, part)
        return
    if args.filter:
        raise AestheticError(
            "Pictures can't be filtered.",
            "The filter reads the metadata of .npy files.",
            "Give it with --from-npy, or leave it out.",
        )
    _create_from_pictures(args, lib, name)


def _create_from_pictures(args: argparse.Namespace, lib: Library, name: str) -> None:
    # Here, so that the other commands start without image and encoder libraries.
    from ..create.images import find_images
    from ..create.pictures import create, keep

    spaces = [_space(text) for text in args.space or [VIT_L.name]]
    if len(args.encoder) > len(spaces):
        raise AestheticError(
            f"There are {len(args.encoder)} encoders for {len(spaces)} CLIP spaces.",
            "",
            "Name at most one for each --space, in their order.",
        )
    pictures = find_images(args.folders, args.recursive)
    share = args.shard.of_list(pictures)
    with contextlib.ExitStack() as stack:
        encoders = [stack.enter_context(_encoder(args, space, i)) for i, space in enumerate(spaces)]
        progress = stack.enter_context(bar("picture"))
        result = create(share, encoders, batch_size=args.batch_size, raw=args.raw, progress=progress)
    for skipped in result.skipped:
        print(f"skipped {skipped.name}: {skipped.reason}", file=sys.stderr)
    if args.shard != WHOLE:
        reasons = Counter(skipped.reason for skipped in result.skipped)
        # By name, since machines may mount the folder at different places.
        sources = digest([picture.name for picture in pictures])
        _keep_part(args, lib, name, Part(result.sums, sources, args.shard, reasons, result.model_ids))
        return
    embedding, preview = keep(result, lib, name, args.note, args.overwrite)
    print(embedding.path)
    if preview:
        print(preview)
    _describe(embedding, lib)


def _encoder(args: argparse.Namespace, space: Space, index: int) -> ImageEncoder:
    from ..clip.image_encoder import load_encoder

    path = args.encoder[index] if index < len(args.encoder) else ""
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    with bar("B", unit_scale=True, desc=space.name) as progress:
        return load_encoder(
            space,
            path,
            device=device,
            progress=progress,
            allow_download=lambda size, what: agreed(size, what, args.yes),
        )


def _keep_part(args: argparse.Namespace, lib: Library, name: str, part: Part) -> None:
    for why, count in part.skipped.items():
        print(f"skipped {count}: {why}", file=sys.stderr)
    if part.shard == WHOLE:
        _keep(lib, embedding_of(part, name, args.note), args.overwrite)
        return
    path = lib.folders[0] / _PARTS / f"{name}.{part.shard.number}-of-{part.shard.of}.safetensors"
    save_part(part, path)
    print(path)


def _keep(lib: Library, embedding: Embedding, overwrite: bool) -> None:
    path = lib.save_new(embedding, embedding.name, overwrite)
    print(path)
    _describe(replace(embedding, path=path), lib)


# merge


def _merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "parts",
        nargs="*",
        type=Path,
        metavar="PART",
        help=f"what create --shard wrote (default: those of NAME in {_PARTS} of the library)",
    )
    parser.add_argument("--incomplete", action="store_true", help="do without shards that are missing")
    parser.add_argument("--note", default="", help="a text to keep in the file")
    parser.add_argument("--overwrite", action="store_true", help="replace one of that name; the old goes to the trash")


def _merge(args: argparse.Namespace) -> None:
    lib = _library(args)
    name = lib.refuse_taken(args.name, args.overwrite)
    paths = args.parts or sorted((lib.folders[0] / _PARTS).glob(f"{name}.*-of-*.safetensors"))
    _keep_part(args, lib, name, merge_parts([load_part(path) for path in paths], args.incomplete))


# list, inspect


def _no_arguments(_: argparse.ArgumentParser) -> None:
    pass


def _list(args: argparse.Namespace) -> None:
    lib = _library(args)
    rows = [("NAME", "SPACES", "IMAGES", "DATE", "NOTE")]
    for name in lib.names():
        try:
            embedding = lib.load(name)
        except AestheticError as error:
            rows.append((name, "unusable", "", "", error.why))
            continue
        about = embedding.metadata
        rows.append(
            (
                name,
                ", ".join(space.name for space in embedding.vectors),
                about.get("image_count", ""),
                about.get("created", "")[:10],
                about.get("note", ""),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")


def _inspect(args: argparse.Namespace) -> None:
    lib = _library(args)
    embedding = lib.load(args.name)
    print(embedding.path)
    _describe(embedding, lib)


def _describe(embedding: Embedding, lib: Library) -> None:
    print(f"name: {embedding.name}")
    print(f"digest: {embedding.digest}")
    for space in embedding.vectors:
        print(f"space: {space}")
    for key, value in sorted(embedding.metadata.items()):
        if key != "name":
            print(f"{key}: {value}")
    for name, cosine in nearest(embedding, _readable(lib), _SIMILAR):
        print(f"similar: {name} ({cosine:.3f})")


def _readable(lib: Library) -> list[Embedding]:
    found = []
    for name in lib.names():
        with contextlib.suppress(AestheticError):
            found.append(lib.load(name))
    return found


# mix, export, download


def _mix_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument(
        "ingredients", nargs="+", metavar="A:0.7", help="an embedding and its weight (default 1, negative to subtract)"
    )
    parser.add_argument("--note", default="", help="a text to keep in the file")
    parser.add_argument("--overwrite", action="store_true", help="replace one of that name; the old goes to the trash")


def _mix(args: argparse.Namespace) -> None:
    lib = _library(args)
    name = lib.refuse_taken(args.name, args.overwrite)
    parsed = [_ingredient(text) for text in args.ingredients]
    mixed = mix([lib.load(other) for other, _ in parsed], [weight for _, weight in parsed], name)
    note = {"note": args.note.strip()} if args.note.strip() else {}
    _keep(lib, replace(mixed, metadata={**mixed.metadata, **note}), args.overwrite)


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


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("file", type=Path, metavar="FILE", help="FILE.safetensors, or FILE.pt for the old tools")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def _export(args: argparse.Namespace) -> None:
    _library(args).export(args.name, args.file, overwrite=args.overwrite)
    print(args.file)


def _download_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"from {', '.join(entry.name for entry in CATALOGUE)} (default: all)"
    )


def _download(args: argparse.Namespace) -> None:
    wanted = entries(args.names)
    with bar("file") as progress:
        result = download(wanted, _library(args).folders[0], progress)
    provenance = {entry.file_name: entry.provenance for entry in wanted}
    for what, paths in (("downloaded", result.saved), ("already there", result.kept)):
        for path in paths:
            print(f"{what}: {path}\n  {provenance[path.name]}")
    if result.failures:
        raise AestheticError("\n".join(map(str, result.failures.values())))


# Arguments with a form of their own


def _space(text: str) -> Space:
    space = space_named(text)
    if space is None:
        raise AestheticError(
            f"There is no CLIP space {text!r}.",
            f"There are: {', '.join(space.name for space in PUBLISHED)}.",
            "Choose among them.",
        )
    return space


def _shard(text: str) -> Shard:
    return _argument(Shard.parse, text)


def _filter(text: str) -> Filter:
    return _argument(Filter.parse, text)


def _argument(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except AestheticError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "show the effect, offline, with a model that comes along",
        cli_demo.arguments,
        lambda args: cli_demo.run(args, _library(args)),
    ),
    "create": Command("make an embedding from pictures or their features", _create_arguments, _create),
    "merge": Command("make an embedding from the parts that several machines made", _merge_arguments, _merge),
    "list": Command("show what there is", _no_arguments, _list),
    "inspect": Command("show all about one embedding", _inspect_arguments, _inspect),
    "mix": Command("make an embedding from others with weights", _mix_arguments, _mix),
    "export": Command("write an embedding to a file for others", _export_arguments, _export),
    "download": Command("fetch the embeddings that the paper's author published", _download_arguments, _download),
    "txt2img": Command(
        "make pictures with Stable Diffusion, with the flags of the paper's script",
        cli_generate.txt2img_arguments,
        lambda args: cli_generate.txt2img(args, _library(args)),
    ),
    "encode": Command(
        "encode prompts for other programs",
        cli_generate.encode_arguments,
        lambda args: cli_generate.encode(args, _library(args)),
    ),
    "ui": Command(
        "serve a local page with all of it", cli_page.arguments, lambda args: cli_page.run(args, _library(args))
    ),
}
