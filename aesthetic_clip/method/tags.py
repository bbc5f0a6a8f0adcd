"""Prompt tags: ``<aesthetic:name:weight:steps=8:lr=0.0002>``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import AestheticError
from ..settings import BY_NAME

TAG = "aesthetic"


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


def parse_tag(items: Sequence[str]) -> Tag:
    """Read what stands between the colons after ``<aesthetic:``.

    Raises:
        AestheticError: no name, an unknown part, a value out of range.
    """
    text = f"<{TAG}:{':'.join(items)}>"
    name, *rest = (item.strip() for item in items)
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
