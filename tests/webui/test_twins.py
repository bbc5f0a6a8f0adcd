"""A picture's twin without the taste, on the real page: the same seed and parameters, and both over each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .driver import distance
from .test_page import open_accordion, pick, picture, selector
from .test_thumbs import snap, until
from .webui import WebUI, generate_on_page

PARTS = "#txt2img_aesthetic_twin"
PROMPT = "a photo of a cat"
BOX = (
    selector("txt2img", "accordion") + "-checkbox input, " + selector("txt2img", "accordion") + " [id$=_enabled] input"
)


@pytest.fixture
def twins(webui: WebUI, embeddings: Path, page: Any) -> Iterator[Any]:
    webui.use("sd1-a")
    yield page


def press(page: Any, expected: str, timeout: float = 90) -> str:
    """Press the button; what is said in the end."""
    page.locator(PARTS).first.click()
    said = page.locator(f"{PARTS}_message .prose").first
    page.wait_for_function(
        "([id, expected]) => document.querySelector(id)?.innerText.match(expected)",
        arg=[f"{PARTS}_message .prose", expected],
        timeout=timeout * 1000,
    )
    text: str = said.inner_text()
    return text


def field(page: Any, name: str) -> str:
    value: str = page.locator(f"#txt2img_{name} input").first.input_value()
    return value


def test_the_twin_is_the_plain_picture_and_the_form_says_what_it_did(twins: Any, webui: WebUI) -> None:
    page = twins
    open_accordion(page)
    pick(page, "vitl")
    page.fill("#txt2img_batch_count input[type=number]", "2")
    page.press("#txt2img_batch_count input[type=number]", "Tab")
    generate_on_page(page, PROMPT)
    first = page.inner_text("#html_info_txt2img")
    page.locator("#txt2img_gallery .thumbnail-item.thumbnail-small").nth(2).click()
    page.wait_for_function("first => document.querySelector('#html_info_txt2img').innerText !== first", arg=first)
    page.wait_for_function("document.querySelector('#html_info_txt2img').innerText.includes('Seed: ')")
    text = page.inner_text("#html_info_txt2img")
    (seed,) = re.findall(r"Seed: (\d+)", text)
    assert "Aesthetic embedding: vitl" in text
    with_taste = picture(page)
    said = press(page, "Without the taste on the left")
    snap(page, "twin")
    assert "Not the same" not in said
    plain = page.inner_text("#html_info_txt2img")
    assert f"Seed: {seed}" in plain and "Aesthetic" not in plain
    twin = picture(page)
    expected = webui.txt2img(prompt=PROMPT, seed=int(seed)).image
    assert distance(twin, expected) == 0
    assert distance(twin, with_taste) > 0
    assert page.locator(f"{PARTS}_message .aesthetic-compare img").count() == 2
    assert (field(page, "seed"), field(page, "batch_count")) == ("-1", "2")
    assert page.locator(BOX).first.is_checked()
    header = page.locator(f"{selector('txt2img', 'accordion')} > .label-wrap")
    until(page, lambda: "vitl" in header.inner_text() and "off" not in header.inner_text())
    page.fill("#txt2img_batch_count input[type=number]", "1")
    page.press("#txt2img_batch_count input[type=number]", "Tab")
    assert "Aesthetic embedding: vitl" in generate_on_page(page, PROMPT)


def test_a_tag_in_the_prompt_is_left_out_and_stays_in_the_field(twins: Any) -> None:
    page = twins
    prompt = f"{PROMPT} <aesthetic:vitl:0.9>"
    generate_on_page(page, prompt)
    assert "Not the same" not in press(page, "Without the taste on the left")
    assert "aesthetic" not in page.inner_text("#html_info_txt2img").lower()
    assert page.locator("#txt2img_prompt textarea").input_value() == prompt


def test_a_form_that_has_changed_is_told(twins: Any) -> None:
    page = twins
    generate_on_page(page, f"{PROMPT} <aesthetic:vitl:0.9>")
    page.fill("#txt2img_prompt textarea", "a photo of a dog")
    page.fill("#txt2img_cfg_scale input[type=number]", "5")
    page.press("#txt2img_cfg_scale input[type=number]", "Tab")
    assert "Not the same, since the form has changed: CFG scale, prompt." in press(
        page, "Without the taste on the left"
    )
    page.fill("#txt2img_cfg_scale input[type=number]", "7")
    page.press("#txt2img_cfg_scale input[type=number]", "Tab")


def test_what_has_no_twin_is_told(twins: Any) -> None:
    page = twins
    assert "There is no picture yet." in press(page, "no picture")
    generate_on_page(page, PROMPT)
    assert "It was made without an embedding." in press(page, "no taste")


def test_beside_a_script_that_makes_pictures_of_its_own_it_is_told(twins: Any) -> None:
    page = twins
    generate_on_page(page, f"{PROMPT} <aesthetic:vitl:0.9>")
    page.click("#script_list input")
    page.click("#script_list li[aria-label='X/Y/Z plot']")
    page.wait_for_timeout(1000)
    said = press(page, "script is chosen")
    assert "X/Y/Z plot" in said and "Choose None under Script." in said


def test_the_slider_moves(twins: Any) -> None:
    page = twins
    generate_on_page(page, f"{PROMPT} <aesthetic:vitl:0.9>")
    press(page, "Without the taste on the left")
    handle = page.locator(f"{PARTS}_message [data-aesthetic-slider]").first
    handle.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    at = page.locator(f"{PARTS}_message .aesthetic-compare").evaluate("one => one.style.getPropertyValue('--at')")
    assert at == "70%"
