"""What this extension shows in the WebUI, for those who see badly, hear their screen, or have a small one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aesthetic_clip.pages.tab.hints import HINTS

from ..support import page_audit
from .test_page import open_accordion, pick, selector
from .test_trying import show
from .webui import WebUI, generate_on_page

ACCORDION = selector("txt2img", "accordion")
UNDER_THE_GALLERY = "[id^=txt2img_aesthetic_]:not([id*=extra], [id*=cards])"
TAB = "#tab_aesthetic_create"


def audit(page: Any, *roots: str) -> dict[str, list[str]]:
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)
    measures = (page_audit.faint, page_audit.nameless, page_audit.outside)
    return {measure.__name__: found for measure in measures if (found := measure(page, *roots))}


@pytest.mark.parametrize(("width", "theme"), [(1500, "light"), (1500, "dark"), (420, "light"), (420, "dark")])
def test_all_can_be_read_named_and_reached(
    webui: WebUI, page: Any, page_errors: list[str], tmp_path: Path, width: int, theme: str
) -> None:
    webui.use("sd1-a")
    page.set_viewport_size({"width": width, "height": 1000})
    page.goto(f"{webui.url}/?__theme={theme}")
    page.wait_for_selector("#txt2img_generate")
    page.wait_for_timeout(2000)
    open_accordion(page)
    pick(page, "vitl")
    found = {"accordion": audit(page, ACCORDION)}
    page.locator(ACCORDION).screenshot(path=str(tmp_path / f"accordion {width} {theme}.png"))
    generate_on_page(page, "a photo of a cat")
    page.locator("#txt2img_gallery img").first.wait_for()
    found["under the gallery"] = audit(page, UNDER_THE_GALLERY)
    page.screenshot(path=str(tmp_path / f"generated {width} {theme}.png"))
    show(page, "Create aesthetic embedding")
    for part in ("Create", "Library", "Tastes"):
        page.locator(f"{TAB} .tab-nav button:visible").filter(has_text=part).first.click()
        found[part] = audit(page, TAB)
        page.screenshot(path=str(tmp_path / f"{part} {width} {theme}.png"))
    twice = page_audit.twice(page, "aesthetic")
    # The WebUI has the tools of every kind of cards on the page more than once.
    hosts_own = {name.replace("_lora_", "_aesthetic_") for name in page_audit.twice(page, "_lora_")}
    found["ids"] = {"twice": sorted(set(twice) - hosts_own)} if set(twice) - hosts_own else {}
    assert not {where: faults for where, faults in found.items() if faults}
    assert page_errors == []


def test_every_control_of_the_tab_says_what_it_does(page: Any, page_errors: list[str]) -> None:
    show(page, "Create aesthetic embedding")
    page.wait_for_function("() => document.querySelector('#aesthetic_create_name').title")
    said = {name: page.locator(f"#aesthetic_create_{name}").first.get_attribute("title") for name in HINTS}
    assert said == dict(HINTS)
    # What has the mouse over it shows its own, not the WebUI's for a word in it.
    label = page.locator("#aesthetic_create_overwrite span").last
    assert label.get_attribute("title") == HINTS["overwrite"]
    assert page_errors == []
