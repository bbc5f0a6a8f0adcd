"""A flag for every knob, from the table, and the settings that the flags say."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Container, Sequence
from typing import Any, TypeVar

from ..errors import AestheticError
from ..settings import KNOBS, Kind, Knob, Settings

_PREFIX = "aesthetic_"
_Settings = TypeVar("_Settings", bound=Settings)


def knob_arguments(
    parser: argparse.ArgumentParser, leave_out: Container[str] = (), knobs: Sequence[Knob] = KNOBS
) -> None:
    """Add a flag for every knob, but for those that a command has in another form."""
    group = parser.add_argument_group("aesthetic gradients")
    for knob in knobs:
        if knob.name not in leave_out:
            _add(group, knob)


def settings_of(args: argparse.Namespace, initial: _Settings, leave_out: Container[str] = ()) -> _Settings:
    """``initial`` with what the flags say."""
    return initial.replaced(
        {
            knob.name: getattr(args, _PREFIX + knob.name)
            for knob in initial.knobs()
            if knob.name not in leave_out and hasattr(args, _PREFIX + knob.name)
        }
    )


def flag(parser: argparse._ActionsContainer, name: str, **options: Any) -> None:
    """A flag of several words, with underscores as in the paper's script, or with dashes."""
    parser.add_argument(f"--{name}", f"--{name.replace('_', '-')}", **options)


def _add(group: argparse._ActionsContainer, knob: Knob) -> None:
    # What is not said leaves no trace, so that a choice can bring it along.
    name, options = _PREFIX + knob.name, {"default": argparse.SUPPRESS, "help": _help(knob)}
    if knob.kind is Kind.SWITCH:
        flag(group, name, action="store_true", **options)
    else:
        flag(group, name, type=functools.partial(_parsed, knob), metavar="VALUE", **options)


def _help(knob: Knob) -> str:
    text = knob.help
    if knob.range:
        text += f" ({knob.range}; default: {knob.write(knob.default)})"
    if knob.names_embedding:
        text += " A name in the library, or a file."
    return text.replace("%", "%%")


def _parsed(knob: Knob, text: str) -> object:
    try:
        return knob.parse(text)
    except AestheticError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
