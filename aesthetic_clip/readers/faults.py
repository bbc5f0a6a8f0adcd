"""What is wrong with a file, and what it really is if it is not what its name says."""

from __future__ import annotations

from typing import BinaryIO

from ..printable import printable

_AGAIN = "Copy or download it again."


class UnreadableFile(Exception):
    """A file that can't be used: why, and what to do about it, each a full sentence."""

    def __init__(self, why: str, do: str = _AGAIN) -> None:
        self.why, self.do = why, do
        super().__init__(f"{why} {do}")


class Executable(UnreadableFile):
    """A file that could run code if it were opened the usual way."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"It {what}; that could run code, and was not executed.",
            "Get it from a source that you trust, best as .safetensors.",
        )


def quoted(value: object, longest: int = 60) -> str:
    """A name out of a file for a sentence: short, on one line, with nothing that a terminal obeys.

    Whatever is no text is only called by its type: showing a hostile container can take for ever.
    """
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    text = printable(value[:longest])
    return f"'{text}…'" if len(value) > longest else f"'{text}'"


_ORIGINAL = "Get the file itself from where it comes from."
# What a file begins with, what it is then, and what to do about it.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG", "a PNG picture", _ORIGINAL),
    (b"\xff\xd8\xff", "a JPEG picture", _ORIGINAL),
    (b"GIF8", "a GIF picture", _ORIGINAL),
    (b"%PDF", "a PDF document", _ORIGINAL),
    (b"\x1f\x8b", "a gzip archive", "Unpack it, and take the file in it."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it, and take the file in it."),
    (b"Rar!", "a RAR archive", "Unpack it, and take the file in it."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it, and take the file in it."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it, and take the file in it."),
    (b"\x93NUMPY", "a .npy file of numpy", "Make an embedding of it with create --from-npy."),
    (b"PAR1", "a parquet table", _ORIGINAL),
    (b"GGUF", "a GGUF model", "Get the same model as .safetensors."),
    (b"\x7fELF", "a program", _ORIGINAL),
    (b"MZ", "a program", _ORIGINAL),
    (b"SQLite format 3", "a database", _ORIGINAL),
    (b"\x89HDF", "an HDF5 file", "Get the same model as .safetensors."),
)


def refuse_other_kinds(head: bytes, size: int) -> None:
    """Refuse what is evidently something else than tensors, by its first few hundred bytes.

    Raises:
        UnreadableFile: it is, with what it is.
    """
    if not size:
        raise UnreadableFile("It is empty.")
    for beginning, what, do in _BEGINNINGS:
        if head.startswith(beginning):
            raise UnreadableFile(f"It is {what}.", do)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        raise UnreadableFile("It is a WebP picture.", _ORIGINAL)
    if head[257:262] == b"ustar":
        raise UnreadableFile("It is a tar archive.", "Get the same model as .safetensors.")
    if head.startswith(b"version https://git-lfs"):
        raise UnreadableFile(
            "It is a git-lfs pointer: a few lines that stand for the real file.",
            "Run git lfs pull where it was cloned, or download the file itself from its web page.",
        )
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        raise UnreadableFile(
            "It is a web page, often what a site shows instead of a download.",
            "Download the file itself, after logging in or accepting the terms if the site asks for that.",
        )
    if text[:1] in (b"{", b"["):
        raise UnreadableFile(
            "It is a JSON text.", "Download the file itself: the site may have answered with an error."
        )
    if not any(head):
        raise UnreadableFile("It holds nothing but zeros, as an interrupted download leaves it.")
    if not set(head) - set(range(32, 127)) - {9, 10, 13}:
        raise UnreadableFile("It is a text.", _ORIGINAL)


def read_exactly(file: BinaryIO, at: int, length: int) -> bytearray:
    """``length`` bytes from a place in a file.

    Raises:
        UnreadableFile: the file ends before.
    """
    data = bytearray(length)
    file.seek(at)
    # A file that was opened for reading gives as much as there is at once, or less at its end.
    if file.readinto(data) != length:  # type: ignore[attr-defined]
        raise UnreadableFile("It is cut off: a part of the file is missing.")
    return data
