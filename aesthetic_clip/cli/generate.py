"""The commands that use a Stable Diffusion model: ``txt2img``, with the flags of the paper's script, and ``encode``."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .. import __version__
from ..demo import DEMO, LR, MODEL
from ..embeddings.embedding import SUFFIXES
from ..embeddings.library import Library
from ..errors import AestheticError
from ..files import probe_writable, write_atomically
from ..settings import KNOBS, Settings
from .knobs import flag, knob_arguments, settings_of
from .terminal import bar

if TYPE_CHECKING:
    from PIL import Image

    from ..hosts.diffusers import PromptEmbeddings
    from ..hosts.diffusers.generator import Generator

PAPERS_MODEL = "CompVis/stable-diffusion-v1-4"
GUIDANCE_SCALE = 7.5
_MULTIPLE = 8  # pixels per latent
_LARGEST_SEED = 2**32


# Arguments


def txt2img_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`txt2img`."""
    _common_arguments(parser)
    parser.add_argument(
        "--outdir",
        type=Path,
        default=Path("outputs/txt2img-samples"),
        metavar="DIR",
        help="where pictures go: DIR/samples and DIR/grid-0000.png (default: %(default)s)",
    )
    flag(parser, "skip_grid", action="store_true", help="save no grid")
    flag(parser, "ddim_steps", type=positive, default=50, metavar="N", help="sampling steps (default: %(default)s)")
    parser.add_argument("--plms", action="store_true", help="sample with PLMS instead of DDIM")
    parser.add_argument("--scale", type=float, default=GUIDANCE_SCALE, help="guidance scale (default: %(default)s)")
    parser.add_argument(
        "--seed",
        type=_seed,
        default=42,
        metavar="N",
        help="of the first picture, counted up for the others; -1 draws one (default: %(default)s)",
    )
    parser.add_argument("--W", type=_size, metavar="PIXELS", help="width (default: the model's)")
    parser.add_argument("--H", type=_size, metavar="PIXELS", help="height (default: the model's)")
    flag(parser, "n_iter", type=positive, default=2, metavar="N", help="rounds (default: %(default)s)")
    flag(
        parser,
        "n_samples",
        type=positive,
        default=3,
        metavar="N",
        help="pictures at once, all of the one --prompt, or of as many lines of --from-file (default: %(default)s)",
    )


def encode_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of :func:`encode`."""
    _common_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.safetensors", help="where to write them")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def _common_arguments(parser: argparse.ArgumentParser) -> None:
    prompts = parser.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompt", help="what to show; tags such as <aesthetic:name:0.8> are obeyed")
    flag(prompts, "from_file", type=Path, metavar="FILE", help="a file with one prompt in each line")
    flag(parser, "negative_prompt", default="", help="what not to show")
    model_arguments(parser, PAPERS_MODEL)
    flag(
        parser,
        "clip_skip",
        type=positive,
        default=1,
        metavar="N",
        help="1 reads the usual layer, 2 the one before, as the WebUI counts (default: %(default)s)",
    )
    knob_arguments(parser)


def demo_settings() -> Settings:
    """What suits the demonstration model, see ``demo.measure``; its centre is ``loading.CENTRE``."""
    from ..demo.loading import CENTRE

    return Settings(steps=10, lr=LR, centre=CENTRE)


def model_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    """Add those of :func:`load_model`."""
    parser.add_argument(
        "--ckpt",
        "--model",
        default=default,
        metavar="MODEL",
        help="Stable Diffusion 1.x, 2.x or SDXL: a diffusers folder, a .safetensors or .ckpt file, "
        f"an id on the hub, or {DEMO!r} for the one that comes with the package (default: %(default)s)",
    )
    parser.add_argument("--config", metavar="DIR", help="with a model in one file: a diffusers folder of its kind")
    flag(
        parser,
        "text_tower",
        type=Path,
        metavar="PATH",
        help="file or folder of the CLIP that the text encoder came from; SD 2.x in diffusers' form needs it",
    )
    parser.add_argument("--device", help="where to compute, e.g. cuda or cpu (default: cuda if there is one)")
    parser.add_argument(
        "--precision",
        choices=["autocast", "full"],
        default="autocast",
        help="autocast: half precision on a GPU; full: single (default: %(default)s)",
    )


def load_model(args: argparse.Namespace) -> Generator:
    """The model that the arguments name.

    Raises:
        AestheticError: it can't be loaded.
    """
    from ..hosts.diffusers.generator import Generator

    model = str(MODEL) if args.ckpt == DEMO else args.ckpt
    return Generator(model, args.device, args.precision == "autocast", args.config, args.text_tower)


def positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _size(text: str) -> int:
    if positive(text) % _MULTIPLE:
        raise argparse.ArgumentTypeError(f"{text} is not a multiple of {_MULTIPLE}")
    return int(text)


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if not -1 <= seed < _LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not from -1 to {_LARGEST_SEED - 1}")
    return seed


def _prompts(args: argparse.Namespace) -> list[str]:
    if args.from_file is None:
        return [args.prompt]
    try:
        lines = [line.strip() for line in args.from_file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AestheticError(
            f"The prompts in {args.from_file} can't be read.", f"{reason}.", "Give a text file in UTF-8."
        ) from error
    if not any(lines):
        raise AestheticError(f"There are no prompts in {args.from_file}.", "", "Write one into each line.")
    return [line for line in lines if line]


# txt2img


@dataclass(frozen=True)
class _Job:
    prompt: str
    seed: int


def txt2img(args: argparse.Namespace, library: Library) -> None:
    """Make pictures, each with its parameters in the file, and a grid of them.

    Raises:
        AestheticError: see the command line's help for what can be wrong.
    """
    prompts, settings = _prompts(args), settings_of(args, Settings())
    samples = _Numbered(args.outdir / "samples", "{:05}.png")
    grids = _Numbered(args.outdir, "grid-{:04}.png")
    seed = torch.seed() % _LARGEST_SEED if args.seed == -1 else args.seed
    wanted = prompts if args.from_file else prompts * args.n_samples
    jobs = [_Job(prompt, seed + i) for i, prompt in enumerate(wanted * args.n_iter)]
    model = _Model(args, settings, library)
    model.generator.sample_with(plms=args.plms)
    pictures: list[Image.Image] = []
    try:
        for start in range(0, len(jobs), args.n_samples):
            batch = jobs[start : start + args.n_samples]
            for job, picture in zip(batch, model.pictures(batch)):
                pictures.append(picture)
                print(samples.save(_png(picture, job, args, settings, model.moved(job))))
    except KeyboardInterrupt:
        print(f"Stopped; {len(pictures)} of {len(jobs)} pictures are in {samples.folder}.", file=sys.stderr)
        raise SystemExit(130) from None
    if not args.skip_grid:
        from ..hosts.diffusers.infotext import grid

        buffer = io.BytesIO()
        grid(pictures, args.n_samples).save(buffer, "PNG")
        print(grids.save(buffer.getvalue()))


class _Numbered:
    """Files with numbers in a folder, which is tried out on construction.

    Raises:
        AestheticError: the folder can't be written.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern = folder, pattern
        try_folder(folder)
        taken = re.compile(re.sub(r"{.*}", r"(\\d+)", re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")))
        numbers = [int(match[1]) for path in folder.iterdir() if (match := taken.fullmatch(path.name))]
        self.next = 1 + max(numbers, default=-1)

    def save(self, content: bytes) -> Path:
        path = self.folder / self.pattern.format(self.next)
        write_atomically(path, content)
        self.next += 1
        return path


def try_folder(folder: Path) -> None:
    try:
        probe_writable(folder)
    except OSError as error:
        raise AestheticError(
            f"Nothing can be written to {folder}.", f"{error.strerror or error}.", "Choose another folder."
        ) from error


def _png(picture: Image.Image, job: _Job, args: argparse.Namespace, settings: Settings, moved: bool) -> bytes:
    from ..hosts.diffusers.infotext import infotext, png

    # The WebUI knows embeddings by name.
    files = {k.name: value for k in KNOBS if k.names_embedding and _is_file(value := getattr(settings, k.name))}
    settings = settings.replaced({name: Path(file).stem for name, file in files.items()})
    parameters = {
        "Steps": args.ddim_steps,
        "Sampler": "PLMS" if args.plms else "DDIM",
        "CFG scale": f"{args.scale:g}",
        "Seed": job.seed,
        "Size": f"{picture.width}x{picture.height}",
        "Model": Path(args.ckpt).stem if _is_checkpoint(args.ckpt) else Path(args.ckpt).name,
        "Clip skip": args.clip_skip if args.clip_skip > 1 else None,
        "RNG": "CPU",
        **(settings.infotext() if moved else {}),
        "Version": f"aesthetic_clip {__version__}",
    }
    return png(picture, infotext(job.prompt, args.negative_prompt, parameters))


def _is_file(embedding: str) -> bool:
    return Path(embedding).suffix in SUFFIXES and Path(embedding).expanduser().is_file()


def _is_checkpoint(model: str) -> bool:
    return Path(model).expanduser().is_file()


class _Model:
    """The model of a command, and the prompts that it has encoded."""

    def __init__(self, args: argparse.Namespace, settings: Settings, library: Library) -> None:
        self.generator = load_model(args)
        self.args, self.settings, self.library = args, settings, library
        self.encoded: dict[str, PromptEmbeddings] = {}

    def encode(self, prompts: str | Sequence[str]) -> PromptEmbeddings:
        args = self.args
        guidance = getattr(args, "scale", 2.0) > 1
        with bar("step", desc="personalising", leave=False) as progress:
            encoded = self.generator.encode(
                prompts, self.settings, self.library, args.negative_prompt, guidance, args.clip_skip, progress
            )
        for similarities in encoded.similarities:
            for space, numbers in similarities.items():
                steps = len(numbers) - 1
                print(f"similarity in {space}: {numbers[0]:.4f} -> {numbers[-1]:.4f} in {steps} steps", file=sys.stderr)
        if encoded.left_alone:
            print(f"left alone, for want of a vector: {', '.join(encoded.left_alone)}", file=sys.stderr)
        return encoded

    def moved(self, job: _Job) -> bool:
        """Whether anything was optimised for a job's prompt."""
        return any(self.encoded[job.prompt].similarities)

    def pictures(self, jobs: Sequence[_Job]) -> list[Image.Image]:
        for job in jobs:
            if job.prompt not in self.encoded:
                self.encoded[job.prompt] = self.encode(job.prompt)
        encoded, seeds = [self.encoded[job.prompt] for job in jobs], [job.seed for job in jobs]
        args = self.args
        return self.generator.pictures(encoded, seeds, args.ddim_steps, args.scale, args.W, args.H)


# encode


def encode(args: argparse.Namespace, library: Library) -> None:
    """Write prompt embeddings by the names of the pipeline's arguments, one row per prompt.

    Raises:
        AestheticError: see the command line's help for what can be wrong.
    """
    if args.output.suffix != ".safetensors" or args.output.is_dir():
        raise AestheticError(
            f"Prompt embeddings can't be written to {args.output}.", "The file has to be a .safetensors.", ""
        )
    if args.output.exists() and not args.overwrite:
        raise AestheticError(
            f"There is already something at {args.output}.", "", "Choose another file, or allow to --overwrite it."
        )
    prompts, settings = _prompts(args), settings_of(args, Settings())
    try_folder(args.output.absolute().parent)
    encoded = _Model(args, settings, library).encode(prompts)
    metadata = {
        "prompts": json.dumps(prompts, ensure_ascii=False),
        "negative_prompt": args.negative_prompt,
        "model": args.ckpt,
        **{key: str(value) for key, value in settings.infotext().items()},
    }
    import safetensors.torch

    tensors = {name: tensor.contiguous().cpu() for name, tensor in encoded.arguments().items()}
    write_atomically(args.output, safetensors.torch.save(tensors, metadata))
    print(args.output)
