"""The command line: ``python -m aesthetic_clip COMMAND``."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..embeddings.presets import PresetFile, offer
from ..errors import AestheticError, Interrupted, Remedy, first_line
from . import arguments, terminal
from .command import Command
from .create import Create
from .demo import Demo
from .download import Download
from .encode import Encode
from .export import Export
from .gen_aesthetic_embedding import GenAestheticEmbedding
from .inspect import Inspect
from .list import List
from .merge import Merge
from .mix import Mix
from .taste import Taste
from .txt2img import Txt2Img
from .ui import Ui

PROGRAM = "python -m aesthetic_clip"
_COMMANDS: tuple[Command, ...] = (
    Demo(),
    Ui(),
    Create(),
    GenAestheticEmbedding(),
    Taste(),
    Merge(),
    List(),
    Inspect(),
    Mix(),
    Export(),
    Download(),
    Txt2Img(),
    Encode(),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _COMMANDS}

REMEDIES = {
    Remedy.TEXT_PROJECTION: "Download model.safetensors of openai/clip-vit-large-patch14, put it anywhere, "
    "and name it with --text_tower.",
    Remedy.IMAGE_ENCODER: "Name its folder or file with --encoder, or allow to download one with --yes.",
    Remedy.DOWNLOAD: "Allow it with --yes.",
    Remedy.MEMORY: "Choose a smaller model, or compute elsewhere with --device.",
    Remedy.OVERWRITE: "Choose another name, or replace what is there with --overwrite.",
}
_FAULT, _UNEXPECTED, _STOPPED = 2, 1, 130
_WIDTH = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0; 2 for a fault that was explained on stderr; 130 when interrupted; 1 for anything else,
        such as a reader of the output that went away.
    """
    terminal.prepare()
    args = _parser().parse_args(argv)
    command: Command = args.command
    try:
        offer(PresetFile(lambda: arguments.library_of(args).folders[0]))
        command.run(args)
        terminal.flush()
    except BrokenPipeError:
        terminal.abandon_output()
        return _UNEXPECTED
    except (AestheticError, Interrupted, KeyboardInterrupt, Exception) as error:
        if args.debug:
            raise
        return _told(command, error)
    return 0


def _told(command: Command, error: BaseException) -> int:
    """Print what is to be said of a fault, in one line."""
    if isinstance(error, AestheticError):
        terminal.tell(error.told({**REMEDIES, **command.remedies}))
        return _FAULT
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        terminal.tell(str(error) or "Stopped; nothing was saved.")
        return _STOPPED
    terminal.tell(
        f"{PROGRAM} {command.name} failed unexpectedly. {type(error).__name__}: {first_line(error)}. "
        "Give --debug as well to see where, and report it with that."
    )
    return _UNEXPECTED


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        # It quotes arguments, which may come from outside by a wildcard.
        lines = [terminal.shown(line) for line in message.split("\n")]
        super()._print_message("\n".join(lines), file)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Names a flag of several words once, though it may be written in two ways."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        spellings = action.option_strings
        action.option_strings = list({s.replace("-", "_"): s for s in spellings[::-1]}.values())[::-1]
        try:
            return super()._format_action_invocation(action)
        finally:
            action.option_strings = spellings


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    arguments.add_library(common)
    common.add_argument("--debug", action="store_true", help="show where in the program a fault arose")
    parser = _Parser(PROGRAM, description="Aesthetic embeddings of CLIP.", formatter_class=_Help)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            parents=[common],
            help=command.help,
            usage=f"{PROGRAM} {name} {command.usage}".rstrip() + " [flags]",
            description=_described(command),
            epilog=_examples(command),
            formatter_class=_Help,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(command=command)
    return parser


def _described(command: Command) -> str:
    paragraphs = [f"{command.help[0].upper()}{command.help[1:]}.", *command.details.strip().split("\n\n")]
    return "\n\n".join(textwrap.fill(" ".join(paragraph.split()), _WIDTH) for paragraph in paragraphs if paragraph)


def _examples(command: Command) -> str:
    lines = ["examples:"]
    for example in command.examples:
        line = f"  {PROGRAM}"
        for word in shlex.split(example, posix=False):
            if len(line) + len(word) > _WIDTH - 2:
                lines.append(line + " \\")
                line = "     "
            line += f" {word}"
        lines.append(line)
    return "\n".join(lines)
