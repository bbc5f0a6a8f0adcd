"""What the settings and a prompt's tags ask for, with the embedding files read and mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..embeddings.mixing import FEWEST_FOR_MIDDLE, middle
from ..errors import AestheticError
from ..geometry import mean_direction, unit
from ..settings import AUTOMATIC, BY_NAME, CUSTOM, Settings
from ..spaces import Space
from .part import is_empty
from .tags import Tag
from .targets import Target, target_of

LoadEmbedding = Callable[[str], Embedding]
AllEmbeddings = Callable[[], Iterable[Embedding]]

AUTOMATIC_CENTRE = "Aesthetic automatic centre"
_CENTRE, _AWAY = "aesthetic centre", "embedding to keep away from"


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
        found: generation parameters that tell what the settings left to be found.
        notes: sentences for the user about what could not be had.
        aways: what is kept away from, unit vectors (D,) per space.
        middles: the centres as they are by themselves, unit vectors (D,) per space.
    """

    settings: Settings
    vectors: Mapping[Space, Tensor]
    centres: Mapping[Space, Tensor]
    names: tuple[str, ...]
    digest: str
    by_tags: Mapping[str, object] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    aways: Mapping[Space, Tensor] = field(default_factory=dict)
    middles: Mapping[Space, Tensor] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two generations exactly if they personalise a prompt in the same way."""
        # Whoever set the values, by hand or by a preset.
        return (replace(self.settings, preset=CUSTOM), self.digest)

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
        return target_of(
            self.settings,
            self.vectors[space],
            self.centres.get(space),
            text,
            self.aways.get(space),
            self.middles.get(space),
        )


def taste(
    settings: Settings, tags: Sequence[Tag], load: LoadEmbedding, everything: AllEmbeddings = tuple
) -> Taste | None:
    """Read and mix what the settings and the prompt's tags name; None if nothing would move.

    Several embeddings are mixed by the weighted mean of their unit vectors, in the
    spaces that all of them have; the largest weight is how strongly the result counts.

    Args:
        settings: the user's.
        tags: the prompt's.
        load: reads an embedding by name.
        everything: the library's embeddings, for an automatic centre.

    Raises:
        AestheticError: an embedding can't be loaded, tags contradict each other,
            the embeddings have no space in common or cancel each other out, or the
            centre lacks a space of theirs or is no other than they; the part of the
            sampling ends before it starts.
    """
    settings, by_tags = _with_tags(settings, tags)
    weights = _weights(settings, tags)
    away_alone = not weights and settings.has_away and settings.weight != 0
    if away_alone:
        weights = [(settings.away, -settings.weight)]
    uncentred = settings.has_centre and not settings.centre_strength
    if (
        is_empty(settings)
        or not weights
        or not settings.steps
        or not settings.lr
        or settings.strength == 0
        or uncentred
    ):
        return None
    loaded = {name: load(name) for name in dict.fromkeys(name for name, _ in weights)}
    embeddings = [loaded[name] for name, _ in weights]
    mixture = _Mixture(embeddings, [weight for _, weight in weights])
    vectors = mixture.vectors()
    middles: dict[Space, Tensor] = {}
    found: Mapping[str, str] = {}
    notes: Sequence[str] = ()
    if settings.centre == AUTOMATIC:
        middles, found, notes = _automatic(mixture, vectors, list(everything()))
    elif settings.has_centre:
        middles = _fitting(_CENTRE, load(settings.centre), vectors)
        _refuse_same(f"{_CENTRE} {settings.centre}", "embedding", vectors, mixture.centres(middles))
    centres = mixture.centres(middles)
    if settings.centre == AUTOMATIC:
        # Compared with nothing: straight toward the embedding, by as much of the way, prompts lose what they say.
        centres.update({space: torch.zeros(space.dim) for space in vectors if space not in centres})
    aways: dict[Space, Tensor] = {}
    if settings.has_away and not away_alone:
        aways = _fitting(_AWAY, load(settings.away), vectors)
        for what, there in (("embedding", vectors), ("centre", middles)):
            _refuse_same(f"{_AWAY} {settings.away}", what, there, aways)
    content = b"".join(v.numpy().tobytes() for v in (*vectors.values(), *centres.values(), *aways.values()))
    effective = replace(settings, weight=min(1.0, max(abs(weight) for _, weight in weights)))
    decided = {name for name in by_tags if name != "weight"}
    # One without a weight of its own has that of the settings.
    if "weight" in by_tags or (not settings.has_embedding and all(tag.weight is not None for tag in tags)):
        decided.add("weight")
    return Taste(
        effective,
        vectors,
        centres,
        tuple(name for name, _ in weights),
        hashlib.sha256(content).hexdigest()[:16],
        {name: getattr(effective, name) for name in decided},
        found,
        tuple(notes),
        aways,
        middles,
    )


def _with_tags(settings: Settings, tags: Sequence[Tag]) -> tuple[Settings, set[str]]:
    """The settings with what the tags say for the whole prompt, and the names of the knobs that they say."""
    said: dict[str, object] = {}
    for name in dict.fromkeys(name for tag in tags for name in tag.knobs):
        knob = BY_NAME[name]
        values = {knob.write(tag.knobs[name]): tag.knobs[name] for tag in tags if name in tag.knobs}
        if len(values) > 1:
            raise AestheticError(
                f"The prompt's aesthetic tags contradict each other about {name}.",
                f"They say {' and '.join(sorted(values))}, and one prompt has one.",
                "Give it in one tag only.",
            )
        (said[name],) = values.values()
    brought = {name for knob, value in said.items() for name in BY_NAME[knob].choices.get(str(value), {})}
    return settings.replaced(said), {*said, *brought}


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

    def centres(self, centres: Mapping[Space, Tensor]) -> dict[Space, Tensor]:
        """Centres, unit vectors (D,), as the mixture has them in itself: what is mixed are the differences to them."""
        found = {}
        for space, centre in centres.items():
            parts = [unit(e.vectors[space]) * w for e, w in zip(self.embeddings, self.weights)]
            length = sum(parts, torch.zeros(space.dim)).norm()
            found[space] = unit(centre) * (sum(self.weights) / length)
        return found


def _automatic(
    mixture: _Mixture, vectors: Mapping[Space, Tensor], everything: Sequence[Embedding]
) -> tuple[dict[Space, Tensor], dict[str, str], list[str]]:
    """The automatic centres, unit vectors (D,), what tells in the parameters which they are, and what tells the user where there is none."""
    middles: dict[Space, Tensor] = {}
    found: list[str] = []
    notes: list[str] = []
    for space, vector in vectors.items():
        mean, count = middle(everything, space, [e.vectors[space] for e in mixture.embeddings])
        centre = None if mean is None else mixture.centres({space: mean})[space]
        if mean is None or centre is None or _same(vector, centre):
            found.append(f"none of {count}")
            notes.append(
                f"There is no automatic centre for {space.name}: it is the mean of at least {FEWEST_FOR_MIDDLE} other "
                f"embeddings that have it and differ, and there are {count}. So the prompt goes toward the middle between "
                "itself and the embedding, which shows less of the taste."
            )
        else:
            middles[space] = mean
            found.append(f"{count} others {hashlib.sha256(mean.numpy().tobytes()).hexdigest()[:8]}")
    return middles, {AUTOMATIC_CENTRE: "; ".join(found)}, notes


def _fitting(what: str, embedding: Embedding, vectors: Mapping[Space, Tensor]) -> dict[Space, Tensor]:
    """The unit vectors (D,) that another embedding has in each of these spaces."""
    lacking = [space.name for space in vectors if space not in embedding.vectors]
    if lacking:
        raise AestheticError(
            f"The {what} {embedding.name} does not fit the embedding.",
            f"It has no vector for {' and '.join(lacking)}.",
            "Choose one that was made for the same spaces.",
        )
    return {space: unit(embedding.vectors[space]) for space in vectors}


def _refuse_same(what: str, other: str, vectors: Mapping[Space, Tensor], found: Mapping[Space, Tensor]) -> None:
    if any(_same(vector, found[space]) for space, vector in vectors.items() if space in found):
        raise AestheticError(
            f"The {what} is the {other} itself.",
            "There is no difference between them to move along.",
            "Choose another one, or None.",
        )


def _same(vector: Tensor, centre: Tensor) -> bool:
    return bool((vector - centre).norm() < 1e-4)
