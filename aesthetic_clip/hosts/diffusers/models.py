"""Stable Diffusion models from a folder, the hub or a single file, as diffusers pipelines for text to image."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ...errors import AestheticError
from ...readers.faults import UnreadableFile, quoted
from ...readers.json_text import parse_json
from ...readers.shards import shards
from ...readers.tensor_files import SAFETENSORS, open_tensors
from ...spaces import VIT_H

CHECKPOINT_SUFFIXES = (".safetensors", ".ckpt")
_KINDS = {"v1": "StableDiffusionPipeline", "v2": "StableDiffusionPipeline", "xl_base": "StableDiffusionXLPipeline"}
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LONGEST_REASON = 300
_CONFIG_BYTES = 2 * 2**20
_MOST_LAYERS = 1000
# What a component of model_index.json may come from; anything else is a module that lies in the folder.
_LIBRARIES = {None, "diffusers", "transformers", "stable_diffusion"}
_PICKLE = re.compile(r"\.(bin|ckpt|pt|pth|pkl|pickle)(\.index\.json)?$")
_WEIGHTS = re.compile(r"(model|diffusion_pytorch_model)\.safetensors(\.index\.json)?")


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
            if path.is_dir():
                refuse_unsafe_folder(path)
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                str(path) if path.is_dir() else model, dtype=dtype, use_safetensors=True
            )
        else:
            raise AestheticError(
                f"There is no model {model!r}.",
                "It is no folder, no file and no id on the hub such as owner/name.",
                "Check the path.",
            )
    except AestheticError:
        raise
    except UnreadableFile as error:
        raise AestheticError(f"The model {model!r} can't be loaded.", error.why, error.do) from error
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
    if path.suffix.lower() not in CHECKPOINT_SUFFIXES:
        raise AestheticError(
            f"The model {path.name!r} can't be loaded.",
            f"A model in one file ends in {' or '.join(CHECKPOINT_SUFFIXES)}.",
            "Give such a file, a diffusers folder or a hub id.",
        )
    with _as_safetensors(path) as safe:
        return _from_safetensors(diffusers, path, safe, dtype, config)


@contextlib.contextmanager
def _as_safetensors(path: Path) -> Iterator[Path]:
    """The file itself, or for a pickle a copy of its tensors, since diffusers' reader of pickles is torch's."""
    with open_tensors(path) as file:
        if file.kind == SAFETENSORS:
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"{path.stem}.safetensors"
            tensors = file.read(file.tensors, path.stat().st_size)
            # Tensors that share their bytes can't be saved so.
            safetensors.torch.save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, copy)
            del tensors
            yield copy


def refuse_unsafe_folder(folder: Path) -> None:
    """A folder in diffusers' layout is loaded only if nothing in it is a program, and if its sizes are a model's.

    Raises:
        UnreadableFile: it holds Python, weights as pickles only, or names what is no part of Stable Diffusion.
        OSError: it can't be looked at.
    """
    index = _config(folder / "model_index.json")
    if not isinstance(index.get("_class_name"), str):
        raise UnreadableFile("Its model_index.json names no pipeline of diffusers.", "Take a model that needs no code.")
    for name, component in index.items():
        if isinstance(component, list) and component and component[0] not in _LIBRARIES:
            raise UnreadableFile(
                f"Its part {quoted(name)} comes from {quoted(component[0])}, which would run code.",
                "Take a model that needs no code.",
            )
    for place in (folder, *(folder / name for name, value in index.items() if isinstance(value, list))):
        if place.is_dir():
            _refuse_unsafe_part(place)


def _refuse_unsafe_part(place: Path) -> None:
    names = {file.name for file in place.iterdir()}
    if any(name.endswith((".py", ".pyc", ".so", ".pyd")) for name in names):
        raise UnreadableFile(f"{place.name} holds a program.", "Take a model that needs no code.")
    if any(_PICKLE.search(name) for name in names) and not any(_WEIGHTS.fullmatch(name) for name in names):
        raise UnreadableFile(
            f"The weights in {place.name} are pickles, which can hold programs.",
            "Take the same model as .safetensors, or convert it where you trust it.",
        )
    for name in names:
        if name.endswith(".safetensors.index.json"):
            if any(shard.suffix != ".safetensors" for shard in shards(place / name)):
                raise UnreadableFile(f"{name} in {place.name} names other files than .safetensors.")
        elif name.endswith(".safetensors"):
            with open_tensors(place / name):
                pass  # its table is in order
    if "config.json" in names:
        for key, value in _config(place / "config.json").items():
            if ("layers" in key or "heads" in key) and isinstance(value, int) and not 0 <= value <= _MOST_LAYERS:
                raise UnreadableFile(f"config.json in {place.name} gives {quoted(key)} as what no model has.")


def _config(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        value = parse_json(file.read(_CONFIG_BYTES + 1), path.name, _CONFIG_BYTES)
    if not isinstance(value, dict):
        raise UnreadableFile(f"{path.name} is damaged.")
    return value


def _from_safetensors(diffusers: Any, path: Path, safe: Path, dtype: torch.dtype, config: str | None) -> Any:
    from diffusers.loaders.single_file_utils import infer_diffusers_model_type, load_single_file_checkpoint

    content = load_single_file_checkpoint(str(safe))
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
        return pipeline.from_single_file(str(safe), dtype=dtype, **more)
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
    sentence = (str(error).strip() or type(error).__name__).splitlines()[0]
    sentence = re.split(r"(?<=[.!?]) ", sentence)[0].rstrip(".")
    return (sentence if len(sentence) <= _LONGEST_REASON else sentence[:_LONGEST_REASON] + "..") + "."
