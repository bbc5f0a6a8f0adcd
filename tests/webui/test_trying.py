"""The demonstration by one button: from a fresh installation to a picture whose taste can be seen, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aesthetic_clip.demo import MODEL, export, loading, world
from aesthetic_clip.demo.lab.architecture import Classifier
from aesthetic_clip.embeddings.library import open_library

from .conftest import EXTENSION, REPOSITORY
from .hosts import host_in
from .test_page import picture, selector
from .test_thumbs import Thumbs, snap, until
from .webui import WebUI, generate_on_page, open_page

pytestmark = pytest.mark.skipif(not (MODEL / "model_index.json").is_file(), reason="no trained model is stored here")

TRY = "#script_txt2img_aesthetic_embeddings_try"
TAB = "#aesthetic_create"
FIELDS = ("prompt", "width", "height", "cfg_scale", "steps")


@pytest.fixture(scope="module")
def fresh(webui_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebUI]:
    """A WebUI with the extension as it was just installed: a checkpoint, and no embedding."""
    data = tmp_path_factory.mktemp("fresh")
    assets = host_in(webui_dir).write(data)
    host = WebUI(webui_dir, data)
    host.prepare(assets.open_clip_configs, assets.sd1_a.stem)
    host.install_extension(REPOSITORY, EXTENSION)
    with host.running():
        yield host


@pytest.fixture
def page(browser: Any, fresh: WebUI, page_errors: list[str]) -> Iterator[Any]:
    with open_page(browser, fresh, page_errors) as page:
        yield page


class Clicks:
    """Counts what a hand does."""

    def __init__(self, page: Any) -> None:
        self.page, self.count = page, 0

    def click(self, selector: str) -> None:
        self.page.locator(selector).first.click()
        self.count += 1


def look_of(image: Image.Image) -> str:
    """The style that the world's classifier, which knows no CLIP, sees in a picture."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None] / 255
    said = loading.classify(loading.load_classifier(), pixels)["look"][0]
    return Classifier.FIELDS["look"][int(said.argmax())]


def shown(page: Any) -> dict[str, str]:
    return {name: page.locator(f"#txt2img_{name} :is(textarea, input)").first.input_value() for name in FIELDS}


def loaded(page: Any) -> str:
    title: str = page.locator("#setting_sd_model_checkpoint input").first.input_value()
    return title.partition(" [")[0]


def files(fresh: WebUI) -> set[str]:
    return {str(path) for path in (fresh.data_dir / "models").rglob("*") if path.is_file()}


def test_from_a_fresh_installation_to_a_picture_in_the_taste_takes_three_clicks(fresh: WebUI, page: Any) -> None:
    before, said, checkpoint = files(fresh), shown(page), loaded(page)
    hand = Clicks(page)
    hand.click("#script_txt2img_aesthetic_embeddings_accordion > .label-wrap")
    page.locator(f"{TRY}_start").wait_for(state="visible")
    snap(page, "try-1-offered")
    hand.click(f"{TRY}_start")
    message = page.locator(f"{TRY}_message .prose").first
    until(page, lambda: "press Generate" in message.inner_text(), 120)
    until(page, lambda: "aesthetic-demo" in loaded(page), 60)
    snap(page, "try-2-here")
    assert shown(page)["width"] == "64"
    prompt = page.locator("#txt2img_prompt textarea").input_value()
    assert prompt == world.HELD_OUT[0].prompt
    hand.count += 1
    text = generate_on_page(page, prompt)
    snap(page, "try-3-picture")
    assert "Aesthetic embedding: demo warm" in text and "Aesthetic preset: Clear" in text
    assert "Model: aesthetic-demo" in text
    assert look_of(picture(page)) == "warm"
    assert hand.count <= 6

    page.locator(f"{TRY}_stop").first.click()
    until(page, lambda: "is gone" in message.inner_text(), 60)
    until(page, lambda: loaded(page) == checkpoint, 60)
    snap(page, "try-4-gone")
    assert shown(page) == said
    assert page.locator(selector("txt2img", "embedding") + " input").input_value() == "None"
    assert {path for path in files(fresh) if "/.trash/" not in path} == before


@pytest.fixture
def demonstration(fresh: WebUI, page: Any) -> Iterator[Any]:
    """The page's library, after its button was pressed."""
    show(page, "Create aesthetic embedding", "Library")
    page.locator(f"{TAB}_try_accordion > .label-wrap").first.click()
    page.locator(f"{TAB}_try_start").first.click()
    message = page.locator(f"{TAB}_try_message .prose").first
    until(page, lambda: "press Generate" in message.inner_text(), 120)
    until(page, lambda: "aesthetic-demo" in loaded(page), 60)
    assert page.locator(f"{TAB}_table tr[data-aesthetic-row='demo warm']").count() == 1
    snap(page, "try-5-library")
    yield page
    show(page, "Create aesthetic embedding", "Library")
    page.locator(f"{TAB}_try_stop").first.click()
    until(page, lambda: "is gone" in message.inner_text(), 60)


def test_the_create_tab_and_the_thumbs_work_with_its_checkpoint(
    fresh: WebUI, demonstration: Any, tmp_path: Path
) -> None:
    page = demonstration
    world.write_style_images(tmp_path / "pictures", "neon", 12, seed=5)
    show(page, "Create")
    page.fill(f"{TAB}_name :is(input, textarea)", "my neon")
    page.fill(f"{TAB}_folders textarea", str(tmp_path / "pictures"))
    page.locator(f"{TAB}_start").first.click()
    result = page.locator(f"{TAB}_result .prose").first
    until(page, lambda: "made from 12 pictures" in result.inner_text(), 120)
    snap(page, "try-6-created")
    library = open_library([fresh.data_dir / "models" / "aesthetic_embeddings"])
    assert [space.name for space in library.load("my neon").vectors] == ["CLIP-64"]
    (similar,) = [line for line in result.inner_text().splitlines() if line.startswith("demo neon")]
    assert float(similar.rpartition(" ")[2]) > 0.9

    show(page, "txt2img")
    generate_on_page(page, world.HELD_OUT[0].prompt)
    thumbs = Thumbs(page)
    assert "Liked: 1" in thumbs.press("like", "Liked")
    snap(page, "try-7-liked")
    library.trash("my neon")
    library.trash("my taste")


def test_what_is_there_already_stays(fresh: WebUI, page: Any) -> None:
    own = loading.style_embedding(loading.load_image_encoder(), "night")
    library = open_library([fresh.data_dir / "models" / "aesthetic_embeddings"])
    library.save_new(own, "demo warm")
    digest = library.load("demo warm").digest
    try:
        page.reload()
        page.wait_for_selector("#txt2img_generate")
        show(page, "Create aesthetic embedding", "Library")
        page.locator(f"{TAB}_try_accordion > .label-wrap").first.click()
        message = page.locator(f"{TAB}_try_message .prose").first
        page.locator(f"{TAB}_try_start").first.click()
        until(page, lambda: "press Generate" in message.inner_text(), 120)
        until(page, lambda: "aesthetic-demo" in loaded(page), 60)
        page.locator(f"{TAB}_try_stop").first.click()
        until(page, lambda: "is gone" in message.inner_text(), 60)
        assert library.load("demo warm").digest == digest
        assert library.names() == ["demo warm"]
        assert not export.files(fresh.data_dir / "models" / "Stable-diffusion")[0].exists()
    finally:
        library.trash("demo warm")


def test_a_host_that_does_not_load_it_offers_it_nowhere_but_in_the_library_and_says_why(
    fresh: WebUI, page: Any
) -> None:
    before = files(fresh)
    page.locator("#script_txt2img_aesthetic_embeddings_accordion > .label-wrap").first.click()
    page.locator(selector("txt2img", "embedding")).first.wait_for(state="visible")
    page.wait_for_timeout(2000)
    assert not page.locator(f"{TRY}_start").first.is_visible()
    show(page, "Create aesthetic embedding", "Library")
    page.locator(f"{TAB}_try_accordion > .label-wrap").first.click()
    page.locator(f"{TAB}_try_start").first.click()
    message = page.locator(f"{TAB}_try_message .prose").first
    until(page, lambda: "smaller than any that this WebUI's loader knows" in message.inner_text(), 60)
    snap(page, "try-refused")
    assert page.locator(f"{TAB}_try_start").first.is_visible()
    assert files(fresh) == before


def show(page: Any, *tabs: str) -> None:
    for tab in tabs:
        page.locator(".tab-nav button:visible").filter(has_text=re.compile(rf"^\s*{tab}\s*$")).first.click()
