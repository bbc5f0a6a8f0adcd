"""Reading some tensors out of the files that CLIPs are published as; code in them is never executed."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Callable
from pathlib import Path

import safetensors
import torch
from torch import Tensor


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Tensor]:
    """The wanted tensors of a ``.safetensors``, a pickle or OpenAI's TorchScript, by name.

    Raises:
        Exception: the file is damaged; each reader has exceptions of its own.
    """
    if path.suffix == ".safetensors":
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if wanted(key)}
    if _is_torchscript(path):
        content = torch.jit.load(str(path), map_location="cpu").state_dict()
    else:
        # torch.serialization.load, since the WebUI replaces torch.load by one that returns None on a fault.
        reader = torch.serialization.load
        mapped = {"mmap": True} if "mmap" in inspect.signature(reader).parameters and zipfile.is_zipfile(path) else {}
        content = reader(str(path), map_location="cpu", weights_only=True, **mapped)
        content = content.get("state_dict", content)
    # Training scripts leave a "module." before every name.
    named = {key.removeprefix("module."): value for key, value in content.items()}
    return {key: value for key, value in named.items() if isinstance(value, Tensor) and wanted(key)}


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
