"""Partial results: the sums of one machine's share of the images, as files that merge exactly.

A part is a ``.safetensors`` file with one float64 sum of shape (D,) per CLIP space
and, as text metadata, the number of images and which share of which sources it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
import torch

from ..embeddings.embedding import Embedding
from ..errors import AestheticError
from ..files import write_atomically
from ..spaces import Space, space_of
from .averaging import FeatureSum

_KIND = "aesthetic part 1"
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
        if shard is None or not 1 <= shard.number <= shard.of:
            raise AestheticError(
                f"There is no shard {text!r}.",
                "Shards are called i/n and counted from 1.",
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
        sources: digest of the whole list that was divided up, see :func:`digest`.
        shard: which share of it this is.
        skipped: why images did not count, and how many each.
        model_ids: which encoder made the features, where that is known.
    """

    sums: Mapping[Space, FeatureSum]
    sources: str = ""
    shard: Shard = WHOLE
    skipped: Mapping[str, int] = field(default_factory=dict)
    model_ids: Mapping[Space, str] = field(default_factory=dict)


def digest(sources: Iterable[str]) -> str:
    """A short hash of a list of sources, in whatever order."""
    return hashlib.sha256("\n".join(sorted(sources)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


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
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != _KIND:
                raise AestheticError(
                    f"{path.name} is not a partial result.",
                    "It is another kind of .safetensors file.",
                    "Name the files that create --shard wrote.",
                )
            facts = json.loads(metadata["part"])
            totals = {name: file.get_tensor(name) for name in file.keys()}
        sums = {}
        for name, total in totals.items():
            if total.dtype != torch.float64 or total.dim() != 1 or not total.isfinite().all():
                raise ValueError(f"{name} is no sum")
            sums[space_of(len(total))] = FeatureSum(len(total), bool(facts["raw"]), total, int(facts["counts"][name]))
        skipped = {str(why): int(count) for why, count in facts["skipped"].items()}
        model_ids = {space: str(facts["model_ids"][space.name]) for space in sums if space.name in facts["model_ids"]}
        return Part(sums, str(facts["sources"]), Shard.parse(facts["shard"]), skipped, model_ids)
    except AestheticError:
        raise
    except OSError as error:
        raise AestheticError(
            f"The partial result {path.name} can't be read.", f"{error.strerror or error}: {path}.", "Check the path."
        ) from error
    except Exception as error:  # safetensors raises its own and several built-in types
        raise AestheticError(
            f"The partial result {path.name} can't be read.", f"It is damaged ({error}).", "Make that shard again."
        ) from error


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
    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    if twice:
        raise refuse(
            f"Shard {twice[0]}/{first.shard.of} is there twice.", "Name each once, or its images count double."
        )
    missing = sorted(set(range(1, first.shard.of + 1)) - set(numbers))
    if missing and not incomplete:
        raise refuse(
            f"Of {first.shard.of} shards {len(missing)} are missing, the first is {missing[0]}.",
            "Run them, or agree to do without.",
        )
    sums = {space: FeatureSum(total.dim, total.raw) for space, total in first.sums.items()}
    skipped: dict[str, int] = {}
    for part in sorted(parts, key=lambda part: part.shard.number):
        for space, total in part.sums.items():
            sums[space].merge(total)
        for why, count in part.skipped.items():
            skipped[why] = skipped.get(why, 0) + count
    return Part(sums, first.sources, skipped=skipped, model_ids=first.model_ids)


def embedding_of(part: Part, name: str, note: str = "") -> Embedding:
    """The mean as an embedding, with the metadata that one made from pictures has, as far as it is known.

    Raises:
        AestheticError: no image counted, or they cancel out.
    """
    first = next(iter(part.sums.values()))
    metadata = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "image_count": str(first.count),
        "source_hash": part.sources,
        "raw": str(first.raw).lower(),
    }
    if part.model_ids:
        metadata["model_id"] = json.dumps({space.name: model for space, model in part.model_ids.items()})
    if not first.raw:  # the sum of raw features does not tell
        metadata["mean_cosine"] = f"{first.mean_cosine:.4f}"
    if note.strip():
        metadata["note"] = note.strip()
    return Embedding(name, {space: total.vector for space, total in part.sums.items()}, metadata)
