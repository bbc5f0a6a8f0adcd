"""The lists of embeddings on the local page, in Chromium: marks, small pictures, the keyboard, a thousand."""

from __future__ import annotations

import os
import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.geometry import unit
from aesthetic_clip.pages.local_page import ID
from aesthetic_clip.spaces import VIT_H

from .test_local_page import CHROMIUM, LocalPage, browser, local_page, serve, wait_until

__all__ = ["browser", "local_page", "serve"]  # fixtures
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on the PATH")

FIELD = f"#{ID}_embedding input"
ROWS = f"#{ID}_embedding li"
MISFIT = "does not fit: made for SD 2.x (ViT-H/14)"


def make_misfit(folder: Path, name: str) -> None:
    save(Embedding(name, {VIT_H: unit(torch.ones(VIT_H.dim))}), folder / f"{name}.safetensors")


def rows(page: Any) -> list[tuple[str, str | None, bool]]:
    """What the open list shows: name, mark, whether there is a picture."""
    found = page.eval_on_selector_all(
        ROWS,
        "rows => rows.map(row => [row.getAttribute('aria-label'), row.dataset.aestheticMisfit || null, "
        "getComputedStyle(row, '::before').backgroundImage.startsWith('url(\"data:image/jpeg')])",
    )
    return [(name, misfit, picture) for name, misfit, picture in found]


def open_list(page: Any) -> None:
    page.locator(FIELD).first.click()
    page.locator(ROWS).first.wait_for()


def close_list(page: Any) -> None:
    page.keyboard.press("Escape")
    page.locator(FIELD).first.blur()


def test_misfits_are_marked_and_last_and_pictures_are_shown(local_page: LocalPage, tmp_path: Path) -> None:
    library, page = tmp_path / "library", local_page.page
    make_misfit(library, "another")
    Image.new("RGB", (300, 200), "red").save(library / "taste.png")
    (library / "broken.pt").write_bytes(b"nothing")
    page.reload()
    page.wait_for_selector(f"#{ID}_start")
    local_page.offers(f"{ID}_embedding", lambda names: names == ["None", "taste", "another", "broken"])
    open_list(page)
    wait_until(lambda: any(picture for *_, picture in rows(page)), lambda: str(rows(page)))
    none, taste, another, broken = rows(page)
    assert (none, taste, another) == (("None", None, False), ("taste", None, True), ("another", MISFIT, False))
    assert (broken[1] or "").startswith("can't be used: ")
    assert page.locator(ROWS).nth(2).get_attribute("title") == MISFIT
    page.screenshot(path=str(tmp_path / "list.png"))
    page.set_viewport_size({"width": 420, "height": 900})
    page.screenshot(path=str(tmp_path / "list narrow.png"))
    # What a row says moves along with its name, as gradio uses rows for others while one types.
    page.locator(FIELD).first.fill("")
    page.keyboard.type("anoth", delay=50)
    wait_until(lambda: rows(page) == [("another", MISFIT, False)], lambda: str(rows(page)))
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{FIELD}').value === 'another'")
    assert not local_page.errors


def test_what_changes_later_is_seen_when_the_list_is_looked_at(local_page: LocalPage, tmp_path: Path) -> None:
    library, page = tmp_path / "library", local_page.page
    open_list(page)
    assert [name for name, *_ in rows(page)] == ["None", "taste"]
    close_list(page)
    page.mouse.move(0, 0)
    page.wait_for_timeout(3000)
    shutil.copy(library / "taste.safetensors", library / "zoo.safetensors")
    make_misfit(library, "another")
    Image.new("RGB", (64, 64), "red").save(library / "zoo.png")
    page.locator(FIELD).first.focus()
    page.locator(ROWS).first.wait_for()
    page.wait_for_timeout(1500)
    # A list that is open does not move; one that was looked at is in order from then on.
    assert page.locator(ROWS).count() == 2
    close_list(page)
    page.wait_for_timeout(1500)
    local_page.offers(f"{ID}_embedding", lambda names: names == ["None", "taste", "zoo", "another"])
    open_list(page)
    wait_until(lambda: ("zoo", None, True) in rows(page), lambda: str(rows(page)))
    assert ("another", MISFIT, False) in rows(page)
    # The chosen one stays.
    close_list(page)
    local_page.choose(f"{ID}_embedding", "zoo")
    os.remove(library / "another.safetensors")
    # So is one that a mouse comes near.
    page.mouse.move(0, 0)
    page.wait_for_timeout(2500)
    page.locator(f"#{ID}_accordion").hover(position={"x": 10, "y": 10})
    page.wait_for_timeout(1500)
    local_page.offers(f"{ID}_embedding", lambda names: names == ["None", "taste", "zoo"])
    assert page.locator(FIELD).first.input_value() == "zoo"
    assert not local_page.errors


def test_a_list_of_a_thousand_asks_for_the_pictures_in_sight(local_page: LocalPage, tmp_path: Path) -> None:
    library, page = tmp_path / "library", local_page.page
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    for number in range(1000):
        shutil.copy(library / "taste.safetensors", library / f"copy {number:04}.safetensors")
        shutil.copy(tmp_path / "red.png", library / f"copy {number:04}.png")
    page.reload()
    page.wait_for_selector(f"#{ID}_start")
    local_page.offers(f"{ID}_embedding", lambda names: "copy 0001" in names)
    open_list(page)
    wait_until(lambda: rows(page)[1] == ("copy 0000", None, True), lambda: str(rows(page)[:3]))
    pictured = sum(picture for *_, picture in rows(page))
    assert 5 <= pictured <= 50
    page.locator(ROWS).nth(80).scroll_into_view_if_needed()
    wait_until(lambda: rows(page)[80][2], lambda: str(rows(page)[80]))
    assert sum(picture for *_, picture in rows(page)) <= 150
    assert not local_page.errors


def test_enter_on_a_name_that_is_in_no_row_chooses_no_other(local_page: LocalPage, tmp_path: Path) -> None:
    library, page = tmp_path / "library", local_page.page
    shutil.copy(library / "taste.safetensors", library / "a taste.safetensors")
    page.reload()
    page.wait_for_selector(f"#{ID}_start")
    local_page.offers(f"{ID}_embedding", lambda names: "a taste" in names)
    local_page.choose(f"{ID}_embedding", "taste")
    open_list(page)
    page.locator(FIELD).first.press("Control+a")
    page.keyboard.type("zzz", delay=50)
    wait_until(lambda: not rows(page), lambda: str(rows(page)))
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    # Until gradio 3 it is kept, and refused when pictures are made.
    assert page.input_value(FIELD) == ("zzz" if "filterable" not in signature(gr.Dropdown).parameters else "taste")
    assert not local_page.errors
