"""One prompt, personalised: the target, the optimisation, the second encoding, the mixture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..clip.text_encoder import TextEncoder
from ..embeddings.embedding import Embedding
from ..errors import AestheticError
from ..geometry import blend, centred, mean_direction, rotate, unit
from ..settings import Settings
from ..spaces import Space
from .optimize import Memory, optimize
from .tags import Tag


@dataclass(frozen=True)
class Taste:
    """What a prompt is to be moved toward, and how: settings and tags with their files read.

    Attributes:
        settings: the knobs, with what the tags say about steps and rate.
        vectors: unit vector (D,) per CLIP space, fp32 on the CPU.
        centres: what they are compared with, (D,) per space; empty for the paper's target.
        names: the embeddings in it.
        digest: hash of the vectors.
    """

    settings: Settings
    vectors: Mapping[Space, Tensor]
    centres: Mapping[Space, Tensor]
    names: tuple[str, ...]
    digest: str

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two generations exactly if they personalise a prompt in the same way."""
        return (self.settings, self.digest)


def taste(settings: Settings, tags: Sequence[Tag], load: Callable[[str], Embedding]) -> Taste | None:
    """Read and mix what the settings and the prompt's tags name; None if nothing would move.

    Several embeddings are mixed by the weighted mean of their unit vectors, in the
    spaces that all of them have; the largest weight is how strongly the result counts.

    Raises:
        AestheticError: an embedding can't be loaded, tags contradict each other,
            the embeddings have no space in common or cancel each other out, or the
            centre lacks a space of theirs or is no other than they.
    """
    parts = [(settings.embedding, settings.weight)] if settings.has_embedding else []
    parts += [(tag.name, settings.weight if tag.weight is None else tag.weight) for tag in tags]
    for name in ("steps", "lr"):
        said = {value for tag in tags if (value := getattr(tag, name)) is not None}
        if len(said) > 1:
            raise AestheticError(
                f"The prompt's aesthetic tags contradict each other about {name}.",
                f"They say {' and '.join(f'{value:g}' for value in sorted(said))}, and one prompt has one.",
                "Give it in one tag only.",
            )
        if said:
            settings = settings.replaced({name: said.pop()})
    parts = [part for part in parts if part[1] != 0]
    stays = settings.has_centre and not settings.centre_strength
    if not parts or not settings.steps or not settings.lr or stays:
        return None
    embeddings = [load(name) for name, _ in parts]
    weights = [weight for _, weight in parts]
    spaces = [space for space in embeddings[0].vectors if all(space in e.vectors for e in embeddings)]
    if not spaces:
        raise AestheticError(
            f"The embeddings {', '.join(name for name, _ in parts)} can't be mixed.",
            "They have no CLIP space in common: " + "; ".join(f"{e.name} has {e.spaces}" for e in embeddings) + ".",
            "Mix embeddings that were made for the same models.",
        )
    vectors = {space: mean_direction([e.vectors[space] for e in embeddings], weights) for space in spaces}
    if not all(v.any() for v in vectors.values()):
        raise AestheticError(
            f"The embeddings {', '.join(name for name, _ in parts)} cancel each other out.",
            "Their weighted mean points nowhere.",
            "Change their weights.",
        )
    centres = _centres(settings, embeddings, weights, vectors, load) if settings.has_centre else {}
    content = b"".join(v.numpy().tobytes() for v in (*vectors.values(), *centres.values()))
    digest = hashlib.sha256(content).hexdigest()[:16]
    settings = settings.replaced({"weight": min(1.0, max(abs(w) for w in weights))})
    return Taste(settings, vectors, centres, tuple(name for name, _ in parts), digest)


def _centres(
    settings: Settings,
    embeddings: Sequence[Embedding],
    weights: Sequence[float],
    vectors: Mapping[Space, Tensor],
    load: Callable[[str], Embedding],
) -> dict[Space, Tensor]:
    """The centre as each mixture has it in itself: what is mixed are the embeddings' differences to it."""
    centre = load(settings.centre)
    lacking = [space.name for space in vectors if space not in centre.vectors]
    if lacking:
        raise AestheticError(
            f"The aesthetic centre {centre.name} does not fit the embedding.",
            f"It has no vector for {' and '.join(lacking)}.",
            "Choose a centre that was made for the same spaces.",
        )
    centres = {}
    for space, vector in vectors.items():
        length = sum((unit(e.vectors[space]) * w for e, w in zip(embeddings, weights)), torch.zeros(space.dim)).norm()
        centres[space] = unit(centre.vectors[space]) * (sum(weights) / length)
        if (vector - centres[space]).norm() < 1e-4:
            raise AestheticError(
                f"The aesthetic centre {centre.name} is the embedding itself.",
                "There is no difference between them to move along.",
                "Choose another centre, or None.",
            )
    return centres


@dataclass(frozen=True)
class Encoded:
    """A personalised prompt.

    Attributes:
        hidden: (1, T, C) conditioning in the host's dtype.
        pooled: (1, P) pooled vector, where the text encoder gives one.
        similarities: cosine similarity before each step and after the last.
        memory: where Adam's moments were kept.
    """

    hidden: Tensor
    pooled: Tensor | None
    similarities: tuple[float, ...]
    memory: Memory


Encode = Callable[[Tensor], tuple[Tensor, "Tensor | None"]]
"""The host's own way from ids (1, T) to the hidden state (1, T, C) and, if there is one, the pooled vector (1, P)."""


def personalize(
    encoder: TextEncoder,
    ids: Tensor,
    end: int,
    target: Tensor,
    settings: Settings,
    ordinary: tuple[Tensor, Tensor | None],
    encode: Encode,
    before_pass: Callable[[int], None],
    memory: Memory = Memory.AUTOMATIC,
    centre: Tensor | None = None,
) -> Encoded:
    """Personalise one chunk of one prompt.

    Args:
        encoder: the text encoder as it stands.
        ids: (T,) token ids, padding included.
        end: place of the end-of-text token.
        target: (dim,) unit vector.
        settings: steps, learning rate, weight, slerp.
        ordinary: what ``encode`` says with the encoder's own weights.
        encode: the host's encoding of one sequence.
        before_pass: called with the number of steps done before every forward pass; may raise.
        memory: where Adam's moments are kept.
        centre: (dim,) what the target is compared with; None for the paper's target.

    Raises:
        AestheticError: out of memory, or the optimisation went astray.
    """
    if centre is not None:
        before_pass(0)
        own = encoder.text_feature(ids[: end + 1])
        target = centred(own, target.to(own), centre.to(own), settings.centre_strength)
    optimized = optimize(encoder, ids[: end + 1], target, settings.steps, settings.lr, before_pass, memory)
    weights = encoder.in_own_precision(optimized.weights)
    before_pass(settings.steps)
    with torch.no_grad():
        hidden, pooled = encoder.call(encode, weights, ids.unsqueeze(0))
    mix = [
        a if b is None or a is None else blend(a, b, settings.weight, settings.slerp)
        for a, b in zip(ordinary, (hidden, pooled))
    ]
    return Encoded(mix[0], mix[1], optimized.similarities, optimized.memory)  # type: ignore[arg-type]


def rotated(encoder: TextEncoder, target: Tensor, settings: Settings, text_ids: Tensor | None) -> Tensor:
    """The target turned toward, or away from, the feature of the aesthetic text.

    Args:
        text_ids: (T,) ids from start-of-text to end-of-text, None for no text.
    """
    if text_ids is None or settings.slerp_angle == 0:
        return target
    feature = encoder.text_feature(text_ids)
    return rotate(target, feature.to(target.device), settings.slerp_angle, settings.text_negative)
