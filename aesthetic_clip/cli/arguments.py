"""Flags that several commands share, and what they mean."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..demo import DEMO, LR
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library, open_library
from ..embeddings.mixing import nearest
from ..embeddings.verdict import verdict
from ..errors import AestheticError, first_line
from ..files import probe_writable
from ..settings import Settings
from .terminal import say

FOLDER_VARIABLE = "AESTHETIC_EMBEDDINGS_DIR"
LARGEST_SEED = 2**32 - 1
_MULTIPLE = 8  # pixels per latent
_SIMILAR = 3


# The library


def default_folder() -> Path:
    """Where embeddings are kept unless a command says otherwise."""
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(__file__).resolve().parents[2] / "aesthetic_embeddings")


def add_library(parser: argparse.ArgumentParser) -> None:
    """Add the flag of :func:`library_of`."""
    parser.add_argument(
        "--library",
        type=Path,
        action="append",
        metavar="DIR",
        help="folder of the embeddings; several times for more to look in, new ones go into the first "
        f"(default: ${FOLDER_VARIABLE}, or aesthetic_embeddings beside the package)",
    )


def library_of(args: argparse.Namespace) -> Library:
    """The embedding folders."""
    return open_library(args.library or [default_folder()])


def add_note(parser: argparse.ArgumentParser) -> None:
    """Add ``--note`` and ``--overwrite`` of the commands that make an embedding."""
    parser.add_argument("--note", default="", metavar="TEXT", help="a text to keep in the file")
    parser.add_argument("--overwrite", action="store_true", help="replace one of that name; the old goes to the trash")


def describe(embedding: Embedding, lib: Library) -> None:
    """Print all about an embedding, and which others are near."""
    say(f"name: {embedding.name}")
    say(f"digest: {embedding.digest}")
    for space in embedding.vectors:
        say(f"space: {space}")
    for key, value in sorted(embedding.metadata.items()):
        if key != "name":
            say(f"{key}: {value}")
    others = lib.readable()
    if said := verdict(embedding, others).sentence:
        say(f"verdict: {said}")
    for name, cosine in nearest(embedding, others, _SIMILAR):
        say(f"similar: {name} ({cosine:.3f})")


def demo_settings() -> Settings:
    """What suits the demonstration model, see ``demo.measure``; its centre is ``loading.CENTRE``."""
    from ..demo.loading import CENTRE

    return Settings(steps=10, lr=LR, centre=CENTRE)


# Values with a form of their own


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def size(text: str) -> int:
    """A width or height in pixels."""
    if positive(text) % _MULTIPLE:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of {_MULTIPLE}")
    return int(text)


def seed(text: str) -> int:
    """A seed, or -1."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not -1 <= number <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not from -1 to {LARGEST_SEED}")
    return number


def guidance_scale(text: str) -> float:
    """A guidance scale that diffusers can do."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 1 <= number <= 1000:
        raise argparse.ArgumentTypeError(
            f"{text} is not from 1 (no guidance) to 1000; diffusers does not guide below 1"
        )
    return number


def port(text: str) -> int:
    """A port to serve at."""
    if positive(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 65535")
    return int(text)


def device(text: str) -> str:
    """torch's name of a device that is here."""
    import torch

    try:
        if torch.device(text).type == "meta":
            raise RuntimeError("it only pretends to compute")
        torch.zeros(1, device=text)
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError: each backend has its own
        raise argparse.ArgumentTypeError(
            f"nothing can be put on {text!r}: {first_line(error)[:80]}; try cpu or cuda"
        ) from error
    return text


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the flag of :func:`device_of`."""
    parser.add_argument(
        "--device", type=device, help="where to compute, e.g. cuda or cpu (default: cuda if there is one)"
    )


def device_of(args: argparse.Namespace) -> str:
    """Where to compute."""
    import torch

    return args.device or ("cuda" if torch.cuda.is_available() else "cpu")


def try_folder(folder: Path) -> None:
    """Make a folder for output, before long work.

    Raises:
        AestheticError: it can't be written.
    """
    try:
        probe_writable(folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AestheticError(f"Nothing can be written to {folder}.", f"{reason}.", "Choose another folder.") from error


def is_demo(args: argparse.Namespace) -> bool:
    """Whether the demonstration model is asked for."""
    return bool(args.ckpt == DEMO)
