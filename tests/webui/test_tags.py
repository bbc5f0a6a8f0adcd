"""The prompt tag: one, several, beside the dropdown, and wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from .driver import asking, distance, optimised, personalised, refusal
from .webui import WebUI


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


@pytest.mark.parametrize(
    ("tag", "knobs"),
    [
        ("<aesthetic:vitl>", {}),
        ("<aesthetic:vitl:0.5>", {"weight": 0.5}),
        ("<aesthetic:vitl:0.5:steps=3>", {"weight": 0.5, "steps": 3}),
        ("<aesthetic:vitl:steps=3:lr=0.001>", {"steps": 3, "lr": 0.001}),
    ],
)
def test_tag_is_what_the_dropdown_is(webui: WebUI, tag: str, knobs: dict[str, Any]) -> None:
    chosen = personalised(webui, "vitl", knobs)
    mark = webui.mark()
    tagged = webui.txt2img(prompt=f"a photo of a cat{tag}")
    assert len(optimised(webui, mark)) == 1
    assert distance(tagged.image, chosen.image) == 0
    assert tag in tagged.infotext
    mark = webui.mark()
    assert distance(webui.txt2img(prompt=f"a photo of a cat{tag}").image, chosen.image) == 0
    assert optimised(webui, mark) == []


def test_tag_is_gone_when_it_is_gone(webui: WebUI) -> None:
    plain = webui.txt2img()
    assert distance(webui.txt2img(prompt="a photo of a cat<aesthetic:vitl:0>").image, plain.image) == 0
    webui.txt2img(prompt="a photo of a cat<aesthetic:vitl>")
    assert distance(webui.txt2img().image, plain.image) == 0


def test_several_tags_and_the_dropdown_are_mixed(webui: WebUI) -> None:
    plain = webui.txt2img()
    one = webui.txt2img(prompt="a photo of a cat<aesthetic:vitl:0.8>")
    other = webui.txt2img(prompt="a photo of a cat<aesthetic:sub/vitl-2:0.4>")
    mark = webui.mark()
    both = webui.txt2img(prompt="a photo of a cat<aesthetic:vitl:0.8><aesthetic:sub/vitl-2:0.4>")
    assert [name for name, _, _ in optimised(webui, mark)] == ["vitl + sub/vitl-2"]
    mixed = webui.txt2img(
        prompt="a photo of a cat<aesthetic:sub/vitl-2:0.4>", **asking({"embedding": "vitl", "weight": 0.8})
    )
    away = webui.txt2img(prompt="a photo of a cat<aesthetic:vitl:-0.8>")
    assert distance(mixed.image, both.image) == 0
    pictures = [plain.image, one.image, other.image, both.image, away.image]
    assert all(distance(a, b) > 0.05 for i, a in enumerate(pictures) for b in pictures[:i])


def test_tag_on_sdxl_and_in_a_hires_prompt(webui: WebUI) -> None:
    webui.use("sdxl")
    chosen = personalised(webui, "xl")
    assert distance(webui.txt2img(prompt="a photo of a cat<aesthetic:xl:0.9>").image, chosen.image) == 0
    webui.use("sd1-a")
    hires: dict[str, Any] = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    plain = webui.txt2img(**hires)
    second = webui.txt2img(**hires, hr_prompt="a photo of a cat<aesthetic:vitl>")
    assert distance(second.image, plain.image) > 0.2


@pytest.mark.parametrize(
    ("tag", "part"),
    [
        ("<aesthetic:vitk>", "Did you mean 'vitl'"),
        ("<aesthetic:../vitl>", "There is no aesthetic embedding"),
        ("<aesthetic:vitl:much>", "a number"),
        ("<aesthetic:vitl:7>", "from 0 to 1"),
        ("<aesthetic:vitl:speed=3>", "can't be read"),
        ("<aesthetic::0.5>", "names no embedding"),
        ("<aesthetic:vitl:steps=2><aesthetic:sub/vitl-2:steps=3>", "contradict each other"),
        ("<aesthetic:vitl:1><aesthetic:vitl:-1>", "cancel each other out"),
        ("<aesthetic:vitl><aesthetic:vith>", "no CLIP space in common"),
    ],
)
def test_wrong_tag(webui: WebUI, tag: str, part: str) -> None:
    plain = webui.txt2img()
    assert part in refusal(webui, "None", prompt=f"a photo of a cat{tag}")
    assert distance(webui.txt2img().image, plain.image) == 0
