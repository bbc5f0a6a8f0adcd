"""The page in Chromium: the accordion under both tabs, paste, errors, cards, settings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .driver import TITLE, distance, forget, optimised, options, personalised
from .webui import WebUI, generate_on_page

TABS = ("txt2img", "img2img")
KNOBS = (
    *("weight", "steps", "lr", "slerp", "embedding", "text", "slerp_angle", "text_negative", "negative_prompt"),
    *("centre", "strength", "preset"),
)
LONG_PROMPT = ", ".join(f"a photo of a cat number {number}" for number in range(14))


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


def selector(tab: str, name: str) -> str:
    return f"#script_{tab}_{TITLE.lower().replace(' ', '_')}_{name}"


def open_accordion(page: Any, tab: str = "txt2img") -> None:
    page.click(f"{selector(tab, 'accordion')} > .label-wrap")
    page.wait_for_selector(f"{selector(tab, 'embedding')} input", state="visible")
    page.click(f"{selector(tab, 'fold_more')} > .label-wrap")
    page.wait_for_selector(f"{selector(tab, 'lr')} input", state="visible")


def pick(page: Any, embedding: str, tab: str = "txt2img") -> None:
    """Pick an embedding in the dropdown, as a user does."""
    page.click(f"{selector(tab, 'embedding')} input")
    page.click(f"{selector(tab, 'embedding')} ul.options li[aria-label='{embedding}']")
    assert shown(page, "embedding", tab) == embedding


def offered(page: Any, tab: str = "txt2img") -> list[str]:
    """What the dropdown offers."""
    page.click(f"{selector(tab, 'embedding')} input")
    page.wait_for_selector(f"{selector(tab, 'embedding')} ul.options li")
    names = page.locator(f"{selector(tab, 'embedding')} ul.options li").all_inner_texts()
    page.keyboard.press("Escape")
    page.locator(f"{selector(tab, 'embedding')} input").blur()
    return [name.replace("✓", "").strip() for name in names]


def shown(page: Any, name: str, tab: str = "txt2img") -> Any:
    """What a control shows."""
    control = page.locator(selector(tab, name))
    if control.locator("input[type=checkbox]").count():
        return control.locator("input[type=checkbox]").is_checked()
    return control.locator("input, textarea").first.input_value()


def fix_seed(page: Any, tab: str = "txt2img") -> None:
    page.fill(f"#{tab}_seed input", "1")
    page.press(f"#{tab}_seed input", "Tab")


def picture(page: Any, tab: str = "txt2img") -> Image.Image:
    """The picture in the gallery, as the browser got it."""
    source = page.locator(f"#{tab}_gallery img").first.get_attribute("src")
    return Image.open(Path(source.split("file=", 1)[1].split("?")[0])).convert("RGB")


@pytest.mark.parametrize("tab", TABS)
def test_pick_generate_look(webui: WebUI, page: Any, page_errors: list[str], tab: str, tmp_path: Path) -> None:
    prompt = "a photo of a cat"
    if tab == "img2img":
        page.click("#tabs > .tab-nav button:has-text('img2img')")
        file = tmp_path / "first.png"
        webui.txt2img(seed=5).image.save(file)
        page.set_input_files("#img2img_image input[type=file]", str(file))
        page.wait_for_selector("#img2img_image img")
    fix_seed(page, tab)
    generate_on_page(page, prompt, tab)
    plain_text = generate_on_page(page, prompt, tab)
    plain = picture(page, tab)
    assert "Aesthetic" not in plain_text

    open_accordion(page, tab)
    pick(page, "vitl", tab)
    mark = webui.mark()
    text = generate_on_page(page, prompt, tab)
    on = picture(page, tab)
    page.screenshot(path=str(tmp_path / f"{tab}.png"))
    assert len(optimised(webui, mark)) == 1
    # What a newcomer's page begins with.
    assert "Aesthetic weight: 1, Aesthetic steps: 50, Aesthetic LR: 0.0003" in text
    assert "Aesthetic embedding: vitl" in text and "Aesthetic preset: Clear" in text
    assert np.asarray(on).std() > 10
    assert distance(on, plain) > 0.2
    if tab == "txt2img":
        assert distance(on, personalised(webui, "vitl", {"preset": "clear"}).image) == 0

    pick(page, "None", tab)
    assert "Aesthetic" not in generate_on_page(page, prompt, tab)
    assert distance(picture(page, tab), plain) == 0
    assert page_errors == []


def test_controls_have_defaults_and_tooltips(page: Any) -> None:
    wait_for(page, "preset", "Clear")
    for tab in TABS:
        for name in KNOBS:
            assert len(page.get_attribute(selector(tab, name), "title") or "") > 20, (tab, name)
    values = {name: shown(page, name) for name in KNOBS}
    assert values == {
        "weight": "1",
        "steps": "50",
        "lr": "0.0003",
        "slerp": False,
        "embedding": "None",
        "text": "",
        "slerp_angle": "0.1",
        "text_negative": False,
        "negative_prompt": False,
        "centre": "Automatic",
        "strength": "0.7",
        "preset": "Clear",
    }


def wait_for(page: Any, name: str, value: str, tab: str = "txt2img") -> None:
    """Until a control shows this: the page is told a little later."""
    page.wait_for_function(
        "([s, v]) => document.querySelector(s)?.value === v",
        arg=[f"{selector(tab, name)} input, {selector(tab, name)} textarea", value],
        timeout=60_000,
    )


def choose_preset(page: Any, name: str, tab: str = "txt2img") -> None:
    page.click(f"{selector(tab, 'preset')} input")
    page.click(f"{selector(tab, 'preset')} ul.options li[aria-label='{name}']")
    wait_for(page, "preset", name, tab)


@pytest.mark.parametrize("tab", TABS)
def test_a_preset_sets_the_controls_and_a_change_by_hand_leaves_it(page: Any, page_errors: list[str], tab: str) -> None:
    if tab == "img2img":
        page.click("#tabs > .tab-nav button:has-text('img2img')")
    open_accordion(page, tab)
    for name, strength, steps, centre in (("Paper", "", "5", "None"), ("Strong", "0.75", "50", "Automatic")):
        choose_preset(page, name, tab)
        wait_for(page, "strength", strength, tab)
        wait_for(page, "steps", steps, tab)
        wait_for(page, "centre", centre, tab)
        assert shown(page, "preset", tab) == name
    for name, text in (("steps", "7"), ("strength", "0.3"), ("lr", "0.0002")):
        choose_preset(page, "Clear", tab)
        wait_for(page, "strength", "0.7", tab)
        field = f"{selector(tab, name)} input, {selector(tab, name)} textarea"
        page.locator(field).first.fill(text)
        wait_for(page, "preset", "Custom", tab)
    choose_preset(page, "Clear", tab)
    page.check(f"{selector(tab, 'slerp')} input")
    wait_for(page, "preset", "Custom", tab)
    assert page_errors == []


def test_a_preset_of_ones_own(
    webui: WebUI, page: Any, embeddings: Path, tmp_path: Path, page_errors: list[str]
) -> None:
    open_accordion(page)
    page.fill(f"{selector('txt2img', 'strength')} textarea, {selector('txt2img', 'strength')} input", "0.3")
    page.fill(f"{selector('txt2img', 'preset_name')} textarea, {selector('txt2img', 'preset_name')} input", "mine")
    page.click(selector("txt2img", "preset_save"))
    wait_for(page, "preset", "mine")
    try:
        by_api = personalised(webui, "vitl", {"preset": "mine"})
        assert "Aesthetic strength: 0.3" in by_api.infotext and "Aesthetic preset: mine" in by_api.infotext
        pick(page, "vitl")
        fix_seed(page)
        assert "Aesthetic preset: mine" in generate_on_page(page, "a photo of a cat")
        assert distance(picture(page), personalised(webui, "vitl", {"preset": "mine"}).image) == 0
        page.screenshot(path=str(tmp_path / "preset.png"))
        page.reload()
        page.wait_for_selector("#txt2img_generate")
        open_accordion(page)
        wait_for(page, "preset", "Clear")
        choose_preset(page, "mine")
        wait_for(page, "strength", "0.3")
        page.fill(f"{selector('txt2img', 'preset_name')} textarea, {selector('txt2img', 'preset_name')} input", "mine")
    finally:
        page.click(selector("txt2img", "preset_delete"))
        wait_for(page, "preset", "Custom")
    assert page_errors == []


def test_our_hints_stand_over_what_the_webui_says_about_none(page: Any) -> None:
    open_accordion(page)
    offered(page)
    # The WebUI waits a second before it gives parts without a title one.
    page.wait_for_timeout(1500)
    titles = page.eval_on_selector_all(
        f"{selector('txt2img', 'embedding')} *", "parts => parts.map(part => part.title)"
    )
    assert "The taste to steer toward" in page.get_attribute(f"{selector('txt2img', 'embedding')} input", "title")
    assert "Do not do anything special" not in titles


def test_an_emptied_number_shows_its_default_again(page: Any) -> None:
    open_accordion(page)
    field = f"{selector('txt2img', 'lr')} input"
    page.fill(field, "")
    page.press(field, "Tab")
    page.wait_for_function("s => Number(document.querySelector(s).value) === 0.0001", arg=field)
    page.focus(field)
    page.keyboard.press("ArrowUp")
    assert float(page.input_value(field)) == pytest.approx(0.0002)


@pytest.fixture
def new_file(embeddings: Path) -> Iterator[Path]:
    """Where a new embedding file may appear."""
    path = embeddings / "brand new.pt"
    yield path
    path.unlink(missing_ok=True)


def test_refresh_button_finds_a_new_file(page: Any, embeddings: Path, new_file: Path) -> None:
    open_accordion(page)
    before = offered(page)
    assert before[0] == "None" and {"vitl", "sub/vitl-2", "xl"} < set(before)
    shutil.copy(embeddings / "vitl.pt", new_file)
    page.click(selector("txt2img", "refresh_embedding"))
    page.wait_for_timeout(1000)
    assert set(offered(page)) == {*before, "brand new"}
    pick(page, "brand new")
    assert "Aesthetic embedding: brand new" in generate_on_page(page, "a photo of a cat")


def test_a_new_embedding_in_the_place_of_the_chosen_one_can_be_picked(
    webui: WebUI, page: Any, embeddings: Path, new_file: Path
) -> None:
    open_accordion(page)
    chosen = next(name for name in offered(page) if name > new_file.stem)
    pick(page, chosen)
    shutil.copy(embeddings / "vitl.pt", new_file)
    page.click(selector("txt2img", "refresh_embedding"))
    page.wait_for_timeout(1000)
    assert offered(page).index(new_file.stem) > 0
    assert shown(page, "embedding") == chosen
    pick(page, new_file.stem)
    assert f"Aesthetic embedding: {new_file.stem}" in generate_on_page(page, "a photo of a cat")


def test_what_is_typed_takes_the_place_of_what_is_chosen(page: Any) -> None:
    open_accordion(page)
    field = f"{selector('txt2img', 'embedding')} input"
    page.click(field)
    # The choice of the text comes after the click.
    page.wait_for_function("s => document.querySelector(s).selectionEnd === 4", arg=field)
    page.keyboard.type("vitl-fl")
    page.keyboard.press("Enter")
    page.wait_for_function("s => document.querySelector(s).value === 'vitl-flat'", arg=field)
    assert "Aesthetic embedding: vitl-flat" in generate_on_page(page, "a photo of a cat")


@pytest.mark.parametrize("tab", TABS)
def test_paste_sets_the_controls_and_resets_the_dropdown(webui: WebUI, page: Any, tab: str) -> None:
    knobs = {"weight": 0.4, "steps": 7, "lr": 0.00005, "slerp": True, "text": "oil, on: canvas", "slerp_angle": 0.3}
    infotext = personalised(webui, "sub/vitl-2", knobs | {"text_negative": True}).infotext
    plain = webui.txt2img().infotext
    if tab == "img2img":
        page.click("#tabs > .tab-nav button:has-text('img2img')")
    open_accordion(page, tab)

    def paste(text: str, embedding: str) -> None:
        page.fill(f"#{tab}_prompt textarea", text)
        page.click(f"#{tab}_tools #paste")
        page.wait_for_function(
            "([s, v]) => document.querySelector(s).value === v", arg=[f"{selector(tab, 'embedding')} input", embedding]
        )

    def values() -> dict[str, Any]:
        return {name: shown(page, name, tab) for name in KNOBS}

    paste(infotext, "sub/vitl-2")
    page.wait_for_timeout(300)
    expected = {
        "weight": "0.4",
        "steps": "7",
        "lr": "0.00005",
        "slerp": True,
        "embedding": "sub/vitl-2",
        "text": "oil, on: canvas",
        "slerp_angle": "0.3",
        "text_negative": True,
        "negative_prompt": False,
        "centre": "None",
        "strength": "",
        "preset": "Custom",
    }
    assert {**values(), "lr": f"{float(values()['lr']):.5f}"} == expected
    paste(plain, "None")
    page.wait_for_timeout(300)
    assert values()["steps"] == "7"


def test_error_is_shown_in_the_page(webui: WebUI, page: Any, tmp_path: Path) -> None:
    open_accordion(page)
    pick(page, "vith")
    generate_on_page(page, "a photo of a cat")
    said = page.inner_text("#html_log_txt2img")
    page.screenshot(path=str(tmp_path / "error.png"))
    assert "does not fit the checkpoint" in said
    assert "ViT-H/14" in said and "ViT-L/14" in said
    pick(page, "vitl")
    page.fill(f"{selector('txt2img', 'lr')} input", "7")
    page.press(f"{selector('txt2img', 'lr')} input", "Tab")
    generate_on_page(page, "a photo of a cat")
    assert "It can be from 0 to 0.1" in page.inner_text("#html_log_txt2img")
    page.fill(f"{selector('txt2img', 'lr')} input", "0.0001")
    page.press(f"{selector('txt2img', 'lr')} input", "Tab")
    assert "Aesthetic embedding: vitl" in generate_on_page(page, "a photo of a cat")


def test_comment_says_which_encoder_was_left_alone(webui: WebUI, page: Any, tmp_path: Path) -> None:
    webui.use("sdxl")
    open_accordion(page)
    pick(page, "vitl")
    text = generate_on_page(page, "a photo of a cat")
    said = page.inner_text("#txt2img_results")
    page.screenshot(path=str(tmp_path / "left_alone.png"))
    assert "Aesthetic left alone: ViT-bigG/14" in text
    assert "vitl has no vector for ViT-bigG/14, so that text encoder was left alone" in said


def test_progress_says_that_it_personalises(webui: WebUI, page: Any, tmp_path: Path) -> None:
    forget(webui)
    with options(webui, live_previews_enable=False, live_preview_refresh_period=100):
        page.reload()
        page.wait_for_selector("#txt2img_generate")
        page.wait_for_function("typeof opts === 'object' && Object.keys(opts).length > 0")
        open_accordion(page)
        pick(page, "vitl")
        page.fill(f"{selector('txt2img', 'steps')} input[type=number]", "50")
        page.press(f"{selector('txt2img', 'steps')} input[type=number]", "Tab")
        page.fill("#txt2img_prompt textarea", LONG_PROMPT)
        page.click("#txt2img_generate")
        page.wait_for_selector(".progressDiv:has-text('Personalising the prompt, part 2 of ')", timeout=60_000)
        page.screenshot(path=str(tmp_path / "progress.png"))
        # A click on Interrupt ends it.
        page.click("#txt2img_interrupt")
        page.wait_for_selector("#txt2img_interrupt", state="hidden", timeout=60_000)
    forget(webui)


def test_card_puts_the_tag_into_the_prompt(webui: WebUI, page: Any, embeddings: Path, tmp_path: Path) -> None:
    preview = embeddings / "vitl.preview.png"
    Image.new("RGB", (64, 64), "orange").save(preview)
    try:
        page.fill("#txt2img_prompt textarea", "a photo of a cat")
        page.click("#txt2img_extra_tabs > .tab-nav button:has-text('Aesthetic')")
        page.wait_for_selector("#txt2img_aesthetic_cards .card", timeout=30_000)
        page.click("#txt2img_aesthetic_extra_refresh")
        card = page.locator("#txt2img_aesthetic_cards .card[data-name='vitl']")
        card.locator("img.preview").wait_for(timeout=30_000)
        card.scroll_into_view_if_needed()
        page.wait_for_function(
            "document.querySelector('#txt2img_aesthetic_cards .card[data-name=vitl] img.preview').naturalWidth == 64"
        )
        page.screenshot(path=str(tmp_path / "cards.png"))
        card.click()
        page.wait_for_function("document.querySelector('#txt2img_prompt textarea').value.includes('<aesthetic')")
        assert page.input_value("#txt2img_prompt textarea").endswith("<aesthetic:vitl:0.9>")
        page.click("#txt2img_extra_tabs > .tab-nav button:has-text('Generation')")
        mark = webui.mark()
        text = generate_on_page(page, page.input_value("#txt2img_prompt textarea"))
        assert "<aesthetic:vitl:0.9>" in text
        assert len(optimised(webui, mark)) == 1
    finally:
        preview.unlink()


def test_settings_page(page: Any, tmp_path: Path) -> None:
    page.click("#tabs > .tab-nav button:has-text('Settings')")
    page.click("#settings > .tab-nav button:has-text('Aesthetic Gradients')")
    section = page.locator("#settings_aesthetic_gradients")
    section.wait_for()
    page.screenshot(path=str(tmp_path / "settings.png"))
    text = section.inner_text()
    for label in ("Another folder with aesthetic embeddings", "Text projection", "Write the similarity"):
        assert label in text
