"""Lists and cards of embeddings on the page: what fits, pictures, and what is preferred for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from .driver import distance, options, personalised
from .test_page import open_accordion, pick, picture, selector, shown, wait_for
from .webui import WebUI, generate_on_page, visit

MISFIT = "does not fit: made for SD 2.x (ViT-H/14)"
ROWS = f"{selector('txt2img', 'embedding')} li"
CARDS = "#txt2img_aesthetic_cards .card"


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


@pytest.fixture
def beside(embeddings: Path) -> Iterator[Path]:
    """The folder of embeddings, with a picture beside one; what is put beside them is taken away."""
    before = set(embeddings.rglob("*"))
    Image.new("RGB", (640, 480), "orange").save(embeddings / "vitl.preview.png")
    yield embeddings
    for path in set(embeddings.rglob("*")) - before:
        if path.is_file():
            path.unlink()


def rows(page: Any) -> dict[str, tuple[str | None, bool]]:
    """What the open list shows: by name, in order, the mark, and whether there is a picture."""
    found = page.eval_on_selector_all(
        ROWS,
        "rows => rows.map(row => [row.getAttribute('aria-label'), row.dataset.aestheticMisfit || null, "
        "getComputedStyle(row, '::before').backgroundImage.startsWith('url(\"data:image/jpeg')])",
    )
    return {name: (misfit, pictured) for name, misfit, pictured in found}


def wait_for_mark(page: Any, name: str, marked: bool = True) -> None:
    page.wait_for_function(
        "([rows, name, marked]) => [...document.querySelectorAll(rows)].some(row => "
        "row.getAttribute('aria-label') === name && Boolean(row.dataset.aestheticMisfit) === marked)",
        arg=[ROWS, name, marked],
    )


@pytest.mark.parametrize(("width", "theme"), [(1500, "light"), (1500, "dark"), (420, "light"), (420, "dark")])
def test_the_list_shows_pictures_and_what_does_not_fit(
    webui: WebUI, page: Any, page_errors: list[str], beside: Path, tmp_path: Path, width: int, theme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 1100})
    page.goto(f"{webui.url}/?__theme={theme}")
    page.wait_for_selector("#txt2img_generate")
    page.wait_for_timeout(1000)
    open_accordion(page)
    page.locator(selector("txt2img", "accordion")).scroll_into_view_if_needed()
    page.click(f"{selector('txt2img', 'embedding')} input")
    wait_for_mark(page, "vith")
    page.wait_for_function(
        "row => getComputedStyle(document.querySelector(row), '::before').backgroundImage.startsWith('url')",
        arg=f"{ROWS}[aria-label=vitl]",
    )
    page.wait_for_timeout(400)  # it fades in
    found = rows(page)
    page.screenshot(path=str(tmp_path / f"list {width} {theme}.png"))
    assert found["vitl"] == (None, True) and found["vith"] == (MISFIT, False)
    unfit = [name for name, (misfit, _) in found.items() if misfit]
    assert {"vith", "bigg"} <= set(unfit) and list(found)[-len(unfit) :] == unfit
    # All of a row is within the page.
    boxes = page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.getBoundingClientRect().right)")
    assert max(boxes) <= width
    # By the keyboard, and by what is typed; the name is what is sent.
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    page.fill(f"{selector('txt2img', 'embedding')} input", "")
    page.keyboard.type("vith", delay=50)
    wait_for_mark(page, "vith")
    assert list(rows(page)) == ["vith"]
    page.keyboard.press("Enter")
    assert shown(page, "embedding") == "vith"
    assert page_errors == []


def test_marks_follow_the_checkpoint(webui: WebUI, page: Any, page_errors: list[str]) -> None:
    # An embedding that fits the second checkpoint only, and one that does not fit it.
    other, fits, misfits = ("sd2", "vith", "vitl") if "sd2" in webui.host.families else ("sdxl", "bigg", "vith")
    open_accordion(page)
    field = f"{selector('txt2img', 'embedding')} input"
    page.click(field)
    wait_for_mark(page, fits)
    page.keyboard.press("Escape")
    page.locator(field).blur()
    page.mouse.move(0, 0)
    webui.use(other)
    page.wait_for_timeout(2500)
    page.hover(selector("txt2img", "accordion"), position={"x": 5, "y": 5})
    page.wait_for_timeout(1500)
    page.click(field)
    wait_for_mark(page, fits, marked=False)
    wait_for_mark(page, misfits)
    found = rows(page)
    assert list(found).index(fits) < list(found).index(misfits)
    assert page_errors == []


def open_cards(page: Any, refreshed: bool = True) -> None:
    page.click("#txt2img_extra_tabs > .tab-nav button:has-text('Aesthetic')")
    page.wait_for_selector(CARDS, timeout=30_000)
    if refreshed:
        page.click("#txt2img_aesthetic_extra_refresh")
        page.wait_for_timeout(1500)


def test_cards_say_what_does_not_fit_or_are_hidden(
    webui: WebUI, page: Any, page_errors: list[str], beside: Path, tmp_path: Path
) -> None:
    (beside / "vith.json").write_text(json.dumps({"description": "my words"}))
    open_cards(page)
    assert page.inner_text(f"{CARDS}[data-name=vith] .description") == f"⚠ {MISFIT}\nmy words"
    assert page.inner_text(f"{CARDS}[data-name=vitl] .description") == ""
    page.screenshot(path=str(tmp_path / "cards.png"))
    names = page.eval_on_selector_all(CARDS, "cards => cards.map(card => card.dataset.name)")
    assert {"vitl", "vith", "bigg", "xl", "sub/vitl-2"} <= set(names)
    with options(webui, aesthetic_hide_misfits=True):
        page.click("#txt2img_aesthetic_extra_refresh")
        page.wait_for_selector(f"{CARDS}[data-name=vith]", state="detached")
        hidden = page.eval_on_selector_all(CARDS, "cards => cards.map(card => card.dataset.name)")
        assert set(names) - set(hidden) == {name for name in names if name in ("vith", "bigg")}
    assert page_errors == []


def test_what_is_preferred_is_written_on_the_card_and_followed(
    webui: WebUI, page: Any, page_errors: list[str], beside: Path, tmp_path: Path
) -> None:
    open_cards(page)
    card = f"{CARDS}[data-name=vitl]"
    page.hover(card)
    page.locator(f"{card} .edit-button").click(force=True)
    editor = "#txt2img_aesthetic_edit_user_metadata, .popup-metadata, .global-popup"
    page.locator(editor).get_by_label("Description").first.wait_for()
    box = page.locator(".edit-user-metadata:visible")
    box.get_by_label("Description").fill("warm light")
    box.locator("input[type=number]").fill("0.35")
    box.get_by_label("Notes").fill("for portraits")
    page.screenshot(path=str(tmp_path / "editor.png"))
    box.get_by_role("button", name="Save").click()
    page.wait_for_function(f"document.querySelector('{card} .description').innerText === 'warm light'")
    kept = json.loads((beside / "vitl.json").read_text())
    assert kept == {"description": "warm light", "notes": "for portraits", "preferred strength": 0.35}
    # The card's tag follows, and a second click takes it out again.
    page.fill("#txt2img_prompt textarea", "a photo of a cat")
    tag = "<aesthetic:vitl:strength=0.35>"
    for expected in (f"a photo of a cat {tag}", "a photo of a cat"):
        page.click(card, position={"x": 20, "y": 60})
        page.wait_for_function(
            "text => document.querySelector('#txt2img_prompt textarea').value === text", arg=expected, timeout=10_000
        )
    assert "Aesthetic strength: 0.35" in webui.txt2img(prompt=f"a photo of a cat{tag}").infotext
    # So does the accordion, where another embedding is picked by hand.
    page.click("#txt2img_extra_tabs > .tab-nav button:has-text('Generation')")
    open_accordion(page)
    wait_for(page, "strength", "0.7")
    pick(page, "vitl")
    wait_for(page, "strength", "0.35")
    assert shown(page, "preset") == "Custom"
    assert "Aesthetic strength: 0.35" in generate_on_page(page, "a photo of a cat")
    # A program that names it says the rest itself.
    assert "Aesthetic strength" not in personalised(webui, "vitl").infotext
    assert page_errors == []


def test_the_webuis_own_replace_preview_makes_a_picture_the_cards(
    webui: WebUI, page: Any, page_errors: list[str], beside: Path, tmp_path: Path
) -> None:
    generate_on_page(page, "a photo of a cat")
    made = picture(page)
    open_cards(page)
    card = f"{CARDS}[data-name='sub/vitl-2']"
    assert page.locator(f"{card} img.preview").count() == 0
    page.hover(card)
    page.locator(f"{card} .edit-button").click(force=True)
    box = page.locator(".edit-user-metadata:visible")
    box.get_by_role("button", name="Replace preview").click()
    page.wait_for_selector(f"{card} img.preview", timeout=30_000)
    assert distance(Image.open(beside / "sub" / "vitl-2.preview.png").convert("RGB"), made) == 0
    page.screenshot(path=str(tmp_path / "replaced.png"))
    visit(page, webui)
    open_accordion(page)
    page.click(f"{selector('txt2img', 'embedding')} input")
    page.wait_for_function(
        "row => getComputedStyle(document.querySelector(row), '::before').backgroundImage.startsWith('url')",
        arg=f"{ROWS}[aria-label='sub/vitl-2']",
    )
    assert page_errors == []


def test_the_trash_and_the_pictures_of_tastes_are_no_folders_of_cards(webui: WebUI, page: Any, beside: Path) -> None:
    for hidden in (".trash/20250101-000000-000000/sub", ".tastes/0123456789abcdef/liked"):
        (beside / hidden).mkdir(parents=True)
        (beside / hidden / "thrown away.pt").write_bytes((beside / "vitl.pt").read_bytes())
    for style in ("Dirs", "Tree"):
        with options(webui, extra_networks_tree_view_style=style):
            open_cards(page)
            pane = page.inner_html("#txt2img_aesthetic_cards_html")
            assert "sub/vitl-2" in pane
            assert ".trash" not in pane and ".tastes" not in pane and "thrown away" not in pane


def test_with_an_embedding_at_hand_three_clicks_lead_to_its_picture(page: Any, page_errors: list[str]) -> None:
    page.click("#txt2img_extra_tabs > .tab-nav button:has-text('Aesthetic')")
    page.click(f"{CARDS}[data-name=vitl]", position={"x": 20, "y": 60})
    prompt = page.locator("#txt2img_prompt textarea")
    page.wait_for_function("() => document.querySelector('#txt2img_prompt textarea').value.includes('<aesthetic:vitl')")
    # The third one is Generate.
    said = generate_on_page(page, prompt.input_value())
    assert "<aesthetic:vitl" in said and "Aesthetic strength: 0.7" in said
    assert page_errors == []
