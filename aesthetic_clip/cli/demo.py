"""``demo``: from a folder of pictures to the same seed before and after.

Without a folder and a model of the user's it needs no network: the demonstration model comes with the
package, and its world draws the pictures and the centre that they are compared with.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..demo import DEMO, GUIDANCE_SCALE, SAMPLING_STEPS
from ..embeddings.library import Library, open_library
from ..errors import AestheticError, Remedy
from ..files import write_atomically
from ..settings import Settings
from . import arguments
from .arguments import positive
from .command import Command
from .encoders import image_encoder
from .knobs import flag, knob_arguments, settings_of
from .model import GUIDANCE_SCALE as USUAL_SCALE
from .model import add_model, load_model
from .terminal import bar, say, tell

if TYPE_CHECKING:
    from PIL import Image

    from ..clip.image_encoder import ImageEncoder
    from ..embeddings.embedding import Embedding
    from ..hosts.diffusers.generator import Generator
    from ..spaces import Space

_STEPS = (0, 5, 10, 20)
_SMALLEST = 192
_LABEL, _LETTERS = 34, 24
_GIVEN_OTHERWISE = ("steps", "embedding")
"""Knobs that are given in another form here."""


class Demo(Command):
    name = "demo"
    help = "show the effect, offline, with a model that comes along"
    usage = "[FOLDER]"
    examples = (
        "demo",
        "demo ~/Pictures/liked --model runwayml/stable-diffusion-v1-5 --prompt 'a lighthouse' --yes",
    )
    remedies: ClassVar = {
        Remedy.IMAGE_ENCODER: "Put it where it is looked for, or allow to download it with --yes.",
        Remedy.MEMORY: "Make fewer at once with --rows 1, or compute elsewhere with --device.",
    }

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "folder", nargs="?", type=Path, metavar="FOLDER", help="pictures of a taste (default: --style, drawn)"
        )
        parser.add_argument("--style", default="warm", help="what to draw without a FOLDER (default: %(default)s)")
        parser.add_argument("--prompt", help="default: one that fits the model")
        flag(
            parser,
            "aesthetic_steps",
            nargs="+",
            type=int,
            default=list(_STEPS),
            metavar="N",
            help="a column of the grid for each (default: 0 5 10 20)",
        )
        parser.add_argument(
            "--seed", type=int, default=0, metavar="N", help="of the first row, counted up (default: %(default)s)"
        )
        parser.add_argument(
            "--rows", type=positive, default=3, metavar="N", help="how many seeds (default: %(default)s)"
        )
        flag(parser, "ddim_steps", type=positive, default=SAMPLING_STEPS, metavar="N", help="default: %(default)s")
        parser.add_argument(
            "--scale", type=arguments.guidance_scale, help="guidance scale (default: one that fits the model)"
        )
        parser.add_argument(
            "--outdir", type=Path, default=Path("aesthetic-demo"), metavar="DIR", help="default: %(default)s"
        )
        parser.add_argument("--yes", action="store_true", help="agree to download an image encoder that is not here")
        add_model(parser, default=DEMO)
        knob_arguments(parser, leave_out=_GIVEN_OTHERWISE, initial=arguments.demo_settings())

    def run(self, args: argparse.Namespace) -> None:
        _make(args, arguments.library_of(args))


def _make(args: argparse.Namespace, library: Library) -> None:
    """Make the embedding, the pictures and the grid, and print what was measured."""
    # Here, so that the other commands start without these libraries.
    from ..create.pictures import save_result
    from ..demo import world
    from ..demo.loading import CENTRE, drawn_result
    from ..hosts.diffusers.infotext import png

    suits = arguments.demo_settings() if arguments.is_demo(args) else Settings()
    base = settings_of(args, suits, leave_out=_GIVEN_OTHERWISE)
    columns = [base.replaced({"steps": steps}) for steps in args.aesthetic_steps]
    arguments.try_folder(args.outdir)
    library = open_library([args.outdir, *library.folders])
    folder = args.folder or _drawn(args.style, args.outdir / "pictures" / args.style)
    name = library.refuse_taken(args.folder.resolve().name if args.folder else args.style, overwrite=True)
    model = load_model(args)
    model.sample_with("DDIM")
    with contextlib.ExitStack() as stack:
        encoders = [
            stack.enter_context(image_encoder(space, model.image_encoder or "", model.device, args.yes))
            for space in _spaces(model)
        ]
        embedding, preview = _embedding(folder, encoders, name, library)
        if base.centre == CENTRE:
            save_result(drawn_result(encoders[0], world.LOOKS), library, CENTRE, overwrite=True)
        prompt = args.prompt or _prompt(args.ckpt)
        scale = args.scale
        if scale is None:
            scale = GUIDANCE_SCALE if arguments.is_demo(args) else USUAL_SCALE
        seeds = range(args.seed, args.seed + args.rows)
        made: list[tuple[int, Sequence[float], list[Image.Image]]] = []
        for settings in columns:
            with bar("step", desc="personalising", leave=False) as progress:
                encoded = model.encode(
                    prompt, settings.replaced({"embedding": embedding.name}), library, progress=progress
                )
            pictures = model.pictures([encoded] * len(seeds), list(seeds), args.ddim_steps, scale)
            numbers: Sequence[float] = encoded.similarities[0].get(encoders[0].space.name, ())
            made.append((settings.steps, numbers, pictures))
        say(f"{prompt!r}, {len(seeds)} seeds; cosine similarity of")
        say("steps  prompt to target  pictures to embedding")
        before = next((numbers[0] for _, numbers, _ in made if numbers), float("nan"))
        for steps, numbers, pictures in made:
            toward = numbers[-1] if numbers else before
            say(f"{steps:5}  {toward:16.3f}  {_similarity(pictures, encoders[0], embedding):21.3f}")
    sheet = args.outdir / "grid.png"
    write_atomically(sheet, png(_sheet(preview, embedding.name, made)))
    say(sheet)


def _drawn(style: str, folder: Path) -> Path:
    from ..demo import world

    if style not in world.STYLES:
        raise AestheticError(
            f"There is no style {style!r} in the demonstration world.",
            f"There are {', '.join(world.STYLES)}.",
            "Choose one of them, or give a folder of pictures.",
        )
    world.write_style_images(folder, style, 24, seed=1)
    return folder


def _prompt(model: str) -> str:
    from ..demo import world

    return world.HELD_OUT[0].prompt if model == DEMO else "a lighthouse at the sea"


def _spaces(model: Generator) -> list[Space]:
    """Those whose image encoder is here; the first one if there is none."""
    from ..clip.image_encoder_files import find_checkpoint

    if model.image_encoder:
        return model.spaces[:1]
    return [space for space in model.spaces if find_checkpoint(space)] or model.spaces[:1]


def _embedding(
    folder: Path, encoders: Sequence[ImageEncoder], name: str, library: Library
) -> tuple[Embedding, Path | None]:
    from ..create.pictures import create, save_result
    from ..create.sources import find_images, left_out_line, skipped_lines

    result = create(find_images([folder]), encoders)
    for line in skipped_lines(result.skipped):
        tell(f"skipped {line}")
    if result.left_out:
        tell(left_out_line(result.left_out))
    embedding, preview = save_result(result, library, name, overwrite=True)
    cosines = ", ".join(f"{cosine:.3f} in {space.name}" for space, cosine in result.mean_cosine.items())
    say(f"{embedding.path}: {result.used} pictures, mean cosine to their mean {cosines}")
    return embedding, preview


def _similarity(pictures: Sequence[Image.Image], encoder: ImageEncoder, embedding: Embedding) -> float:
    """Mean cosine of pictures to the embedding."""
    from ..create.pictures import create

    drawn = [(str(number), picture) for number, picture in enumerate(pictures)]
    features = create(drawn, [encoder], workers=1).sums[encoder.space]
    # The mean of unit vectors, so that its product is the mean of their cosines.
    return float(features.total / features.count @ embedding.vectors[encoder.space].double())


def _sheet(
    preview: Path | None, name: str, columns: Sequence[tuple[int, Sequence[float], Sequence[Image.Image]]]
) -> Image.Image:
    """The embedding's pictures as high as all rows, then a column for each number of steps; small pictures enlarged."""
    from PIL import Image, ImageDraw

    from ..create.images import decoded
    from ..pages.heatmap import font

    first = columns[0][2][0]
    factor = max(1, -(-_SMALLEST // min(first.size)))
    width, height = first.width * factor, first.height * factor
    taste = len(columns[0][2]) * height
    sheet = Image.new("RGB", (taste + len(columns) * width, _LABEL + taste), "white")
    draw, letters = ImageDraw.Draw(sheet), font(_LETTERS)
    draw.text((6, 3), f"embedding {name!r}", "black", letters)
    if preview:
        with decoded(preview) as nearest:
            sheet.paste(nearest.resize((taste, taste)), (0, _LABEL))
    for number, (steps, _, pictures) in enumerate(columns):
        x = taste + number * width
        draw.text((x + 6, 3), f"{steps} steps", "black", letters)
        for y, picture in enumerate(pictures):
            sheet.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (x, _LABEL + y * height))
    return sheet
