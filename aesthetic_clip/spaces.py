"""CLIP spaces: which model's features an aesthetic embedding can be compared with.

A space is identified by the width of the projected feature, since the three
towers of Stable Diffusion differ in it and legacy ``.pt`` files say nothing else.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Space(NamedTuple):
    """One CLIP feature space.

    Attributes:
        name: how files and people call it, e.g. ``ViT-L/14``.
        dim: width of the projected feature.
        used_by: the text encoders that live in it.
        hub_id: the published model on the Hugging Face hub.
        open_clip: its (architecture, pretrained tag) in open_clip.
    """

    name: str
    dim: int
    used_by: str = "a CLIP of that width"
    hub_id: str | None = None
    open_clip: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.dim}: {self.used_by})"


VIT_L = Space(
    "ViT-L/14", 768, "SD 1.x and SDXL's first text encoder", "openai/clip-vit-large-patch14", ("ViT-L-14", "openai")
)
VIT_H = Space("ViT-H/14", 1024, "SD 2.x", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", ("ViT-H-14", "laion2b_s32b_b79k"))
VIT_BIGG = Space(
    "ViT-bigG/14",
    1280,
    "SDXL's second text encoder",
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
    ("ViT-bigG-14", "laion2b_s39b_b160k"),
)

PUBLISHED = (VIT_L, VIT_H, VIT_BIGG)


def space_of(dim: int) -> Space:
    """The space of features of this width; unpublished widths get a space of their own."""
    for space in PUBLISHED:
        if space.dim == dim:
            return space
    return Space(f"CLIP-{dim}", dim)


def space_named(name: str) -> Space | None:
    """The space with this name: ``ViT-L/14`` (dashes and case do not matter), or ``CLIP-<width>``."""

    def plain(text: str) -> str:
        return text.lower().replace("/", "-")

    for space in PUBLISHED:
        if plain(space.name) == plain(name):
            return space
    width = re.fullmatch(r"clip-([1-9][0-9]{0,4})", plain(name), re.ASCII)
    return space_of(int(width[1])) if width else None
