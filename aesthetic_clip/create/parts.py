"""Partial results: the sums of one machine's share of the images, as files that merge exactly.

A part is a ``.safetensors`` file with one float64 sum of shape (D,) per CLIP space
and, as text metadata, the number of images and which share of which sources it is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..embeddings.metadata import Metadata
from ..errors import AestheticError
from ..files import write_atomically
from ..readers.faults import UnreadableFile, quoted
from ..readers.json_text import parse_json
from ..readers.tensor_files import SAFETENSORS, open_tensors
from ..spaces import Space, space_of
from .averaging import FeatureSum

_KIND = "aesthetic part 1"
_MAX_BYTES = 2**20  # three sums have some 25 KB
_MOST_SHARDS = 1_000_000
_MOST_IMAGES = 10**12
_MOST_REASONS = 1000
_LONGEST_TEXT = 1000
_T = TypeVar("_T")


@dataclass(frozen=True)
class Shard:
    """One machine's share of a list: share ``number`` of ``of``, counted from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard from ``i/n``, e.g. ``1/4`` to ``4/4``.

        Raises:
            AestheticError: not of that form, or not within 1 to n.
        """
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
        shard = cls(*map(int, match.groups())) if match else None
        if shard is None or not 1 <= shard.number <= shard.of <= _MOST_SHARDS:
            raise AestheticError(
                f"There is no shard {quoted(text)}.",
                f"Shards are called i/n and counted from 1, up to {_MOST_SHARDS}.",
                "With four machines they are 1/4, 2/4, 3/4 and 4/4.",
            )
        return shard

    def of_list(self, items: Sequence[_T]) -> list[_T]:
        """Every n-th of the items, so that large and small ones spread evenly; the order has to be the same everywhere."""
        return list(items[self.number - 1 :: self.of])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Shard()


@dataclass(frozen=True)
class Part:
    """What a share of the sources sums up to.

    Attributes:
        sums: per CLIP space.
        sources: of the whole list that was divided up, see :func:`~aesthetic_clip.embeddings.metadata.source_hash`.
        shard: which share of it this is.
        skipped: why images did not count, and how many each.
        model_ids: which encoder made the features, where that is known.
        complete: whether no share of the list was done without.
    """

    sums: Mapping[Space, FeatureSum]
    sources: str = ""
    shard: Shard = WHOLE
    skipped: Mapping[str, int] = field(default_factory=dict)
    model_ids: Mapping[Space, str] = field(default_factory=dict)
    complete: bool = True


def save_part(part: Part, path: Path) -> None:
    """Write a part, whole or not at all.

    Raises:
        AestheticError: the folder can't be written.
    """
    facts = {
        "counts": {space.name: total.count for space, total in part.sums.items()},
        "raw": any(total.raw for total in part.sums.values()),
        "sources": part.sources,
        "shard": str(part.shard),
        "skipped": dict(part.skipped),
        "model_ids": {space.name: model_id for space, model_id in part.model_ids.items()},
    }
    tensors = {space.name: total.total for space, total in part.sums.items()}
    write_atomically(path, safetensors.torch.save(tensors, {"kind": _KIND, "part": json.dumps(facts)}))


def load_part(path: Path) -> Part:
    """Read a part.

    Raises:
        AestheticError: missing, damaged, or another kind of file.
    """
    subject = f"The partial result {path.name} can't be read."
    try:
        with open_tensors(path) as file:
            if file.kind != SAFETENSORS or file.metadata.get("kind") != _KIND:
                raise AestheticError(
                    f"{path.name} is not a partial result.",
                    "It is another kind of file.",
                    "Name the files that create --shard wrote.",
                )
            facts = parse_json(file.metadata.get("part", "").encode("utf-8", "replace"), "description")
            totals = file.read(file.tensors, _MAX_BYTES)
        return _part(facts, totals)
    except UnreadableFile as error:
        raise AestheticError(subject, error.why, "Make that shard again.") from error
    except OSError as error:
        raise AestheticError(subject, f"{error.strerror or error}: {path}.", "Check the path.") from error


def _part(facts: object, totals: Mapping[str, Tensor]) -> Part:
    """A part of what its file says, none of which is believed without a look.

    Raises:
        UnreadableFile: a fact is missing or impossible.
    """
    counts, skipped = _facts(facts, "counts"), _facts(facts, "skipped")
    model_ids, raw = _facts(facts, "model_ids"), _fact(facts, "raw")
    if type(raw) is not bool or not totals or len(skipped) > _MOST_REASONS:
        raise UnreadableFile("Its description is damaged.")
    sums: dict[Space, FeatureSum] = {}
    for name, total in totals.items():
        if total.dtype != torch.float64 or total.dim() != 1 or len(total) < 2 or not total.isfinite().all():
            raise UnreadableFile(f"Its tensor {quoted(name)} is no sum of features.")
        space = space_of(len(total))
        if space.name != name:
            raise UnreadableFile(f"Its tensor {quoted(name)} has the width {space.dim}.")
        sums[space] = FeatureSum(space.dim, raw, total, _count(counts.get(name)))
    if len({total.count for total in sums.values()}) > 1:
        raise UnreadableFile("It counts different numbers of images in its spaces.")
    return Part(
        sums,
        _short(_fact(facts, "sources")),
        _shard(_fact(facts, "shard")),
        {_short(why): _count(count) for why, count in skipped.items()},
        {space: _short(model_ids[space.name]) for space in sums if space.name in model_ids},
    )


def _fact(facts: object, name: str) -> object:
    if not isinstance(facts, dict) or name not in facts:
        raise UnreadableFile(f"Its description lacks {name}.")
    return facts[name]


def _facts(facts: object, name: str) -> dict[str, object]:
    found = _fact(facts, name)
    if not isinstance(found, dict):
        raise UnreadableFile(f"Its description has no {name}.")
    return found


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_IMAGES:
        raise UnreadableFile("It counts images in an impossible number.")
    return value


def _short(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise UnreadableFile("Its description holds what is no short text.")
    return value


def _shard(value: object) -> Shard:
    try:
        return Shard.parse(_short(value))
    except AestheticError as error:
        raise UnreadableFile(error.what) from error


def merge_parts(parts: Sequence[Part], incomplete: bool = False) -> Part:
    """One part of several, equal to a single run over all sources (to rounding in float64).

    Args:
        parts: each shard of one list of sources once, in any order.
        incomplete: do without shards that are missing.

    Raises:
        AestheticError: shards of different lists, twice the same, missing ones, or made with different options.
    """

    def refuse(why: str, do: str) -> AestheticError:
        return AestheticError("These partial results can't be merged.", why, do)

    if not parts:
        raise refuse("There are none.", "Name the files that create --shard wrote.")
    first = parts[0]
    if any((part.sources, part.shard.of) != (first.sources, first.shard.of) for part in parts):
        raise refuse(
            "They are not shards of the same list of sources.",
            "Run every shard with the same folders, files and filter.",
        )
    if any(set(part.sums) != set(first.sums) for part in parts):
        raise refuse("They do not hold the same CLIP spaces.", "Run every shard with the same spaces.")
    if any(part.model_ids != first.model_ids for part in parts):
        raise refuse("Different encoders made them.", "Run every shard with the same encoders.")
    numbers = [part.shard.number for part in parts]
    twice = sorted(number for number, count in Counter(numbers).items() if count > 1)
    if twice:
        raise refuse(
            f"Shard {twice[0]}/{first.shard.of} is there twice.", "Name each once, or its images count double."
        )
    there = set(numbers)
    missing = first.shard.of - len(there)
    if missing and not incomplete:
        lowest = next(number for number in range(1, first.shard.of + 1) if number not in there)
        raise refuse(
            f"Of {first.shard.of} shards {missing} are missing, the first is {lowest}.",
            "Run them, or agree to do without.",
        )
    sums = {space: FeatureSum(total.dim, total.raw) for space, total in first.sums.items()}
    skipped: dict[str, int] = {}
    for part in sorted(parts, key=lambda part: part.shard.number):
        for space, total in part.sums.items():
            sums[space].merge(total)
        for why, count in part.skipped.items():
            skipped[why] = skipped.get(why, 0) + count
    complete = not missing and all(part.complete for part in parts)
    return Part(sums, first.sources, skipped=skipped, model_ids=first.model_ids, complete=complete)


def embedding_of(part: Part, name: str, note: str = "") -> Embedding:
    """The mean as an embedding, with the metadata that one made from pictures has, as far as it is known.

    Raises:
        AestheticError: no image counted, or they cancel out.
    """
    first = next(iter(part.sums.values()))
    metadata = Metadata.of_mean(
        images=first.count,
        raw=first.raw,
        sources=part.sources,
        model_ids={space.name: model for space, model in part.model_ids.items()},
        # The sum of raw features does not tell.
        mean_cosine=None if first.raw else first.mean_cosine,
        complete=part.complete,
        note=note,
    )
    return Embedding(name, {space: total.vector for space, total in part.sums.items()}, metadata)
