"""The Stable Diffusion model of a command, and prompts encoded by it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..demo import DEMO, MODEL
from ..embeddings.library import Library
from ..errors import AestheticError
from ..method.modes import Memory
from ..settings import Settings
from . import arguments
from .knobs import flag
from .terminal import bar, tell

if TYPE_CHECKING:
    from ..hosts.diffusers import PromptEmbeddings
    from ..hosts.diffusers.generator import Generator

PAPERS_MODEL = "CompVis/stable-diffusion-v1-4"
GUIDANCE_SCALE = 7.5


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the arguments of :func:`load_model`."""
    parser.add_argument(
        "--ckpt",
        "--model",
        default=default,
        metavar="MODEL",
        help="Stable Diffusion 1.x, 2.x or SDXL: a diffusers folder, a .safetensors or .ckpt file, "
        f"an id on the hub, or {DEMO!r} for the one that comes with the package (default: %(default)s)",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        help="with a model in one file: what describes it, a .yaml as in the paper's repository "
        "or a diffusers folder of its kind",
    )
    flag(
        parser,
        "text_tower",
        type=Path,
        metavar="PATH",
        help="file or folder of the CLIP that the text encoder came from; SD 2.x in diffusers' form needs it",
    )
    arguments.add_device(parser)
    parser.add_argument(
        "--precision",
        choices=["autocast", "full"],
        default="autocast",
        help="autocast: half precision on a GPU; full: single (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        choices=[mode.value.lower() for mode in Memory],
        default=Memory.AUTOMATIC.value.lower(),
        help="of the optimiser: low keeps its state in main memory, lowest nowhere; the same pictures, more slowly "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--bf16",
        action="store_true",
        help="multiply matrices in bf16 while a prompt is personalised: faster where the processor can (AVX-512 BF16, AMX; "
        "TF32 on NVIDIA cards), not quite the same picture",
    )


def load_model(args: argparse.Namespace) -> Generator:
    """The model that the arguments name.

    Raises:
        AestheticError: it can't be loaded.
    """
    from ..hosts.diffusers.generator import Generator

    model = str(MODEL) if arguments.is_demo(args) else args.ckpt
    if args.config and not is_file(model):
        tell(f"--config {args.config} is not needed: {args.ckpt} describes itself.")
    half, memory = args.precision == "autocast", Memory(args.memory.capitalize())
    return Generator(model, args.device, half, args.config, args.text_tower, memory, args.bf16)


def is_file(model: str) -> bool:
    """Whether a model is one file, and not a folder or an id on the hub."""
    return Path(model).expanduser().is_file()


def add_prompts(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add the arguments of :func:`prompts_of` and those that say how prompts are encoded."""
    prompts = parser.add_mutually_exclusive_group(required=default is None)
    said = "" if default is None else f" (default: {default})"
    prompts.add_argument(
        "--prompt", default=default, help=f"what to show; tags such as <aesthetic:name:0.8> are obeyed{said}"
    )
    flag(prompts, "from_file", type=Path, metavar="FILE", help="a file with one prompt in each line")
    flag(parser, "negative_prompt", default="", metavar="PROMPT", help="what not to show")
    flag(
        parser,
        "clip_skip",
        type=arguments.positive,
        default=1,
        metavar="N",
        help="1 reads the usual layer, 2 the one before, as the WebUI counts (default: %(default)s)",
    )


def prompts_of(args: argparse.Namespace) -> list[str]:
    """The prompts that the arguments name.

    Raises:
        AestheticError: the file can't be read, or holds none.
    """
    if args.from_file is None:
        return [args.prompt]
    try:
        lines = [line.strip() for line in args.from_file.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AestheticError(
            f"The prompts in {args.from_file} can't be read.", f"{reason}.", "Give a text file in UTF-8."
        ) from error
    if not any(lines):
        raise AestheticError(f"There are no prompts in {args.from_file}.", "", "Write one into each line.")
    return [line for line in lines if line]


def encode(
    model: Generator,
    args: argparse.Namespace,
    prompts: str | Sequence[str],
    settings: Settings,
    library: Library,
    guidance: bool = True,
) -> PromptEmbeddings:
    """Encode prompts, and tell how far they were moved.

    Raises:
        AestheticError: see ``encode_prompts``.
    """
    with bar("step", desc="personalising", leave=False) as progress:
        encoded = model.encode(
            prompts, settings, library, args.negative_prompt, guidance, args.clip_skip, progress=progress
        )
    for similarities in encoded.similarities:
        for space, numbers in similarities.items():
            tell(f"similarity in {space}: {numbers[0]:.4f} -> {numbers[-1]:.4f} in {len(numbers) - 1} steps")
    if encoded.left_alone:
        tell(f"left alone, for want of a vector: {', '.join(encoded.left_alone)}")
    return encoded
