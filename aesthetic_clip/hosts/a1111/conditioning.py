"""Personalises what the WebUI's text encoders say, while one conditioning is computed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from modules import shared
from torch import Tensor

from ...errors import AestheticError, Interrupted
from ...method.personalize import Encoded, Taste, personalize, rotated
from . import options
from .encoders import HostEncoder, host_encoders, text_ids

ENCODE = "encode_with_transformers"


@dataclass
class Report:
    """What happened to one conditioning; kept with it in the WebUI's cache.

    Attributes:
        similarities: (space, before, after) of each personalised chunk.
        left_alone: text encoders that the embedding has no vector for.
    """

    similarities: list[tuple[str, float, float]] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)


@dataclass
class Conditioning:
    """The personalisation of one conditioning, positive or negative.

    Attributes:
        taste: where to.
        memo: chunks that this job personalised already; the hires pass asks for the same ones again.
        networks: the prompt's extra networks, which change the text encoder, as text.
        report: what was done; None if the WebUI's cache answered.
    """

    taste: Taste
    memo: dict[object, Encoded]
    networks: str = ""
    interrupted: bool = False
    report: Report | None = None

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function(model, ...)``, the WebUI's encoding of a prompt, with the encoders personalised meanwhile."""

        def personalised(model: Any, *args: Any, **kwargs: Any) -> Any:
            with self._hooked(model):
                return function(model, *args, **kwargs)

        return personalised

    @contextlib.contextmanager
    def _hooked(self, model: Any) -> Iterator[None]:
        hosts = host_encoders(model)
        fitting = [host for host in hosts if host.space in self.taste.vectors]
        if not fitting:
            raise AestheticError(
                f"The aesthetic embedding {' + '.join(self.taste.names)} does not fit the checkpoint.",
                f"It was made for {' and '.join(map(str, self.taste.vectors))}; "
                f"the checkpoint uses {' and '.join(str(host.space) for host in hosts)}.",
                "Make it again for that space from its pictures, or pick another embedding or checkpoint.",
            )
        self.report = report = Report(left_alone=[host.space.name for host in hosts if host not in fitting])
        with contextlib.ExitStack() as stack:
            for host in fitting:
                stack.enter_context(_replaced(host.wrapper, ENCODE, _Personaliser(self, host, model, report)))
            yield


@contextlib.contextmanager
def _replaced(wrapper: Any, name: str, make: _Personaliser) -> Iterator[None]:
    # On the instance, and only meanwhile: another extension's own replacement is called and put back.
    own = wrapper.__dict__.get(name)
    make.ordinary = getattr(wrapper, name)
    setattr(wrapper, name, make)
    try:
        yield
    finally:
        if own is None:
            delattr(wrapper, name)
        else:
            setattr(wrapper, name, own)


class _Personaliser:
    """Stands in for one wrapper's ``encode_with_transformers``."""

    ordinary: Callable[[Tensor], Tensor]

    def __init__(self, job: Conditioning, host: HostEncoder, model: Any, report: Report) -> None:
        self.job, self.host, self.report = job, host, report
        self.checkpoint = getattr(model, "sd_checkpoint_info", None)
        self.target: Tensor | None = None
        self.settled = False

    def __call__(self, tokens: Tensor) -> Tensor:
        """Hidden states (B, T, C) for ids (B, T), as the WebUI expects them, ``.pooled`` included."""
        fixes = self.host.wrapper.hijack.fixes
        # First of all as ever: this loads the model to its device and patches LoRA into the weights.
        ordinary = self.ordinary(tokens)
        if not self.settled:
            # SD 2.x stops one layer early, so that its last layer has not seen this prompt's LoRA yet.
            with torch.no_grad():
                self.host.encoder.hidden_state(tokens[:1])
            self.settled = True
        rows = list(ordinary.split(1))
        pooled = getattr(ordinary, "pooled", None)
        pooled_rows: list[Any] = [None] * len(rows) if pooled is None else list(pooled.split(1))
        try:
            for row, ids in enumerate(tokens):
                end = ids.tolist().index(self.host.wrapper.id_end)
                if end > 1 and not self.job.interrupted:  # an empty chunk has nothing to move
                    encoded = self._row(ids, end, fixes[row] if fixes else [], (rows[row], pooled_rows[row]))
                    rows[row], pooled_rows[row] = encoded.hidden, encoded.pooled
        except Interrupted:
            self.job.interrupted = True
        hidden = torch.cat(rows)
        if pooled is not None:
            hidden.pooled = torch.cat(pooled_rows)  # type: ignore[attr-defined]
        return hidden

    def _row(self, ids: Tensor, end: int, fixes: list[Any], ordinary: tuple[Tensor, Tensor | None]) -> Encoded:
        job, hijack, encoder = self.job, self.host.wrapper.hijack, self.host.encoder
        key = (
            self.checkpoint,
            encoder.space,
            tuple(ids.tolist()),
            tuple((fix.offset, id(fix.embedding)) for fix in fixes),
            job.taste.key,
            shared.opts.CLIP_stop_at_last_layers,
            job.networks,
        )
        if key in job.memo:
            return job.memo[key]
        settings = job.taste.settings

        def before_pass(step: int) -> None:
            state = shared.state
            # Not state.stopping_generation: that one lets the picture be finished, and it should be the right one.
            if state.interrupted or state.skipped:
                raise Interrupted
            state.textinfo = f"Personalising the prompt: step {min(step + 1, settings.steps)} of {settings.steps}"
            hijack.fixes = [fixes]  # the token table eats them at every pass

        def encode(one: Tensor) -> tuple[Tensor, Tensor | None]:
            hidden = self.ordinary(one)
            return hidden, getattr(hidden, "pooled", None)

        try:
            encoded = personalize(
                encoder,
                ids,
                end,
                self._rotated_target(),
                settings,
                ordinary,
                encode,
                before_pass,
                options.memory(),
                job.taste.centres.get(encoder.space),
            )
        finally:
            hijack.fixes = None
            shared.state.textinfo = None
        before, *_, after = encoded.similarities
        self.report.similarities.append((encoder.space.name, before, after))
        print(
            f"Aesthetic Gradients: {' + '.join(job.taste.names)} on {encoder.space.name}, "
            f"similarity {before:.4f} -> {after:.4f} in {settings.steps} steps, memory {encoded.memory.value}"
        )
        job.memo[key] = encoded
        return encoded

    def _rotated_target(self) -> Tensor:
        if self.target is None:
            settings, encoder = self.job.taste.settings, self.host.encoder
            ids = text_ids(self.host, settings.text) if settings.text else None
            self.target = rotated(encoder, self.job.taste.vectors[encoder.space], settings, ids)
        return self.target
