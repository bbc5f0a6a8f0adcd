"""The tab "Create aesthetic embedding" on the real page: making embeddings, and the library."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aesthetic_clip.embeddings.embedding import Embedding, load, save
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L, space_of

from ..support.vision_towers import picture, truncate, write_encoder, write_pictures
from .inside import catalogue, slow_encoder
from .webui import WebUI, generate_on_page, open_page, visit

TAB = "Create aesthetic embedding"
DIMS = (768, 1024, 1280)
EMBEDDING = {tab: f"#script_{tab}_aesthetic_embeddings_embedding" for tab in ("txt2img", "img2img")}


class CreateTab:
    """The tab on an open page."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def find(self, key: str, inner: str = "") -> Any:
        # Gradio gives the id of an HTML block to two elements, one within the other.
        component = self.page.locator(f"#aesthetic_create_{key}").first
        return component.locator(inner) if inner else component

    def show(self, part: str = "Create") -> CreateTab:
        show_tab(self.page, TAB)
        self.find("tabs", f".tab-nav button:has-text('{part}')").first.click()
        return self

    def says(self, key: str) -> str:
        """The text of an HTML block, without gradio's own of how the queue stands."""
        text: str = self.find(key, ".prose").inner_text()
        return text

    def write(self, key: str, text: str) -> None:
        inner = "input[type=number]" if key == "batch_size" else "input, textarea"
        self.find(key).locator(inner).first.fill(text)

    def fill(self, name: str, *folders: Path | str, spaces: Sequence[str] = (), **more: Any) -> CreateTab:
        """Fill the form; what is not given is as on an empty form, but for the pictures dropped or sent."""
        self.write("name", name)
        self.write("folders", "\n".join(map(str, folders)))
        for space in ("ViT-L/14", "ViT-H/14", "ViT-bigG/14"):
            self.find("spaces", "label").filter(has_text=space).locator("input").set_checked(space in spaces)
        for key in ("recursive", "overwrite", "raw", "keep_partial", "allow_download"):
            self.find(key, "input[type=checkbox]").set_checked(more.pop(key, False))
        for key, value in {"batch_size": 16, "note": "", **more}.items():
            self.write(key, str(value))
            self.page.keyboard.press("Tab")
        return self

    def start(self) -> str:
        """Press the button; what the page said before."""
        # The bar of the job before goes at its next look at the progress.
        self.page.wait_for_selector("#tab_aesthetic_create .progressDiv", state="detached")
        before = self.says("result")
        self.find("start").click()
        return before

    def result(self, before: str, timeout: float = 60) -> str:
        """What the job says in the end."""
        said = self.changed("result", before, timeout, lambda text: "Time taken" in text)
        assert "<div" not in said, "the WebUI's own lines are HTML"
        return said

    def create(self, name: str, *folders: Path | str, timeout: float = 60, **more: Any) -> str:
        return self.fill(name, *folders, **more).result(self.start(), timeout)

    def changed(self, key: str, before: str, timeout: float = 20, enough: Callable[[str], bool] = bool) -> str:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            text = self.says(key)
            if text != before and enough(text):
                return text
            self.page.wait_for_timeout(50)
        raise AssertionError(f"{key} did not change; it says {self.says(key)!r}")

    def progress_line(self, pattern: str, timeout: float = 30) -> str:
        """The progress bar's text, once it matches."""
        bar = self.page.locator("#tab_aesthetic_create .progress")
        deadline = time.monotonic() + timeout
        text = ""
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                text = bar.first.inner_text(timeout=500)
            if re.search(pattern, text):
                return text
            self.page.wait_for_timeout(50)
        raise AssertionError(f"no progress line like {pattern!r}, last {text!r}")

    # --- library ---

    def press(self, key: str, timeout: float = 20) -> str:
        """Press a button of the library; the message afterwards."""
        before = self.says("message")
        self.find(key).click()
        return self.changed("message", before, timeout)

    def refresh(self, name: str) -> None:
        """Press Refresh; the table shows the name afterwards."""
        self.find("refresh").click()
        self.filter(name).locator(f"tr[data-aesthetic-row='{name}']").wait_for()
        self.filter("")

    def choose(self, *names: str) -> None:
        """Exactly these embeddings, in the table."""
        for number, name in enumerate(names):
            row = self.filter(name).locator(f"tr[data-aesthetic-row='{name}']")
            (row.get_by_role("checkbox") if number else row.locator("td").nth(2)).click()
        self.filter("")

    def filter(self, words: str) -> Any:
        """Show only rows with these words: a library may have more than a page of others."""
        self.find("table_filter", "textarea, input").fill(words)
        table = self.find("table", f".aesthetic-table[data-aesthetic-words='{words}']").first
        table.wait_for()
        return table

    def chosen(self) -> list[str]:
        return json.loads(self.find("table_chosen", "textarea, input").input_value() or "[]")

    def row(self, name: str) -> list[str]:
        """The cells of the library's table for a name."""
        return list(self.filter(name).locator(f"tr[data-aesthetic-row='{name}'] td").all_inner_texts())

    def lists(self, name: str) -> bool:
        """Whether the table has this name."""
        return bool(self.row(name))


def show_tab(page: Any, title: str) -> None:
    page.locator("#tabs > .tab-nav button").filter(has_text=re.compile(f"^\\s*{title}\\s*$", re.IGNORECASE)).click()


def offered(page: Any, dropdown: str) -> list[str]:
    """What a dropdown offers."""
    page.click(f"{dropdown} input")
    page.wait_for_selector(f"{dropdown} ul.options li")
    found = [item.removeprefix("✓").strip() for item in page.locator(f"{dropdown} ul.options li").all_inner_texts()]
    page.locator(f"{dropdown} input").evaluate("input => input.blur()")
    return found


def choose(page: Any, dropdown: str, *names: str) -> None:
    for name in names:
        page.click(f"{dropdown} input")
        page.click(f"{dropdown} ul.options li[aria-label='{name}']")


def open_embeddings(page: Any, tab: str) -> None:
    """Show a tab and unfold its embedding settings."""
    show_tab(page, tab)
    if not page.locator(EMBEDDING[tab]).is_visible():
        page.click(f"#script_{tab}_aesthetic_embeddings_accordion .label-wrap")
        page.wait_for_selector(EMBEDDING[tab])


@contextlib.contextmanager
def slowed_encoder(webui: WebUI, seconds: float) -> Iterator[None]:
    webui.call(slow_encoder.slow, seconds)
    try:
        yield
    finally:
        webui.call(slow_encoder.quick)


@pytest.fixture(scope="module")
def encoders(webui: WebUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Path]]:
    """Small image encoders, named in the WebUI's settings."""
    root = tmp_path_factory.mktemp("encoders")
    folders = {dim: write_encoder(root / f"tiny-{dim}", dim) for dim in DIMS}
    webui.use("sd1-a")
    webui.set_options(**{f"aesthetic_image_encoder_{dim}": str(folder) for dim, folder in folders.items()})
    yield folders
    webui.set_options(**{f"aesthetic_image_encoder_{dim}": "" for dim in folders})


@pytest.fixture(scope="module")
def shelf(webui: WebUI) -> Path:
    """The folder where new embeddings go."""
    return webui.data_dir / "models" / "aesthetic_embeddings"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures, one cut off, one text file, and four more in a subfolder."""
    folder = tmp_path_factory.mktemp("pictures")
    first = write_pictures(folder, 12)[0]
    truncate(first, folder / "cut off.jpg")
    (folder / "notes.txt").write_text("no picture")
    write_pictures(folder / "sub", 4, seed=2)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_pictures(folder, 200, seed=3, size=(64, 64))
    return folder


@contextlib.contextmanager
def opened(browser: Any, webui: WebUI) -> Iterator[Any]:
    """The page, loaded and ready; no script on it may fail."""
    errors: list[str] = []
    with open_page(browser, webui, errors) as page:
        yield page
    assert errors == []


@pytest.fixture(scope="module")
def page(browser: Any, webui: WebUI) -> Iterator[Any]:
    """One page for all, since loading it takes longer than most of what is done on it."""
    with opened(browser, webui) as page:
        yield page


@pytest.fixture
def tab(encoders: dict[int, Path], page: Any) -> CreateTab:
    return CreateTab(page).show()


@pytest.fixture
def made(encoders: dict[int, Path], shelf: Path) -> Iterator[list[str]]:
    """Three embeddings of ViT-L/14 and one of ViT-H/14, put there without the page."""
    generator = torch.Generator().manual_seed(5)
    names = ["made a", "made b", "made c", "made h"]
    for name in names:
        space = space_of(1024 if name == "made h" else 768)
        vector = unit(torch.randn(space.dim, generator=generator))
        save(Embedding(name, {space: vector}, {"note": f"note of {name}"}), shelf / f"{name}.safetensors")
    yield names
    for name in names:
        (shelf / f"{name}.safetensors").unlink(missing_ok=True)


def snap(page: Any, name: str) -> None:
    """A screenshot, if the environment names a folder for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


# --- creating ---


def test_from_an_empty_form_to_a_picture(webui: WebUI, tab: CreateTab, page: Any, pictures: Path, shelf: Path) -> None:
    said = tab.create("my taste", pictures, note="seaside <b>& hills</b>")
    snap(page, "created")
    assert "my taste: made from 12 pictures. 1 file skipped." in said
    assert re.search(r"ViT-L/14: mean cosine of the pictures to their mean 0\.\d{3}", said)
    assert "Most similar:" in said and "vitl: " in said

    tab.find("result", "summary").click()
    skipped = tab.says("result")
    snap(page, "created-skipped")
    assert re.search(r"cut off\.jpg: .*cut off", skipped)
    assert "notes.txt" not in skipped

    embedding = load(shelf / "my taste.safetensors")
    assert list(embedding.vectors) == [VIT_L]
    assert embedding.metadata["image_count"] == "12"
    assert embedding.metadata["note"] == "seaside <b>& hills</b>"
    with Image.open(shelf / "my taste.preview.png") as sheet:
        assert sheet.width >= 400
    assert tab.find("preview", "img").evaluate("img => img.naturalWidth") >= 400

    for name in ("img2img", "txt2img"):
        open_embeddings(page, name)
        assert "my taste" in offered(page, EMBEDDING[name])
    choose(page, EMBEDDING["txt2img"], "my taste")
    text = generate_on_page(page, "a photo of a cat")
    snap(page, "generated")
    assert "Aesthetic embedding: my taste" in text


def test_table_and_card_show_it(webui: WebUI, tab: CreateTab, page: Any, pictures: Path) -> None:
    tab.create("carded", pictures, note="a note for the table")
    tab.show("Library")
    cells = tab.row("carded")
    assert cells[2:5] == ["carded", "ViT-L/14", "12"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", cells[5])
    assert cells[6] == "a note for the table"
    assert tab.find("table", "tr:has(td:text-is('carded')) img").evaluate("img => img.naturalWidth") > 0

    show_tab(page, "txt2img")
    page.locator("#txt2img_extra_tabs > .tab-nav button").filter(has_text="Aesthetic").click()
    card = page.locator("#txt2img_aesthetic_cards .card[data-name='carded']")
    if not card.count():
        page.click("#txt2img_aesthetic_extra_refresh")
    card.wait_for()
    assert "carded.preview.png" in card.locator("img").get_attribute("src")
    page.wait_for_function(
        "document.querySelector(\"#txt2img_aesthetic_cards .card[data-name='carded'] img\").naturalWidth > 0"
    )
    snap(page, "card")
    page.locator("#txt2img_extra_tabs > .tab-nav button").filter(has_text="Generation").click()


def test_subfolders_several_folders_and_spaces(
    tab: CreateTab, pictures: Path, many: Path, shelf: Path, tmp_path: Path
) -> None:
    assert "made from 16 pictures" in tab.create("with sub", pictures, recursive=True)
    assert "made from 4 pictures" in tab.create("only sub", pictures / "sub", recursive=False)
    more = tmp_path / "with a space"
    write_pictures(more, 3, seed=9)
    said = tab.create("all spaces", f'"{more}"', pictures / "sub", spaces=["ViT-L/14", "ViT-H/14", "ViT-bigG/14"])
    assert "made from 7 pictures" in said
    assert sorted(space.dim for space in load(shelf / "all spaces.safetensors").vectors) == list(DIMS)
    snap(tab.page, "spaces")


def test_default_space_is_the_checkpoints(webui: WebUI, tab: CreateTab, pictures: Path, shelf: Path) -> None:
    try:
        for checkpoint, dims in (("sd2", [1024]), ("sdxl", [768, 1280])):
            if checkpoint not in webui.host.families:
                continue
            webui.use(checkpoint)
            assert "made from" in tab.create(f"for {checkpoint}", pictures)
            assert [s.dim for s in load(shelf / f"for {checkpoint}.safetensors").vectors] == dims
    finally:
        webui.use("sd1-a")


def test_plain_mean_is_marked(tab: CreateTab, pictures: Path, shelf: Path) -> None:
    tab.create("plain mean", pictures, raw=True)
    tab.create("unit mean", pictures, raw=False)
    plain, units = (load(shelf / f"{name}.safetensors") for name in ("plain mean", "unit mean"))
    assert (plain.metadata["raw"], units.metadata["raw"]) == ("true", "false")
    assert plain.metadata["source_hash"] == units.metadata["source_hash"]


def test_progress_then_interrupt_saves_nothing(webui: WebUI, tab: CreateTab, many: Path, shelf: Path) -> None:
    with slowed_encoder(webui, 0.5):
        before = tab.fill("interrupted", many, batch_size=8).start()
        line = tab.progress_line(r"\d+ of 200 pictures, [\d.]+ per second \d+% ETA: [\d:]+")
        snap(tab.page, "progress")
        assert int(line.split()[0]) % 8 == 0
        tab.find("stop").click()
        said = tab.result(before)
        batches = webui.call(slow_encoder.batches)
    assert "Interrupted: nothing was saved." in said
    assert "Error" not in said
    assert not any(interrupted for _, interrupted in batches), "a batch began after the interruption"
    assert len(batches) < 25
    assert not list(shelf.glob("interrupted*"))
    snap(tab.page, "interrupted")


def test_interrupt_keeps_what_is_done_if_asked(webui: WebUI, tab: CreateTab, many: Path, shelf: Path) -> None:
    with slowed_encoder(webui, 0.4):
        before = tab.fill("partial", many, batch_size=8, keep_partial=True).start()
        tab.progress_line(r"\d+ of 200 pictures")
        tab.find("stop").click()
        said = tab.result(before)
    made = re.search(r"made from (\d+) pictures \(interrupted: only what was done until then\)", said)
    assert made is not None, said
    count = int(made[1])
    assert 0 < count < 200 and count % 8 == 0
    metadata = load(shelf / "partial.safetensors").metadata
    assert (metadata["image_count"], metadata["complete"]) == (str(count), "false")


def test_stale_interruption_does_not_stop_it(webui: WebUI, tab: CreateTab, pictures: Path) -> None:
    webui.run("shared.state.interrupted = shared.state.stopping_generation = True")
    assert "made from 12 pictures" in tab.create("after a stale flag", pictures)
    tab.find("stop").click()  # nothing runs
    tab.page.wait_for_timeout(300)
    assert "made from 12 pictures" in tab.create("after an idle interrupt", pictures)


def test_generation_waits_for_the_job(webui: WebUI, tab: CreateTab, many: Path) -> None:
    with slowed_encoder(webui, 0.4):
        before = tab.fill("queued", many, batch_size=20).start()
        tab.progress_line(r"\d+ of 200 pictures")
        webui.txt2img()
        assert [size for size, _ in webui.call(slow_encoder.batches)] == [20] * 10
        assert "made from 200 pictures" in tab.result(before)


def test_job_waits_for_generation(webui: WebUI, tab: CreateTab, pictures: Path) -> None:
    webui.run("from modules.call_queue import queue_lock\nqueue_lock.acquire()")
    try:
        before = tab.fill("waits", pictures).start()
        tab.progress_line("In queue")
        tab.page.wait_for_timeout(1000)
        assert tab.says("result") == before
    finally:
        webui.run("from modules.call_queue import queue_lock\nqueue_lock.release()")
    assert "made from 12 pictures" in tab.result(before)


def test_interrupt_in_the_queue_spares_the_job_before(
    webui: WebUI, tab: CreateTab, pictures: Path, shelf: Path
) -> None:
    webui.run("from modules.call_queue import queue_lock\nqueue_lock.acquire()\nshared.state.interrupted = False")
    try:
        before = tab.fill("never begun", pictures).start()
        tab.progress_line("In queue")
        tab.find("stop").click()
        tab.page.wait_for_timeout(1000)
        assert not webui.run("result = shared.state.interrupted"), "a generation that runs is not meant"
    finally:
        webui.run("from modules.call_queue import queue_lock\nqueue_lock.release()")
    assert "Interrupted: nothing was saved." in tab.result(before)
    assert not list(shelf.glob("never begun*"))


def test_uploads(tab: CreateTab, page: Any, pictures: Path, shelf: Path) -> None:
    files = [*sorted(pictures.glob("p00*.jpg"))[:5], pictures / "cut off.jpg"]
    tab.find("uploads", "input[type=file]").set_input_files([str(file) for file in files])
    page.wait_for_function("document.querySelectorAll('#aesthetic_create_uploads .file').length == 6")
    said = tab.create("uploaded", "")
    assert "uploaded: made from 5 pictures. 1 file skipped." in said
    tab.find("result", "summary").click()
    skipped = tab.find("result", "li").filter(has_text="cut off: part").inner_text()
    assert skipped.startswith("cut off.jpg:"), "a person knows the file's name, not its place on the server"
    snap(page, "uploads")
    tab.find("uploads", "button[aria-label=Clear]").click()
    assert "There are no pictures" in tab.create("none left", "")


def test_pictures_from_the_gallery(webui: WebUI, tab: CreateTab, page: Any, shelf: Path) -> None:
    show_tab(page, "txt2img")
    page.fill("#txt2img_batch_count input[type=number]", "3")
    page.press("#txt2img_batch_count input[type=number]", "Tab")
    generate_on_page(page, "a photo of a cat")
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery .grid-container .thumbnail-item').length == 4")
    page.click("#txt2img_send_to_aesthetic")
    tab.find("sent").wait_for(state="visible")
    page.wait_for_function(
        "document.querySelectorAll('#aesthetic_create_sent .grid-container .thumbnail-item').length > 0"
    )
    snap(page, "sent")
    said = tab.create("from the gallery", "")
    assert "made from 3 pictures" in said, "the grid is none of the pictures"
    assert load(shelf / "from the gallery.safetensors").metadata["image_count"] == "3"

    show_tab(page, "txt2img")
    page.fill("#txt2img_batch_count input[type=number]", "1")
    page.press("#txt2img_batch_count input[type=number]", "Tab")
    generate_on_page(page, "a photo of a dog")
    page.click("#txt2img_send_to_aesthetic")
    page.wait_for_function(
        "document.querySelectorAll('#aesthetic_create_sent .grid-container .thumbnail-item').length == 4"
    )
    assert "made from 4 pictures" in tab.create("from two galleries", "")
    tab.find("clear").click()
    page.wait_for_function(
        "document.querySelectorAll('#aesthetic_create_sent .grid-container .thumbnail-item').length == 0"
    )
    assert "There are no pictures" in tab.create("none left", "")


def test_overwriting(tab: CreateTab, pictures: Path, shelf: Path) -> None:
    tab.create("twice", pictures, note="first")
    said = tab.create("twice", pictures / "sub", note="second")
    assert "There is already an aesthetic embedding 'twice'." in said
    assert load(shelf / "twice.safetensors").metadata["note"] == "first"
    said = tab.create("twice", pictures / "sub", note="second", overwrite=True)
    assert "made from 4 pictures" in said
    assert load(shelf / "twice.safetensors").metadata["note"] == "second"
    kept = list((shelf / ".trash").glob("*/twice.safetensors"))
    assert [load(path).metadata["note"] for path in kept] == ["first"]


def test_lists_follow_on_a_page_opened_later(tab: CreateTab, page: Any, webui: WebUI, pictures: Path) -> None:
    tab.create("before the visit", pictures)
    visit(page, webui)
    tab.show("Library")
    assert tab.lists("before the visit")
    open_embeddings(page, "txt2img")
    assert "before the visit" in offered(page, EMBEDDING["txt2img"])


# --- bad input ---


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "It is empty."),
        ("../../x", "It has path parts"),
        ("sub/x", "It has path parts"),
        ("CON", "Windows reserves that word"),
        ("None", "That word stands for no embedding."),
        ("what?", "only letters, digits, space, dot, dash and underscore"),
        ("existing", "There is already an aesthetic embedding 'existing'."),
    ],
)
def test_refused_names(tab: CreateTab, pictures: Path, shelf: Path, name: str, sentence: str) -> None:
    if name == "existing" and not (shelf / "existing.safetensors").exists():
        save(Embedding("existing", {VIT_L: unit(torch.ones(768))}), shelf / "existing.safetensors")
    before = {path: path.stat().st_mtime for path in shelf.parent.rglob("*") if path.is_file()}
    said = tab.create(name, pictures)
    snap(tab.page, "refused-name")
    assert sentence in said
    assert_a_sentence(said)
    after = {path: path.stat().st_mtime for path in shelf.parent.rglob("*") if path.is_file()}
    assert after == before


def assert_a_sentence(said: str) -> None:
    """No name of an exception, no traceback."""
    assert not re.search(r"AestheticError|Traceback|Errno", said)


def test_refused_sources(webui: WebUI, tab: CreateTab, pictures: Path, tmp_path: Path) -> None:
    mark = webui.mark()
    (tmp_path / "empty").mkdir()
    (tmp_path / "only texts").mkdir()
    for number in range(3):
        (tmp_path / "only texts" / f"{number}.txt").write_text("no picture")
    cases = {
        "": "No source is filled in.",
        str(tmp_path / "missing"): "There is no such folder.",
        str(pictures / "p000.jpg"): "It is a file, not a folder.",
        str(tmp_path / "empty"): "There is no file in it that may be a picture.",
        str(tmp_path / "only texts"): "There is no file in it that may be a picture.",
    }
    for folder, sentence in cases.items():
        said = tab.create("never made", folder)
        assert sentence in said
        assert_a_sentence(said)
    snap(tab.page, "refused-source")
    assert "Traceback" not in webui.log(mark), "a user's slip is no fault of the program"


def test_library_folder_that_cannot_be_written(
    webui: WebUI, tab: CreateTab, pictures: Path, shelf: Path, tmp_path: Path
) -> None:
    """A file in place of the folder: found out before the pictures are encoded."""
    aside = shelf.with_name("aside")
    shelf.rename(aside)
    shelf.write_text("a file in place of the folder")
    try:
        with slowed_encoder(webui, 0):
            said = tab.create("homeless", pictures)
            assert webui.call(slow_encoder.batches) == []
        assert str(shelf) in said
        assert "can't be written" in said
        assert_a_sentence(said)
    finally:
        shelf.unlink()
        aside.rename(shelf)
    assert "made from 12 pictures" in tab.create("homeless", pictures)


def test_no_encoder_and_no_download(webui: WebUI, tab: CreateTab, pictures: Path, encoders: dict[int, Path]) -> None:
    try:
        webui.set_options(aesthetic_image_encoder_768="")
        for allow in (False, True):
            said = tab.create("no encoder", pictures, allow_download=allow)
            assert "There is no image encoder for ViT-L/14." in said
            assert "clip-vit-large-patch14" in said
            assert str(webui.data_dir / "models" / "aesthetic_clip") in said
            assert_a_sentence(said)
            tab.create("", "")  # another message, so that the next one is seen to come
        snap(tab.page, "no-encoder")
        webui.set_options(aesthetic_image_encoder_768=str(encoders[1024]))
        said = tab.create("wrong encoder", pictures)
        assert "have the width 1024, those of ViT-L/14 have 768" in " ".join(said.split()) or "1024" in said
        assert_a_sentence(said)
    finally:
        webui.set_options(aesthetic_image_encoder_768=str(encoders[768]))


# --- library ---


def test_inspect_rename_and_trash(tab: CreateTab, page: Any, pictures: Path, shelf: Path) -> None:
    tab.create("to inspect", pictures, note="look at me")
    tab.show("Library")
    tab.choose("to inspect")
    said = tab.press("inspect")
    assert "look at me" in said and "was made from 12 pictures" in said and "It fits SD 1.x" in said
    page.wait_for_selector("#aesthetic_create_picture img")
    snap(page, "library-inspect")

    tab.write("new_name", "renamed")
    assert "Renamed: renamed." in tab.press("rename")
    assert (shelf / "renamed.safetensors").is_file() and (shelf / "renamed.preview.png").is_file()
    assert not list(shelf.glob("to inspect*"))
    assert tab.lists("renamed") and not tab.lists("to inspect")
    # The renamed one stays chosen, so that the next press does what it seems to do.
    assert tab.chosen() == ["renamed"]
    tab.write("new_name", "../up")
    assert "path parts" in tab.press("rename")

    said = tab.press("trash")
    assert "Moved to" in said and ".trash" in said
    assert len(list((shelf / ".trash").glob("*/renamed.*"))) == 2
    assert not list(shelf.glob("renamed*"))
    assert not tab.lists("renamed")
    assert tab.chosen() == []
    assert "No embedding is chosen." in tab.press("trash")
    tab.find("trash_accordion", ".label-wrap").first.click()
    tab.find("trashed", "td:text-is('renamed')").first.click()
    assert "Restored: renamed." in tab.press("restore")
    assert tab.chosen() == ["renamed"] and (shelf / "renamed.preview.png").is_file()
    tab.press("trash")
    open_embeddings(page, "txt2img")
    assert "renamed" not in offered(page, EMBEDDING["txt2img"])


def test_export(tab: CreateTab, page: Any, made: list[str], shelf: Path, tmp_path: Path) -> None:
    tab.show("Library")
    tab.refresh("made a")
    original = load(shelf / "made a.safetensors")
    tab.choose("made a")
    for suffix in (".safetensors", ".pt"):
        tab.find("format", "label").filter(has_text=suffix).click()
        tab.press("export")
        with page.expect_download() as started:
            tab.find("file", "a").first.click()
        path = tmp_path / f"exported{suffix}"
        started.value.save_as(path)
        assert started.value.suggested_filename == f"made a{suffix}"
        assert np.allclose(load(path).vectors[VIT_L], original.vectors[VIT_L])
        if suffix == ".pt":
            tensor = torch.load(path)
            assert tuple(tensor.shape) == (1, 768) and tensor.dtype == torch.float32
        else:
            assert load(path).metadata["note"] == "note of made a"
    snap(page, "library-export")
    tab.choose("made h")
    assert "can't be exported as .pt" in tab.press("export")


@pytest.fixture
def mixing(tab: CreateTab, made: list[str], shelf: Path) -> Iterator[CreateTab]:
    """The library with the embeddings there, two of them chosen to be mixed; mixtures are gone afterwards."""
    tab.show("Library")
    tab.refresh("made a")
    tab.choose("made a", "made b")
    yield tab
    for name in ("mixture", "direction"):
        (shelf / f"{name}.safetensors").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "weights", "factors"), [("mixture", "0.7, 0.3", (0.7, 0.3)), ("direction", "1 -1", (1, -1))]
)
def test_mixtures_are_weighted_sums_and_stand_in_every_list(
    mixing: CreateTab, page: Any, shelf: Path, name: str, weights: str, factors: tuple[float, float]
) -> None:
    a, b = (load(shelf / f"{made}.safetensors").vectors[VIT_L] for made in ("made a", "made b"))
    mixing.write("new_name", name)
    mixing.write("weights", weights)
    assert name in mixing.press("mix")
    mixed = load(shelf / f"{name}.safetensors").vectors[VIT_L]
    assert np.allclose(mixed, unit(factors[0] * a + factors[1] * b), atol=1e-6)
    assert mixing.lists(name)
    open_embeddings(page, "txt2img")
    assert name in offered(page, EMBEDDING["txt2img"])


@pytest.mark.parametrize(
    ("name", "weights", "said"), [("", "", "can't be called ''"), ("mixture", "0.7", "The weights '0.7' don't fit.")]
)
def test_a_mixture_that_can_not_be_made_is_explained(mixing: CreateTab, name: str, weights: str, said: str) -> None:
    mixing.write("new_name", name)
    mixing.write("weights", weights)
    assert said in mixing.press("mix")


def test_compare_shows_all_with_all_and_with_a_text(mixing: CreateTab, page: Any) -> None:
    mixing.choose("made a", "made b", "made c")
    assert "Cosine similarity in ViT-L/14" in mixing.press("compare")
    page.wait_for_selector("#aesthetic_create_picture img")
    snap(page, "library-compare")
    mixing.write("text", "a photo of the sea")
    said = mixing.press("compare_text", timeout=60)
    snap(page, "library-text")
    assert "Cosine similarity to “a photo of the sea”" in said
    assert all(re.search(rf"{name}\s+ViT-L/14\s+-?0\.\d\d\d", said) for name in ("made a", "made b", "made c"))
    mixing.write("text", "  ")
    assert "text" in mixing.press("compare_text").lower()


@pytest.mark.parametrize(
    ("names", "said"),
    [(("made a", "made h"), "can't be compared"), (("made a",), "It takes 2 to 40 embeddings, and 1 are chosen.")],
)
def test_what_can_not_be_compared_is_explained(mixing: CreateTab, names: tuple[str, ...], said: str) -> None:
    mixing.choose(*names)
    assert said in mixing.press("compare")


def test_unusable_file_is_explained_in_the_table(tab: CreateTab, page: Any, shelf: Path) -> None:
    (shelf / "damaged.safetensors").write_bytes(b"nothing of the kind")
    try:
        tab.show("Library")
        tab.refresh("damaged")
        assert "can't be used" in " ".join(tab.row("damaged"))
    finally:
        (shelf / "damaged.safetensors").unlink()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def published(webui: WebUI, tmp_path: Path) -> Iterator[Path]:
    """A local server in place of the author's repository, with two small files that the catalogue then names."""
    for name, seed in (("pub-one", 1), ("pub-two", 2)):
        torch.save(torch.randn(1, 768, generator=torch.Generator().manual_seed(seed)), tmp_path / f"{name}.pt")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entries = [
        (file.stem, file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
        for file in sorted(tmp_path.glob("*.pt"))
    ]
    webui.call(catalogue.replace, entries, f"http://127.0.0.1:{server.server_port}")
    yield tmp_path
    webui.call(catalogue.put_back)
    server.shutdown()
    server.server_close()


def test_download_of_published_ones(tab: CreateTab, page: Any, published: Path, shelf: Path) -> None:
    tab.show("Library")
    good = (published / "pub-two.pt").read_bytes()
    (published / "pub-two.pt").write_bytes(good[:-1] + b"?")
    if not tab.find("download").is_visible():
        tab.find("paper_accordion", ".label-wrap").click()
    said = tab.press("download", timeout=60)
    assert "1 downloaded" in said and "pub-two was not downloaded" in said and "SHA-256" in said
    assert (shelf / "pub-one.pt").is_file() and not (shelf / "pub-two.pt").exists()
    assert tab.lists("pub-one")
    (published / "pub-two.pt").write_bytes(good)
    assert "1 downloaded, 1 were already there." in tab.press("download", timeout=60)
    assert tab.lists("pub-one") and tab.lists("pub-two")
    for name in ("pub-one", "pub-two"):
        (shelf / f"{name}.pt").unlink()


def test_download_offline(webui: WebUI, tab: CreateTab, published: Path, shelf: Path) -> None:
    webui.call(catalogue.replace, None, "http://127.0.0.1:9")
    tab.show("Library")
    if not tab.find("download").is_visible():
        tab.find("paper_accordion", ".label-wrap").click()
    said = tab.press("download", timeout=60)
    assert "0 downloaded" in said and "can't be reached" in said and "Check the internet connection" in said
    snap(tab.page, "library-offline")


def test_picture_for_img2img(webui: WebUI, tab: CreateTab, page: Any, pictures: Path, tmp_path: Path) -> None:
    tab.create("for img2img", pictures)
    path = tmp_path / "start.png"
    picture(7, (64, 64)).save(path)
    open_embeddings(page, "img2img")
    page.set_input_files("#img2img_image input[type=file]", str(path))
    page.wait_for_selector("#img2img_image img")
    choose(page, EMBEDDING["img2img"], "for img2img")
    assert "Aesthetic embedding: for img2img" in generate_on_page(page, "a photo of a cat", "img2img")


def test_after_reload_ui(webui: WebUI, encoders: dict[int, Path], browser: Any, pictures: Path) -> None:
    """Last, since it leaves the page above behind."""
    webui.reload_ui()
    with opened(browser, webui) as page:
        tab = CreateTab(page).show()
        assert "made from 12 pictures" in tab.create("after reload", pictures)
        for name in ("txt2img", "img2img"):
            open_embeddings(page, name)
            assert "after reload" in offered(page, EMBEDDING[name])
        assert tab.show("Library").lists("after reload")
