"""SD3, whose two CLIPs AUTOMATIC1111's WebUI holds in another way than SDXL's, and Forge in the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ..support.checkpoints import Assets
from .driver import distance, forget, optimised, options, personalised, similarities
from .hosts import FORGE
from .inside import forge_models, model, sd3
from .webui import WebUI


@pytest.fixture(scope="module")
def job(webui: WebUI) -> dict[str, Any]:
    """What a picture needs: with the scheduler that Forge takes by itself its pictures of SD3 are black."""
    return {"scheduler": "Simple"} if webui.host is FORGE else {}


@pytest.fixture(scope="module", autouse=True)
def _sd3(webui: WebUI, assets: Assets) -> Iterator[None]:
    path = assets.sd1_a.with_name("sd3.safetensors")
    if webui.host is FORGE:
        webui.call(forge_models.write_sd3, str(path))
    else:
        webui.call(sd3.write, str(path), str(assets.clip_folder))
    webui.post("/sdapi/v1/refresh-checkpoints", {})
    webui.use("sd3")
    yield
    webui.use("sd1-a")
    path.unlink()


def test_both_clips_move_and_off_is_as_before(webui: WebUI, job: dict[str, Any]) -> None:
    # Forge stores a tower's embeddings in fp32 from the first prompt on.
    plain = webui.txt2img(**job)
    sound = webui.call(model.text_encoder)
    mark = webui.mark()
    on = personalised(webui, "xl", **job)
    assert sorted(space for _, space, _ in optimised(webui, mark)) == ["ViT-L/14", "ViT-bigG/14"]
    assert all(after > before + 0.1 for before, after in similarities(webui, mark))
    assert distance(on.image, plain.image) > 0.2
    assert distance(webui.txt2img(**job).image, plain.image) == 0
    assert distance(personalised(webui, "xl", {"weight": 0}, **job).image, plain.image) == 0
    assert webui.call(model.text_encoder) == sound


def test_a_step_of_next_to_nothing_is_the_plain_picture(webui: WebUI, job: dict[str, Any]) -> None:
    asked = {**job, "prompt": "a (red:1.2) cat AND a dog", "negative_prompt": "blurry"}
    plain = webui.txt2img(**asked)
    still = personalised(webui, "xl", {"weight": 1, "lr": 1e-12}, **asked)
    # One grey level of one channel of one pixel is 0.00008: the numbers differ in their last digit.
    assert distance(still.image, plain.image) < 0.001


@pytest.mark.parametrize(("embedding", "moved"), [("vitl", "ViT-L/14"), ("bigg", "ViT-bigG/14")])
def test_one_of_them_alone(webui: WebUI, job: dict[str, Any], embedding: str, moved: str) -> None:
    plain = webui.txt2img(**job)
    mark = webui.mark()
    on = personalised(webui, embedding, **job)
    assert [space for _, space, _ in optimised(webui, mark)] == [moved]
    assert distance(on.image, plain.image) > 0.05


def test_clip_bigg_needs_no_other_text_projection(webui: WebUI) -> None:
    forget(webui)
    with options(webui, aesthetic_text_projection=""):
        personalised(webui, "bigg")
