"""Asks the running WebUI for personalised pictures, and reads what it says about them."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .webui import Generated, RequestFailed, WebUI

TITLE = "Aesthetic embeddings"
FAMILIES = {"sd1-a": "vitl", "sd2": "vith", "sdxl": "xl"}
"""Checkpoint -> an embedding that fits it."""

XYZ = """
from modules import scripts
grid = next(data.module for data in scripts.scripts_data if data.module.__name__ in ("xyz_grid.py", "scripts.xyz_grid"))
axes = [axis for axis in grid.axis_options if type(axis) is grid.AxisOption or not axis.is_img2img]
"""
"""Begins code that looks at the X/Y/Z script, which the hosts load under different names."""

_LINE = re.compile(r"Aesthetic Gradients: (.+) on (\S+), similarity (\S+) -> (\S+) in (\d+) steps")


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(np.asarray(one).astype(np.float32) - np.asarray(other).astype(np.float32)).mean())


def asking(*args: object) -> dict[str, Any]:
    """The part of an API request that gives the extension its arguments."""
    return {"alwayson_scripts": {TITLE: {"args": list(args)}}}


def personalised(webui: WebUI, embedding: str, knobs: Mapping[str, Any] | None = None, **payload: Any) -> Generated:
    """One txt2img job with an embedding and, by name, other knobs."""
    return webui.txt2img(**asking({"embedding": embedding, **(knobs or {})}), **payload)


def optimised(webui: WebUI, since: int) -> list[tuple[str, str, int]]:
    """(embedding, space, steps) of every optimisation that the console tells of after ``since``."""
    return [(name, space, int(steps)) for name, space, _, _, steps in _LINE.findall(webui.log(since))]


def similarities(webui: WebUI, since: int) -> list[tuple[float, float]]:
    """Similarity before and after, of every optimisation after ``since``."""
    return [(float(before), float(after)) for _, _, before, after, _ in _LINE.findall(webui.log(since))]


def refusal(webui: WebUI, embedding: object = "vitl", knobs: Mapping[str, Any] | None = None, **payload: Any) -> str:
    """The sentence with which the API refuses a job; the status has to be 422."""
    with pytest.raises(RequestFailed) as refused:
        webui.txt2img(**asking({"embedding": embedding, **(knobs or {})}), **payload)
    assert refused.value.status == 422, refused.value.body[:1000]
    answer = json.loads(refused.value.body)
    told: str = answer["detail"]
    # Forge has another name for it.
    assert told == answer.get("errors", answer.get("message"))
    return told


@contextlib.contextmanager
def options(webui: WebUI, **values: object) -> Iterator[None]:
    """The WebUI's options set meanwhile, as far as it has them."""
    # Forge's API leaves out those of extensions.
    before = webui.run(
        f"result = {{name: getattr(shared.opts, name) for name in {list(values)!r} if hasattr(shared.opts, name)}}"
    )
    webui.set_options(**{name: values[name] for name in before})
    try:
        yield
    finally:
        webui.set_options(**before)


def forget(webui: WebUI) -> None:
    """Make the WebUI's conditioning cache hold something else."""
    webui.txt2img(prompt="something else entirely", negative_prompt="and something else", steps=1)
