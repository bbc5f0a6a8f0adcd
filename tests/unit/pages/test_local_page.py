"""The local page in Chromium, as people use it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from aesthetic_clip.demo import DEMO, MODEL, world
from aesthetic_clip.embeddings.embedding import load
from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.embeddings.presets import PresetFile
from aesthetic_clip.pages.local_page import ID
from aesthetic_clip.pages.tab import ID as TAB
from aesthetic_clip.pages.tab import TITLE
from aesthetic_clip.settings import FIRST_PRESET, Settings

from ...support import page_server, vision_towers

ROOT = Path(__file__).parents[3]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on the PATH")

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts a program that serves a page; its address. Told to stop, it leaves nothing of its own behind."""
    started = []
    temporary = tmp_path_factory.mktemp("temporary")

    def start(port: int, *command: object) -> str:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "no_proxy": "*", "OMP_NUM_THREADS": "1"}
        environment.update(TMPDIR=str(temporary), GRADIO_TEMP_DIR=str(temporary / "gradio"))
        process = subprocess.Popen([sys.executable, "-m", *map(str, command)], cwd=ROOT, env=environment)
        started.append(process)
        address = f"http://127.0.0.1:{port}/"
        for _ in range(240):
            assert process.poll() is None, "it stopped"
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return address
            except OSError:
                time.sleep(0.5)
        raise AssertionError("it never answered")

    yield start
    for process in started:
        process.terminate()
        process.wait(30)
    assert [entry.name for entry in temporary.iterdir() if entry.name != "gradio"] == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LocalPage:
    """The open page."""

    def __init__(self, browser: Any, address: str) -> None:
        self.page = browser.new_page(viewport={"width": 1400, "height": 1200})
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        # Fonts and the like from elsewhere.
        self.page.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
        self.page.goto(address)
        self.page.wait_for_selector(f"#{ID}_start", timeout=60_000)

    def write(self, elem_id: str, text: str) -> None:
        field = self.page.locator(f"#{elem_id} textarea, #{elem_id} input").first
        field.fill(text)
        field.press("Tab")

    def choose(self, elem_id: str, name: str) -> None:
        """By the mouse: Enter is dealt with later than a blur that follows it, which takes back what was typed."""
        field = self.page.locator(f"#{elem_id} input").first
        item = self.page.locator(f"#{elem_id} li").filter(has_text=re.compile(f"^[\\s✓]*{re.escape(name)}\\s*$"))

        def chosen() -> bool:
            field.click()
            item.click()
            # A list whose choices come anew at this moment, as when the page was just opened, drops the click.
            with contextlib.suppress(AssertionError):
                wait_until(lambda: field.input_value() == name, limit=5)
            field.evaluate("input => input.blur()")  # gradio 3 leaves the list open
            return field.input_value() == name

        wait_until(chosen, lambda: f"{elem_id} says {field.input_value()!r}")
        self.page.wait_for_function(f"!document.querySelector('#{elem_id} li')")

    def choose_rows(self, *names: str) -> None:
        """In the library's table: the first by a click on its row, the others by a tick."""
        said = self.page.locator(f"#{TAB}_table").get_by_text(f"Chosen ({len(names)}): {', '.join(names)}").first

        def chosen() -> bool:
            for number, name in enumerate(names):
                row = self.page.locator(f"#{TAB}_table tr[data-aesthetic-row='{name}']").first
                (row.get_by_role("checkbox") if number else row.locator("td").nth(2)).click()
            # A table that is drawn anew at this moment, as when the page was just opened, drops a click.
            with contextlib.suppress(AssertionError):
                wait_until(said.is_visible, limit=10)
            return bool(said.is_visible())

        wait_until(chosen, lambda: f"{names} can't be chosen", limit=60)

    def show(self, tab_name: str) -> None:
        # gradio 3's tabs are plain buttons.
        tabs = self.page.locator(".tab-nav button:visible, button[role=tab]:visible")
        tabs.filter(has_text=re.compile(f"^\\s*{tab_name}\\s*$")).first.click()

    def press(self, elem_id: str) -> None:
        self.page.click(f"#{elem_id}")

    def says(self, elem_id: str, text: str) -> None:
        self.page.locator(f"#{elem_id}").get_by_text(text, exact=False).first.wait_for(timeout=90_000)

    def picture(self, elem_id: str) -> Image.Image:
        image = self.page.locator(f"#{elem_id} img")
        image.wait_for(timeout=90_000)
        source = image.get_attribute("src")
        return Image.open(io.BytesIO(self.page.evaluate(_BYTES_OF, source).encode("latin-1")))

    def offers(self, elem_id: str, fits: Callable[[list[str]], bool]) -> None:
        """Waits until the list is as wanted; it follows a little later, and opens when it has the focus anew."""
        field = self.page.locator(f"#{elem_id} input").first
        listed: list[str] = []

        def as_wanted() -> bool:
            field.click()
            self.page.locator(f"#{elem_id} li").first.wait_for()
            texts = self.page.locator(f"#{elem_id} li").all_inner_texts()
            listed[:] = [text.replace("✓", "").strip() for text in texts]
            field.press("Escape")
            field.blur()
            return fits(listed)

        wait_until(as_wanted, lambda: f"{elem_id} has {listed}")


def wait_until(
    fits: Callable[[], bool], otherwise: Callable[[], str] = lambda: "it never came", limit: float = 60
) -> None:
    end = time.monotonic() + limit
    while not fits():
        assert time.monotonic() < end, otherwise()
        time.sleep(0.1)


_BYTES_OF = """async (source) => {
    const bytes = new Uint8Array(await (await fetch(source)).arrayBuffer());
    return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}"""


@pytest.fixture
def local_page(browser: Any, serve: Serve, tmp_path: Path) -> LocalPage:
    """With a model that paints its order, and the embedding ``taste``."""
    encoder = vision_towers.write_encoder(tmp_path / "encoder", page_server.SPACE.dim)
    vision_towers.write_pictures(tmp_path / "pictures", 5)
    from aesthetic_clip.clip.image_encoder import load_encoder
    from aesthetic_clip.create.pictures import create, save_result
    from aesthetic_clip.create.sources import find_images

    with load_encoder(page_server.SPACE, encoder) as image_encoder:
        result = create(find_images([tmp_path / "pictures"]), [image_encoder])
    save_result(result, open_library([tmp_path / "library"]), "taste")
    port = free_port()
    return LocalPage(browser, serve(port, "tests.support.page_server", port, tmp_path / "library", encoder))


def test_before_and_after(local_page: LocalPage) -> None:
    local_page.write(f"{ID}_prompt", "a cat")
    local_page.write(f"{ID}_seed", "33")
    local_page.choose(f"{ID}_embedding", "taste")
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_message", "halfway")
    local_page.says(f"{ID}_message", "0.100 before, 0.400 after 2 steps")
    before, after = local_page.picture(f"{ID}_before"), local_page.picture(f"{ID}_after")
    # The steps of the preset that a page begins with.
    assert before.getpixel((0, 0)) == (33, 0, 0)
    assert after.getpixel((0, 0)) == (33, 5 * Settings.from_mapping({"preset": FIRST_PRESET}).steps, 0)
    assert local_page.page.locator(f"#{ID}_message circle").count() == 3
    assert not local_page.errors


def test_presets_are_chosen_left_saved_and_deleted(local_page: LocalPage, tmp_path: Path) -> None:
    page = local_page.page

    def shows(name: str, value: str) -> None:
        """Waits, since the page is told a little later."""
        control = f"#{ID}_{name} input, #{ID}_{name} textarea"
        page.wait_for_function(
            "([s, v]) => document.querySelector(s)?.value === v", arg=[control, value], timeout=60_000
        )

    def types(name: str, text: str) -> None:
        """Key by key: gradio 6 takes a text that is put in whole for the page's own doing."""
        field = page.locator(f"#{ID}_{name} input, #{ID}_{name} textarea").first
        field.press("Control+a")
        field.press_sequentially(text)

    shows("preset", "Clear")
    shows("strength", "0.7")
    local_page.choose(f"{ID}_preset", "Paper")
    shows("strength", "")
    page.click(f"#{ID}_fold_more > .label-wrap")
    shows("steps", "5")
    local_page.choose(f"{ID}_preset", "Strong")
    shows("steps", "50")
    shows("centre", "Automatic")
    types("text", "a sea")
    shows("preset", "Strong")
    types("strength", "0.5")
    shows("preset", "Custom")
    local_page.write(f"{ID}_preset_name", "mine")
    local_page.press(f"{ID}_preset_save")
    local_page.says(f"{ID}_preset_message", "Preset 'mine' is saved")
    shows("preset", "mine")
    assert PresetFile(lambda: tmp_path / "library").read()["mine"]["strength"] == 0.5
    local_page.choose(f"{ID}_preset", "Subtle")
    shows("strength", "0.4")
    page.reload()
    page.wait_for_selector(f"#{ID}_start")
    shows("strength", "0.7")
    local_page.choose(f"{ID}_preset", "mine")
    shows("strength", "0.5")
    local_page.choose(f"{ID}_embedding", "taste")
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_parameters", "'Aesthetic preset': 'mine'")
    page.click(f"#{ID}_fold_more > .label-wrap")
    local_page.write(f"{ID}_preset_name", "Mine")
    local_page.press(f"{ID}_preset_delete")
    local_page.says(f"{ID}_preset_message", "Preset 'mine' is deleted")
    shows("preset", "Custom")
    shows("strength", "0.5")
    local_page.write(f"{ID}_preset_name", "Clear")
    local_page.press(f"{ID}_preset_save")
    local_page.says(f"{ID}_preset_message", "means something else already")
    assert not local_page.errors


def test_a_new_embedding_in_the_place_of_the_chosen_one_can_be_picked(local_page: LocalPage, tmp_path: Path) -> None:
    local_page.choose(f"{ID}_embedding", "taste")
    shutil.copy(tmp_path / "library" / "taste.safetensors", tmp_path / "library" / "sea.safetensors")
    local_page.show(TITLE)
    local_page.show("Library")
    local_page.press(f"{TAB}_refresh")
    local_page.says(f"{TAB}_table", "sea")
    local_page.show("Generate")
    assert local_page.page.locator(f"#{ID}_embedding input").first.input_value() == "taste"
    local_page.choose(f"{ID}_embedding", "sea")
    local_page.write(f"{ID}_prompt", "a cat")
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_message", "after 2 steps")
    assert not local_page.errors


def test_a_library_of_many_is_filtered_sorted_and_paged(local_page: LocalPage, tmp_path: Path) -> None:
    for number in range(59):
        shutil.copy(tmp_path / "library" / "taste.safetensors", tmp_path / "library" / f"copy {number:02}.safetensors")
    local_page.show(TITLE)
    local_page.show("Library")
    table = local_page.page.locator(f"#{TAB}_table").first
    local_page.press(f"{TAB}_refresh")
    local_page.says(f"{TAB}_table", "1 to 25 of 60")
    local_page.choose_rows("copy 03", "copy 05")
    table.get_by_text("Next").click()
    local_page.says(f"{TAB}_table", "26 to 50 of 60")
    table.get_by_role("button", name="Name").click()
    table.get_by_role("button", name="Name ▲").click()
    local_page.says(f"{TAB}_table", "Name ▼")
    assert table.locator("tbody tr").first.get_attribute("data-aesthetic-row") == "taste"
    local_page.page.locator(f"#{TAB}_table_filter").locator("textarea, input").first.fill("copy 05")
    local_page.page.locator(f"#{TAB}_table [data-aesthetic-words='copy 05']").first.wait_for()
    assert table.locator("tbody tr").count() == 1
    assert table.locator("tbody").get_by_role("checkbox", checked=True).count() == 1
    # What is chosen stays so on whatever page it is.
    local_page.press(f"{TAB}_trash")
    local_page.says(f"{TAB}_message", "Moved 2 to the trash.")
    assert not (tmp_path / "library" / "copy 03.safetensors").exists()
    assert not local_page.errors


def test_typing_into_a_list_replaces_what_is_chosen(local_page: LocalPage) -> None:
    field = local_page.page.locator(f"#{ID}_embedding input").first
    assert field.input_value() == "None"
    field.click()
    # The field selects all that is in it a little after it has the focus.
    selected = "(field) => field.selectionStart === 0 && field.selectionEnd === field.value.length"
    wait_until(lambda: field.evaluate(selected))
    local_page.page.keyboard.type("tas", delay=50)
    local_page.page.locator(f"#{ID}_embedding li").filter(has_text="taste").first.wait_for()
    assert field.input_value() == "tas"
    local_page.page.keyboard.press("Enter")
    local_page.page.wait_for_function(f"document.querySelector('#{ID}_embedding input').value == 'taste'")


def test_interrupt_and_faults_are_told(local_page: LocalPage) -> None:
    local_page.choose(f"{ID}_embedding", "taste")
    local_page.write(f"{ID}_prompt", page_server.SLOW)
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_message", "halfway")
    local_page.press(f"{ID}_stop")
    local_page.says(f"{ID}_message", "Interrupted.")
    local_page.write(f"{ID}_prompt", "a cat")
    local_page.page.click(f"#{ID}_fold_more > .label-wrap")
    local_page.write(f"{ID}_lr", "7")
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_message", "Aesthetic learning rate is 7. It can be from 0 to 0.1.")


def test_a_program_that_is_told_to_stop_does_not_wait_for_its_job(local_page: LocalPage) -> None:
    local_page.choose(f"{ID}_embedding", "taste")
    local_page.write(f"{ID}_prompt", page_server.SLOW)
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_message", "halfway")
    # The rest is in what stops it.


def test_an_embedding_is_made_and_stands_in_every_list(local_page: LocalPage, tmp_path: Path) -> None:
    local_page.show(TITLE)
    local_page.write(f"{TAB}_name", "discs")
    local_page.write(f"{TAB}_folders", str(tmp_path / "pictures"))
    local_page.press(f"{TAB}_start")
    local_page.says(f"{TAB}_result", "made from 5 pictures")
    assert local_page.picture(f"{TAB}_preview").size[0] > 100
    assert (tmp_path / "library" / "discs.safetensors").is_file()
    local_page.show("Library")
    local_page.says(f"{TAB}_table", "discs")
    local_page.show("Generate")
    local_page.offers(f"{ID}_embedding", lambda listed: listed == ["None", "discs", "taste"])
    assert not local_page.errors


def test_the_library_on_the_page(local_page: LocalPage, tmp_path: Path) -> None:
    local_page.show(TITLE)
    local_page.show("Library")
    local_page.choose_rows("taste")
    local_page.press(f"{TAB}_inspect")
    assert local_page.picture(f"{TAB}_picture").size[0] > 100
    local_page.press(f"{TAB}_export")
    local_page.says(f"{TAB}_message", "Exported: taste")
    with local_page.page.expect_download() as downloading:
        local_page.page.locator(f"#{TAB}_file a").first.click()
    file = tmp_path / "taste.safetensors"
    downloading.value.save_as(file)
    kept = load(tmp_path / "library" / file.name)
    assert torch.equal(load(file).vectors[page_server.SPACE], kept.vectors[page_server.SPACE])
    local_page.write(f"{TAB}_new_name", "renamed")
    local_page.press(f"{TAB}_rename")
    local_page.says(f"{TAB}_message", "Renamed: renamed")
    local_page.says(f"{TAB}_table", "renamed")
    # It is chosen still, under its new name.
    local_page.press(f"{TAB}_trash")
    local_page.says(f"{TAB}_message", "Moved to")
    local_page.show("Generate")
    local_page.offers(f"{ID}_embedding", lambda listed: listed == ["None"])
    local_page.show(TITLE)
    local_page.page.locator(f"#{TAB}_trash_accordion").get_by_text("Trash", exact=True).first.click()
    local_page.page.locator(f"#{TAB}_trashed td:text-is('renamed')").first.click()
    local_page.press(f"{TAB}_restore")
    local_page.says(f"{TAB}_message", "Restored: renamed")
    local_page.says(f"{TAB}_table", "Chosen (1): renamed")
    local_page.show("Generate")
    local_page.offers(f"{ID}_embedding", lambda listed: listed == ["None", "renamed"])
    assert not local_page.errors


@pytest.mark.skipif(not (MODEL / "model_index.json").is_file(), reason="no trained model is stored here")
def test_the_demonstration_model_on_the_page(browser: Any, serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    world.write_style_images(tmp_path / "pictures", "night", 12, seed=5)
    port = free_port()
    command = ("aesthetic_clip", "ui", "--port", port, "--library", tmp_path / "library")
    local_page = LocalPage(browser, serve(port, *command))
    local_page.show(TITLE)
    local_page.write(f"{TAB}_name", "mine")
    local_page.write(f"{TAB}_folders", str(tmp_path / "pictures"))
    local_page.press(f"{TAB}_start")
    local_page.says(f"{TAB}_result", "made from 12 pictures")
    local_page.show("Generate")
    local_page.offers(f"{ID}_embedding", {"mine", *(f"{DEMO} {style}" for style in world.STYLES)}.issubset)
    local_page.choose(f"{ID}_embedding", "mine")
    local_page.write(f"{ID}_prompt", f"{world.HELD_OUT[0].prompt} <aesthetic:{DEMO} warm:0.2:steps=12:strength=off>")
    local_page.press(f"{ID}_start")
    local_page.says(f"{ID}_message", "after 12 steps")
    before, after = local_page.picture(f"{ID}_before"), local_page.picture(f"{ID}_after")
    assert before.size == after.size == (world.SIZE, world.SIZE)
    assert before.tobytes() != after.tobytes()
    assert "Aesthetic embedding: mine" in after.text["parameters"]  # type: ignore[attr-defined]
    # Without the tag, which would move it as well.
    assert "aesthetic" not in before.text["parameters"].lower()  # type: ignore[attr-defined]
    assert not local_page.errors
