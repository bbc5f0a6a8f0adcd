"""Prompt tags: ``<aesthetic:name:weight:steps=8:lr=0.0002>``, ``<aesthetic:name:clear>``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ..embeddings.names import escape, listed, unescape
from ..embeddings.picking import Names, pick
from ..errors import AestheticError
from ..settings import BY_NAME

TAG = "aesthetic"
_OF_THE_PROMPT = ("preset", "strength", "steps", "lr")
"""Knobs that a tag can set, for the whole prompt."""
# The WebUI's own expression for the tags of all extra networks.
_NETWORK = re.compile(r"<(\w+):([^>]+)>")
# The WebUI looks for a card's tag as a pattern, to take it out again, unless a weight alone follows the name.
_NOT_IN_PATTERN = ".^$*+?()[]{}|\\"
# Inside a tag these end it or its parts, or begin a comment in a prompt.
_NOT_IN_NAME = "<>:#"


@dataclass(frozen=True)
class Tag:
    """What one tag says.

    Attributes:
        name: the embedding.
        weight: -1 to 1; negative moves away from the embedding; None leaves it to the settings.
        knobs: values of others for the whole prompt, by name.
    """

    name: str
    weight: float | None = None
    knobs: Mapping[str, object] = field(default_factory=dict)


def tag_text(name: str, weight: float | None = None, knobs: Mapping[str, object] = MappingProxyType({})) -> str:
    """The tag for the embedding that a library lists under this name; :func:`parse_tag` reads the same from it.

    Args:
        name: as it is listed.
        weight, knobs: see :class:`Tag`.
    """
    parts = [escape(unescape(name), _NOT_IN_NAME + (_NOT_IN_PATTERN if knobs else ""))]
    if weight is not None:
        parts.append(f"{weight:g}")
    for knob, value in knobs.items():
        word = BY_NAME[knob].write(value)
        # As people write it, where that can be told from a number.
        bare = knob == "preset" and not word.lstrip("+-.")[:1].isdigit()
        parts.append(word.lower() if bare else f"{knob}={word}")
    return f"<{TAG}:{':'.join(parts)}>"


def with_picks(prompt: str, names: Names, seed: int) -> str:
    """The prompt with tags whose names leave a choice (``<aesthetic:a|b>``) naming what is picked for a picture.

    Raises:
        AestheticError: nothing fits such a name.
    """
    place = 0

    def picked(match: re.Match[str]) -> str:
        nonlocal place
        if match[1] != TAG:
            return match[0]
        place += 1
        written, colon, rest = match[2].partition(":")
        name = unescape(written.strip())
        found = pick(name, names, seed, place)
        # A listed name is a text of its own, which a tag may have to write otherwise.
        return match[0] if found == name else f"<{TAG}:{escape(unescape(found), _NOT_IN_NAME)}{colon}{rest}>"

    return _NETWORK.sub(picked, prompt)


def parse_tag(items: Sequence[str]) -> Tag:
    """Read what stands between the colons after ``<aesthetic:``.

    Raises:
        AestheticError: no name, an unknown part, a value out of range.
    """
    text = f"<{TAG}:{':'.join(items)}>"
    written, *rest = (item.strip() for item in items)
    name = listed(unescape(written)) if written else ""
    weight: float | None = None
    knobs: dict[str, object] = {}
    for item in rest:
        key, equals, value = item.rpartition("=")
        key, value = key.strip() if equals else _meant(text, value), value.strip()
        if key == "weight" and weight is None:
            # The sign says toward or away; the size is the same knob as in the accordion.
            size = BY_NAME[key].parse(value.removeprefix("-"))
            weight = -size if value.startswith("-") else size
        elif key in _OF_THE_PROMPT and key not in knobs:
            knobs[key] = BY_NAME[key].parse(value)
        else:
            raise AestheticError(
                f"The tag {text} can't be read.",
                f"{item!r} is not what can stand there.",
                f"Write <{TAG}:name>, <{TAG}:name:0.8>, <{TAG}:name:clear>, <{TAG}:name:strength=0.4> or "
                f"<{TAG}:name:0.8:steps=8:lr=0.0001>.",
            )
    if not name:
        raise AestheticError(
            f"The tag {text} names no embedding.", "The name stands first.", f"Write <{TAG}:name> or <{TAG}:name:0.8>."
        )
    return Tag(name, weight, knobs)


def _meant(tag: str, word: str) -> str:
    """Which knob a word without a name is for: what can't be a number names a preset."""
    if not word.strip() or word.strip().lstrip("+-.")[:1].isdigit():
        return "weight"
    preset = BY_NAME["preset"]
    try:
        preset.parse(word)
    except AestheticError:
        raise AestheticError(
            f"The tag {tag} can't be read.",
            f"{word.strip()!r} is neither a number nor a preset.",
            f"The presets are: {preset.range}.",
        ) from None
    return preset.name


# Stands for a tag while a prompt's brackets are looked at; no one types it.
_MARK = "\0"
_SIGNS = re.compile(r"\\.|[()\[\]|\0]", re.DOTALL)
_WHEN = re.compile(r":\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$", re.IGNORECASE)
# What is in one bracket is read again for the next one around it.
_MOST_BRACKETS = 20


@dataclass
class _Bracket:
    kind: str
    start: int
    first_tag: int
    in_turns: bool = False
    around: int = 0
    """brackets around the same tag inside this one"""


def refuse_scheduled_tags(prompt: str) -> None:
    """Refuse a tag where the brackets around it ask for what a tag can't do: be on for some steps, or be weighted.

    A tag moves the whole text encoder before the first step, so in ``[<aesthetic:name>:0.5]`` (from
    half of the steps on), ``[<aesthetic:a>|<aesthetic:b>]`` (in turns) and ``(<aesthetic:name>:1.2)``
    it would do something else than what is written. Brackets with other text around a
    tag, which weight that text, are left alone.

    Raises:
        AestheticError: there is such a tag, or one in more than 20 brackets.
    """
    # Behind the last > there is no tag, but the search would go to the end once for every < there.
    prompt, end = prompt.replace(_MARK, " "), prompt.rfind(">") + 1
    tags = [match[0] for match in _NETWORK.finditer(prompt, 0, end) if match[1] == TAG]
    if not tags:
        return
    text = _NETWORK.sub(lambda match: _MARK if match[1] == TAG else "", prompt[:end]) + prompt[end:]
    opened: list[_Bracket] = []
    seen = 0
    for sign in _SIGNS.finditer(text):
        letter = sign[0]
        if letter == _MARK:
            seen += 1
        elif letter in ("(", "["):
            opened.append(_Bracket(letter, sign.end(), seen))
        elif letter == "|" and opened:
            opened[-1].in_turns = True
        elif letter in (")", "]") and opened and opened[-1].kind == {")": "(", "]": "["}[letter]:
            bracket = opened.pop()
            if bracket.first_tag == seen:
                continue
            _check(bracket, letter, text[bracket.start : sign.start()], tags[bracket.first_tag])
            if opened:
                opened[-1].around = max(opened[-1].around, bracket.around + 1)


def _check(bracket: _Bracket, closing: str, content: str, tag: str) -> None:
    if closing == "]" and (bracket.in_turns or _WHEN.search(content)):
        raise AestheticError(
            f"The tag {tag} can't be on for some of the steps only.",
            "It changes how the whole prompt is read, before the first step.",
            "Take it out of the square brackets.",
        )
    if not _WHEN.sub("", content).replace(_MARK, "").strip():
        raise AestheticError(
            f"The brackets around the tag {tag} do nothing.",
            "They weight words of the prompt, and a tag is none.",
            f"Write the weight into the tag, as in <{TAG}:name:0.8>, and take the brackets away.",
        )
    if bracket.around >= _MOST_BRACKETS:
        raise AestheticError(
            f"The tag {tag} is in more than {_MOST_BRACKETS} brackets.",
            "They weight words of the prompt, and a tag is none.",
            "Take the tag out of them.",
        )
