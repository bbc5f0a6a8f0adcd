"""What is known of an embedding beside its vectors: the text that travels in its file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from ..printable import printable
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json

MOST_ENTRIES = 100
LONGEST_VALUE = 10_000
LONGEST_KEY = 100
_LONGEST_SHOWN = 200
_PIECES = re.compile(r"([\n\t])")


def source_hash(names: Iterable[str]) -> str:
    """64 hex digits for what an embedding was made from: the same for one set of sources however it was divided up.

    It is the sum of the names' SHA-256, modulo 2^256, so that neither their order matters nor how many they are.

    Args:
        names: of all sources, as often as each is there; of a file only its own name, since machines may have its
            folder at different places.
    """
    total = 0
    for name in names:
        total += int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest(), "big")
    return f"{total % 2**256:064x}"


class Groups(NamedTuple):
    """The two groups that a pile of pictures falls into most easily, as every pile does.

    Attributes:
        sizes: pictures of each, the larger one first.
        within: mean cosine of two different pictures of each.
        across: mean cosine of pictures of the two.
    """

    sizes: tuple[int, int]
    within: tuple[float, float]
    across: float

    def __str__(self) -> str:
        numbers = (*self.sizes, *(f"{cosine:.4f}" for cosine in (*self.within, self.across)))
        return " ".join(map(str, numbers))


class Metadata(Mapping[str, str]):
    """Texts by name, harmless to show: no character that a terminal obeys, no value beyond ``LONGEST_VALUE``.

    The names that this package writes are properties here, with their types; a file may hold others, which are kept.
    Texts stay as they are in the file otherwise, so they have to be escaped for HTML like any other.

    Args:
        text: as it is in a file; what is harmful in it becomes an escape, what is too much is cut.
    """

    def __init__(self, text: Mapping[str, str] | None = None) -> None:
        entries = list((text or {}).items())[:MOST_ENTRIES]
        self._text = {_clean(key, LONGEST_KEY): _clean(value, LONGEST_VALUE) for key, value in entries}

    def __getitem__(self, key: str) -> str:
        return self._text[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._text)

    def __len__(self) -> int:
        return len(self._text)

    def __repr__(self) -> str:
        return f"Metadata({self._text!r})"

    def __hash__(self) -> int:
        return hash(frozenset(self._text.items()))

    @classmethod
    def of_mean(
        cls,
        *,
        images: int,
        raw: bool,
        sources: str,
        model_ids: Mapping[str, str],
        mean_cosine: float | None = None,
        complete: bool = True,
        groups: Groups | None = None,
        note: str = "",
    ) -> Metadata:
        """Of an embedding that is the mean of image features.

        Args:
            images: how many.
            raw: features as they come instead of unit vectors.
            sources: their :func:`source_hash`.
            model_ids: which encoder made the features, by the name of its CLIP space, where that is known.
            mean_cosine: of the images to their mean, in the first space, where that is known.
            complete: all of the sources are in it.
            groups: those that the images fall into in the first space, where that is known.
            note: the user's own words.
        """
        text = {
            "created": now(),
            "image_count": str(images),
            "source_hash": sources,
            "raw": str(raw).lower(),
        }
        if model_ids:
            text["model_id"] = json.dumps(dict(model_ids))
        if mean_cosine is not None:
            text["mean_cosine"] = f"{mean_cosine:.4f}"
        if not complete:
            text["complete"] = "false"
        if groups is not None:
            text["groups"] = str(groups)
        return cls(text).with_note(note)

    @classmethod
    def of_mixture(cls, ingredients: Sequence[tuple[str, float]], note: str = "") -> Metadata:
        """Of a weighted sum of embeddings, given as (name, weight)."""
        mixed_from = " ".join(f"{name}:{weight:g}" for name, weight in ingredients)
        return cls({"created": now(), "mixed_from": mixed_from}).with_note(note)

    @classmethod
    def of_profile(
        cls,
        *,
        profile: str,
        created: str,
        liked: int,
        disliked: int,
        sources: str,
        model_ids: Mapping[str, str],
        mean_cosine: float,
        note: str = "",
    ) -> Metadata:
        """Of a taste profile as it is now; the same for the same pictures, whatever came and went in between.

        Args:
            profile: its id, by which its pictures are found.
            created: when it was begun, ISO 8601.
            liked, disliked: how many pictures.
            sources: their :func:`source_hash`.
            model_ids: which encoder made the features, by the name of its CLIP space.
            mean_cosine: of the liked to their mean, in the first space.
            note: the user's own words.
        """
        text = {
            "created": created,
            "image_count": str(liked + disliked),
            "liked": str(liked),
            "disliked": str(disliked),
            "source_hash": sources,
            "raw": "false",
            "model_id": json.dumps(dict(model_ids)),
            "mean_cosine": f"{mean_cosine:.4f}",
            "profile": profile,
        }
        return cls(text).with_note(note)

    def with_note(self, note: str) -> Metadata:
        """With the user's own words, if there are any."""
        return Metadata({**self._text, "note": note.strip()}) if note.strip() else self

    @property
    def shown(self) -> dict[str, str]:
        """For a table or a terminal: each value on one line, cut where it is long."""
        return {
            " ".join(key.split()): line
            if len(line := " ".join(value.split())) <= _LONGEST_SHOWN
            else f"{line[:_LONGEST_SHOWN]}…"
            for key, value in self._text.items()
        }

    @property
    def created(self) -> str:
        """ISO 8601, or empty."""
        return self._text.get("created", "")

    @property
    def note(self) -> str:
        return self._text.get("note", "")

    @property
    def source_hash(self) -> str:
        """See :func:`source_hash`; embeddings made by version 1.0 hold other digests."""
        return self._text.get("source_hash", "")

    @property
    def image_count(self) -> int | None:
        return self._number("image_count")

    @property
    def profile(self) -> str:
        """The id of the taste profile that it is; empty if it is none."""
        text = self._text.get("profile", "")
        return text if re.fullmatch(r"[0-9a-f]{16}", text) else ""

    @property
    def liked(self) -> int | None:
        """Pictures of a taste profile."""
        return self._number("liked")

    @property
    def disliked(self) -> int | None:
        """Pictures of a taste profile."""
        return self._number("disliked")

    def _number(self, key: str) -> int | None:
        text = self._text.get(key, "")
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    @property
    def mean_cosine(self) -> float | None:
        try:
            value = float(self._text["mean_cosine"])
        except (KeyError, ValueError):
            return None
        return value if math.isfinite(value) else None

    @property
    def groups(self) -> Groups | None:
        """Those that the images fall into, in the first space."""
        found = re.fullmatch(r"(\d{1,18}) (\d{1,18})" + r" (-?[01]\.\d{4})" * 3, self._text.get("groups", ""), re.ASCII)
        if found is None or "0" in (found[1], found[2]):
            return None
        return Groups((int(found[1]), int(found[2])), (float(found[3]), float(found[4])), float(found[5]))

    @property
    def raw(self) -> bool | None:
        return {"true": True, "false": False}.get(self._text.get("raw", ""))

    @property
    def complete(self) -> bool:
        return self._text.get("complete") != "false"

    @property
    def model_ids(self) -> dict[str, str]:
        """Which encoder made the features, by the name of its CLIP space."""
        try:
            found = parse_json(self._text.get("model_id", "{}").encode(), "model_id", LONGEST_VALUE * 4)
        except UnreadableFile:
            return {}
        return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _clean(text: str, longest: int) -> str:
    # Lines and tabs are a note's own.
    text = "".join(piece if piece in "\n\t" else printable(piece) for piece in _PIECES.split(text[: longest + 1]))
    return text if len(text) <= longest else text[: longest - 1] + "…"


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
