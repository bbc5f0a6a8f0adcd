"""What a command is. Each has a file and a class of its own in this room; ``main.COMMANDS`` lists them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import ClassVar

from ..errors import Remedy


class Command:
    """One subcommand.

    Attributes:
        name: how it is called.
        help: what it does, in a line.
        usage: what has to be given, as one types it.
        details: more for its own help, if there is more to say.
        examples: command lines as one types them behind ``python -m aesthetic_clip``.
        remedies: ways out of a fault that this command calls differently than the others.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    usage: ClassVar[str] = ""
    details: ClassVar[str] = ""
    examples: ClassVar[Sequence[str]]
    remedies: ClassVar[Mapping[Remedy, str]] = {}

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what it takes."""
        raise NotImplementedError

    def run(self, args: argparse.Namespace) -> None:
        """Do it.

        Raises:
            AestheticError: a fault, which is printed.
            Interrupted, KeyboardInterrupt: stopped; a text of the first one is printed.
        """
        raise NotImplementedError
