"""What the hook needs of a text encoder, in whatever way a member of the WebUI's family holds it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ....clip.text_encoder import TextEncoder
from ....spaces import Space


class WebUIEncoder(ABC):
    """One text encoder of the loaded checkpoint (a :class:`~...method.session.HostEncoder`).

    Attributes:
        owner: the host's object that encodes tokens.
        encoding: its method that does.
        reader: the host's object with ``tokenize``, ``id_start`` and ``id_end`` (modules/sd_hijack_clip.py; Forge
            kept the names).
    """

    owner: Any
    encoding = "encode_with_transformers"
    reader: Any

    def read(self, result: Any) -> tuple[Tensor, Tensor | None]:
        """Hidden states (B, T, C) and pooled vectors (B, P) in what ``encoding`` returns."""
        return result, getattr(result, "pooled", None)

    def written(self, hidden: Tensor, pooled: Tensor | None) -> Any:
        """What ``encoding`` would return."""
        if pooled is not None:
            hidden.pooled = pooled  # type: ignore[attr-defined]
        return hidden

    @property
    @abstractmethod
    def space(self) -> Space:
        """Its CLIP space, known without its text projection."""

    @property
    @abstractmethod
    def encoder(self) -> TextEncoder:
        """The tower inside.

        Raises:
            AestheticError: its text projection is missing.
        """

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The host's module with the tower's layers."""

    @property
    @abstractmethod
    def fixes(self) -> Sequence[Sequence[Any]] | None:
        """Textual inversions of the batch at hand, a list per row, which the host's token table takes at its next pass."""

    @abstractmethod
    def put_fixes(self, fixes: Sequence[Sequence[Any]] | None) -> None:
        """Have the token table take these at its next pass."""

    @abstractmethod
    def settle(self, tokens: Tensor) -> None:
        """Called once after the host's own encoding of ``tokens`` (B, T), before the weights are read."""

    @abstractmethod
    def notes(self) -> list[list[Any] | dict[str, Any]]:
        """Where the host notes, while it encodes, what it tells under the picture and in its parameters."""

    def load(self) -> None:  # noqa: B027 - nothing to do where encoding does it
        """Put the model on its device, outside a job, which would have done it."""

    def token_ids(self, text: str) -> Tensor:
        """Ids (T,) from start-of-text to end-of-text."""
        ids = [self.reader.id_start, *self.reader.tokenize([text])[0], self.reader.id_end]
        return torch.tensor(ids, device=self.encoder.device)

    def fixes_key(self, fixes: Sequence[Any]) -> Hashable:
        """Tells the textual inversions of two chunks apart."""
        return tuple((fix.offset, id(fix.embedding)) for fix in fixes)
