"""The members of a zip that lie in it as they are, which is how torch writes them.

``zipfile`` reads as much directory as the file says there is, and unpacks as much as comes. Here the
directory has a bound, and compressed members can't be read at all: nothing has to be unpacked.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from .faults import UnreadableFile, quoted, read_exactly

START = b"PK\x03\x04"
_DIRECTORY_BYTES = 4 * 2**20
_MEMBERS = 30_000
_LONGEST_NAME = 512
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_UNKNOWN16, _UNKNOWN32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True)
class Member:
    """A member: where its own header begins, how many bytes it has, their CRC-32, whether they lie there as they are."""

    at: int
    size: int
    crc: int
    stored: bool


class StoredZip:
    """The directory of a zip file.

    Attributes:
        members: by name.

    Raises:
        UnreadableFile: no whole zip, or one whose directory is larger than any model's.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        start, length, count = self._end()
        if length > _DIRECTORY_BYTES or count > _MEMBERS:
            raise UnreadableFile(f"Its list of members is larger than any model's ({count} members).")
        if start + length > size:
            raise _damaged()
        self.members = self._directory(bytes(read_exactly(file, start, length)), count)
        if sum(member.size for member in self.members.values() if member.stored) > size:
            raise UnreadableFile("Its members claim more bytes than the file has.")

    def _end(self) -> tuple[int, int, int]:
        """Where the directory begins, its bytes and its entries."""
        length = min(self._size, 22 + 0xFFFF)
        tail = bytes(read_exactly(self._file, self._size - length, length))
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < 22:
            raise UnreadableFile("It is cut off: the end of the zip archive is missing.")
        count, size, start = struct.unpack_from("<HII", tail, at + 10)
        if count == _UNKNOWN16 or _UNKNOWN32 in (size, start):
            if at < 20 or tail[at - 20 : at - 16] != _LOCATOR64:
                raise _damaged()
            (place,) = struct.unpack_from("<Q", tail, at - 12)
            if place + 56 > self._size:
                raise _damaged()
            end = bytes(read_exactly(self._file, place, 56))
            if end[:4] != _END64:
                raise _damaged()
            count, size, start = struct.unpack_from("<QQQ", end, 32)
        return start, size, count

    @staticmethod
    def _directory(data: bytes, count: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        at = 0
        for _ in range(count):
            if data[at : at + 4] != b"PK\x01\x02" or len(data) - at < 46:
                raise _damaged()
            flags, method, crc, packed, size, names, extras, comments = struct.unpack_from("<HH4xIIIHHH", data, at + 8)
            (place,) = struct.unpack_from("<I", data, at + 42)
            raw = data[at + 46 : at + 46 + names]
            extra = data[at + 46 + names : at + 46 + names + extras]
            at += 46 + names + extras + comments
            if at > len(data) or names > _LONGEST_NAME:
                raise _damaged()
            size, packed, place = _wide(size, packed, place, extra)
            name = raw.decode("utf-8", "replace")
            if name in members:
                raise UnreadableFile(f"It holds {quoted(name)} twice.")
            members[name] = Member(place, size, crc, method == 0 and size == packed and not flags & 1)
        return members

    def read(self, name: str, at_most: int) -> bytearray:
        """A member's bytes.

        Raises:
            UnreadableFile: there is none, it is compressed, larger than that, or damaged.
        """
        member = self.members.get(name)
        if member is None:
            raise UnreadableFile(f"Its member {quoted(name)} is missing.")
        if not member.stored:
            raise UnreadableFile(
                f"Its member {quoted(name)} is compressed, which torch never does.", "Save it again with torch.save."
            )
        if member.size > at_most:
            raise UnreadableFile(f"Its member {quoted(name)} has {member.size / 2**20:.0f} MB, which is too much.")
        header = bytes(read_exactly(self._file, member.at, 30)) if member.at + 30 <= self._size else b""
        if header[:4] != START:
            raise _damaged()
        names, extras = struct.unpack_from("<HH", header, 26)
        start = member.at + 30 + names + extras
        if bytes(read_exactly(self._file, member.at + 30, names)).decode("utf-8", "replace") != name:
            raise _damaged()
        if start + member.size > self._size:
            raise UnreadableFile("It is cut off: a part of the file is missing.")
        data = read_exactly(self._file, start, member.size)
        if zlib.crc32(data) != member.crc:
            raise UnreadableFile(f"It is damaged: {quoted(name)} has another checksum than it should have.")
        return data


def _wide(size: int, packed: int, place: int, extra: bytes) -> tuple[int, int, int]:
    """The three numbers, with those that need more than 32 bits taken from the extra field."""
    numbers = [size, packed, place]
    at = 0
    while len(extra) - at >= 4:
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            for index, number in enumerate(numbers):
                if number == _UNKNOWN32 and len(field) >= 8:
                    numbers[index], field = int.from_bytes(field[:8], "little"), field[8:]
        at += 4 + length
    return numbers[0], numbers[1], numbers[2]


def _damaged() -> UnreadableFile:
    return UnreadableFile("It is a damaged zip archive.")
