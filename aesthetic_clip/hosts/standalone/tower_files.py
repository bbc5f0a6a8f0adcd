"""Single layers out of the files of a CLIP text tower, without reading the rest.

Three layouts are understood: transformers' (``text_model.encoder.layers.0. ...``),
open_clip's (``transformer.resblocks.0. ...``), and Stable Diffusion 2.x's single file,
which is open_clip's below ``cond_stage_model.model.``.
"""

from __future__ import annotations

import contextlib
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import safetensors
import torch
from torch import Tensor

from ...errors import AestheticError

_LAYER = re.compile(
    r"(?P<prefix>(?:.*\.)?text_model\.encoder\.layers\.|(?:cond_stage_model\.model\.)?transformer\.resblocks\.)"
    r"(?P<number>\d+)\.(?P<name>.+)"
)
_RENAMED = (
    ("attn.out_proj", "self_attn.out_proj"),
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
)


class LayerFile:
    """The layers of the text tower in a ``.safetensors``, ``.ckpt`` or ``.bin`` file; a context manager.

    Attributes:
        path: the file.
        count: how many layers there are.

    Raises:
        AestheticError: on construction, the file can't be read; on entering, it has no text tower.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._keys: dict[tuple[int, str], str] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> LayerFile:
        try:
            keys, self._get = self._content()
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError,
                safetensors.SafetensorError) as error:  # fmt: skip
            raise self._unusable(f"It can't be read ({error}).") from error
        for key in keys:
            if match := _LAYER.fullmatch(key):
                self._keys[int(match["number"]), match["name"]] = key
        self.count = 1 + max((number for number, _ in self._keys), default=-1)
        if not self.count:
            raise self._unusable("It holds no layers of a CLIP text tower.")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def layer(self, number: int) -> dict[str, Tensor]:
        """The weights of one layer, by transformers' names."""
        weights = {name: self._get(key) for (n, name), key in self._keys.items() if n == number}
        return _by_transformers_names(weights)

    def _content(self) -> tuple[list[str], Callable[[str], Tensor]]:
        if self.path.suffix == ".safetensors":
            file = self._open.enter_context(safetensors.safe_open(self.path, "pt"))
            return list(file.keys()), file.get_tensor
        content: Mapping[str, Tensor] = torch.load(self.path, map_location="cpu", weights_only=True, mmap=True)
        content = content.get("state_dict", content)  # type: ignore[assignment]
        return list(content), content.__getitem__

    def _unusable(self, why: str) -> AestheticError:
        return AestheticError(
            f"{self.path} can't be used as a text tower.", why, "Give the model file of the published CLIP."
        )


def _by_transformers_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in weights.items():
        if name.startswith("attn.in_proj_"):
            kind = name.removeprefix("attn.in_proj_")
            for part, piece in zip("qkv", tensor.chunk(3)):
                renamed[f"self_attn.{part}_proj.{kind}"] = piece
            continue
        for old, new in _RENAMED:
            if name.startswith(old):
                name = new + name.removeprefix(old)
        renamed[name] = tensor
    return renamed
