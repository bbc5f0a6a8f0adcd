"""What stands in a picture file beside its pixels: bounded before Pillow reads it, or left out where it does no harm.

Pillow keeps whatever a file holds before its pixels, joins the comments of a GIF in a
time that grows with their square, makes an object of every number in a TIFF's tags,
and gives up a PNG for a colour profile that unpacks to more than 1 MB.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MOST_BYTES = 32 * 2**20
MOST_GIF_BYTES = 2**20
MOST_TIFF_NUMBERS = 2**20

_PNG = b"\x89PNG\r\n\x1a\n"
# Pixels, palette, transparency and orientation.
_PNG_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"}
_PNG_MOST_CHUNKS = 500_000
_TIFF_HEADS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
# Bytes of an item of each type, and which of them are texts or plain bytes.
_TIFF_ITEM = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_TEXT = {1, 2, 6, 7}


class Refused(Exception):
    """A picture that is not read; the text is the reason, as the rest of a sentence that begins with its name."""


def lightened(file: BinaryIO) -> BinaryIO:
    """The file, or a copy of what a PNG's pixels need where it holds far more than that.

    Raises:
        Refused: reading what stands before the pixels would take more than a picture is worth.
    """
    file.seek(0)
    head = file.read(8)
    most, told = MOST_BYTES, f"{MOST_BYTES >> 20} MB"
    if head == _PNG:
        before = itertools.takewhile(lambda chunk: chunk.name != b"IDAT", _png_chunks(file))
        return file if sum(chunk.length for chunk in before) <= MOST_BYTES else bare_png(file) or file
    if head.startswith(b"GIF8"):
        most, told = MOST_GIF_BYTES, f"{MOST_GIF_BYTES >> 20} MB"
        sizes = _gif_blocks(file)
    elif head.startswith(b"\xff\xd8"):
        sizes = _jpeg_segments(file)
    elif head[:4] in _TIFF_HEADS:
        sizes = _tiff_tags(file, _TIFF_HEADS[head[:4]], head[2:3] == b"+" or head[3:4] == b"+")
    else:
        return file
    total = 0
    for size in sizes:
        total += size
        if total > most:
            raise Refused(f"it holds more than {told} that is no picture")
    return file


def bare_png(file: BinaryIO) -> io.BytesIO | None:
    """A PNG without colour profile, texts and all else that its pixels don't need; None of other files."""
    file.seek(0)
    if file.read(8) != _PNG:
        return None
    bare = io.BytesIO()
    bare.write(_PNG)
    for chunk in itertools.islice(_png_chunks(file), _PNG_MOST_CHUNKS):
        if chunk.name in _PNG_NEEDED and (chunk.name != b"eXIf" or chunk.length <= 2**20):
            file.seek(chunk.start)
            bare.write(file.read(chunk.length + 12))
    return bare


class _Chunk(NamedTuple):
    name: bytes
    start: int
    length: int


def _png_chunks(file: BinaryIO) -> Iterator[_Chunk]:
    place = len(_PNG)
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[:4], "big")
        yield _Chunk(head[4:], place, length)
        if head[4:] == b"IEND":
            return
        place += length + 12


def _jpeg_segments(file: BinaryIO) -> Iterator[int]:
    """Sizes of the segments before the first scan."""
    file.seek(2)
    while True:
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] == 0xDA:
            return
        if marker[1] == 0xFF:  # padding
            file.seek(-1, os.SEEK_CUR)
            yield 1
            continue
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD8:
            yield 2
            continue
        length = int.from_bytes(file.read(2), "big")
        file.seek(max(length - 2, 0), os.SEEK_CUR)
        yield length + 2


def _gif_blocks(file: BinaryIO) -> Iterator[int]:
    """Sizes of the blocks of the extensions before the first frame."""
    file.seek(10)
    flags = file.read(1)
    if not flags:
        return
    file.seek(13 + (3 << (flags[0] & 7) + 1 if flags[0] & 0x80 else 0))
    while True:
        introducer = file.read(1)
        if introducer in (b"", b",", b";"):
            return
        yield 1
        if introducer == b"!":
            file.read(1)
            while length := file.read(1)[:1]:
                if length == b"\0":
                    break
                file.seek(length[0], os.SEEK_CUR)
                yield length[0] + 1


def _tiff_tags(file: BinaryIO, order: str, big: bool) -> Iterator[int]:
    """Sizes of the values of the first directory's tags.

    Raises:
        Refused: one of them lists more numbers than any picture needs.
    """
    size = file.seek(0, os.SEEK_END)
    offset, number, entry = (
        (f"{order}Q", f"{order}Q", f"{order}HHQ") if big else (f"{order}I", f"{order}H", f"{order}HHI")
    )
    file.seek(8 if big else 4)
    try:
        file.seek(struct.unpack(offset, file.read(struct.calcsize(offset)))[0])
        (count,) = struct.unpack(number, file.read(struct.calcsize(number)))
        for _ in range(count):
            _, kind, items = struct.unpack(entry, file.read(struct.calcsize(entry)))
            file.seek(struct.calcsize(offset), os.SEEK_CUR)
            length = items * _TIFF_ITEM.get(kind, 0)
            if length > size:  # Pillow passes over what the file can't hold
                continue
            if kind not in _TIFF_TEXT and items > MOST_TIFF_NUMBERS:
                raise Refused(f"one of its tags lists {items} numbers")
            yield length
    except (struct.error, OverflowError, ValueError, OSError):  # Pillow says what is the matter with it
        return
