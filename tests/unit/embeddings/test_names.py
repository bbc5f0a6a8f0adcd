"""Which names new embeddings may have, and how files are called that have any other."""

from __future__ import annotations

import contextlib
import json
import os
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aesthetic_clip.embeddings.names import check_name, escape, listed, unescape
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.settings import BY_NAME, Settings

WINDOWS_FORBIDDEN = set('<>:"/\\|?*')


@pytest.mark.parametrize(
    "name", ["a", "my taste 1", "v1.5", "a_b-c", "día", "мой вкус", "私の好み", "सुंदर", "ท้องฟ้า", "3 cats", "Console"]
)
def test_accepts(name: str) -> None:
    assert check_name(f"  {name} ") == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("../../x", "path parts"),
        ("a/b", "path parts"),
        ("a\\b", "path parts"),
        ("a..b", "path parts"),
        ("C:x", "':'"),
        ("a\0b", "'\\x00'"),
        ("a\nb", "'\\n'"),
        ("😀", "'😀'"),
        ("a*", "'*'"),
        (".hidden", "begin"),
        ("-x", "begin"),
        ("_x", "begin"),
        ("x.", "end with a dot"),
        ("\u0301a", "begin"),
        ("CON", "device"),
        ("nul.txt", "device"),
        ("Com1", "device"),
        ("com¹", "'¹'"),
        ("aux .b", "device"),
        ("none", "no embedding"),
        ("x.preview", "preview"),
        ("a" * 101, "101 characters"),
        ("私" * 70, "210 bytes"),
        ("\u3164", "only letters"),
        ("a\u202eb", "only letters"),
        ("a\u200bb", "only letters"),
    ],
)
def test_refuses_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(AestheticError) as caught:
        check_name(name)
    assert reason in caught.value.why
    assert caught.value.do


def test_composed_and_decomposed_are_one_name() -> None:
    assert check_name("e\u0301te\u0301") == check_name("été") == "été"


NAMES = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from("abCOMNUL123 ._-/\\:\u0301é私\u3164¹"), max_size=12),
    st.text(st.characters(categories=["L", "Nd", "Mn", "Mc"]), min_size=1, max_size=120),
)


@hypothesis_settings(max_examples=2000, deadline=None)
@given(NAMES)
@example("con.")
@example("..")
def test_accepted_names_are_legal_everywhere(name: str) -> None:
    try:
        good = check_name(name)
    except AestheticError:
        return
    assert check_name(good) == good
    assert unicodedata.is_normalized("NFC", good)
    assert not WINDOWS_FORBIDDEN & set(good)
    assert not any(ord(c) < 32 for c in good)
    assert good[-1] not in " ."
    assert good[0] not in " ."
    assert good.partition(".")[0].strip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
    assert len(f".{good}.safetensors.{2**31}.tmp".encode()) <= 255
    root = Path("/library")
    path = Path(os.path.normpath(root / f"{good}.safetensors"))
    assert path.parent == root
    assert path.name == f"{good}.safetensors"


# Files that are there

FILE_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.text(st.sampled_from("a1x <>:#%;3E\"',\\\n\r\t\x1b/\u3000\u2028\u202e"), min_size=1, max_size=12),
    st.sampled_from(
        ["None", "512x512", "Aesthetic embedding", '"', '""', '"a"', '"a, b"', " ", "\n", "a, b: c", "100%"]
    ),
)


@hypothesis_settings(max_examples=1000, deadline=None)
@given(FILE_NAMES)
@example("%A;")
@example("a%3E;b")
def test_every_file_name_can_be_read_back_from_its_listed_one(file_name: str) -> None:
    name = listed(file_name)
    assert unescape(name) == file_name
    assert name == name.strip() != ""
    assert "\n" not in name and "\x1b" not in name
    # The dropdown and the API give it back as it is, and it never stands for none.
    assert Settings.from_values([0.9, 5, 0.0001, False, name]).embedding == name
    assert Settings(embedding=name).has_embedding


@pytest.mark.parametrize(
    "name",
    ["a", "sub/my taste (2)", "a>b", "a:b", "style #1", "[a]", "100%", "my%20taste", "a&lt;b", "私😀", "none", "it's"],
)
def test_what_a_line_of_text_carries_is_listed_as_it_is(name: str) -> None:
    assert listed(name) == name


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("None", "%4E;one"),
        (" a ", "%20;a%20;"),
        ("two\nlines", "two%A;lines"),
        ("512x512", "%35;12x512"),
        ('"a"', '%22;a"'),
        ("a%3E;b", "a%25;3E;b"),
    ],
)
def test_what_it_does_not_carry_is_escaped(file_name: str, name: str) -> None:
    assert listed(file_name) == name


def test_escapes_of_no_character_are_left_as_they_are() -> None:
    assert unescape("%110000;%FFFFFF;") == "%110000;%FFFFFF;"
    assert unescape(escape("%110000;")) == "%110000;"


# As in the WebUI 1.10.1, modules/infotext_utils.py and create_infotext of modules/processing.py.
PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
SIZE = re.compile(r"^(\d+)x(\d+)$")


def written_as_parameters(values: dict[str, object]) -> str:
    def quoted(value: object) -> object:
        return json.dumps(value, ensure_ascii=False) if set(",\n:") & set(str(value)) else value

    return ", ".join(key if key == value else f"{key}: {quoted(value)}" for key, value in values.items())


def read_from_parameters(text: str) -> dict[str, str]:
    read = {}
    for key, value in PARAMETER.findall(f"a cat\n{text}".strip().split("\n")[-1]):
        if value[:1] == '"' and value[-1:] == '"':
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        if not SIZE.match(value):
            read[key] = value
    return read


@hypothesis_settings(max_examples=1000, deadline=None)
@given(FILE_NAMES)
def test_what_a_picture_remembers_can_be_pasted(file_name: str) -> None:
    name = listed(file_name)
    settings = Settings(embedding=name)
    text = written_as_parameters({"Steps": 20, "Sampler": "Euler", **settings.infotext(), "Version": "v1.10.1"})
    assert read_from_parameters(text)[BY_NAME["embedding"].infotext] == name
