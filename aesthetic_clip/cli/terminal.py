"""What is printed, asked and shown in the terminal.

Names, notes and file names come from anywhere, and a terminal obeys what it is sent: everything
from outside goes through :func:`shown`, which :func:`say` and the command line's own messages use.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import TextIO

from ..errors import AestheticError

# Of the invisible characters only the joiners belong to words and pictures; the others steer: bidi overrides, tags.
_JOINERS = "\u200c\u200d"
_STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
_CLOSED = (errno.EPIPE, errno.EINVAL)  # the second one on Windows


def shown(text: object) -> str:
    """A text as one line that a terminal only shows: control sequences, bidi overrides and surrogates as escapes."""
    return "".join(
        character
        if character in _JOINERS or unicodedata.category(character) not in _STEERING
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in str(text)
    )


def say(text: object = "") -> None:
    """Print a line of a command's output.

    Raises:
        BrokenPipeError: nobody reads on.
        AestheticError: the output can't be written, for example on a full disk.
    """
    _write(sys.stdout, text)


def tell(text: object) -> None:
    """Print a line for people, beside the output."""
    with contextlib.suppress(OSError, AestheticError):  # there is nobody left to be told
        _write(sys.stderr, text)


def flush() -> None:
    """Write what is still held back of the output; raises as :func:`say` does."""
    with _explained():
        if sys.stdout is not None:
            sys.stdout.flush()


def _write(stream: TextIO | None, text: object) -> None:
    if stream is not None:  # a program without a console has none
        with _explained():
            print(shown(text), file=stream)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _CLOSED:
            raise BrokenPipeError(errno.EPIPE, "closed") from error
        raise AestheticError(
            "The output can't be written.", f"{error.strerror or error}.", "Free some space, or write it elsewhere."
        ) from error


def prepare() -> None:
    """Let no letter that the console does not know end a command, and print what the package logs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    logger = logging.getLogger("aesthetic_clip")
    if not any(isinstance(handler, _Console) for handler in logger.handlers):
        logger.addHandler(_Console())
    logger.setLevel(logging.INFO)
    logger.propagate = False


class _Console(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(record.getMessage())


def abandon_output() -> None:
    """After a broken pipe: nothing more is written, at the interpreter's end either."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def bar(unit: str, **options: object) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, as a function of what is done and what there is in all."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda *_: None
        return
    with tqdm(unit=unit, disable=None, **options) as bar_:

        def progress(done: int, total: int, line: str = "") -> None:
            if not total:  # nothing to measure yet
                bar_.set_description_str(shown(line))
                return
            bar_.total = total
            bar_.update(done - bar_.n)

        yield progress


def agreed(size: int, what: str, yes: bool) -> bool:
    """Whether a download of ``size`` bytes is wanted: by the option ``--yes``, or by an answer."""
    if yes:
        return True
    if sys.stdin is None or not sys.stdin.isatty():
        tell(f"{what} ({size / 1e9:.1f} GB) would have to be downloaded; agree with --yes.")
        return False
    try:
        return input(f"Download {shown(what)}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
