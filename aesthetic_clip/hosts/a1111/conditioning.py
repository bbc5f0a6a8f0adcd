"""Personalises what the WebUI's text encoders say, while one conditioning is computed."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from modules import shared
from torch import Tensor

from ...errors import Interrupted
from ...method.personalize import Chunk, Encoded
from ...method.session import Report, Session
from ...method.taste import Taste
from . import options
from .families.encoders import host_encoders
from .families.layers import Layers
from .families.webui_encoder import WebUIEncoder
from .schedules import in_part


@dataclass
class Conditioning:
    """The personalisation of one conditioning, positive or negative.

    Attributes:
        taste: where to.
        memo: chunks that this job personalised already; the hires pass asks for the same ones again.
        networks: the prompt's extra networks, which change the text encoder, as text.
        part: the sampling steps that read it, where not all of them do.
        total: sampling steps.
        interrupted: the user stopped it; the rest is as without it, and must not be kept.
        report: what was done; None if the WebUI's cache answered.
    """

    taste: Taste
    memo: MutableMapping[Hashable, Encoded]
    networks: str = ""
    part: range | None = None
    total: int = 0
    interrupted: bool = False
    report: Report | None = None

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function(model, ...)``, the WebUI's encoding of a prompt, with the encoders personalised meanwhile."""

        def personalised(model: Any, *args: Any, **kwargs: Any) -> Any:
            again = None if self.part is None else _Again(model)
            with self._hooked(model):
                conds = function(model, *args, **kwargs)
            if self.part is None or again is None:
                return conds
            with again.unnoted():
                return in_part(function(model, *args, **kwargs), conds, self.part, self.total)

        return personalised

    @contextlib.contextmanager
    def _hooked(self, model: Any) -> Iterator[None]:
        hosts = host_encoders(model)
        session = Session(self.taste, hosts, "checkpoint", options.memory(), _watch, self.memo, options.bf16())
        self.report = session.report
        checkpoint = getattr(model, "sd_checkpoint_info", None)
        with contextlib.ExitStack() as stack:
            for host in session.fitting(hosts):
                stand_in = _StandIn(self, session, host, checkpoint)
                stack.enter_context(_replaced(host.owner, host.encoding, stand_in))
                if hasattr(host.reader, "process_texts"):
                    stack.enter_context(_replaced(host.reader, "process_texts", stand_in.counting()))
            try:
                yield
            finally:
                shared.state.textinfo = None


class _Again:
    """The same prompts encoded a second time, ordinarily: made before the first, and nothing is noted or counted twice."""

    def __init__(self, model: Any) -> None:
        self.hosts = host_encoders(model)
        self.layers = [Layers(host.module) for host in self.hosts]

    @contextlib.contextmanager
    def unnoted(self) -> Iterator[None]:
        notes = [note for host in self.hosts for note in host.notes()]
        before = [copy.copy(note) for note in notes]
        try:
            with contextlib.ExitStack() as stack:
                for layers in self.layers:
                    stack.enter_context(layers.repeated())
                yield
        finally:
            for note, kept in zip(notes, before):
                note.clear()
                note.extend(kept) if isinstance(note, list) else note.update(kept)


def _watch(_done: int, _total: int, line: str) -> None:
    state = shared.state
    # Not state.stopping_generation: that one lets the picture be finished, and it should be the right one.
    if state.interrupted or state.skipped:
        raise Interrupted
    state.textinfo = line


@contextlib.contextmanager
def _replaced(owner: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    # On the instance, and only meanwhile: another extension's own replacement is called and put back.
    instance_attribute = owner.__dict__.get(name)
    setattr(owner, name, replacement)
    try:
        yield
    finally:
        if instance_attribute is None:
            delattr(owner, name)
        else:
            setattr(owner, name, instance_attribute)


class _StandIn:
    """Stands in for one encoder's method that encodes tokens."""

    def __init__(self, job: Conditioning, session: Session, host: WebUIEncoder, checkpoint: Hashable) -> None:
        self.job, self.session, self.host, self.checkpoint = job, session, host, checkpoint
        self.ordinary: Callable[[Tensor], Any] = getattr(host.owner, host.encoding)
        self.settled = False
        self.part = self.parts = 0

    def counting(self) -> Callable[..., Any]:
        """The host's method that divides texts into parts of 75 tokens, so that it is known how many there are."""
        process_texts: Callable[..., Any] = self.host.reader.process_texts

        def counted(texts: Any) -> Any:
            result = process_texts(texts)
            self.part, self.parts = 0, sum(self._filled(chunk) for chunks in result[0] for chunk in chunks)
            return result

        return counted

    def _filled(self, chunk: Any) -> bool:
        tokens, end = list(getattr(chunk, "tokens", ())), self.host.reader.id_end
        return end in tokens and tokens.index(end) > 1

    def __call__(self, tokens: Tensor) -> Any:
        """What the WebUI expects for ids (B, T)."""
        fixes = self.host.fixes
        layers = Layers(self.host.module)
        # First of all as ever: this loads the model to its device and patches LoRA into the weights.
        ordinary = self.ordinary(tokens)
        if not self.settled:
            self.host.settle(tokens)
            self.settled = True
        hidden, pooled = self.host.read(ordinary)
        rows = list(hidden.split(1))
        pooled_rows: list[Any] = [None] * len(rows) if pooled is None else list(pooled.split(1))
        try:
            with layers.around_passes():
                for row, ids in enumerate(tokens):
                    end = ids.tolist().index(self.host.reader.id_end)
                    if end > 1 and not self.job.interrupted:  # an empty chunk has nothing to move
                        chunk = Chunk(ids, end, (rows[row], pooled_rows[row]), self._encode)
                        encoded = self._personalised(chunk, fixes[row] if fixes else [], layers)
                        rows[row], pooled_rows[row] = encoded.hidden, encoded.pooled
        except Interrupted:
            self.job.interrupted = True
        return self.host.written(torch.cat(rows), None if pooled is None else torch.cat(pooled_rows))

    def _encode(self, one: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.host.read(self.ordinary(one))

    def _personalised(self, chunk: Chunk, fixes: Sequence[Any], layers: Layers) -> Encoded:
        self.part += 1
        key = (self.checkpoint, self.host.fixes_key(fixes), shared.opts.CLIP_stop_at_last_layers, self.job.networks)

        def before_pass(_step: int) -> None:
            layers.rewind()
            # The token table eats the textual inversions at every pass.
            self.host.put_fixes([fixes])

        try:
            return self.session.personalised(self.host, chunk, before_pass, key, (self.part, self.parts))
        finally:
            self.host.put_fixes(None)
