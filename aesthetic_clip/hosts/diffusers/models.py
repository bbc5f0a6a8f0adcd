"""Stable Diffusion models from a folder, the hub or a single file, as diffusers pipelines for text to image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from ...errors import AestheticError
from ...spaces import VIT_H

CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt")
_KINDS = {"v1": "StableDiffusionPipeline", "v2": "StableDiffusionPipeline", "xl_base": "StableDiffusionXLPipeline"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LONGEST_REASON = 300


def load_pipeline(model: str, device: str, dtype: torch.dtype, config: str | None = None) -> Any:
    """A ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline`` on ``device``.

    Args:
        model: a folder in diffusers' layout, ``owner/name`` on the hub, or one ``.safetensors`` or ``.ckpt`` file.
        device: torch's name of it.
        dtype: of all weights.
        config: for a single file, the ``.yaml`` of its training code, or folder or hub id of a pipeline of the same
            kind; by default diffusers gets that.

    Raises:
        AestheticError: no diffusers here, no such model, it can't be read or is of another kind.
    """
    try:
        import diffusers
    except ImportError as error:
        raise AestheticError(
            "Pictures and prompts need diffusers.",
            f"It can't be imported ({error}).",
            "Install it: pip install 'aesthetic-clip[standalone]', or pip install diffusers.",
        ) from error
    path = Path(model).expanduser()
    pipe: Any
    kinds: Any = (diffusers.StableDiffusionPipeline, diffusers.StableDiffusionXLPipeline)
    try:
        if path.is_file():
            pipe = _from_file(diffusers, path, dtype, config)
        elif path.is_dir() or _HUB_ID.fullmatch(model):
            pipe = diffusers.DiffusionPipeline.from_pretrained(str(path) if path.is_dir() else model, dtype=dtype)
        else:
            raise AestheticError(
                f"There is no model {model!r}.",
                "It is no folder, no file and no id on the hub such as owner/name.",
                "Check the path.",
            )
    except AestheticError:
        raise
    except Exception as error:  # diffusers, transformers and the hub each have their own, for anything
        raise AestheticError(
            f"The model {model!r} can't be loaded.",
            _reason(error),
            "Give a Stable Diffusion 1.x, 2.x or SDXL model that is on this machine or can be downloaded.",
        ) from error
    if not isinstance(pipe, kinds):
        raise AestheticError(
            f"The model {model!r} does not make pictures from text with Stable Diffusion.",
            f"It is a {type(pipe).__name__}.",
            "Give a Stable Diffusion 1.x, 2.x or SDXL model.",
        )
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise AestheticError(
            f"The model can't be put on {device!r}.", _reason(error), "Choose another device."
        ) from error


def own_tower(pipe: Any, model: str) -> Path | None:
    """The model's file, if it holds what diffusers cuts off: a single file of SD 2.x has the whole text tower."""
    path = Path(model).expanduser()
    return path if path.is_file() and pipe.text_encoder.config.hidden_size == VIT_H.dim else None


def _from_file(diffusers: Any, path: Path, dtype: torch.dtype, config: str | None) -> Any:
    if path.suffix not in CHECKPOINT_SUFFIXES:
        raise AestheticError(
            f"The model {path.name!r} can't be loaded.",
            f"A model in one file ends in {' or '.join(CHECKPOINT_SUFFIXES)}.",
            "Give such a file, a diffusers folder or a hub id.",
        )
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type, load_single_file_checkpoint

    content = load_single_file_checkpoint(str(path))
    kind = infer_diffusers_model_type(content)
    if kind not in _KINDS or not any(key.startswith("model.diffusion_model.") for key in content):
        raise AestheticError(
            f"The model {path.name!r} does not make pictures from text with Stable Diffusion.",
            f"diffusers takes it for {kind}." if kind not in _KINDS else "It holds no diffusion model.",
            "Give a Stable Diffusion 1.x, 2.x or SDXL model.",
        )
    pipeline = getattr(diffusers, _KINDS[kind])
    more = {}
    if config is not None:
        # A .yaml is what the model's own training code describes it by.
        more = {"original_config" if Path(config).suffix in (".yaml", ".yml") else "config": config}
    try:
        return pipeline.from_single_file(str(path), dtype=dtype, **more)
    except Exception as error:
        if config is not None:
            raise
        raise AestheticError(
            f"The model {path.name!r} can't be loaded.",
            f"diffusers needs the configuration of its kind of model from the hub: {_reason(error)}",
            "Give --config, the folder of any diffusers model of that kind.",
        ) from error


def _reason(error: Exception) -> str:
    # The first sentence of what may be a page.
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    said = re.split(r"(?<=[.!?]) ", said)[0].rstrip(".")
    return (said if len(said) <= _LONGEST_REASON else said[:_LONGEST_REASON] + "..") + "."
