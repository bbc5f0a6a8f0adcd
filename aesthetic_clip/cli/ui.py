"""``ui``: a local page with the WebUI's accordion and its tab for embeddings."""

from __future__ import annotations

import argparse
import contextlib
import functools
import ipaddress
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..demo import DEMO, GUIDANCE_SCALE
from ..embeddings.library import Library, open_library
from ..errors import AestheticError, Remedy
from ..printable import printable
from ..progress import Progress, silent
from ..settings import FIRST_PRESET, Settings
from ..spaces import Space
from . import arguments
from .command import Command
from .model import GUIDANCE_SCALE as USUAL_SCALE
from .model import add_model, load_model

if TYPE_CHECKING:
    from ..clip.image_encoder import ImageEncoder
    from ..create.sources import Source
    from ..embeddings.profiles import Picture
    from ..hosts.diffusers.generator import Generator
    from ..pages.local_page import Jobs, Order, Pair


class Ui(Command):
    name = "ui"
    help = "serve a local page with all of it"
    examples = ("ui --browser", "ui --model runwayml/stable-diffusion-v1-5 --port 7880", "ui --host ::1")
    remedies: ClassVar = {
        Remedy.IMAGE_ENCODER: "Tick 'Allow to download a missing image encoder' on the page and try again.",
        Remedy.DOWNLOAD: "Tick 'Allow to download a missing image encoder' and try again.",
        Remedy.OVERWRITE: "Tick Overwrite, or choose another name.",
        Remedy.MEMORY: "Choose a smaller size, or compute elsewhere with --device.",
    }

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_model(parser, default=DEMO)
        parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="to serve at (default: %(default)s)")
        parser.add_argument("--port", type=arguments.port, default=7870, metavar="N", help="default: %(default)s")
        parser.add_argument("--browser", action="store_true", help="open the page in the browser")

    def run(self, args: argparse.Namespace) -> None:
        _serve(args, arguments.library_of(args))


def _serve(args: argparse.Namespace, library: Library) -> None:
    """Serve the page until it is stopped."""
    # Here, so that the other commands start without gradio.
    from ..create.looking import embedding_of
    from ..demo import world
    from ..pages import local_page as page
    from ..pages.tab import TabHost
    from ..pages.thumbs import ThumbsHost

    _check_address(args.host, args.port)
    model = load_model(args)
    model.sample_with("DDIM")
    jobs = page.Jobs()
    with tempfile.TemporaryDirectory() as examples, tempfile.TemporaryDirectory() as session:
        scale, example = USUAL_SCALE, "a portal towards other dimension"
        initial = Settings.from_mapping({"preset": FIRST_PRESET})
        if arguments.is_demo(args):
            _write_examples(Path(examples))
            library = open_library([*library.folders, examples])
            scale, example = GUIDANCE_SCALE, world.HELD_OUT[0].prompt
            # One press of the button shows what it is about.
            initial = initial.replaced({"embedding": f"{DEMO} {next(iter(world.STYLES))}"})
        # Where single pictures are that somebody wants the taste of, until the page ends.
        library = open_library([*library.folders, session])

        def keep(picture: Picture) -> str:
            name = f"this picture {picture.digest[:8]}"
            open_library([session]).save_new(embedding_of(picture, name), name, overwrite=True)
            return name

        def fetch(progress: Progress) -> None:
            with _image_encoder(model, progress, model.spaces[0], True):
                pass

        host = TabHost(
            library=lambda: library,
            spaces=lambda: model.spaces,
            encoder=lambda space, download: _image_encoder(model, jobs.progress, space, download),
            text_features=jobs.alone(model.text_features),
            picture=None,
            job=jobs.make,
            progress=jobs.progress,
            interrupt=jobs.interrupt,
            remedies=Ui.remedies,
            folders_allowed=_is_own_machine(args.host),
        )
        built = page.build(
            host,
            jobs,
            lambda order: _pair(model, library, jobs, order),
            args.ckpt,
            model.size,
            scale,
            initial,
            ThumbsHost(
                lambda: library,
                jobs.alone(functools.partial(_looked, model)),
                jobs.alone(fetch),
                keep,
                lambda: model.spaces,
                Ui.remedies,
            ),
            example,
        )
        page.launch(
            built, jobs, _bracketed(args.host), args.port, [str(folder) for folder in library.folders], args.browser
        )


def _looked(model: Generator, source: Source) -> Picture:
    """A picture with its vectors in the model's spaces for which there is an image encoder."""
    from ..create.looking import look

    with contextlib.ExitStack() as stack:
        encoders, faults = [], []
        for space in model.spaces:
            try:
                encoders.append(stack.enter_context(_image_encoder(model, silent, space, False)))
            except AestheticError as error:
                faults.append(error)
        if not encoders:
            raise faults[0]
        return look(source, encoders)


def _pair(model: Generator, library: Library, jobs: Jobs, order: Order) -> Pair:
    from ..hosts.diffusers.infotext import infotext, png
    from ..hosts.diffusers.prompts import picked, split_tags
    from ..pages.local_page import Pair

    def progress(what: str, done: int, total: int, _line: str = "") -> None:
        jobs.progress(done, total, f"{what}: step {done} of {total}")

    plain_prompt, tags = split_tags(order.prompt)
    if not order.settings.has_embedding and not order.settings.has_away and not tags:
        raise AestheticError("No aesthetic embedding is chosen.", do="Choose one in the list, or make one in the tab.")
    seed = secrets.randbelow(arguments.LARGEST_SEED + 1) if order.seed == -1 else order.seed
    prompt, chosen = picked(order.prompt, order.settings, library, seed)
    guidance = order.guidance_scale > 1
    personalising, sampling = (functools.partial(progress, what) for what in ("Personalising", "Sampling"))
    encoded = [
        model.encode(text, settings, library, order.negative_prompt, guidance, progress=personalising)
        for text, settings in ((plain_prompt, Settings()), (prompt, chosen))
    ]
    before, after = model.pictures(
        encoded, [seed, seed], order.sampling_steps, order.guidance_scale, order.width, order.height, sampling
    )
    parameters = {
        "Steps": order.sampling_steps,
        "Sampler": "DDIM",
        "CFG scale": f"{order.guidance_scale:g}",
        "Seed": seed,
        "Size": f"{after.width}x{after.height}",
        "RNG": "CPU",
    }
    plain_text = infotext(plain_prompt, order.negative_prompt, parameters)
    text = infotext(prompt, order.negative_prompt, {**parameters, **chosen.infotext(), **encoded[1].found[0]})
    return Pair(png(before, plain_text), png(after, text), encoded[1].similarities[0], text)


def _image_encoder(model: Generator, progress: Progress, space: Space, download: bool) -> ImageEncoder:
    from ..clip.image_encoder import load_encoder

    brought = model.image_encoder if space in model.spaces else None
    return load_encoder(
        space, brought or "", device=model.device, allow_download=lambda size, what: download, progress=progress
    )


def _write_examples(folder: Path) -> None:
    """Embeddings of the demonstration world's styles."""
    from ..create.pictures import save_result
    from ..demo import loading, world

    library = open_library([folder])
    loading.save_examples(library)
    with loading.load_image_encoder() as encoder:
        save_result(loading.drawn_result(encoder, world.LOOKS), library, loading.CENTRE, loading.NOTE)


def _check_address(address: str, port: int) -> None:
    """Before the model is loaded, which takes long.

    Raises:
        AestheticError: nothing can be served there.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does it, where a port that was just left would else count as taken.
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AestheticError(
            f"The page can't be served at {printable(address)}, port {port}.",
            f"{reason}.",
            "Choose another --port, and as --host an address of this machine.",
        ) from error


def _bracketed(address: str) -> str:
    """As it stands in a URL, which is what gradio takes for an IPv6 address."""
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _is_own_machine(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False
