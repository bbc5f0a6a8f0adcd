"""Pictures for the cards of embeddings that have none: one button of the Library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aesthetic_clip.create.contact_sheet import contact_sheet

from .driver import distance, personalised
from .test_create_tab import CreateTab
from .test_picker import CARDS, beside, open_cards
from .test_thumbs import snap
from .webui import WebUI

__all__ = ["beside"]  # a fixture

PROMPT = "a red house"
UNFIT = ("vith", "bigg")


@pytest.fixture
def library(webui: WebUI, page: Any) -> CreateTab:
    webui.use("sd1-a")
    page.fill("#txt2img_prompt textarea", PROMPT)
    tab = CreateTab(page).show("Library")
    tab.find("pictures_accordion", ".label-wrap").first.click()
    return tab


def press(tab: CreateTab) -> str:
    before = tab.says("pictures_message")
    tab.find("pictures").click()
    return tab.changed("pictures_message", before, 120)


def test_each_that_fits_gets_one_in_its_taste(
    webui: WebUI, library: CreateTab, page: Any, page_errors: list[str], beside: Path
) -> None:
    own = (beside / "vitl.preview.png").read_bytes()
    assert press(library).startswith(
        "Made pictures for 3: sub/vitl-2, vitl-flat, xl. Not of this checkpoint: bigg, vith."
    )
    snap(page, "card-pictures")
    assert (beside / "vitl.preview.png").read_bytes() == own
    assert not any((beside / f"{name}.preview.png").exists() for name in UNFIT)
    made = {name: Image.open(beside / f"{name}.preview.png") for name in ("sub/vitl-2", "vitl-flat", "xl")}
    for name, picture in made.items():
        wanted = personalised(webui, name, {"preset": "clear"}, prompt=PROMPT, seed=1).image
        assert distance(picture, contact_sheet([wanted])) == 0, name
    assert distance(made["xl"], made["vitl-flat"]) > 0.2
    # The table shows them, and so do the cards.
    library.filter("xl").locator("tr[data-aesthetic-row='xl'] img").wait_for()
    assert "Every embedding has one" not in press(library)
    assert "There is no picture to make" in library.says("pictures_message")
    page.click("#tabs > .tab-nav button:has-text('txt2img')")
    open_cards(page)
    page.wait_for_selector(f"{CARDS}[data-name=xl] img.preview")
    assert page_errors == []


def test_for_the_chosen_alone(library: CreateTab, beside: Path) -> None:
    library.choose("vitl", "vith", "vitl-flat")
    said = press(library)
    assert said.startswith("Made pictures for 1: vitl-flat. Not of this checkpoint: vith. Has a picture,")
    assert not (beside / "xl.preview.png").exists()


def test_interrupt_keeps_what_is_ready_and_the_next_job_runs(
    webui: WebUI, library: CreateTab, page: Any, beside: Path
) -> None:
    page.evaluate("document.querySelector('#txt2img_steps input[type=number]').scrollIntoView()")
    page.locator("#txt2img_steps input[type=number]").evaluate(
        "input => { input.value = 150; input.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    before = library.says("pictures_message")
    library.find("pictures").click()
    page.wait_for_selector("#tab_aesthetic_create .progressDiv:has-text('%')", timeout=60_000)
    library.find("pictures_stop").click()
    assert "Interrupted" in library.changed("pictures_message", before, 60)
    assert len(list(beside.rglob("*.preview.png"))) < 4
    assert distance(webui.txt2img().image, webui.txt2img().image) == 0
