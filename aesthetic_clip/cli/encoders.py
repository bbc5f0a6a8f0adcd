"""The image encoders of the commands that look at pictures."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..demo import SPACE as DEMO_SPACE
from ..demo import own_image_encoder
from ..errors import AestheticError
from ..spaces import PUBLISHED, VIT_L, Space, space_named
from . import arguments
from .terminal import agreed, bar

if TYPE_CHECKING:
    from ..clip.image_encoder import ImageEncoder


def image_encoder(space: Space, path: Path | str, device: str, yes: bool) -> ImageEncoder:
    """The image encoder of a space, downloaded if that is agreed to.

    Raises:
        AestheticError: there is none.
    """
    from ..clip.image_encoder import load_encoder

    with bar("B", unit_scale=True, desc=space.name) as progress:
        return load_encoder(
            space,
            path or own_image_encoder(space),
            device=device,
            progress=progress,
            allow_download=lambda size, what: agreed(size, what, yes),
        )


def add_encoder_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :func:`open_encoders`."""
    parser.add_argument(
        "--space",
        nargs="+",
        default=None,
        metavar="SPACE",
        help=f"CLIP spaces, from {', '.join(space.name for space in (*PUBLISHED, DEMO_SPACE))}, the last of which is the "
        f"demonstration model's (default: {VIT_L.name})",
    )
    parser.add_argument(
        "--encoder",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="folder or file of the image encoder; once for each space, in their order",
    )
    arguments.add_device(parser)
    parser.add_argument("--yes", action="store_true", help="agree to download an encoder that is not on this machine")


@contextlib.contextmanager
def open_encoders(args: argparse.Namespace) -> Iterator[list[ImageEncoder]]:
    """The image encoders that are asked for, one per space; they are closed at the end.

    Raises:
        AestheticError: one can't be had.
    """
    spaces = [_space(text) for text in args.space or [VIT_L.name]]
    if len(args.encoder) > len(spaces):
        raise AestheticError(
            f"There are {len(args.encoder)} encoders for {len(spaces)} CLIP spaces.",
            "",
            "Name at most one --encoder for each --space, in their order.",
        )
    device = arguments.device_of(args)
    paths = [*args.encoder, *[""] * len(spaces)]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(image_encoder(space, path, device, args.yes)) for space, path in zip(spaces, paths)]


def _space(text: str) -> Space:
    space = space_named(text)
    if space is None:
        raise AestheticError(
            f"There is no CLIP space {text!r}.",
            f"There are: {', '.join(space.name for space in (*PUBLISHED, DEMO_SPACE))}.",
            "Choose among them; another CLIP's is called CLIP- and its width, such as CLIP-512.",
        )
    return space
