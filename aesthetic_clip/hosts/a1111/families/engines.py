"""Text encoders as Forge and its heirs hold them: "engines" of backend/text_processing around a transformers CLIP.

An engine has the methods of AUTOMATIC1111's wrappers, but is found, and holds its model and its
textual inversions, under other names. Models are loaded and prompts encoded in inference mode,
and a memory manager decides what is on the GPU.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ....clip.completed import Completed, CompletedTextEncoder, missing_layers
from ....clip.text_encoder import TextEncoder, TransformersTextEncoder
from ....clip.text_projection import find_text_projection
from ....errors import AestheticError
from ....method.memory import bytes_needed
from ....method.modes import Memory
from ....spaces import VIT_H, VIT_L, Space, space_of
from ..options import memory as memory_setting
from ..options import projection_sources
from .folding import Folding
from .webui_encoder import WebUIEncoder

_PLACES = ("text_processing_engine", "text_processing_engine_l", "text_processing_engine_g")


class EngineEncoder(WebUIEncoder):
    """An engine: ``text_encoder.transformer`` is the model, ``embeddings.fixes`` the textual inversions."""

    def __init__(self, engine: Any, model: Any) -> None:
        self.owner = self.reader = engine
        self.model = model

    @property
    def space(self) -> Space:
        transformer = self.owner.text_encoder.transformer
        projection = _own_projection(transformer)
        return space_of(transformer.config.hidden_size if projection is None else projection.shape[-1])

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        transformer = self.owner.text_encoder.transformer
        projection = _own_projection(transformer)
        if projection is None:
            projection = find_text_projection(transformer.config.hidden_size, projection_sources())
        # Single layers, the token table among them, may be kept in main memory.
        device = importlib.import_module("backend.memory_management").text_encoder_device()
        if transformer.config.hidden_size == VIT_H.dim and (lost := missing_layers(transformer, self._file())):
            return _CompletedEngineTextEncoder(Completed(transformer, lost), projection, device=device)
        return _EngineTextEncoder(transformer, projection, device=device)

    def _file(self) -> Path:
        """SD 2.x's checkpoint, whose last layer Forge leaves out when it loads it."""
        file = Path(getattr(getattr(self.model, "sd_checkpoint_info", None), "filename", ""))
        if file.is_file():
            return file
        raise AestheticError(
            "This checkpoint can't be personalised.",
            "An SD 2.x text encoder is loaded without its last layer, and the checkpoint's file is not there any more.",
            "Put the checkpoint back where it was.",
        )

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.owner.text_encoder.transformer
        return module

    @property
    def fixes(self) -> Sequence[Sequence[Any]] | None:
        fixes: Sequence[Sequence[Any]] | None = self.owner.embeddings.fixes
        return fixes

    def put_fixes(self, fixes: Sequence[Sequence[Any]] | None) -> None:
        self.owner.embeddings.fixes = fixes

    def notes(self) -> list[list[Any] | dict[str, Any]]:
        # Forge has them in the engines' module, Neo in its dynamic arguments.
        module = sys.modules[type(self.owner).__module__]
        holders = (module, getattr(module, "dynamic_args", None))
        found = (getattr(holder, "last_extra_generation_params", None) for holder in holders)
        return [notes for notes in found if notes is not None]

    def load(self) -> None:
        importlib.import_module("backend.memory_management").load_model_gpu(self.model.forge_objects.clip.patcher)

    def settle(self, tokens: Tensor) -> None:
        # What seems to be free is not what can be had: the manager sends the UNet away if it is asked.
        memory = importlib.import_module("backend.memory_management")
        wanted = memory_setting()
        room = bytes_needed(self.encoder, Memory.FAST if wanted is Memory.AUTOMATIC else wanted)
        memory.load_models_gpu([self.model.forge_objects.clip.patcher], memory_required=room)


class _EngineTextEncoder(Folding, TransformersTextEncoder):
    """The CLIP of an engine."""


class _CompletedEngineTextEncoder(Folding, CompletedTextEncoder):
    """The CLIP of an SD 2.x engine, and the layer that it lacks."""


def _own_projection(transformer: Any) -> Tensor | None:
    """(width, dim) the text projection of the file; ViT-L/14's is missing there, or the identity matrix."""
    projection = getattr(getattr(transformer, "text_projection", None), "weight", None)
    if projection is None or transformer.config.hidden_size == VIT_L.dim:
        return None
    return projection.detach().T  # type: ignore[no-any-return]


def _is_clip(engine: Any) -> bool:
    transformer = getattr(getattr(engine, "text_encoder", None), "transformer", None)
    embeddings = getattr(getattr(transformer, "text_model", transformer), "embeddings", None)
    # Other models stand under the same names; none of them has a learned place for each token.
    return hasattr(embeddings, "token_embedding") and hasattr(embeddings, "position_embedding")


def engine_encoders(model: Any) -> list[WebUIEncoder]:
    """SD 1.x and 2.x have one, SDXL has two, its refiner one, Flux a CLIP beside its T5; none in other hosts' models."""
    engines = (getattr(model, place, None) for place in _PLACES)
    return [EngineEncoder(engine, model) for engine in engines if engine is not None and _is_clip(engine)]
