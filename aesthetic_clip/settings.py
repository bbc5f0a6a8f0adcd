"""The knobs, each defined once.

Accordion, infotext, X/Y/Z axes, API and command line are all made from ``KNOBS``.
The order of the fields is the order of the API's positional arguments and must
only ever grow at its end.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import AestheticError

NO_EMBEDDING = "None"


@dataclass(frozen=True)
class Knob:
    """One setting: how it is called, what it may be, what it does.

    Attributes:
        name: attribute of :class:`Settings`, key of the API object.
        label: what stands beside the control.
        infotext: key in the picture's generation parameters.
        help: one tooltip's worth of explanation.
        default: value when nothing is said.
        minimum, maximum, step: range of a number, both ends allowed.
        placeholder: hint inside an empty text box.
    """

    label: str
    infotext: str
    help: str
    name: str = ""
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    placeholder: str = ""

    @property
    def names_embedding(self) -> bool:
        return self.default == NO_EMBEDDING

    @property
    def type(self) -> type:
        return type(self.default)

    def parse(self, value: object) -> Any:
        """The value as this knob's type; None means the default.

        Raises:
            AestheticError: not of this type, not finite or out of range.
        """
        if value is None:
            return self.default
        if self.type is bool:
            return self._bool(value)
        if self.type is str:
            if not isinstance(value, str):
                raise self._refuse(value, "a text")
            return value.strip()
        return self._number(value)

    def _bool(self, value: object) -> bool:
        if isinstance(value, str):
            word = value.strip().lower()
            if word in ("true", "yes", "on", "1"):
                return True
            if word in ("false", "no", "off", "0", ""):
                return False
        elif isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        raise self._refuse(value, "true or false")

    def _number(self, value: object) -> float | int:
        wanted = "a whole number" if self.type is int else "a number"
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self._refuse(value, wanted)
        try:
            number = float(value)
        except ValueError:
            raise self._refuse(value, wanted) from None
        if not math.isfinite(number) or (self.type is int and number != int(number)):
            raise self._refuse(value, wanted)
        if not (self.minimum is None or number >= self.minimum) or not (self.maximum is None or number <= self.maximum):
            raise AestheticError(
                f"{self.label} is {number:g}.",
                f"It can be from {self.minimum:g} to {self.maximum:g}.",
                "Choose a value in that range.",
            )
        return int(number) if self.type is int else number

    def _refuse(self, value: object, wanted: str) -> AestheticError:
        return AestheticError(
            f"{self.label} can't be {value!r}.", f"It has to be {wanted}.", f"Leave it out to get {self.default!r}."
        )


def _knob(default: Any, label: str, infotext: str, help: str, **more: Any) -> Any:
    return dataclasses.field(
        default=default, metadata={"knob": Knob(label=label, infotext=infotext, help=help, default=default, **more)}
    )


@dataclass(frozen=True)
class Settings:
    """What the user chose for one generation (defaults: Gallego 2022 and the WebUI's first extension)."""

    weight: float = _knob(
        0.9,
        "Aesthetic weight",
        "Aesthetic weight",
        "How much of the personalised prompt is mixed into the ordinary one: 0 is off, 1 is all.",
        minimum=0,
        maximum=1,
        step=0.01,
    )
    steps: int = _knob(
        5,
        "Aesthetic steps",
        "Aesthetic steps",
        "Optimisation steps toward the embedding. More steps, more of its taste and less of your prompt; "
        "start with 2 to 5, then try 10, 15, 20.",
        minimum=0,
        maximum=50,
        step=1,
    )
    lr: float = _knob(
        0.0001,
        "Aesthetic learning rate",
        "Aesthetic LR",
        "Size of each optimisation step. 0.0001 suits almost always: change the steps first.",
        minimum=0,
        maximum=0.1,
    )
    slerp: bool = _knob(
        False,
        "Slerp interpolation",
        "Aesthetic slerp",
        "Mix the two encodings of the prompt along the arc between them instead of the straight line.",
    )
    embedding: str = _knob(
        NO_EMBEDDING,
        "Aesthetic embedding",
        "Aesthetic embedding",
        "The taste to steer toward. None costs nothing. Make your own in the tab Create aesthetic embedding.",
    )
    text: str = _knob(
        "",
        "Aesthetic text",
        "Aesthetic text",
        "Optional text (up to 75 tokens) that turns the embedding toward what it says.",
        placeholder="turns the embedding toward this text",
    )
    slerp_angle: float = _knob(
        0.1,
        "Slerp angle",
        "Aesthetic slerp angle",
        "How far the aesthetic text turns the embedding: 0 not at all, 1 all the way to the text.",
        minimum=0,
        maximum=1,
        step=0.01,
    )
    text_negative: bool = _knob(
        False,
        "Is negative text",
        "Aesthetic text negative",
        "Turn the embedding away from the aesthetic text instead of toward it.",
    )
    negative_prompt: bool = _knob(
        False,
        "Personalise the negative prompt too",
        "Aesthetic negative prompt",
        "The paper leaves the negative prompt alone; the first WebUI extension did not. "
        "Turn this on to come close to pictures made with that one.",
    )
    centre: str = _knob(
        NO_EMBEDDING,
        "Aesthetic centre",
        "Aesthetic centre",
        "An embedding of many different pictures, such as a mixture of all that you have. With it the prompt takes on "
        "only how the embedding differs from that, and keeps more of itself. None is the paper's method.",
    )
    centre_strength: float = _knob(
        1.0,
        "Centre strength",
        "Aesthetic centre strength",
        "With a centre: how much the difference counts, against 1 for the prompt itself.",
        minimum=0,
        maximum=10,
        step=0.1,
    )

    @classmethod
    def from_values(cls, values: Sequence[object]) -> Settings:
        """Positional values in the order of :data:`KNOBS`; a first value that is a mapping stands for all.

        Raises:
            AestheticError: a value that its knob refuses, an unknown name.
        """
        if values and isinstance(values[0], Mapping):
            return cls.from_mapping(values[0])
        return cls(**{knob.name: knob.parse(value) for knob, value in zip(KNOBS, values)})

    @classmethod
    def from_mapping(cls, values: Mapping[str, object]) -> Settings:
        """Named values, e.g. the API's object ``{"embedding": "sac_8plus", "steps": 8}``.

        Raises:
            AestheticError: a value that its knob refuses, an unknown name.
        """
        return cls().replaced(values)

    def replaced(self, values: Mapping[str, object]) -> Settings:
        """These settings with some of them replaced by name.

        Raises:
            AestheticError: a value that its knob refuses, an unknown name.
        """
        for name in values:
            if name not in BY_NAME:
                near = difflib.get_close_matches(str(name), BY_NAME, n=1)
                raise AestheticError(
                    f"There is no aesthetic setting {name!r}.",
                    f"The settings are: {', '.join(BY_NAME)}.",
                    f"Did you mean {near[0]!r}?" if near else "",
                )
        return dataclasses.replace(self, **{name: BY_NAME[name].parse(value) for name, value in values.items()})

    @property
    def has_embedding(self) -> bool:
        return self.embedding not in ("", NO_EMBEDDING)

    @property
    def has_centre(self) -> bool:
        return self.centre not in ("", NO_EMBEDDING)

    @property
    def moves(self) -> bool:
        """Whether any weight would move: with no step, no rate or no mixture the prompt stays as it is."""
        return self.steps > 0 and self.lr > 0 and self.weight > 0

    def infotext(self) -> dict[str, object]:
        """Generation parameters, by the keys that the WebUI's first extension used.

        Off switches that it did not have, and an empty text (which the WebUI's
        parser refuses), are left out.
        """
        rows: dict[str, object] = {}
        for knob in KNOBS:
            value = getattr(self, knob.name)
            if value == "" or (knob.name == "negative_prompt" and not value):
                continue
            if knob.name.startswith("centre") and not self.has_centre:
                continue
            # %g keeps 5e-05 readable and free of float noise.
            rows[knob.infotext] = f"{value:g}" if knob.type is float else value
        return rows


KNOBS: tuple[Knob, ...] = tuple(
    dataclasses.replace(field.metadata["knob"], name=field.name) for field in dataclasses.fields(Settings)
)
BY_NAME: dict[str, Knob] = {knob.name: knob for knob in KNOBS}
