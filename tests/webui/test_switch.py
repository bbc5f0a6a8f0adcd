"""The switch in the accordion's header, and what the header says."""

from __future__ import annotations

from typing import Any

import pytest

from .driver import TITLE, refusal
from .test_page import open_accordion, pick, selector, shown, wait_for
from .webui import WebUI, generate_on_page

TABS = ("txt2img", "img2img")


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


def box(tab: str = "txt2img") -> str:
    return f"{selector(tab, 'accordion')}-visible-checkbox"


def header_says(page: Any, text: str, tab: str = "txt2img") -> None:
    page.wait_for_function(
        "([id, text]) => document.querySelector(`${id} .label-wrap`).innerText.includes(text)",
        arg=[selector(tab, "accordion"), text],
        timeout=60_000,
    )


def test_off_keeps_the_choice(page: Any, page_errors: list[str]) -> None:
    assert not page.is_checked(box())
    # By the keyboard alone.
    page.focus(f"{selector('txt2img', 'accordion')} > .label-wrap")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{selector('txt2img', 'embedding')} input", state="visible")
    assert page.is_checked(box())
    pick(page, "vitl")
    header_says(page, "vitl · clear")
    assert "Aesthetic embedding: vitl" in generate_on_page(page, "a photo of a cat")
    page.focus(box())
    page.keyboard.press("Space")
    assert not page.is_checked(box())
    header_says(page, "off: vitl")
    assert "Aesthetic" not in generate_on_page(page, "a photo of a cat")
    assert shown(page, "embedding") == "vitl"
    page.click(box())
    assert "Aesthetic embedding: vitl" in generate_on_page(page, "a photo of a cat")
    assert page_errors == []


def test_tags_work_while_it_is_off(page: Any) -> None:
    open_accordion(page)
    page.click(box())
    assert "Aesthetic" in generate_on_page(page, "a photo of a cat <aesthetic:vitl:0.8>")


def test_pasted_parameters_turn_it_on_and_unfold_it(page: Any) -> None:
    page.fill("#txt2img_prompt textarea", "a cat\nSteps: 2, Seed: 1, Size: 64x64, Aesthetic embedding: vitl-flat")
    page.click("#paste")
    wait_for(page, "embedding", "vitl-flat")
    page.wait_for_function(f"document.querySelector('{box()}').checked")
    page.wait_for_selector(f"{selector('txt2img', 'embedding')} input", state="visible")


@pytest.mark.parametrize("whole", [True, False], ids=["put in whole", "typed"])
@pytest.mark.parametrize("key", ["Enter", "Tab"])
def test_a_name_that_does_not_exist_is_an_error_and_no_ordinary_picture(page: Any, key: str, whole: bool) -> None:
    open_accordion(page)
    pick(page, "vitl")
    field = page.locator(f"{selector('txt2img', 'embedding')} input").first
    field.click()
    if whole:
        field.fill("zzz")
    else:
        field.press("Control+a")
        page.keyboard.type("zzz")
    field.press(key)
    page.wait_for_timeout(500)
    if shown(page, "embedding") == "vitl":
        # Gradio 4 and later show again what is chosen, and that counts.
        assert "Aesthetic embedding: vitl" in generate_on_page(page, "a photo of a cat")
        return
    assert shown(page, "embedding") == "zzz"
    assert "Seed" not in generate_on_page(page, "a photo of a cat")
    assert "There is no aesthetic embedding 'zzz'" in page.inner_text("#html_log_txt2img")


def test_the_api_has_it_by_name_and_in_no_place_of_another(webui: WebUI) -> None:
    def says(*args: object) -> str:
        return str(webui.txt2img(alwayson_scripts={TITLE: {"args": list(args)}}).info)

    assert "Aesthetic embedding: vitl" in says(0.9, 5, 0.0001, False, "vitl")
    assert "Aesthetic embedding: vitl" in says({"embedding": "vitl"})
    assert "Aesthetic" not in says({"embedding": "vitl", "enabled": False})
    assert "enabled is 'no'" in refusal(webui, "vitl", {"enabled": "no"})
