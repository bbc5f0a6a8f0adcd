"""A flag for every knob, from the table, and the settings that the flags say."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

from ..errors import AestheticError
from ..settings import KNOBS, Kind, Knob, Settings

_PREFIX = "aesthetic_"
_T = TypeVar("_T")
_Settings = TypeVar("_Settings", bound=Settings)


def knob_arguments(
    parser: argparse.ArgumentParser,
    leave_out: Container[str] = (),
    knobs: Sequence[Knob] = KNOBS,
    initial: Settings | None = None,
) -> None:
    """Add a flag for every knob, but for those that a command has in another form.

    Args:
        parser: of the command.
        leave_out: names of knobs without a flag.
        knobs: the table.
        initial: what holds where nothing is said, for the help; None is the table's.
    """
    group = parser.add_argument_group("aesthetic gradients")
    for knob in knobs:
        if knob.name not in leave_out:
            _add(group, knob, getattr(initial, knob.name, knob.default))


def settings_of(args: argparse.Namespace, initial: _Settings, leave_out: Container[str] = ()) -> _Settings:
    """``initial`` with what the flags say."""
    return initial.replaced(
        {
            knob.name: getattr(args, _PREFIX + knob.name)
            for knob in initial.knobs()
            if knob.name not in leave_out and hasattr(args, _PREFIX + knob.name)
        }
    )


def flag(parser: argparse._ActionsContainer, name: str, *short: str, **options: Any) -> None:
    """A flag of several words, with underscores as in the paper's script, or with dashes; and what else it is called."""
    parser.add_argument(*dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}", *short)), **options)


def _add(group: argparse._ActionsContainer, knob: Knob, default: object) -> None:
    # What is not said leaves no trace, so that a choice can bring it along.
    name, options = _PREFIX + knob.name, {"default": argparse.SUPPRESS, "help": _help(knob, default)}
    if knob.kind is Kind.SWITCH:
        flag(group, name, action="store_true", **options)
    elif knob.kind is Kind.CHOICE:
        # Read when it is used: which of the user's own there are depends on another flag.
        flag(group, name, f"--{knob.name}", metavar="NAME", **options)
    else:
        flag(group, name, type=functools.partial(parsed, knob.parse), metavar="VALUE", **options)


def _help(knob: Knob, default: object) -> str:
    text = knob.help
    if knob.range:
        text += f" ({knob.range}; default: {knob.write(default)})"
    if knob.names_embedding:
        text += " A name in the library, or the path of a file."
    return text.replace("%", "%%")


def parsed(parse: Callable[[str], _T], text: str) -> _T:
    """``parse`` as a type for argparse: what it refuses is told as wrong usage."""
    try:
        return parse(text)
    except AestheticError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
