"""Names and texts from outside, as they may be shown to people, sent as JSON and written to a terminal."""

from __future__ import annotations

import unicodedata

# Control characters, halves of characters, and ends of lines and paragraphs.
_NEVER_SHOWN = {"Cc", "Cs", "Zl", "Zp"}
# They turn the order of what follows round, so that "gpj.exe" reads as "exe.jpg".
_TURNING = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def printable(text: str) -> str:
    """The text with everything that can't be shown, or would act on what shows it, as an escape.

    Bytes of a file name that are not UTF-8 (surrogate escapes) become ``\\xe9``, control
    characters ``\\x1b``. What comes out can always be encoded.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if unicodedata.category(character) not in _NEVER_SHOWN and code not in _TURNING:
        return character
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as os.fsdecode writes it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
