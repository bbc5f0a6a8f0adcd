"""Names of embeddings: which may be given to new ones, and how the files that are there are called."""

from __future__ import annotations

import re
import unicodedata

from ..errors import AestheticError
from ..settings import AUTOMATIC_WORDS, KNOBS, NO_EMBEDDING

# Letters, digits and the marks that some scripts put on them; the rest by name.
_WORD_CATEGORIES = ("L", "Nd", "M")
_OTHERS = " .-_"
# Letters and marks without a shape of their own: two names could look alike, or like nothing.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_WINDOWS_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\..*)?", re.IGNORECASE)
_LONGEST_NAME = 100
_LONGEST_NAME_BYTES = 200  # file systems allow 255, and suffixes come on top

_ESCAPED = re.compile(r"%([0-9A-F]{1,6});")
# Control characters, line separators, and marks that turn the direction of what follows.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# What a reader of generation parameters takes for something else than a text: a size, a quoted text.
_NOT_TEXT = re.compile(r"\d+x\d+|\".*", re.DOTALL)
_TAKEN_WORDS = {NO_EMBEDDING, *(knob.infotext for knob in KNOBS)}


def check_name(name: str) -> str:
    """A name that may become a file in an embedding folder, on every system, in Unicode's composed form (NFC).

    Raises:
        AestheticError: empty, too long, with path parts or odd characters, or reserved.
    """
    name = unicodedata.normalize("NFC", name.strip())
    odd = next(
        (
            c
            for c in name
            if _INVISIBLE.match(c) or not (c in _OTHERS or unicodedata.category(c).startswith(_WORD_CATEGORIES))
        ),
        None,
    )
    problem = ""
    if not name:
        problem = "It is empty."
    elif len(name) > _LONGEST_NAME:
        problem = f"It has {len(name)} characters, {_LONGEST_NAME} are allowed."
    elif "/" in name or "\\" in name or ".." in name:
        problem = "It has path parts, and embeddings stay in their folder."
    elif odd is not None:
        problem = f"It has {odd!r}, and only letters, digits, space, dot, dash and underscore are allowed."
    elif not unicodedata.category(name[0]).startswith(("L", "Nd")) or name[-1] in " .":
        problem = "It has to begin with a letter or a digit, and can't end with a dot."
    elif len(name.encode()) > _LONGEST_NAME_BYTES:
        problem = f"It takes {len(name.encode())} bytes, file systems allow {_LONGEST_NAME_BYTES}."
    elif _WINDOWS_DEVICES.fullmatch(unicodedata.normalize("NFKC", name)):
        problem = "Windows reserves that word for a device."
    elif name.lower() == NO_EMBEDDING.lower():
        problem = "That word stands for no embedding."
    elif name.lower() in AUTOMATIC_WORDS:
        problem = "That word stands for the mean of the others."
    elif name.lower().endswith(".preview"):
        problem = "That ending is for preview pictures."
    if problem:
        raise AestheticError(
            f"An aesthetic embedding can't be called {name!r}.", problem, "Choose a name such as 'my taste 1'."
        )
    return name


def escape(text: str, characters: str = "") -> str:
    """``text`` with these characters, unprintable ones and white space at its ends as ``%3E;``: see :func:`unescape`.

    Nothing else is changed, so that usual names stay as they are.
    """
    if "%" not in text and text == text.strip() and not _UNPRINTABLE.search(text) and not set(characters) & set(text):
        return text
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    return "".join(
        f"%{ord(c):X};"
        if not start <= i < end or c in characters or _UNPRINTABLE.match(c) or (c == "%" and _ESCAPED.match(text, i))
        else c
        for i, c in enumerate(text)
    )


def unescape(text: str) -> str:
    """The text that :func:`escape` was given."""
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)) if int(code[1], 16) < 0x110000 else code[0], text)


def listed(file_name: str) -> str:
    """How an embedding is called whose path below its folder, without suffix, this is.

    It is that path, but for the few that a list, a line of text or a picture's generation
    parameters can't carry: line breaks, spaces at the ends, the words for no embedding
    and for the mean of all, ``512x512`` (a size), quoted ones. What is in the way there is written ``%A;``.
    """
    name = escape(file_name)
    if name in _TAKEN_WORDS or name.lower() in AUTOMATIC_WORDS or _NOT_TEXT.fullmatch(name):
        name = f"%{ord(name[0]):X};{name[1:]}"
    return name
