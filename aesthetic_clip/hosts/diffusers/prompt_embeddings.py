"""What a pipeline takes in place of prompts, for all of the sampling or a part of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import AestheticError
from ...method.part import nothing_in, steps_of

_log = logging.getLogger("aesthetic_clip")
# In the order in which SDXL's encode_prompt returns them; SD 1.x and 2.x return the first two.
OUTPUTS = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
# As the pipelines call them: what is read by the UNet, and what it was joined from.
_JOINED = {
    "prompt_embeds": ("prompt_embeds", "negative_prompt_embeds"),
    "add_text_embeds": ("pooled_prompt_embeds", "negative_pooled_prompt_embeds"),
}


@dataclass(frozen=True)
class PromptEmbeddings:
    """What a pipeline takes in place of prompts; all in its dtype and on its device.

    Attributes:
        prompt_embeds: (B, T, C), one row per prompt.
        negative_prompt_embeds: (B, T, C), None without guidance.
        pooled_prompt_embeds: (B, P), SDXL only.
        negative_pooled_prompt_embeds: (B, P), SDXL with guidance only.
        similarities: for each prompt, by CLIP space, the cosine similarity to the
            embedding before each step and after the last; empty where nothing moved.
        left_alone: the CLIP spaces of text encoders that an embedding had no vector for.
        found: for each prompt, as generation parameters, what was found where the settings leave it open.
        part: where the personalised prompts are read, from and to, 0 to 1 of the sampling; None is all of it.
        ordinary: the prompts as the pipeline itself encodes them, for the rest.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None = None
    pooled_prompt_embeds: Tensor | None = None
    negative_pooled_prompt_embeds: Tensor | None = None
    similarities: tuple[Mapping[str, tuple[float, ...]], ...] = ()
    left_alone: tuple[str, ...] = ()
    found: tuple[Mapping[str, str], ...] = ()
    part: tuple[float, float] | None = None
    ordinary: PromptEmbeddings | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for the pipeline, those that there are: ``pipe(**embeddings.arguments())``.

        For a part of the sampling there is a callback among them, and what it wants from the pipeline
        (:class:`PartOfSampling`, to be called from a callback of one's own).
        """
        if self.part is None:
            return self.tensors()
        part = PartOfSampling([self])
        return {
            **part.begin(),
            "callback_on_step_end": part,
            "callback_on_step_end_tensor_inputs": part.tensor_inputs,
        }

    def at(self, step: int, total: int) -> PromptEmbeddings:
        """What the pipeline is to read in one of so many sampling steps, counted from 0."""
        if self.part is None or self.ordinary is None or step in steps_of(self.part, total):
            return self
        return self.ordinary

    def tensors(self) -> dict[str, Tensor]:
        """The embeddings that there are, by their names as arguments of the pipeline."""
        return {name: tensor for name in OUTPUTS if (tensor := getattr(self, name)) is not None}


class PartOfSampling:
    """Puts the ordinary prompts in the place of the personalised ones, and back, where their parts begin and end.

    For ``pipe(callback_on_step_end=..., callback_on_step_end_tensor_inputs=...tensor_inputs)``, or to be called from a
    callback of one's own; it works with several pictures per prompt and with and without guidance.

    Args:
        rows: the prompts of a pipeline's batch, in their order; some may be without a part.
    """

    def __init__(self, rows: Sequence[PromptEmbeddings]) -> None:
        self.rows = rows
        pooled = rows[0].pooled_prompt_embeds is not None
        self.tensor_inputs: list[str] = ["latents", *(name for name in _JOINED if pooled or name == "prompt_embeds")]

    def begin(self) -> dict[str, Tensor]:
        """What the first step reads, as arguments for the pipeline."""
        # Step 0 begins at 0, however many there are.
        return self._at(0, 1)

    def __call__(self, pipe: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """After a step: what the next one reads.

        Args:
            pipe: the pipeline, which says how many steps there are.
            step: the one that is done, from 0.
            tensors: those of :attr:`tensor_inputs`, and any others.

        Raises:
            AestheticError: other embeddings are in the pipeline.
        """
        total = int(pipe.num_timesteps)
        if step == 0:
            self._warn(total)
        if step + 1 >= total or all(row.at(step, total) is row.at(step + 1, total) for row in self.rows):
            return tensors
        now, following = self._at(step, total), self._at(step + 1, total)
        for name, sides in _JOINED.items():
            if name in tensors and any(not torch.equal(now[side], following[side]) for side in sides if side in now):
                tensors[name] = _exchanged(tensors[name], len(tensors["latents"]), sides, now, following)
        return tensors

    def _at(self, step: int, total: int) -> dict[str, Tensor]:
        rows = [row.at(step, total).tensors() for row in self.rows]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _warn(self, total: int) -> None:
        for part in {row.part for row in self.rows if row.part is not None}:
            if not steps_of(part, total):
                _log.warning(nothing_in(part, total))


def _exchanged(
    joined: Tensor, pictures: int, sides: Sequence[str], now: dict[str, Tensor], following: dict[str, Tensor]
) -> Tensor:
    """The tensor that a pipeline joined of the prompts and, with guidance, of the negative prompts, in any order.

    Args:
        joined: (k * pictures, ...) rows.
        pictures: those of the batch, a multiple of the prompts.
        sides: names of what it may be joined of.
        now, following: the tensors of these names, before and after.
    """
    blocks, found = list(joined.split(pictures)), False
    for place in range(len(blocks)):
        # Where prompts and negative prompts say the same, the negative ones stand first, as nearly everywhere.
        order = sides if place or len(blocks) == 1 else sides[::-1]
        for side in (side for side in order if side in now):
            each = pictures // len(now[side])
            if torch.equal(blocks[place], now[side].repeat_interleave(each, 0).to(joined)):
                blocks[place], found = following[side].repeat_interleave(each, 0).to(joined), True
                break
    if not found:
        raise AestheticError(
            "The personalised prompt can't be used for a part of the sampling.",
            "The pipeline has other prompt embeddings than it was given.",
            "Leave out what changes them, or set guidance_start to 0 and guidance_end to 1.",
        )
    return torch.cat(blocks)
