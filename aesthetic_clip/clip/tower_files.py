"""Layers out of the files of a CLIP text tower.

Three layouts are understood: transformers' (``text_model.encoder.layers.0. ...``),
open_clip's (``transformer.resblocks.0. ...``), and Stable Diffusion 2.x's single file,
which is open_clip's below ``cond_stage_model.model.``.
"""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from ..errors import AestheticError
from ..readers.faults import UnreadableFile
from ..readers.tensor_files import read_tensors

_LAYER = re.compile(
    r"(?:(?:.*\.)?text_model\.encoder\.layers\.|(?:cond_stage_model\.model\.)?transformer\.resblocks\.)"
    r"(?P<number>\d+)\.(?P<name>.+)"
)
_RENAMED = (
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)
_MAX_BYTES = 2**30  # two layers of ViT-bigG/14's width in fp64, and some


def read_layers(path: Path, first: int) -> dict[int, dict[str, Tensor]]:
    """The text tower's layers from number ``first`` (counted from 0) on: their weights by transformers' names.

    Raises:
        AestheticError: the file can't be read.
    """

    def wanted(key: str) -> bool:
        match = _LAYER.fullmatch(key)
        return match is not None and int(match["number"]) >= first

    subject = f"{path} can't be used as a text tower."
    try:
        tensors = read_tensors(path, wanted, _MAX_BYTES)
    except UnreadableFile as error:
        raise AestheticError(
            subject, error.why, f"{error.do} The model file of the published CLIP is the right one."
        ) from error
    except OSError as error:
        raise AestheticError(
            subject, f"It can't be read: {error.strerror or error}.", "Give the model file of the published CLIP."
        ) from error
    layers: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _LAYER.fullmatch(key)
        assert match is not None
        layers.setdefault(int(match["number"]), {}).update(_by_transformers_names(match["name"], tensor))
    return dict(sorted(layers.items()))


def _by_transformers_names(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        return {f"self_attn.{part}_proj.{kind}": piece for part, piece in zip("qkv", tensor.chunk(3))}
    for old, new in _RENAMED:
        if name.startswith(old):
            return {new + name.removeprefix(old): tensor}
    return {name: tensor}
