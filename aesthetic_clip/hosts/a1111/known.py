"""Whether this host is one of the WebUI's family, by what it has: asked before anything of it is touched."""

from __future__ import annotations

import importlib
from typing import Any

# Through these every conditioning of AUTOMATIC1111's WebUI, Forge, reForge, Classic and Neo goes.
_METHODS = ("cached_params", "get_conds_with_caching")


def unknown_host() -> str:
    """What to tell people whose host this extension does not know; nothing if it does."""
    processing: Any = importlib.import_module("modules.processing")
    job = getattr(processing, "StableDiffusionProcessing", None)
    if all(hasattr(job, name) for name in _METHODS):
        return ""
    return (
        "Aesthetic Gradients does not know this WebUI and stays off: prompts are encoded here in a way of its own. "
        "It works in AUTOMATIC1111's WebUI, Forge, reForge, Forge Classic and Forge Neo, and in Python with diffusers."
    )
