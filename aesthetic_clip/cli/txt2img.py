"""``txt2img``: pictures with diffusers, with the flags of the paper's script and doing what that does.

The paper's script is the ``scripts/txt2img.py`` of https://github.com/vicgalle/stable-diffusion-aesthetic-gradients.
With its flags alone this command does the same: all of the personalised prompt (weight 1, 10 steps), one generator
for all pictures, seeded once, which gives the noise of whole batches in its order. What differs, and why:

* No ``--aesthetic_embedding`` is the plain model, where the script takes sac_8plus: nothing is steered unasked.
* Prompts of one batch from ``--from-file`` are personalised each by itself; the script moves them together, so that
  a prompt's picture depends on its neighbours.
* Pictures round to the nearest of 256 values where the script cuts off, and carry parameters instead of a watermark.
* Where --ddim_steps does not divide 1000 the script takes some steps more than it was asked for.
* Noise drawn on a GPU is the script's on the same kind of GPU. On the CPU the script's noise depends on how many random
  numbers its model took to be built, and can't be had again by anything else.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .. import __version__
from ..errors import AestheticError, Interrupted, Remedy
from ..files import write_atomically
from ..settings import KNOBS, Settings
from . import arguments
from .arguments import positive
from .command import Command
from .knobs import flag, knob_arguments, settings_of
from .model import GUIDANCE_SCALE, PAPERS_MODEL, add_model, add_prompts, encode, is_file, load_model, prompts_of
from .terminal import say

if TYPE_CHECKING:
    from PIL import Image

    from ..hosts.diffusers import PromptEmbeddings

_PAPERS_PROMPT = "a painting of a virus monster playing guitar"
_PAPERS = Settings(weight=1.0, steps=10)
"""What the paper's script does where nothing is said."""


class Txt2Img(Command):
    name = "txt2img"
    help = "make pictures with Stable Diffusion, with the flags of the paper's script"
    details = """
        With the flags of the paper's scripts/txt2img.py alone it does what that does: all of the personalised prompt,
        and one generator for all pictures. Without --aesthetic_embedding the model is left as it is.
    """
    usage = "--prompt PROMPT"
    examples = (
        "txt2img --prompt 'a portal' --plms --seed 332 --aesthetic_steps 15 "
        "--aesthetic_embedding aesthetic_embeddings/sac_8plus.pt",
        "txt2img --ckpt demo --scale 4 --ddim_steps 20 --prompt 'a red circle'",
        "txt2img --from-file prompts.txt --seed_each --n_iter 1",
    )
    remedies: ClassVar = {Remedy.MEMORY: "Make fewer at once with --n_samples 1, or smaller ones with --W and --H."}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_prompts(parser, _PAPERS_PROMPT)
        add_model(parser, PAPERS_MODEL)
        _add_output(parser)
        _add_sampling(parser)
        knob_arguments(parser, initial=_PAPERS)

    def run(self, args: argparse.Namespace) -> None:
        _refuse(args)
        prompts, settings = prompts_of(args), settings_of(args, _PAPERS)
        samples = _Numbered(args.outdir / "samples", "{:05}.png")
        grids = _Numbered(args.outdir, "grid-{:04}.png")
        _Run(args, prompts, settings, samples, grids).make()


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("output")
    group.add_argument(
        "--outdir",
        type=Path,
        default=Path("outputs/txt2img-samples"),
        metavar="DIR",
        help="where pictures go: DIR/samples and DIR/grid-0000.png (default: %(default)s)",
    )
    flag(group, "skip_grid", action="store_true", help="save no grid")
    flag(group, "skip_save", action="store_true", help="save no single pictures")
    flag(group, "n_rows", type=int, default=0, metavar="N", help="pictures in a row of the grid (default: n_samples)")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    flag(group, "ddim_steps", type=positive, default=50, metavar="N", help="sampling steps (default: %(default)s)")
    samplers = group.add_mutually_exclusive_group()
    samplers.add_argument("--plms", action="store_true", help="sample with PLMS instead of DDIM")
    flag(samplers, "dpm_solver", action="store_true", help="sample with DPM-Solver++ instead of DDIM")
    flag(group, "ddim_eta", type=float, default=0.0, metavar="ETA", help="noise in DDIM's steps (default: %(default)s)")
    group.add_argument(
        "--scale",
        type=arguments.guidance_scale,
        default=GUIDANCE_SCALE,
        help="guidance scale, 1 is none (default: %(default)s)",
    )
    group.add_argument(
        "--seed", type=arguments.seed, default=42, metavar="N", help="-1 draws one (default: %(default)s)"
    )
    flag(
        group,
        "seed_each",
        action="store_true",
        help="a seed for each picture, counted up, as in the WebUI; otherwise one generator makes "
        "the noise of all, as in the paper's script",
    )
    flag(group, "fixed_code", action="store_true", help="the same noise in every batch")
    group.add_argument("--W", type=arguments.size, metavar="PIXELS", help="width (default: the model's)")
    group.add_argument("--H", type=arguments.size, metavar="PIXELS", help="height (default: the model's)")
    flag(group, "n_iter", type=positive, default=2, metavar="N", help="rounds (default: %(default)s)")
    flag(
        group,
        "n_samples",
        type=positive,
        default=3,
        metavar="N",
        help="pictures at once, all of the one --prompt, or of as many lines of --from-file (default: %(default)s)",
    )
    group.add_argument("--C", type=positive, metavar="N", help="channels of the latents; the model's, or it is refused")
    group.add_argument("--f", type=positive, metavar="N", help="pixels per latent; the model's, or it is refused")
    group.add_argument("--laion400m", action="store_true", help="refused: that model has no CLIP in it")


def _refuse(args: argparse.Namespace) -> None:
    """What can't be done, before anything is loaded."""
    if args.laion400m:
        raise AestheticError(
            "--laion400m can't be used.",
            "It names a latent diffusion model whose text encoder is a BERT, and aesthetic gradients need CLIP's.",
            "Leave it out, or name a Stable Diffusion model with --ckpt.",
        )
    if not 0 <= args.ddim_eta <= 1:
        raise AestheticError(
            f"--ddim_eta can't be {args.ddim_eta:g}.",
            "It goes from 0 (no noise) to 1 (DDPM).",
            "Choose one in between.",
        )
    if args.ddim_eta and (args.plms or args.dpm_solver):
        raise AestheticError(
            f"--ddim_eta {args.ddim_eta:g} goes with DDIM only.",
            "PLMS and DPM-Solver add no noise; the paper's script refuses it too.",
            "Leave it out, or leave out --plms and --dpm_solver.",
        )
    if args.fixed_code and args.seed_each:
        raise AestheticError(
            "--fixed_code and --seed_each contradict each other.",
            "One makes the noise of all batches the same, the other that of all pictures different.",
            "Leave one of them out.",
        )


class _Numbered:
    """Files with numbers in a folder, which is tried out on construction.

    Raises:
        AestheticError: the folder can't be written.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern = folder, pattern
        arguments.try_folder(folder)
        taken = re.compile(re.sub(r"{.*}", r"(\\d+)", re.escape(pattern).replace(r"\{", "{").replace(r"\}", "}")))
        numbers = [int(match[1]) for path in folder.iterdir() if (match := taken.fullmatch(path.name))]
        self.next = 1 + max(numbers, default=-1)

    def save(self, content: bytes) -> Path:
        path = self.folder / self.pattern.format(self.next)
        write_atomically(path, content)
        self.next += 1
        return path


@dataclass(frozen=True)
class _Order:
    """One picture: what it shows, with which settings, and where its noise comes from."""

    prompt: str
    settings: Settings
    seed: int
    batch: int
    place: int

    @property
    def wanted(self) -> tuple[str, Settings]:
        """Equal for pictures of the same conditioning."""
        return self.prompt, self.settings


class _Run:
    """One call of the command."""

    def __init__(
        self, args: argparse.Namespace, prompts: list[str], settings: Settings, samples: _Numbered, grids: _Numbered
    ) -> None:
        import torch

        self.args, self.settings, self.samples, self.grids = args, settings, samples, grids
        self.library = arguments.library_of(args)
        self.seed = torch.seed() % (arguments.LARGEST_SEED + 1) if args.seed == -1 else args.seed
        self.batches = self._batches(prompts)
        self.model = load_model(args)
        self.sampler = "PLMS" if args.plms else "DPM++ 2M" if args.dpm_solver else "DDIM"
        self.model.sample_with(self.sampler)
        self.model.refuse_other_latents(args.C, args.f)
        self.noise = (
            None if args.seed_each else self.model.noise(self.seed, args.n_samples, args.ddim_steps, args.W, args.H)
        )
        self.encoded: dict[tuple[str, Settings], PromptEmbeddings] = {}

    def _batches(self, prompts: list[str]) -> list[list[_Order]]:
        from ..hosts.diffusers.prompts import picked

        args = self.args
        count = args.n_samples
        # As in the paper's script: n_samples pictures of the one prompt, or one of each line of the file.
        wanted = prompts if args.from_file else prompts * count
        chunks = [wanted[start : start + count] for start in range(0, len(wanted), count)] * args.n_iter
        orders, made = [], 0
        for batch, chunk in enumerate(chunks):
            for_each = []
            for i, prompt in enumerate(chunk):
                # With one generator for all, each picture picks for itself all the same.
                chosen = picked(prompt, self.settings, self.library, self.seed + made + i)
                for_each.append(_Order(*chosen, self.seed + (made + i if args.seed_each else 0), batch, i))
            orders.append(for_each)
            made += len(chunk)
        return orders

    def make(self) -> None:
        """Make, save and print all pictures and the grid."""
        pictures: list[Image.Image] = []
        saved = 0
        try:
            for batch in self.batches:
                for order, picture in zip(batch, self.pictures(batch)):
                    pictures.append(picture)
                    if not self.args.skip_save:
                        say(self.samples.save(self._png(picture, order)))
                        saved += 1
        except KeyboardInterrupt:
            total = sum(map(len, self.batches))
            raise Interrupted(f"Stopped; {saved} of {total} pictures are in {self.samples.folder}.") from None
        if not self.args.skip_grid:
            from ..hosts.diffusers.infotext import grid, png

            columns = self.args.n_rows if self.args.n_rows > 0 else self.args.n_samples
            say(self.grids.save(png(grid(pictures, columns))))

    def pictures(self, batch: list[_Order]) -> list[Image.Image]:
        args = self.args
        for order in batch:
            if order.wanted not in self.encoded:
                self.encoded[order.wanted] = encode(
                    self.model, args, order.prompt, order.settings, self.library, guidance=args.scale > 1
                )
        encoded, seeds = [self.encoded[order.wanted] for order in batch], [order.seed for order in batch]
        return self.model.pictures(
            encoded,
            seeds,
            args.ddim_steps,
            args.scale,
            args.W,
            args.H,
            noise=self.noise,
            fixed_noise=args.fixed_code,
            eta=args.ddim_eta,
        )

    def _png(self, picture: Image.Image, order: _Order) -> bytes:
        from ..hosts.diffusers.infotext import infotext, png
        from ..hosts.diffusers.prompts import is_embedding_file

        args, settings, encoded = self.args, order.settings, self.encoded[order.wanted]
        # The WebUI knows embeddings by name.
        files = {
            k.name: value for k in KNOBS if k.names_embedding and is_embedding_file(value := getattr(settings, k.name))
        }
        settings = settings.replaced({name: Path(file).stem for name, file in files.items()})
        of_batch = self.noise is not None and args.n_samples > 1
        parameters = {
            "Steps": args.ddim_steps,
            "Sampler": self.sampler,
            "CFG scale": f"{args.scale:g}",
            "Seed": order.seed,
            "Size": f"{picture.width}x{picture.height}",
            "Model": Path(args.ckpt).stem if is_file(args.ckpt) else Path(args.ckpt).name,
            "Eta DDIM": f"{args.ddim_eta:g}" if args.ddim_eta else None,
            "Clip skip": args.clip_skip if args.clip_skip > 1 else None,
            # The seed alone does not tell which part of the generator's noise is this picture's.
            "Batch size": args.n_samples if of_batch else None,
            "Batch pos": order.place if of_batch else None,
            "Batch": order.batch if self.noise is not None and order.batch and not args.fixed_code else None,
            "RNG": "CPU" if self.noise is None else self.noise.source,
            **(settings.infotext() if any(encoded.similarities) else {}),
            **encoded.found[0],
            "Version": f"aesthetic_clip {__version__}",
        }
        return png(picture, infotext(order.prompt, args.negative_prompt, parameters))
