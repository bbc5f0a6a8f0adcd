"""JSON out of files from outside, with bounds on what it may cost."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .faults import UnreadableFile

# A container costs Python about 64 bytes and may take one byte of text.
MOST_CONTAINERS = 100_000
MOST_VALUES = 400_000
_LONGEST_NUMBER = 30


def parse_json(data: bytes | bytearray, what: str, at_most: int = 2 * 2**20) -> Any:
    """The value of a JSON text.

    Args:
        data: UTF-8.
        what: what to call it in a sentence.
        at_most: bytes.

    Raises:
        UnreadableFile: too long, too deep, too many values, numbers that are none, a name that stands twice, or no JSON.
    """
    if len(data) > at_most:
        raise UnreadableFile(f"Its {what} is larger than {at_most // 1024} KB.")
    if data.count(b"{") + data.count(b"[") > MOST_CONTAINERS:
        raise UnreadableFile(f"Its {what} has more than {MOST_CONTAINERS} values within each other.")
    if data.count(b",") > MOST_VALUES:
        raise UnreadableFile(f"Its {what} has more than {MOST_VALUES} values.")
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_no_number,
            object_pairs_hook=_unambiguous,
        )
    except RecursionError:
        raise UnreadableFile(f"Its {what} is nested too deeply.") from None
    except ValueError:
        raise UnreadableFile(f"Its {what} is damaged.") from None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers would take one of the two values each.
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice")
    return values


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("the number is too long")
    return int(text)


def _float(text: str) -> float:
    if len(text) > 10 * _LONGEST_NUMBER:
        raise ValueError("the number is too long")
    return float(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
