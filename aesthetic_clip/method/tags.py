"""Prompt tags: ``<aesthetic:name:weight:steps=8:lr=0.0002>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..embeddings.names import escape, listed, unescape
from ..errors import AestheticError
from ..settings import BY_NAME

TAG = "aesthetic"
# The WebUI's own expression for the tags of all extra networks.
_NETWORK = re.compile(r"<(\w+):([^>]+)>")
# Inside a tag these end it or its parts, or begin a comment in a prompt.
_NOT_IN_NAME = "<>:#"


@dataclass(frozen=True)
class Tag:
    """What one tag says; None is what it leaves to the accordion.

    Attributes:
        name: the embedding.
        weight: -1 to 1; negative moves away from the embedding.
        steps, lr: for the whole prompt.
    """

    name: str
    weight: float | None = None
    steps: int | None = None
    lr: float | None = None


def tag_text(name: str, weight: float) -> str:
    """The tag for the embedding that a library lists under this name; :func:`parse_tag` reads the same name from it."""
    return f"<{TAG}:{escape(unescape(name), _NOT_IN_NAME)}:{weight:g}>"


def parse_tag(items: Sequence[str]) -> Tag:
    """Read what stands between the colons after ``<aesthetic:``.

    Raises:
        AestheticError: no name, an unknown part, a value out of range.
    """
    text = f"<{TAG}:{':'.join(items)}>"
    written, *rest = (item.strip() for item in items)
    name = listed(unescape(written)) if written else ""
    values: dict[str, float] = {}
    for item in rest:
        key, equals, value = item.rpartition("=")
        key = key.strip() if equals else "weight"
        if key not in ("weight", "steps", "lr") or key in values:
            raise AestheticError(
                f"The tag {text} can't be read.",
                f"{item!r} is not what can stand there.",
                f"Write <{TAG}:name>, <{TAG}:name:0.8> or <{TAG}:name:0.8:steps=8:lr=0.0001>.",
            )
        # The sign says toward or away; the size is the same knob as in the accordion.
        away = key == "weight" and value.strip().startswith("-")
        number = BY_NAME[key].parse(value.strip().removeprefix("-") if away else value)
        values[key] = -number if away else number
    if not name:
        raise AestheticError(
            f"The tag {text} names no embedding.", "The name stands first.", f"Write <{TAG}:name> or <{TAG}:name:0.8>."
        )
    return Tag(name, **values)  # type: ignore[arg-type]


# Stands for a tag while a prompt's brackets are looked at; no one types it.
_MARK = "\0"
_BRACKETS = re.compile(r"\\.|[()\[\]|]", re.DOTALL)
_WHEN = re.compile(r":\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$", re.IGNORECASE)


@dataclass
class _Bracket:
    kind: str
    start: int
    in_turns: bool = False


def refuse_scheduled_tags(prompt: str) -> None:
    """Refuse a tag where the brackets around it ask for what a tag can't do: be on for some steps, or be weighted.

    A tag moves the whole text encoder before the first step, so in ``[<aesthetic:name>:0.5]`` (from
    half of the steps on), ``[<aesthetic:a>|<aesthetic:b>]`` (in turns) and ``(<aesthetic:name>:1.2)``
    it would do something else than what is written. Brackets with other text around a
    tag, which weight that text, are left alone.

    Raises:
        AestheticError: there is such a tag.
    """
    tags = [match[0] for match in _NETWORK.finditer(prompt) if match[1] == TAG]
    if not tags:
        return
    text = _NETWORK.sub(lambda match: _MARK if match[1] == TAG else "", prompt.replace(_MARK, " "))
    opened: list[_Bracket] = []
    for sign in _BRACKETS.finditer(text):
        bracket = sign[0]
        if bracket in ("(", "["):
            opened.append(_Bracket(bracket, sign.end()))
        elif bracket == "|" and opened:
            opened[-1].in_turns = True
        elif bracket in (")", "]") and opened and opened[-1].kind == {")": "(", "]": "["}[bracket]:
            start, in_turns = opened[-1].start, opened.pop().in_turns
            content = text[start : sign.start()]
            if _MARK not in content:
                continue
            tag = tags[text.count(_MARK, 0, start)]
            if bracket == "]" and (in_turns or _WHEN.search(content)):
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
