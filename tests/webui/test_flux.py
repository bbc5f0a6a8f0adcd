"""Flux in Forge and Neo, of whose CLIP only the pooled vector counts; its T5 reads the prompt as ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..support.checkpoints import Assets
from .driver import distance, optimised, personalised, similarities
from .inside import forge_models, model
from .webui import WebUI

JOB: dict[str, Any] = {"cfg_scale": 1, "distilled_cfg_scale": 3.5, "scheduler": "Simple"}


@pytest.fixture(scope="module", autouse=True)
def _flux(webui: WebUI, assets: Assets) -> Iterator[None]:
    path = assets.sd1_a.with_name("flux.safetensors")
    webui.call(forge_models.write_flux, str(path))
    webui.post("/sdapi/v1/refresh-checkpoints", {})
    webui.use("flux")
    yield
    webui.use("sd1-a")
    path.unlink()


def test_its_clip_moves_the_picture_and_off_is_as_before(webui: WebUI) -> None:
    plain = webui.txt2img(**JOB)
    sound = webui.call(model.text_encoder)
    mark = webui.mark()
    on = personalised(webui, "vitl", **JOB)
    assert [space for _, space, _ in optimised(webui, mark)] == ["ViT-L/14"]
    ((before, after),) = similarities(webui, mark)
    assert after > before + 0.1
    other = webui.txt2img(prompt="an oil painting, sunset over the sea", **JOB)
    print(
        f"embedding {distance(on.image, plain.image):.1f}, prompt {distance(other.image, plain.image):.1f} grey levels"
    )
    assert distance(on.image, plain.image) > 0.2
    assert distance(webui.txt2img(**JOB).image, plain.image) == 0
    assert distance(personalised(webui, "vitl", {"weight": 0}, **JOB).image, plain.image) == 0
    assert webui.call(model.text_encoder) == sound


def test_a_step_of_next_to_nothing_is_the_plain_picture(webui: WebUI) -> None:
    plain = webui.txt2img(**JOB)
    assert distance(personalised(webui, "vitl", {"weight": 1, "lr": 1e-12}, **JOB).image, plain.image) == 0
