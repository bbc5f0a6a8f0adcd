"""👍 and 👎 under the real page's galleries, and the taste of a single picture."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aesthetic_clip.embeddings import profiles
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.spaces import VIT_L

from ..support.vision_towers import picture, write_encoder
from .webui import WebUI, generate_on_page, open_page

EMBEDDING = "#script_txt2img_aesthetic_embeddings_embedding input"
ACCORDION = "#script_txt2img_aesthetic_embeddings_accordion .label-wrap"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"), 768)


@pytest.fixture(scope="module")
def library(webui: WebUI, encoder: Path) -> Iterator[Library]:
    """Where tastes go; the WebUI has an image encoder."""
    webui.use("sd1-a")
    webui.set_options(aesthetic_image_encoder_768=str(encoder))
    yield open_library([webui.data_dir / "models" / "aesthetic_embeddings"])
    webui.set_options(aesthetic_image_encoder_768="")


@pytest.fixture
def taste(library: Library) -> Iterator[str]:
    """The name of a taste that is not there yet, and gone afterwards."""
    name = f"taste {time.monotonic_ns()}"
    yield name
    if name in library.names():
        library.trash(name)


class Thumbs:
    """The row under a gallery of an open page."""

    def __init__(self, page: Any, tab: str = "txt2img") -> None:
        self.page, self.tab = page, tab

    def find(self, part: str) -> Any:
        return self.page.locator(f"#{self.tab}_aesthetic_{part}").first

    def says(self) -> str:
        text: str = self.page.locator(f"#{self.tab}_aesthetic_thumbs_message .prose").first.inner_text()
        return text

    def press(self, part: str, expected: str, timeout: float = 60) -> str:
        """Press a button; the message, once it matches."""
        self.find(part).click()
        return self.wait(expected, timeout)

    def wait(self, expected: str, timeout: float = 60) -> str:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if re.search(expected, text := self.says()):
                return text
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it says {self.says()!r}, not {expected!r}")

    def name(self, taste: str) -> None:
        box = self.find("profile").locator("input")
        box.click()
        box.fill(taste)
        box.press("Enter")

    def select(self, index: int) -> None:
        self.page.locator(f"#{self.tab}_gallery .thumbnail-item.thumbnail-small").nth(index).click()


@pytest.fixture
def thumbs(library: Library, page: Any) -> Thumbs:
    return Thumbs(page)


def embedding_shown(page: Any) -> str:
    value: str = page.locator(EMBEDDING).input_value()
    return value


def until(page: Any, condition: Callable[[], bool], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


def snap(page: Any, name: str) -> None:
    """A screenshot, if the environment names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def test_liking_the_selected_picture_makes_a_taste_to_generate_with(
    thumbs: Thumbs, page: Any, library: Library, taste: str
) -> None:
    page.fill("#txt2img_batch_count input[type=number]", "2")
    page.press("#txt2img_batch_count input[type=number]", "Tab")
    generate_on_page(page, "a photo of a cat")
    thumbs.name(taste)
    thumbs.select(0)
    assert "The grid of all pictures is selected." in thumbs.press("like", "grid")
    thumbs.select(1)
    assert f"👍 Liked: 1 in “{taste}”." in thumbs.press("like", "Liked")
    snap(page, "thumbs")
    first = library.load(taste)
    assert list(first.vectors) == [VIT_L] and first.about.liked == 1
    thumbs.press("like", "is liked already")
    thumbs.select(2)
    thumbs.press("dislike", "1 liked and 1 disliked")
    assert library.load(taste).digest != first.digest
    thumbs.press("undo", "Taken back")
    assert library.load(taste).digest == first.digest

    page.click(ACCORDION)
    page.click(EMBEDDING)
    page.click(f"#script_txt2img_aesthetic_embeddings_embedding ul.options li[aria-label='{taste}']")
    page.fill("#txt2img_batch_count input[type=number]", "1")
    page.press("#txt2img_batch_count input[type=number]", "Tab")
    assert f"Aesthetic embedding: {taste}" in generate_on_page(page, "a photo of a cat")
    (liked,) = profiles.pictures(library, taste)
    assert liked.path.endswith(".png")


def test_in_the_taste_of_a_picture_takes_two_clicks(thumbs: Thumbs, page: Any, library: Library) -> None:
    plain = generate_on_page(page, "a photo of a dog")
    assert "Aesthetic" not in plain
    before = library.names()
    thumbs.find("this").click()
    until(page, lambda: embedding_shown(page).startswith("this picture "))
    name = embedding_shown(page)
    text = generate_on_page(page, "a photo of a dog")
    snap(page, "this-picture")
    assert f"Aesthetic embedding: {name}" in text
    assert library.names() == before


def test_a_dropped_picture_becomes_the_embedding(thumbs: Thumbs, page: Any, tmp_path: Path) -> None:
    picture(5).save(tmp_path / "dropped.png")
    page.click(ACCORDION)
    page.click("#script_txt2img_aesthetic_embeddings_drop .label-wrap")
    page.set_input_files("#script_txt2img_aesthetic_embeddings_dropped input[type=file]", str(tmp_path / "dropped.png"))
    until(page, lambda: embedding_shown(page).startswith("this picture "))
    snap(page, "dropped")
    text = generate_on_page(page, "a photo of a dog")
    assert f"Aesthetic embedding: {embedding_shown(page)}" in text


def test_the_taste_of_the_settings_is_on_from_the_start_and_said(
    browser: Any, webui: WebUI, library: Library, page_errors: list[str]
) -> None:
    webui.set_options(aesthetic_first_embedding="vitl")
    try:
        with open_page(browser, webui, page_errors) as page:
            thumbs = Thumbs(page)
            thumbs.wait("On from the start, by the settings: “vitl”.")
            until(page, lambda: embedding_shown(page) == "vitl")
            assert "Aesthetic embedding: vitl" in generate_on_page(page, "a photo of a cat")
            assert "Aesthetic" not in webui.txt2img().infotext, "programs say themselves what they want"
    finally:
        webui.set_options(aesthetic_first_embedding="None")


def test_a_thumb_during_a_generation_waits_for_it(thumbs: Thumbs, page: Any, webui: WebUI, taste: str) -> None:
    generate_on_page(page, "a photo of a hen")
    thumbs.name(taste)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(webui.txt2img, steps=60)
        until(page, lambda: webui.run("result = shared.state.job_count > 0"))
        assert not running.done()
        thumbs.press("like", "Looking at the picture|Liked")
        thumbs.wait("Liked: 1", 180)
        assert running.result().image.size == (64, 64)


def test_a_missing_encoder_is_told_with_the_way_out(
    thumbs: Thumbs, page: Any, webui: WebUI, library: Library, encoder: Path, taste: str
) -> None:
    generate_on_page(page, "a photo of a horse")
    thumbs.name(taste)
    webui.set_options(aesthetic_image_encoder_768="")
    try:
        said = thumbs.press("like", "no image encoder")
        assert "Press 'Download the image encoder', once for all pictures." in said
        snap(page, "encoder-missing")
        assert thumbs.find("download").is_visible()
        # The rig has no network.
        assert "HF_HUB_OFFLINE" in thumbs.press("download", "switched off")
        assert taste not in library.names()
    finally:
        webui.set_options(aesthetic_image_encoder_768=str(encoder))
    thumbs.press("like", "Liked: 1")
    assert not thumbs.find("download").is_visible()


@pytest.mark.parametrize("tab", ["img2img", "extras"])
def test_the_row_stands_under_the_other_galleries_too(library: Library, page: Any, tab: str) -> None:
    page.locator("#tabs > .tab-nav button").filter(has_text=re.compile(f"^\\s*{tab}\\s*$", re.IGNORECASE)).click()
    thumbs = Thumbs(page, tab)
    assert "There is no picture yet." in thumbs.press("like", "no picture")
