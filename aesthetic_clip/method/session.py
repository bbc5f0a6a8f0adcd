"""The personalisation of one generation: what every host does in the same way.

A host says how its text encoders are found and asked (:class:`HostEncoder`) and hands over the
chunks of a prompt; which encoders fit, the text's feature, the target, what was done already,
progress, interrupts and the report are the session's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from torch import Tensor

from ..clip.text_encoder import TextEncoder
from ..errors import AestheticError
from ..progress import Progress, silent
from ..spaces import Space
from .modes import Memory
from .personalize import Chunk, Encoded, personalize
from .targets import Target
from .taste import Taste

STEPS_TAKEN = "Aesthetic steps taken"
_LONGEST = 77  # tokens that CLIP reads at once, with start-of-text and end-of-text
_log = logging.getLogger("aesthetic_clip")


class HostEncoder(Protocol):
    """One CLIP text encoder as a host has it."""

    @property
    def space(self) -> Space:
        """Which features it can be compared with; known without reading or fetching anything."""

    @property
    def encoder(self) -> TextEncoder:
        """The text tower.

        Raises:
            AestheticError: a part of it is not to be had.
        """

    def token_ids(self, text: str) -> Tensor:
        """Ids (T,) of a text from start-of-text to end-of-text, of any length, on the encoder's device."""


Some = TypeVar("Some", bound=HostEncoder)


@dataclass
class Report:
    """What happened to one conditioning.

    Attributes:
        similarities: per personalised chunk its CLIP space and the cosine similarity before each step and after the last.
        left_alone: CLIP spaces of text encoders that the embedding has no vector for.
    """

    similarities: list[tuple[str, tuple[float, ...]]] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)

    def parameters(self, taste: Taste) -> dict[str, str]:
        """A picture's generation parameters that tell what was found where the settings leave it open."""
        taken = [str(len(numbers) - 1) for _, numbers in self.similarities]
        steps = {STEPS_TAKEN: "; ".join(taken)} if taken and taste.settings.strength is not None else {}
        return {**steps, **taste.found}


class Session:
    """Personalises the chunks of one generation.

    Args:
        taste: where to.
        encoders: the loaded model's.
        model: what the host calls that model, for errors.
        memory: where Adam's moments are.
        progress: told the steps of the chunk at hand; may raise to stop.
        memo: chunks that were personalised already, by their keys; a host keeps it as long as it likes.
        bf16: in the optimisation, matrices are multiplied by way of bf16 where the processor can.

    Raises:
        AestheticError: the taste has no vector for any of the encoders.
    """

    def __init__(
        self,
        taste: Taste,
        encoders: Sequence[HostEncoder],
        model: str = "model",
        memory: Memory = Memory.AUTOMATIC,
        progress: Progress = silent,
        memo: MutableMapping[Hashable, Encoded] | None = None,
        bf16: bool = False,
    ) -> None:
        self.taste, self.memory, self.bf16, self.progress = taste, memory, bf16, progress
        self.memo: MutableMapping[Hashable, Encoded] = {} if memo is None else memo
        self._targets: dict[Space, Target] = {}
        self._told: set[Hashable] = set()
        fitting = self.fitting(encoders)
        if not fitting:
            raise AestheticError(
                f"The aesthetic embedding {taste.title} does not fit the {model}.",
                f"It was made for {' and '.join(map(str, taste.vectors))}; "
                f"the {model} uses {' and '.join(str(host.space) for host in encoders)}.",
                f"Make it again for that space from its pictures, or pick another embedding or {model}.",
            )
        for note in taste.notes:
            _log.warning("%s", note)
        self.report = Report(left_alone=[host.space.name for host in encoders if host not in fitting])

    def fitting(self, encoders: Sequence[Some]) -> list[Some]:
        """Those that the taste has a vector for."""
        return [host for host in encoders if host.space in self.taste.vectors]

    def personalised(
        self,
        host: HostEncoder,
        chunk: Chunk,
        before_pass: Callable[[int], None] = lambda step: None,
        key: Hashable = None,
        part: tuple[int, int] = (1, 1),
    ) -> Encoded:
        """One chunk, by one of the encoders that fit.

        Args:
            host: the encoder.
            chunk: tokens and their ordinary encoding.
            before_pass: the host's own preparation of each forward pass.
            key: everything but the tokens and the taste that the result depends on.
            part: which of the prompt's parts it is, from 1, and how many there are; for the line of progress.

        Raises:
            AestheticError: see :func:`.personalize.personalize`; or the aesthetic text is too long.
            Interrupted: the progress said so.
        """
        full_key = (host.space, tuple(chunk.ids.tolist()), self.taste.key, key)
        if full_key in self.memo:
            # Made by another conditioning, for a picture that has not been told of it.
            self._tell(full_key, host, self.memo[full_key])
            return self.memo[full_key]
        steps = self.taste.settings.steps
        of = f", part {part[0]} of {part[1]}" if 1 <= part[0] <= part[1] > 1 else ""

        def prepare(step: int) -> None:
            self.progress(step, steps, f"Personalising the prompt{of}: step {min(step + 1, steps)} of {steps}")
            before_pass(step)

        encoded = personalize(
            host.encoder, chunk, self._target(host), self.taste.settings, prepare, self.memory, self.bf16
        )
        numbers = encoded.similarities
        self._tell(full_key, host, encoded)
        _log.info(
            "%s on %s, similarity %.4f -> %.4f in %d steps, memory %s",
            self.taste.title, host.space.name, numbers[0], numbers[-1], len(numbers) - 1, encoded.memory.value,
        )  # fmt: skip
        self.memo[full_key] = encoded
        return encoded

    def _tell(self, key: Hashable, host: HostEncoder, encoded: Encoded) -> None:
        """Report on a chunk, once however often it is asked for."""
        if key not in self._told:
            self._told.add(key)
            self.report.similarities.append((host.space.name, encoded.similarities))

    def _target(self, host: HostEncoder) -> Target:
        if host.space not in self._targets:
            text = text_feature(host, self.taste.settings.text) if self.taste.needs_text else None
            self._targets[host.space] = self.taste.target(host.space, text)
        return self._targets[host.space]


def text_feature(host: HostEncoder, text: str) -> Tensor:
    """CLIP feature (D,) of a text, fp32.

    Raises:
        AestheticError: it has more than 75 tokens, or a part of the text tower is not to be had.
    """
    ids = host.token_ids(text)
    if len(ids) > _LONGEST:
        raise AestheticError(
            f"The aesthetic text has {len(ids) - 2} tokens.", f"CLIP reads {_LONGEST - 2} at once.", "Shorten it."
        )
    return host.encoder.text_feature(ids)
