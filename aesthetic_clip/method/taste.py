"""What the settings and a prompt's tags ask for, with the embedding files read and mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..errors import AestheticError
from ..geometry import mean_direction, unit
from ..settings import Settings
from ..spaces import Space
from .tags import Tag
from .targets import Target, target_of

_OF_THE_PROMPT = ("steps", "lr", "strength")
"""Knobs that a tag sets for the whole prompt."""

LoadEmbedding = Callable[[str], Embedding]


@dataclass(frozen=True)
class Taste:
    """Where a prompt is to be moved, and how.

    Attributes:
        settings: as they take effect: with the tags' steps and rate, and the weight of the mixture.
        vectors: unit vector (D,) per CLIP space, fp32 on the CPU.
        centres: what they are compared with, (D,) per space; empty for the paper's target.
        names: the embeddings in it.
        digest: hash of the vectors.
        by_tags: knobs whose values the tags alone decided, by name: the settings' own had no part in it.
    """

    settings: Settings
    vectors: Mapping[Space, Tensor]
    centres: Mapping[Space, Tensor]
    names: tuple[str, ...]
    digest: str
    by_tags: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two generations exactly if they personalise a prompt in the same way."""
        return (self.settings, self.digest)

    @property
    def title(self) -> str:
        return " + ".join(self.names)

    @property
    def needs_text(self) -> bool:
        """Whether :meth:`target` wants the feature of the aesthetic text."""
        return bool(self.settings.text) and self.settings.slerp_angle != 0

    def target(self, space: Space, text: Tensor | None = None) -> Target:
        """What prompts are moved toward in one CLIP space.

        Args:
            space: one of those in ``vectors``.
            text: (D,) feature of the aesthetic text, where :attr:`needs_text` says so.
        """
        return target_of(self.settings, self.vectors[space], self.centres.get(space), text)


def taste(settings: Settings, tags: Sequence[Tag], load: LoadEmbedding) -> Taste | None:
    """Read and mix what the settings and the prompt's tags name; None if nothing would move.

    Several embeddings are mixed by the weighted mean of their unit vectors, in the
    spaces that all of them have; the largest weight is how strongly the result counts.

    Raises:
        AestheticError: an embedding can't be loaded, tags contradict each other,
            the embeddings have no space in common or cancel each other out, or the
            centre lacks a space of theirs or is no other than they.
    """
    settings = _with_tags(settings, tags)
    weights = _weights(settings, tags)
    uncentred = settings.has_centre and not settings.centre_strength
    if not weights or not settings.steps or not settings.lr or settings.strength == 0 or uncentred:
        return None
    loaded = {name: load(name) for name in dict.fromkeys(name for name, _ in weights)}
    embeddings = [loaded[name] for name, _ in weights]
    mixture = _Mixture(embeddings, [weight for _, weight in weights])
    vectors = mixture.vectors()
    centres = mixture.centres(vectors, load(settings.centre)) if settings.has_centre else {}
    content = b"".join(v.numpy().tobytes() for v in (*vectors.values(), *centres.values()))
    effective = settings.replaced({"weight": min(1.0, max(abs(weight) for _, weight in weights))})
    decided = {name for name in _OF_THE_PROMPT if any(getattr(tag, name) is not None for tag in tags)}
    if not settings.has_embedding and all(tag.weight is not None for tag in tags):
        decided.add("weight")
    return Taste(
        effective,
        vectors,
        centres,
        tuple(name for name, _ in weights),
        hashlib.sha256(content).hexdigest()[:16],
        {name: getattr(effective, name) for name in decided},
    )


def _with_tags(settings: Settings, tags: Sequence[Tag]) -> Settings:
    """The settings with what the tags say for the whole prompt."""
    for name in _OF_THE_PROMPT:
        said = {value for tag in tags if (value := getattr(tag, name)) is not None}
        if len(said) > 1:
            raise AestheticError(
                f"The prompt's aesthetic tags contradict each other about {name}.",
                f"They say {' and '.join(f'{value:g}' for value in sorted(said))}, and one prompt has one.",
                "Give it in one tag only.",
            )
        if said:
            settings = settings.replaced({name: said.pop()})
    return settings


def _weights(settings: Settings, tags: Sequence[Tag]) -> list[tuple[str, float]]:
    """Each embedding that counts, with its weight."""
    chosen = [(settings.embedding, settings.weight)] if settings.has_embedding else []
    tagged = [(tag.name, settings.weight if tag.weight is None else tag.weight) for tag in tags]
    return [(name, weight) for name, weight in (*chosen, *tagged) if weight != 0]


@dataclass(frozen=True)
class _Mixture:
    """Embeddings and the weight of each."""

    embeddings: Sequence[Embedding]
    weights: Sequence[float]

    def vectors(self) -> dict[Space, Tensor]:
        """The weighted mean in each space that all have."""
        first, names = self.embeddings[0], ", ".join(e.name for e in self.embeddings)
        spaces = [space for space in first.vectors if all(space in e.vectors for e in self.embeddings)]
        if not spaces:
            raise AestheticError(
                f"The embeddings {names} can't be mixed.",
                "They have no CLIP space in common: "
                + "; ".join(f"{e.name} has {e.spaces}" for e in self.embeddings)
                + ".",
                "Mix embeddings that were made for the same models.",
            )
        vectors = {space: mean_direction([e.vectors[space] for e in self.embeddings], self.weights) for space in spaces}
        if not all(v.any() for v in vectors.values()):
            raise AestheticError(
                f"The embeddings {names} cancel each other out.",
                "Their weighted mean points nowhere.",
                "Change their weights.",
            )
        return vectors

    def centres(self, vectors: Mapping[Space, Tensor], centre: Embedding) -> dict[Space, Tensor]:
        """The centre as each mixture has it in itself: what is mixed are the embeddings' differences to it."""
        lacking = [space.name for space in vectors if space not in centre.vectors]
        if lacking:
            raise AestheticError(
                f"The aesthetic centre {centre.name} does not fit the embedding.",
                f"It has no vector for {' and '.join(lacking)}.",
                "Choose a centre that was made for the same spaces.",
            )
        centres = {}
        for space, vector in vectors.items():
            parts = [unit(e.vectors[space]) * w for e, w in zip(self.embeddings, self.weights)]
            length = sum(parts, torch.zeros(space.dim)).norm()
            centres[space] = unit(centre.vectors[space]) * (sum(self.weights) / length)
            if (vector - centres[space]).norm() < 1e-4:
                raise AestheticError(
                    f"The aesthetic centre {centre.name} is the embedding itself.",
                    "There is no difference between them to move along.",
                    "Choose another centre, or None.",
                )
        return centres
