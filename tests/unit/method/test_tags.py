"""What a card writes is read as exactly its embedding, and what a tag can't do is refused."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from aesthetic_clip.embeddings.names import listed
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.tags import TAG, Tag, parse_tag, refuse_scheduled_tags, tag_text
from aesthetic_clip.settings import PRESETS

# As in the WebUI 1.10.1: modules/extra_networks.py, modules/processing_scripts/comments.py, javascript/extraNetworks.js.
EXTRA_NETWORK = re.compile(r"<(\w+):([^>]+)>")
COMMENTS = (re.compile("(^|\n)#[^\n]*(\n|$)"), re.compile("#[^\n]*(\n|$)"))
CARD = re.compile(r"<([^:^>]+:[^:]+):[\d.]+>(.*)")

FILE_NAMES = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
    st.text(st.sampled_from("a1x <>:#%;3E[](){}|\"'\\&,=\n\r\t/\u3000\u202e😀"), min_size=1, max_size=12),
)


def typed_and_read(prompt: str) -> list[Tag]:
    """The tags of a prompt as the WebUI finds them: comments are taken out first."""
    for expression in COMMENTS:
        prompt = expression.sub("\n", prompt)
    return [parse_tag(match[2].split(":")) for match in EXTRA_NETWORK.finditer(prompt) if match[1] == TAG]


@hypothesis_settings(max_examples=1000, deadline=None)
@given(FILE_NAMES)
@example("a>b")
@example("a:b")
@example("style #1")
@example("[a](b)")
@example("a&lt;b")
@example("100%")
@example("a%3E;b")
@example("%253E;")
@example(" x ")
@example("None")
@example("two\nlines")
@example("<aesthetic:other:1>")
@example("512x512")
def test_a_card_names_exactly_its_embedding(file_name: str) -> None:
    name = listed(file_name)
    text = tag_text(name, 0.9)
    assert typed_and_read(f"a cat {text}, a dog") == [Tag(name, weight=0.9)]
    # A second click takes it out again.
    assert CARD.fullmatch(text)
    assert "\n" not in text
    preferring = tag_text(name, knobs={"preset": "Subtle", "strength": 0.3})
    assert typed_and_read(f"a cat {preferring}, a dog") == [Tag(name, None, {"preset": "Subtle", "strength": 0.3})]
    # There the WebUI takes it for a pattern.
    assert re.sub(f"((?: )?{preferring})", "", f"a cat {preferring} {text}") == f"a cat {text}"


@pytest.mark.parametrize(
    "name", ["vitl", "sub/vitl-2", "my taste (2)", "v1.5", "私の好み", "my%20taste", "100%", "a[b]"]
)
def test_usual_names_stand_in_the_tag_as_they_are(name: str) -> None:
    assert tag_text(name, 0.9) == f"<aesthetic:{name}:0.9>"
    assert typed_and_read(f"<aesthetic:{name}>") == [Tag(name)]


def test_an_escaped_bracket_reads_as_one() -> None:
    assert tag_text("a>b", 1) == "<aesthetic:a%3E;b:1>"
    assert parse_tag(["a%3E;b", "1"]).name == "a>b"


@pytest.mark.parametrize(
    "prompt",
    [
        "[<aesthetic:a:0.9>:0.5]",
        "[<aesthetic:a>::5]",
        "[cat:<aesthetic:a>:0.5]",
        "[a cat <aesthetic:a> : a dog : .25 ]",
        "[<aesthetic:a>|<aesthetic:b>]",
        "[cat<aesthetic:a>|dog|]",
        "[(a <aesthetic:a> b:1.1):3]",
        "([[<aesthetic:a> x]:0.5:1e1])",
        "[\\[<aesthetic:a>:7]",
        "[<aesthetic:a>\n:\n7]",
    ],
)
def test_a_tag_for_some_of_the_steps_is_refused(prompt: str) -> None:
    with pytest.raises(AestheticError, match="some of the steps only") as caught:
        refuse_scheduled_tags(prompt)
    assert "<aesthetic:a" in caught.value.what
    assert caught.value.do


@pytest.mark.parametrize(
    "prompt",
    ["(<aesthetic:a>:1.2)", "((<aesthetic:a>))", "[ <aesthetic:a> ]", "a cat (<aesthetic:b><aesthetic:a>:0.5)"],
)
def test_a_weight_around_nothing_but_tags_is_refused(prompt: str) -> None:
    with pytest.raises(AestheticError, match="do nothing") as caught:
        refuse_scheduled_tags(prompt)
    assert "Write the weight into the tag" in caught.value.do


def test_the_refused_tag_is_named() -> None:
    with pytest.raises(AestheticError, match="<aesthetic:second>"):
        refuse_scheduled_tags("<aesthetic:first> [cat:dog:5] [<aesthetic:second>:0.5] <aesthetic:third>")


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat",
        "[cat:dog:0.5]",
        "<aesthetic:a>",
        "[cat:dog:0.5] <aesthetic:a>",
        "<aesthetic:a> [cat|dog]",
        "(a cat <aesthetic:a>:1.2)",
        "[a cat <aesthetic:a>]",
        "[a cat: <aesthetic:a>]",
        "\\[<aesthetic:a>:0.5\\]",
        "<aesthetic:[x:0.5]>",
        "[<aesthetic:a> cat",
        "<aesthetic:a>:0.5]",
        "[<lora:x:0.5>:<lora:y:1>:7] <aesthetic:a>",
    ],
)
def test_other_brackets_are_left_alone(prompt: str) -> None:
    refuse_scheduled_tags(prompt)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*"[]()|:\\.5 a\0\n", "<aesthetic:a>"]), max_size=40))
def test_no_prompt_breaks_it(pieces: list[str]) -> None:
    prompt = "".join(pieces)
    try:
        refuse_scheduled_tags(prompt)
    except AestheticError as error:
        assert "<aesthetic:a>" in error.what


@pytest.mark.parametrize(
    "prompt",
    [
        "(a" * 30_000 + "<aesthetic:one>" + ")" * 30_000,
        "[" * 30_000 + "(a <aesthetic:one>)" * 3_000,
        "(a <aesthetic:one>)" * 10_000,
        "<aesthetic:one>" + "<aesthetic:" * 30_000,
        "[<aesthetic:one>" + ":1 " * 100_000 + "x]",
        "[<aesthetic:one> a" + (":" + " " * 300) * 300 + "x]",
    ],
    ids=["deep", "open", "many", "unclosed", "colons", "spaces"],
)
def test_a_prompt_made_to_hurt_takes_no_time(prompt: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(AestheticError):
        refuse_scheduled_tags(prompt)
    assert time.process_time() - begin < 1.5


def test_a_tag_in_very_many_brackets_is_refused() -> None:
    refuse_scheduled_tags("(a" * 20 + "<aesthetic:one>" + ")" * 20)
    with pytest.raises(AestheticError, match="more than 20 brackets"):
        refuse_scheduled_tags("(a" * 50 + "<aesthetic:one>" + ")" * 50)


def test_a_preset_of_ones_own_that_begins_with_a_digit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PRESETS, "own", lambda: {"2 tastes": {"strength": 0.3}})
    text = tag_text("warm", knobs={"preset": "2 tastes"})
    assert text == "<aesthetic:warm:preset=2 tastes>"
    assert typed_and_read(text) == [Tag("warm", None, {"preset": "2 tastes"})]
