"""Aesthetic gradients (Gallego 2022, arXiv 2209.12330) for CLIP text encoders.

The modules here know torch and nothing of a host; those under ``hosts`` know one host each.
What programs need most is here by name, loaded when first asked for::

    from aesthetic_clip import Settings, encode_prompts
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .embeddings import Embedding as Embedding
    from .embeddings import load as load_embedding  # noqa: F401
    from .errors import AestheticError as AestheticError
    from .hosts.standalone import PromptEmbeddings as PromptEmbeddings
    from .hosts.standalone import encode_prompts as encode_prompts
    from .library import Library as Library
    from .settings import Settings as Settings

__version__ = "1.0.0"

_PLACES = {
    "AestheticError": ("errors", "AestheticError"),
    "Embedding": ("embeddings", "Embedding"),
    "Library": ("library", "Library"),
    "PromptEmbeddings": ("hosts.standalone", "PromptEmbeddings"),
    "Settings": ("settings", "Settings"),
    "encode_prompts": ("hosts.standalone", "encode_prompts"),
    "load_embedding": ("embeddings", "load"),
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f".{module}", __name__), attribute)
