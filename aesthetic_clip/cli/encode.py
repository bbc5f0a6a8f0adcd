"""``encode``: prompt embeddings as a file, for other programs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import ClassVar

from ..errors import AestheticError, Remedy
from ..files import write_atomically
from ..settings import Settings
from . import arguments
from .command import Command
from .knobs import knob_arguments, settings_of
from .model import PAPERS_MODEL, add_model, add_prompts, encode, load_model, prompts_of
from .terminal import say

_OF_THE_SAMPLING = ("guidance_start", "guidance_end")
"""Knobs that a file of prompt embeddings can't carry."""


class Encode(Command):
    name = "encode"
    help = "encode prompts for other programs"
    details = """
        Writes the tensors by the names of a diffusers pipeline's arguments (prompt_embeds …), one row per prompt.
    """
    usage = "--prompt PROMPT --output FILE"
    examples = (
        "encode --prompt 'a portal' --aesthetic_embedding sac_8plus --output portal.safetensors",
        "encode --ckpt demo --from-file prompts.txt --output prompts.safetensors",
    )
    remedies: ClassVar = {Remedy.OVERWRITE: "Choose another file, or replace it with --overwrite."}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_prompts(parser)
        add_model(parser, PAPERS_MODEL)
        knob_arguments(parser, leave_out=_OF_THE_SAMPLING)
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FILE", help="where to write them, a .safetensors"
        )
        parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")

    def run(self, args: argparse.Namespace) -> None:
        if args.output.suffix != ".safetensors" or args.output.is_dir():
            raise AestheticError(
                f"Prompt embeddings can't be written to {args.output}.",
                "The file has to be a .safetensors.",
                "Give --output a name that ends so.",
            )
        if args.output.exists() and not args.overwrite:
            raise AestheticError(f"There is already something at {args.output}.", remedy=Remedy.OVERWRITE)
        library = arguments.library_of(args)
        settings = settings_of(args, Settings(), leave_out=_OF_THE_SAMPLING)
        arguments.try_folder(args.output.absolute().parent)
        from ..hosts.diffusers.prompts import picked

        # Where names leave a choice, as of seed 0: there are no pictures yet.
        prompts = [picked(prompt, settings, library, 0)[0] for prompt in prompts_of(args)]
        settings = picked("", settings, library, 0)[1]
        encoded = encode(load_model(args), args, prompts, settings, library)
        metadata = {
            "prompts": json.dumps(prompts, ensure_ascii=False),
            "negative_prompt": args.negative_prompt,
            "model": args.ckpt,
            **{key: str(value) for key, value in settings.infotext().items()},
            # What differs from prompt to prompt, in their order.
            "found": json.dumps(encoded.found),
            "similarities": json.dumps(encoded.similarities),
        }
        import safetensors.torch

        tensors = {name: tensor.contiguous().cpu() for name, tensor in encoded.tensors().items()}
        write_atomically(args.output, safetensors.torch.save(tensors, metadata))
        say(args.output)
