"""SD3, whose two CLIPs the WebUI holds in another way than SDXL's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support.checkpoints import Assets
from .driver import distance, forget, optimised, options, personalised
from .inside import model, sd3
from .webui import WebUI


@pytest.fixture(scope="module", autouse=True)
def _sd3(webui: WebUI, assets: Assets) -> Iterator[None]:
    path = assets.sd1_a.with_name("sd3.safetensors")
    webui.call(sd3.write, str(path), str(assets.clip_folder))
    webui.post("/sdapi/v1/refresh-checkpoints", {})
    webui.use("sd3")
    yield
    webui.use("sd1-a")
    path.unlink()


def test_both_clips_move_and_off_is_as_before(webui: WebUI) -> None:
    sound, plain = webui.call(model.text_encoder), webui.txt2img()
    mark = webui.mark()
    on = personalised(webui, "xl")
    assert [space for _, space, _ in optimised(webui, mark)] == ["ViT-L/14", "ViT-bigG/14"]
    assert distance(on.image, plain.image) > 0.2
    assert distance(webui.txt2img().image, plain.image) == 0
    assert distance(personalised(webui, "xl", {"weight": 0}).image, plain.image) == 0
    assert webui.call(model.text_encoder) == sound


def test_a_step_of_next_to_nothing_is_the_plain_picture(webui: WebUI) -> None:
    job = {"prompt": "a (red:1.2) cat AND a dog", "negative_prompt": "blurry"}
    plain = webui.txt2img(**job)
    still = personalised(webui, "xl", {"weight": 1, "lr": 1e-12}, **job)
    # One grey level of one channel of one pixel is 0.00008: the numbers differ in their last digit.
    assert distance(still.image, plain.image) < 0.001


@pytest.mark.parametrize(("embedding", "moved"), [("vitl", "ViT-L/14"), ("bigg", "ViT-bigG/14")])
def test_one_of_them_alone(webui: WebUI, embedding: str, moved: str) -> None:
    plain = webui.txt2img()
    mark = webui.mark()
    on = personalised(webui, embedding)
    assert [space for _, space, _ in optimised(webui, mark)] == [moved]
    assert distance(on.image, plain.image) > 0.05


def test_clip_bigg_needs_no_other_text_projection(webui: WebUI) -> None:
    forget(webui)
    with options(webui, aesthetic_text_projection=""):
        personalised(webui, "bigg")
