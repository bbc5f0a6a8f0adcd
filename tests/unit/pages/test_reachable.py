"""The local page for those who see badly, hear their screen, or have a small one: contrast, names, widths, measured in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.pages.local_page import ID
from aesthetic_clip.pages.tab import TITLE
from aesthetic_clip.spaces import VIT_L

from ...support import page_audit, page_server, vision_towers
from .test_local_page import CHROMIUM, LocalPage, Serve, browser, free_port, serve

__all__ = ["browser", "serve"]  # fixtures

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on the PATH")

SIZES = {"large": (1500, 900), "phone": (420, 900)}


@pytest.fixture
def shown(
    browser: Any, serve: Serve, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Any, LocalPage]]:
    """The page with a result on it, in the theme and of the size that the test wants."""
    theme, size = request.param
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name, space in (("taste", page_server.SPACE), ("of another space", VIT_L)):
        save(Embedding(name, {space: torch.ones(space.dim) / space.dim**0.5}), shelf / f"{name}.safetensors")
    encoder = vision_towers.write_encoder(tmp_path / "encoder", page_server.SPACE.dim)
    port = free_port()
    address = serve(port, "tests.support.page_server", port, shelf, encoder)
    opened = LocalPage(browser, address)
    opened.page.set_viewport_size(dict(zip(("width", "height"), SIZES[size])))
    opened.page.goto(f"{address}?__theme={theme}")
    opened.page.wait_for_selector(f"#{ID}_start", timeout=60_000)
    opened.choose(f"{ID}_embedding", "taste")
    opened.press(f"{ID}_start")
    opened.picture(f"{ID}_after")
    yield opened.page, opened
    opened.page.close()


@pytest.mark.parametrize("shown", [(t, s) for t in ("light", "dark") for s in SIZES], indirect=True, ids="-".join)
def test_all_can_be_read_named_and_reached(shown: tuple[Any, LocalPage]) -> None:
    page, opened = shown
    found: dict[str, list[str]] = {}
    for tab in ("Generate", TITLE, "Library", "Tastes"):
        page.locator("button[role=tab]:visible, .tab-nav button:visible").filter(has_text=tab).first.click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(1000)
        for measure in (page_audit.faint, page_audit.nameless, page_audit.outside):
            found[f"{tab}: {measure.__name__}"] = measure(page, ".gradio-container")
    found["twice"] = page_audit.twice(page, "aesthetic")
    assert not {what: faults for what, faults in found.items() if faults}
    assert not opened.errors


@pytest.mark.parametrize("shown", [("light", "large")], indirect=True, ids="-".join)
def test_the_pictures_and_the_thumbs_are_in_the_first_screenful(shown: tuple[Any, LocalPage]) -> None:
    page, _ = shown
    page.evaluate("scrollTo(0, 0)")
    for part in (f"#{ID}_start", f"#{ID}_before", f"#{ID}_after", f"#{ID}_like_after"):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= 900, part


def test_what_is_measured_is_found(browser: Any) -> None:
    """The measures themselves, on a page whose faults are known."""
    page = browser.new_page(viewport={"width": 420, "height": 600})
    page.set_content("""
        <body style="background: white; margin: 0"><div id="aesthetic_a">
        <p style="color: #777777">4.48 to 1</p> <p style="color: #767676">4.54 to 1</p>
        <p style="color: #949494; font-size: 24px">3.03 to 1, large</p>
        <div style="background: linear-gradient(white, #999)"><p style="color: #666666">2.0 at the lower end</p></div>
        <p style="color: black; opacity: .4">2.85 as it is seen</p>
        <button title="named">+</button> <button></button> <label>Name <input></label> <input placeholder="none">
        <button id="aesthetic_b" style="position: absolute; left: 400px; width: 60px">beside</button>
        <i id="aesthetic_b"></i></div></body>""")
    faint = page_audit.faint(page, "body")
    assert [text[:4] for text in faint[:3]] == ["4.48", "2.02", "2.85"]
    assert len(page_audit.nameless(page, "body")) == 2
    assert page_audit.twice(page, "aesthetic") == ["aesthetic_b"]
    assert any("aesthetic_b" in text for text in page_audit.outside(page, "body"))
    page.close()
