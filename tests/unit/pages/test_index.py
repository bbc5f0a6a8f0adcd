"""What lists of embeddings show beside the names, as the page asks for it."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from aesthetic_clip.embeddings import profiles
from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.embeddings.profiles import Opinion, Picture
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.pages.index import MOST_PICTURES, Index, Question, question
from aesthetic_clip.spaces import VIT_H, VIT_L, Space

NUMBERS = iter(range(1, 1000))


@pytest.fixture
def library(tmp_path: Path) -> Library:
    for name, space in (("a h", VIT_H), ("l", VIT_L), ("plain", VIT_L)):
        save(Embedding(name, {space: unit(torch.ones(space.dim))}), tmp_path / f"{name}.safetensors")
    Image.new("RGB", (640, 320), "red").save(tmp_path / "l.preview.png")
    return open_library([tmp_path])


def ask(index: Index, *pictures: str, version: str = "", late: bool = False) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(index.answer(Question(next(NUMBERS), version, pictures), late))
    return answer


def opened(url: str) -> Image.Image:
    head, data = url.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def reddish(url: str) -> bool:
    red, green, blue = opened(url).resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
    return red > 200 and green < 60 and blue < 60


def test_marks_and_pictures_are_told_once(library: Library) -> None:
    index = Index(lambda: library, lambda: [VIT_L])
    first = ask(index)
    assert first["misfits"] == {"a h": "does not fit: made for SD 2.x (ViT-H/14)"}
    assert list(first["pictures"]) == ["l"] and first["shown"] == {}
    again = ask(index, "l", "plain", "../l", "no such", version=first["version"])
    assert "misfits" not in again and again["version"] == first["version"]
    assert list(again["shown"]) == ["l"]
    assert opened(again["shown"]["l"]).size == (96, 48) and reddish(again["shown"]["l"])


def test_another_checkpoint_and_another_picture_are_told(library: Library) -> None:
    spaces: list[Space] = [VIT_L]
    index = Index(lambda: library, lambda: spaces)
    assert index.names() == ["l", "plain", "a h"]
    first = ask(index, "l")
    spaces[:] = [VIT_H]
    other = ask(index, version=first["version"])
    assert set(other["misfits"]) == {"l", "plain"} and index.names() == ["a h", "l", "plain"]
    spaces.clear()
    assert ask(index, version=other["version"])["misfits"] == {}
    assert index.names() == ["a h", "l", "plain"]

    path = library.folders[0] / "l.preview.png"
    Image.new("RGB", (64, 64), "blue").save(path)
    os.utime(path, (1, 1))
    newer = ask(index, "l", version=other["version"])
    assert newer["pictures"]["l"] != first["pictures"]["l"]
    assert not reddish(newer["shown"]["l"])


def test_a_taste_that_grows_shows_the_latest_picture_that_it_likes(library: Library) -> None:
    liked = (("blue", Opinion.LIKED), ("red", Opinion.LIKED), ("green", Opinion.DISLIKED))
    for number, (colour, opinion) in enumerate(liked):
        small = io.BytesIO()
        Image.new("RGB", (128, 128), colour).save(small, "JPEG")
        picture = Picture(str(number) * 32, colour, {VIT_L: unit(torch.ones(VIT_L.dim))}, small.getvalue())
        profiles.rate(library, "growing", picture, opinion)
    index = Index(lambda: library, lambda: [VIT_L])
    assert set(ask(index)["pictures"]) == {"growing", "l"}
    assert reddish(ask(index, "growing")["shown"]["growing"])


def test_a_picture_that_cannot_be_read_is_none(library: Library) -> None:
    library.folders[0].joinpath("plain.png").write_bytes(b"no picture")
    assert ask(Index(lambda: library, list), "plain")["shown"] == {"plain": ""}


def test_the_page_is_told_to_ask_again(library: Library) -> None:
    assert [ask(Index(lambda: library, list), late=late)["late"] for late in (True, False)] == [True, False]


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "[]",
        "{",
        17,
        '{"number": true}',
        '{"number": 1, "version": 2}',
        '{"number": 1, "pictures": "l"}',
        '{"number": 1, "pictures": [1]}',
        json.dumps({"number": 1, "pictures": ["l"] * (MOST_PICTURES + 1)}),
        json.dumps({"number": 1, "version": "x" * 2**17}),
    ],
)
def test_anything_else_is_refused(sent: object) -> None:
    with pytest.raises(AestheticError, match="The question about embeddings"):
        question(sent)


def test_a_question_is_read() -> None:
    assert question('{"number": 3, "version": "v", "pictures": ["a"], "still": true}') == Question(3, "v", ["a"], True)
