"""A diffusers pipeline and prompts in, personalised prompt embeddings out."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...embeddings.embedding import SUFFIXES, Embedding, load
from ...embeddings.library import Library
from ...embeddings.picking import pick
from ...errors import AestheticError
from ...method.modes import Memory
from ...method.part import part_of
from ...method.personalize import Chunk
from ...method.session import Session
from ...method.tags import TAG, Tag, parse_tag, with_picks
from ...method.taste import Taste, taste
from ...progress import Progress, part, silent
from ...settings import Settings
from .encoders import PipelineEncoder, pipeline_encoders
from .private import borrowed
from .prompt_embeddings import OUTPUTS, PromptEmbeddings

_TAG = re.compile(rf"<{TAG}:([^<>]*)>")
_EMPTY = 1  # place of the end-of-text token in a prompt without words


def encode_prompts(
    pipe: Any,
    prompts: str | Sequence[str],
    settings: Settings,
    embeddings: Library | Embedding | None = None,
    *,
    negative_prompt: str | Sequence[str] | None = None,
    guidance: bool = True,
    clip_skip: int | None = None,
    text_tower: Path | str | None = None,
    seed: int = 0,
    memory: Memory = Memory.AUTOMATIC,
    bf16: bool = False,
    progress: Progress = silent,
) -> PromptEmbeddings:
    """Encode prompts as ``pipe`` does, personalised (Gallego 2022, arXiv 2209.12330).

    The result fits every pipeline with these text encoders that takes ``prompt_embeds``,
    be it for text, image to image, inpainting or ControlNet. The pipeline's own
    ``encode_prompt`` does the encoding; its weights are the same bits afterwards. Each
    prompt is personalised by itself. Where nothing moves (no embedding, no steps, a
    weight or a rate of 0) the result is the pipeline's own, bit for bit.

    What a text encoder lacks for the comparison with an embedding is found so:

    * SDXL's second encoder is whole.
    * SD 1.x and SDXL's first: CLIP ViT-L/14's text projection, from ``text_tower``, a
      ``text_projection.safetensors`` in the pipeline's folder, the caches, or a fetch of 2.4 MB.
    * SD 2.x: diffusers has the last of its 24 layers cut off. That layer and the projection
      are read from ``text_tower`` or the cached ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``;
      without either the pipeline is refused.

    Args:
        pipe: a diffusers pipeline of SD 1.x, 2.x or SDXL.
        prompts: one or several; tags ``<aesthetic:name:0.8>`` in them are obeyed and taken out.
        settings: the knobs; ``settings.embedding`` is a name in ``embeddings``, or the path of a file.
        embeddings: where names are looked up, or the one embedding that is meant.
        negative_prompt: one for all or one for each; left alone unless ``settings.negative_prompt``.
        guidance: whether negative embeddings are wanted; a pipeline that takes none gets none.
        clip_skip: as in the pipeline: 1 reads the layer before the usual one.
        text_tower: file or folder of the CLIP that the first text encoder came from.
        seed: of the first picture, counted up, where a name leaves a choice (``a|b``, ``warm*``): see :func:`picked`.
        memory: where the optimiser's state is; the numbers are the same.
        bf16: in the optimisation, matrices are multiplied by way of bf16 where the processor can; not quite the same.
        progress: told the steps done and the steps in all; may raise to stop.

    Raises:
        AestheticError: another kind of pipeline, an embedding that is missing, unusable or of
            another CLIP space, a knob out of range, or parts of the text tower are not to be had.
    """
    settings = Settings.from_mapping(asdict(settings))  # checks the ranges
    if isinstance(embeddings, Embedding):
        settings = replace(settings, embedding=embeddings.name)
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts:
        raise AestheticError("There is no prompt to encode.", "The list is empty.", "Give at least one.")
    negatives = _one_each(negative_prompt, len(texts))
    chosen = [picked(text, settings, embeddings, seed + number) for number, text in enumerate(texts)]
    split = [split_tags(text) for text, _ in chosen]
    plain = [text for text, _ in split]
    everything = embeddings.readable if isinstance(embeddings, Library) else tuple
    tastes = [
        taste(own, tags, lambda name: _load(embeddings, name), everything) for (_, own), (_, tags) in zip(chosen, split)
    ]
    with borrowed(pipe) as private, torch.no_grad():
        encoders = pipeline_encoders(private, Path(text_tower).expanduser() if text_tower else None)
        # Those of latent consistency take no negative prompt.
        guidance = guidance and "negative_prompt_embeds" in inspect.signature(type(pipe).__call__).parameters
        if not any(tastes):
            # All at once and by the caller's own, compiled or not: a batch may differ in the last bit.
            outputs = _encode(pipe if clip_skip is None else private, plain, negatives, guidance, clip_skip)
            nothing: tuple[dict[str, Any], ...] = tuple({} for _ in texts)
            return PromptEmbeddings(**_named(outputs), similarities=nothing, found=nothing)
        works = [_Work(private, encoders, it, guidance, clip_skip, memory, bf16) for it in tastes]
        total, before, rows = sum(work.steps for work in works), 0, []
        for i, (work, text) in enumerate(zip(works, plain)):
            negative = None if negatives is None else negatives[i]
            rows.append(work.run(text, negative, part(progress, before, total)))
            before += work.steps
        progress(total, total, "")
    ordinary, personalised, similarities = zip(*rows)
    bounds = part_of(settings)
    return PromptEmbeddings(
        **_named(_joined(personalised)),
        similarities=similarities,
        left_alone=tuple(dict.fromkeys(name for work in works for name in work.left_alone)),
        found=tuple(work.found for work in works),
        part=bounds,
        ordinary=None if bounds is None else PromptEmbeddings(**_named(_joined(ordinary))),
    )


def _named(outputs: Sequence[Tensor | None]) -> dict[str, Any]:
    return dict(zip(OUTPUTS, outputs))


def _joined(rows: Sequence[Sequence[Tensor | None]]) -> list[Tensor | None]:
    return [None if column[0] is None else torch.cat(column) for column in zip(*rows)]


def _one_each(negative: str | Sequence[str] | None, count: int) -> list[str] | None:
    if negative is None:
        return None
    negatives = [negative] * count if isinstance(negative, str) else list(negative)
    if len(negatives) != count:
        raise AestheticError(
            f"There are {len(negatives)} negative prompts for {count} prompts.", "", "Give one for all or one for each."
        )
    return negatives


def picked(prompt: str, settings: Settings, embeddings: Library | Embedding | None, seed: int) -> tuple[str, Settings]:
    """Prompt and settings of one picture, with what its seed picks in the place of names that leave a choice.

    Raises:
        AestheticError: nothing fits such a name.
    """

    def names() -> list[str]:
        files = [settings.embedding] if is_embedding_file(settings.embedding) else []
        return [*files, *(embeddings.names() if isinstance(embeddings, Library) else [])]

    embedding = pick(settings.embedding, names, seed)
    return with_picks(prompt, names, seed), replace(settings, embedding=embedding)


def is_embedding_file(name: str) -> bool:
    """Whether this is the path of an embedding's file."""
    return Path(name).suffix in SUFFIXES and Path(name).expanduser().is_file()


def split_tags(text: str) -> tuple[str, list[Tag]]:
    """A prompt without its tags, and the tags."""
    tags = [parse_tag(match[1].split(":")) for match in _TAG.finditer(text)]
    return (_TAG.sub("", text).strip() if tags else text), tags


def _load(embeddings: Library | Embedding | None, name: str) -> Embedding:
    if isinstance(embeddings, Embedding) and name == embeddings.name:
        return embeddings
    if isinstance(embeddings, Library) and name in embeddings.paths():
        return embeddings.load(name)
    if is_embedding_file(name):
        return load(Path(name).expanduser())
    if isinstance(embeddings, Library):
        return embeddings.load(name)  # says what there is instead
    raise AestheticError(
        f"There is no aesthetic embedding {name!r}.",
        "It is not the path of an embedding file, and no library was given to look it up in.",
        "Give a path, or a Library of the folder where it is.",
    )


def _encode(
    pipe: Any, texts: list[str], negatives: list[str] | None, guidance: bool, clip_skip: int | None
) -> list[Tensor | None]:
    """(prompt, negative) of SD 1.x and 2.x, (prompt, negative, pooled, negative pooled) of SDXL."""
    device = pipe._execution_device
    if not hasattr(pipe, "encode_prompt"):
        # InstructPix2Pix has only a function that joins what the pipeline wants apart.
        sides = [texts, negatives or [""] * len(texts)] if guidance else [texts]
        return [pipe._encode_prompt(side, device, 1, False) for side in sides]
    parameters = inspect.signature(pipe.encode_prompt).parameters
    if "do_classifier_free_guidance" not in parameters:
        raise AestheticError(
            f"A {type(pipe).__name__} can't be personalised.",
            "It encodes prompts only in the middle of a generation.",
            "Encode them with a pipeline for text to image that has the same text encoder.",
        )
    wanted = {
        "prompt": texts,
        "device": device,
        "num_images_per_prompt": 1,
        "num_videos_per_prompt": 1,
        "do_classifier_free_guidance": guidance,
        "negative_prompt": negatives,
        "clip_skip": clip_skip,
    }
    return list(pipe.encode_prompt(**{name: value for name, value in wanted.items() if name in parameters}))


class _Work:
    """Encodes one prompt and moves what is to be moved.

    Attributes:
        steps: optimisation steps in all, at most.
        left_alone: names of CLIP spaces.
    """

    def __init__(
        self,
        pipe: Any,
        encoders: list[PipelineEncoder],
        taste: Taste | None,
        guidance: bool,
        clip_skip: int | None,
        memory: Memory,
        bf16: bool,
    ) -> None:
        self.pipe, self.encoders, self.guidance, self.clip_skip = pipe, encoders, guidance, clip_skip
        self.session = None if taste is None else Session(taste, encoders, memory=memory, bf16=bf16)
        self.steps, self.left_alone, self.sides = 0, [], [0]
        if self.session is not None and taste is not None:
            self.left_alone = self.session.report.left_alone
            if guidance and taste.settings.negative_prompt:
                self.sides = [0, 1]
            self.steps = taste.settings.steps * len(self.session.fitting(encoders)) * len(self.sides)

    @property
    def found(self) -> dict[str, str]:
        """Generation parameters."""
        return {} if self.session is None else self.session.report.parameters(self.session.taste)

    def run(
        self, text: str, negative: str | None, progress: Progress
    ) -> tuple[list[Tensor | None], list[Tensor | None], dict[str, tuple[float, ...]]]:
        """The outputs of ``encode_prompt`` for this prompt, the personalised ones, and the similarities by CLIP space."""
        negatives = None if negative is None else [negative]

        def encode() -> list[Tensor | None]:
            return _encode(self.pipe, [text], negatives, self.guidance, self.clip_skip)

        ids: list[list[Tensor]] = [[] for _ in self.encoders]
        with contextlib.ExitStack() as stack:
            for host, seen in zip(self.encoders, ids):
                stack.callback(host.module.register_forward_pre_hook(_recorder(seen), with_kwargs=True).remove)
            ordinary = encode()
        outputs = list(ordinary)
        similarities: dict[str, tuple[float, ...]] = {}
        if self.session is None:
            return ordinary, outputs, similarities
        first, done = 0, 0
        for host, seen in zip(self.encoders, ids):
            channels = slice(first, first + host.width)
            first = channels.stop
            if host not in self.session.fitting(self.encoders):
                continue
            for side in self.sides:
                self.session.progress = part(progress, done)
                # SDXL's missing negative prompt is all zeros and never passes the encoder.
                end = _end(seen[side][0], host) if side < len(seen) else _EMPTY
                if end > _EMPTY:
                    place = _Place(side, channels, has_pooled=len(outputs) > 2 and host is self.encoders[-1])
                    numbers = self._move(host, seen[side][0], end, place, encode, outputs)
                    if side == 0:
                        similarities[host.space.name] = numbers
                done += self.session.taste.settings.steps
        return ordinary, outputs, similarities

    def _move(
        self,
        host: PipelineEncoder,
        ids: Tensor,
        end: int,
        place: _Place,
        encode: Callable[[], list[Tensor | None]],
        outputs: list[Tensor | None],
    ) -> tuple[float, ...]:
        """Personalise one prompt's share of one text encoder in ``outputs``."""
        assert self.session is not None
        chunk = Chunk(ids.to(host.encoder.device), end, place.of(outputs), lambda _: place.of(encode()))
        encoded = self.session.personalised(host, chunk)
        place.put(outputs, encoded.hidden, encoded.pooled)
        return encoded.similarities


@dataclass(frozen=True)
class _Place:
    """Where one text encoder's share stands in what ``encode_prompt`` returns.

    Attributes:
        side: 0 for the prompt, 1 for the negative prompt.
        channels: its part of the last axis.
        has_pooled: the pooled vector is its own; SDXL's is the last encoder's.
    """

    side: int
    channels: slice
    has_pooled: bool

    def of(self, outputs: list[Tensor | None]) -> tuple[Tensor, Tensor | None]:
        hidden = outputs[self.side]
        assert hidden is not None
        return hidden[..., self.channels], outputs[self.side + 2] if self.has_pooled else None

    def put(self, outputs: list[Tensor | None], share: Tensor, pooled: Tensor | None) -> None:
        hidden = outputs[self.side]
        assert hidden is not None
        before, after = hidden[..., : self.channels.start], hidden[..., self.channels.stop :]
        outputs[self.side] = torch.cat((before, share, after), dim=-1)
        if self.has_pooled:
            outputs[self.side + 2] = pooled


def _recorder(seen: list[Tensor]) -> Callable[..., None]:
    def record(_: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(args[0] if args else kwargs["input_ids"])

    return record


def _end(ids: Tensor, encoder: PipelineEncoder) -> int:
    return int(ids.tolist().index(encoder.tokenizer.eos_token_id))
