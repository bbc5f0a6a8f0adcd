"""The CLIP text encoders of a diffusers pipeline.

A pipeline holds less than a CLIP text tower. SD 1.x and SDXL's first encoder lack the
projection into the space of the image features; SD 2.x lacks its last layer as well.
Only SDXL's second encoder is whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import transformers
from torch import Tensor

from ...clip.completed import Completed, CompletedTextEncoder, missing_layers
from ...clip.text_encoder import TextEncoder, TransformersTextEncoder
from ...clip.text_projection import ProjectionSources, find_text_projection
from ...errors import AestheticError
from ...spaces import PUBLISHED, VIT_H, VIT_L, Space, space_of
from .private import unwrapped

PROJECTION_FILE = "text_projection.safetensors"
_TOWER_FILES = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")


@dataclass(frozen=True, eq=False)
class PipelineEncoder:
    """One text encoder of a pipeline.

    Attributes:
        module: ``CLIPTextModel`` or ``CLIPTextModelWithProjection``.
        tokenizer: the one that belongs to it.
        width: of its hidden state.
        tower: where what it lacks is, if the user says so.
        folder: the pipeline's own, if it came from one on this machine.
        convert: puts the pipeline's textual inversions into a text, for a tokenizer.
    """

    module: Any
    tokenizer: Any
    width: int
    tower: Path | None
    folder: Path | None
    convert: Callable[[str, Any], str] | None = None

    @property
    def space(self) -> Space:
        """Which features it can be compared with; nothing is read or fetched for the published ones."""
        if projection := getattr(self.module, "text_projection", None):
            return space_of(projection.weight.shape[0])
        published = next((space for space in PUBLISHED if space.dim == self.width), None)
        return published or self.encoder.space

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        """The whole text tower.

        Raises:
            AestheticError: what the pipeline lacks is not to be had, or does not belong to it.
        """
        if any(p.device.type == "meta" for p in self.module.parameters()):
            raise AestheticError(
                "The prompt can't be personalised.",
                "The text encoder's weights are not in memory: they are offloaded in a way that is not known here.",
                "Encode the prompts before the offloading is switched on, or use enable_model_cpu_offload.",
            )
        if projection := getattr(self.module, "text_projection", None):
            return TransformersTextEncoder(self.module, projection.weight.T)
        if self.width == VIT_H.dim:
            return self._completed(self.tower or _cached_tower(VIT_H) or self._no_tower())
        beside = self.folder / PROJECTION_FILE if self.folder else None
        source = self.tower or (beside if beside and beside.is_file() else None)
        return TransformersTextEncoder(self.module, self._projection(source))

    def token_ids(self, text: str) -> Tensor:
        """Ids (T,) of a text from start-of-text to end-of-text."""
        if self.convert:
            text = self.convert(text, self.tokenizer)
        ids: Tensor = self.tokenizer(text, return_tensors="pt").input_ids[0]
        return ids.to(self.encoder.device)

    def _projection(self, path: Path | None) -> Tensor:
        try:
            return find_text_projection(self.width, ProjectionSources(path))
        except AestheticError as error:
            raise AestheticError(
                error.what,
                error.why,
                f"Give the file or folder of the CLIP model that belongs to the pipeline ({VIT_L.hub_id} for SD 1.x "
                f"and SDXL) as text_tower, or put its {PROJECTION_FILE} into the pipeline's folder.",
            ) from error

    def _completed(self, tower: Path) -> TextEncoder:
        """With the layers that ``tower`` has beyond the pipeline's."""
        file = _tower_file(tower)
        added = missing_layers(self.module, file)
        projection = self._projection(file)
        if not added:
            return TransformersTextEncoder(self.module, projection)
        return CompletedTextEncoder(Completed(self.module, added), projection)

    @staticmethod
    def _no_tower() -> Path:
        raise AestheticError(
            "SD 2.x pipelines can't be personalised as they are.",
            "Their text encoder has its last layer and its projection cut off, without which it can't be compared "
            "with an embedding, and the published CLIP is not on this machine.",
            f"Give the model.safetensors of {VIT_H.hub_id}, or an SD 2.x checkpoint as one .safetensors or .ckpt file, "
            "as text_tower.",
        )


def _cached_tower(space: Space) -> Path | None:
    for name in _TOWER_FILES:
        found = huggingface_hub.try_to_load_from_cache(str(space.hub_id), name)
        if isinstance(found, str):
            return Path(found)
    return None


def _tower_file(tower: Path) -> Path:
    for candidate in [tower, *(tower / name for name in _TOWER_FILES)]:
        if candidate.is_file():
            return candidate
    raise AestheticError(
        f"There is no text tower at {tower}.",
        f"It is no file, and no folder with {' or '.join(_TOWER_FILES)}.",
        "Check the path.",
    )


def pipeline_encoders(pipe: Any, tower: Path | None) -> list[PipelineEncoder]:
    """SD 1.x and 2.x have one, SDXL has two, its refiner only the second.

    Raises:
        AestheticError: not a pipeline of Stable Diffusion.
    """
    found = [
        (module, getattr(pipe, f"tokenizer{n}", None))
        for n in ("", "_2", "_3")
        if (module := unwrapped(getattr(pipe, f"text_encoder{n}", None))) is not None
    ]
    kinds = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
    if not found and hasattr(pipe, "text_encoder"):
        raise AestheticError(
            f"This {type(pipe).__name__} can't personalise a prompt.",
            "Its text_encoder is None.",
            "Encode the prompts with a pipeline that has its text encoder, and give this one the result.",
        )
    if (
        not found
        or not all(isinstance(module, kinds) and tokenizer is not None for module, tokenizer in found)
        or not (hasattr(pipe, "encode_prompt") or hasattr(pipe, "_encode_prompt"))
        or not hasattr(pipe, "unet")
    ):
        raise AestheticError(
            f"A {type(pipe).__name__} can't be personalised.",
            "Its prompt is not read by the CLIP text encoders of Stable Diffusion 1.x, 2.x or SDXL alone.",
            "Choose a model of one of these families.",
        )
    folder = Path(str(getattr(pipe.config, "_name_or_path", None) or ""))
    local, convert = folder if folder.is_dir() else None, getattr(pipe, "maybe_convert_prompt", None)
    encoders = [
        PipelineEncoder(module, tokenizer, module.config.hidden_size, None, local, convert)
        for module, tokenizer in found
    ]
    return [replace(encoders[0], tower=tower), *encoders[1:]]
