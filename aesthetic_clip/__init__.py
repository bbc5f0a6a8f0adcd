"""Aesthetic gradients (Gallego 2022, arXiv 2209.12330) for CLIP text encoders.

The rooms know torch and nothing of a host; those under ``hosts`` know one host each.
What programs need most is here by name, loaded when first asked for::

    from aesthetic_clip import Settings, encode_prompts
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .embeddings.embedding import Embedding as Embedding
    from .embeddings.embedding import load as load_embedding  # noqa: F401
    from .embeddings.library import Library as Library
    from .errors import AestheticError as AestheticError
    from .hosts.diffusers import PromptEmbeddings as PromptEmbeddings
    from .hosts.diffusers import encode_prompts as encode_prompts
    from .method.modes import Memory as Memory
    from .settings import Settings as Settings

__version__ = "1.2.0"

_PLACES = {
    "AestheticError": ("errors", "AestheticError"),
    "Embedding": ("embeddings.embedding", "Embedding"),
    "Library": ("embeddings.library", "Library"),
    "Memory": ("method.modes", "Memory"),
    "PromptEmbeddings": ("hosts.diffusers", "PromptEmbeddings"),
    "Settings": ("settings", "Settings"),
    "encode_prompts": ("hosts.diffusers", "encode_prompts"),
    "load_embedding": ("embeddings.embedding", "load"),
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
