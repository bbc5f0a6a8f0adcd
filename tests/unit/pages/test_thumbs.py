"""Thumbs: what they say, what they take, and the local page's in Chromium."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

from aesthetic_clip.create.sources import Source
from aesthetic_clip.embeddings import profiles
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.profiles import Counts, Opinion, Outcome, Picture, Profile
from aesthetic_clip.errors import AestheticError, Interrupted, Remedy
from aesthetic_clip.geometry import unit
from aesthetic_clip.pages import forms, thumbs
from aesthetic_clip.pages.index import Index
from aesthetic_clip.pages.local_page import ID
from aesthetic_clip.pages.picker import Lists
from aesthetic_clip.pages.tab import ID as TAB
from aesthetic_clip.pages.tab import TITLE
from aesthetic_clip.pages.thumbs import ThumbsHost
from aesthetic_clip.progress import Progress
from aesthetic_clip.spaces import VIT_BIGG, VIT_L, Space

from .test_local_page import CHROMIUM, LocalPage, browser, local_page, serve

__all__ = ["browser", "local_page", "serve"]  # fixtures

LIKED, DISLIKED = Opinion.LIKED, Opinion.DISLIKED


def png(seed: int = 0) -> str:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), (seed, 0, 0)).save(content, "PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


@pytest.mark.parametrize(
    ("before", "after", "counts", "line"),
    [
        (None, LIKED, Counts(7, 0), "👍 Liked: 7 in “my taste”."),
        (None, DISLIKED, Counts(7, 2), "👎 Disliked: 7 liked and 2 disliked in “my taste”."),
        (LIKED, LIKED, Counts(7, 0), "👍 This picture is liked already: 7 in “my taste”."),
        (LIKED, DISLIKED, Counts(6, 1), "👎 Now disliked, no longer liked: 6 liked and 1 disliked in “my taste”."),
        (LIKED, None, Counts(6, 0), "Taken back: 6 in “my taste”."),
        (LIKED, None, Counts(0, 0), "Taken back: “my taste” has no pictures any more."),
    ],
)
def test_a_line_says_what_happened(before: Opinion | None, after: Opinion | None, counts: Counts, line: str) -> None:
    said = thumbs.said(Outcome(Profile("my taste", counts), "x.png", before, after))
    assert said == f"<p>{line}</p>"


class Row:
    """The row's handlers, called without a browser."""

    def __init__(
        self,
        library: Library,
        look: Callable[[Source], Picture],
        fetch: Callable[[Progress], object] = lambda progress: None,
        spaces: Sequence[Space] = (),
    ) -> None:
        with gr.Blocks() as self.blocks:
            shown = gr.Image()
            row = thumbs.build(lambda text, elem_id, hint: gr.Button(text, elem_id=elem_id), "row", this=False)
            lists = Lists(Index(lambda: library, list), [], gr.Textbox())
            host = ThumbsHost(lambda: library, look, fetch, lambda picture: "", lambda: spaces)
            row.connect(host, [forms.picture("After", shown)], lists)

    def rate(self, picture: object, name: object, number: int = 0) -> dict[str, Any]:
        """What the ``number``-th button that looks at the picture answers."""
        fns = self.blocks.fns.values() if isinstance(self.blocks.fns, dict) else self.blocks.fns
        dependencies = zip(fns, self.blocks.config["dependencies"])
        function, outputs = [(f.fn, d["outputs"]) for f, d in dependencies if len(d["inputs"]) == 2][number]
        answers = function(picture, name)
        return {str(self.blocks.blocks[out].elem_id): answer for out, answer in zip(outputs, answers)}

    def function(self, elem_id: str, then: bool = False) -> Callable[..., Any]:
        """What is called when a button is pressed, or when that has been answered."""
        fns = self.blocks.fns.values() if isinstance(self.blocks.fns, dict) else self.blocks.fns
        button = next(one for one in self.blocks.blocks.values() if one.elem_id == elem_id)
        dependencies = self.blocks.config["dependencies"]
        pressed = next(n for n, one in enumerate(dependencies) if _begins(one, button._id))
        return [function.fn for function in fns][pressed + then]


def _begins(dependency: dict[str, Any], component: int) -> bool:
    """Whether an event of gradio's table is a press of a button; its releases say so differently."""
    return any(
        target == component or (isinstance(target, (list, tuple)) and target[0] == component)
        for target in dependency["targets"]
    )


def fake_look(source: Source) -> Picture:
    assert isinstance(source, tuple) and isinstance(source[1], bytes)
    digest = f"{sum(source[1]):032x}"
    return Picture(digest, source[0], {VIT_L: unit(torch.ones(768))}, b"")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return open_library([tmp_path / "library"])


def test_a_thumb_without_a_name_goes_to_a_taste_called_so(library: Library) -> None:
    answer = Row(library, fake_look).rate(png(), "")
    assert answer["row_thumbs_message"] == "<p>👍 Liked: 1 in “my taste”.</p>"
    assert library.names() == [profiles.DEFAULT_NAME]
    answer = Row(library, fake_look).rate(png(1), "Abend", 1)
    assert answer["row_thumbs_message"] == "<p>👎 Disliked: 0 liked and 1 disliked in “Abend”.</p>"
    assert answer["row_profile"]["choices"] == [(name, name) for name in ("Abend", "my taste")] or answer[
        "row_profile"
    ]["choices"] == ["Abend", "my taste"]


@pytest.mark.parametrize(
    "picture", [None, "", "/etc/passwd", {"path": "/etc/passwd"}, "data:image/png;base64,###", [], 5, {"name": None}]
)
@pytest.mark.parametrize("name", ["my taste", "../up", 5])
def test_only_pictures_of_the_page_are_taken(library: Library, picture: object, name: object) -> None:
    answer = Row(library, fake_look).rate(picture, name)
    assert "class='error'" in answer["row_thumbs_message"] and "console" not in answer["row_thumbs_message"]
    assert library.names() == []


def test_a_missing_encoder_is_offered_for_download(library: Library) -> None:
    def missing(source: Source) -> Picture:
        raise AestheticError("There is no image encoder.", "It is nowhere.", "Put it there.", Remedy.IMAGE_ENCODER)

    answer = Row(library, missing).rate(png(), "")
    assert (
        "There is no image encoder. It is nowhere. Press &#39;Download the image encoder&#39;"
        in answer["row_thumbs_message"]
    )
    assert answer["row_download"]["visible"] is True
    assert Row(library, fake_look).rate(png(), "")["row_download"]["visible"] is False


def test_a_space_without_an_image_encoder_is_named(library: Library) -> None:
    row = Row(library, fake_look, spaces=[VIT_L, VIT_BIGG])
    said = row.rate(png(), "")["row_thumbs_message"]
    assert said == (
        "<p>👍 Liked: 1 in “my taste”.</p><p>It does not count in ViT-bigG/14, whose image encoder is not here.</p>"
    )


def test_a_download_tells_how_far_it_is_and_can_be_stopped(library: Library) -> None:
    stopped = threading.Event()

    def fetch(progress: Progress) -> None:
        try:
            for done in range(1000):
                progress(done, 1000, f"{done} of 1000 MB")
                time.sleep(0.05)
        except Interrupted:
            stopped.set()
            raise

    row = Row(library, fake_look, fetch)
    stop = row.function("row_stop_download")
    told = []
    for answer in row.function("row_download", then=True)("task", "my taste"):
        told.append(answer[-1])
        if len(told) == 2:
            stop()
    assert stopped.is_set()
    assert re.search(r"\d+ of 1000 MB", told[0]) and "<progress" in told[0]
    assert told[-1] == "<p>Interrupted.</p>"


@pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is on the PATH")
def test_thumbs_under_both_pictures_and_the_list_of_pictures(local_page: LocalPage, tmp_path: Path) -> None:
    local_page.write(f"{ID}_seed", "33")
    local_page.choose(f"{ID}_embedding", "taste")
    local_page.press(f"{ID}_start")
    local_page.picture(f"{ID}_after")
    local_page.press(f"{ID}_like_after")
    local_page.says(f"{ID}_thumbs_message", "👍 Liked: 1 in “my taste”.")
    local_page.press(f"{ID}_dislike_before")
    local_page.says(f"{ID}_thumbs_message", "👎 Disliked: 1 liked and 1 disliked in “my taste”.")
    name = local_page.page.locator(f"#{ID}_profile input").first
    name.click()
    name.fill("Abend")
    name.press("Enter")
    local_page.press(f"{ID}_like_before")
    local_page.says(f"{ID}_thumbs_message", "👍 Liked: 1 in “Abend”.")
    local_page.offers(f"{ID}_embedding", {"taste", "my taste", "Abend"}.issubset)

    local_page.show(TITLE)
    local_page.show("Tastes")
    local_page.choose(f"{TAB}_taste_profile", "my taste")
    local_page.press(f"{TAB}_taste_show")
    local_page.says(f"{TAB}_taste_message", "2 pictures, page 1 of 1.")
    figures = local_page.page.locator(f"#{TAB}_taste_pictures figure")
    assert [text.split("\n")[0].split("…")[0][:8] for text in figures.all_inner_texts()] == ["👎 Before", "👍 After "]

    library = open_library([tmp_path / "library"])
    liked = profiles.pictures(library, "my taste")[1]
    field = local_page.page.locator(f"#{TAB}_taste_chosen input").first
    field.click()
    local_page.page.locator(f"#{TAB}_taste_chosen li").filter(has_text=liked.digest).click()
    field.evaluate("input => input.blur()")
    local_page.press(f"{TAB}_taste_take_out")
    local_page.says(f"{TAB}_taste_message", "1 picture taken out.")
    assert library.load("my taste").about.liked == 0
    local_page.press(f"{TAB}_taste_undo")
    local_page.says(f"{TAB}_taste_message", "1 liked and 1 disliked")

    local_page.show("Generate")
    local_page.press(f"{ID}_this")
    local_page.says(f"{ID}_thumbs_message", "The next pictures come in the taste of this one.")
    assert local_page.page.locator(f"#{ID}_embedding input").first.input_value().startswith("this ")
    assert not local_page.errors
