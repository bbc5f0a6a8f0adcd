"""The knobs, each defined once.

Accordion, infotext, X/Y/Z axes, API, command line and the README's table are all
made from the fields of :class:`Settings`. The order of the fields is the order of the
API's positional arguments and must only ever grow at its end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .errors import AestheticError

NO_EMBEDDING = "None"
AUTOMATIC = "Automatic"
OFF = "off"
MORE = "More"
AUTOMATIC_WORDS = ("auto", AUTOMATIC.lower())
_Settings = TypeVar("_Settings", bound="Settings")


class Kind(enum.Enum):
    """What a knob's values are."""

    NUMBER = "number"
    INTEGER = "integer"
    SWITCH = "switch"
    TEXT = "text"
    EMBEDDING = "embedding"
    CHOICE = "choice"


Values = Mapping[str, object]
"""Values of knobs, by name."""


class Choices(Mapping[str, Values]):
    """What a knob offers, each with the values of other knobs that it brings: built-in ones, and the user's own.

    Attributes:
        own: asked for the user's own ones whenever it matters which there are; built-in ones of the same name go first.
    """

    def __init__(self, built_in: Mapping[str, Values], own: Callable[[], Mapping[str, Values]] = dict) -> None:
        self.built_in, self.own = dict(built_in), own

    def __getitem__(self, name: str) -> Values:
        return self.built_in[name] if name in self.built_in else self.own()[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.built_in, **self.own()})

    def __len__(self) -> int:
        return len({**self.built_in, **self.own()})


CUSTOM = "Custom"
_TOWARD: Values = {
    "weight": 1.0,
    "steps": 50,
    "lr": 0.0003,
    "slerp": False,
    "centre": AUTOMATIC,
    "centre_strength": 1.0,
}
PRESETS = Choices(
    {
        CUSTOM: {},
        "Subtle": {**_TOWARD, "strength": 0.4},
        "Clear": {**_TOWARD, "strength": 0.7},
        "Strong": {**_TOWARD, "strength": 0.75},
        "Paper": {"weight": 1.0, "steps": 5, "lr": 0.0001, "slerp": False, "centre": NO_EMBEDDING, "strength": None},
    }
)
"""What each preset sets; Paper is the paper's method with the steps that its README begins with."""
FIRST_PRESET = "Clear"
"""The preset that pages begin with."""


@dataclass(frozen=True)
class Knob:
    """One setting: how it is called, what it may be, what it does and where it stands.

    Attributes:
        label: what stands beside the control.
        infotext: key in the picture's generation parameters.
        help: one tooltip's worth of explanation.
        kind: what its values are; an embedding is named, as in the library.
        default: value when nothing is said. A number whose default is None is off by
            default: None, an empty text and ``"off"`` all mean that.
        name: attribute of :class:`Settings`, key of the API object.
        minimum, maximum: range of a number, both ends allowed; both or neither.
        step: what an arrow key adds to a number.
        slider: a slider suits its range; else a number is typed.
        choices: for a choice, each with the values of other knobs that it brings along,
            by name; what is said about those by name as well counts more.
        placeholder: hint inside an empty text box.
        row: knobs of one row (from 1 on) stand beside each other; without one a knob stands alone after the rows.
        fold: title of what the row is folded into; empty: always in sight.
        always_written: stands in the infotext at its default too. Others are left out there,
            so that pictures made before the knob was added have the same parameters.
        automatic: an embedding that may be left to the library's others: the value is then ``Automatic``.
        needs: name of the knob without which (at its default) this one does nothing and is
            left out of the infotext.
        resets: goes back to its default when the parameters of a picture that knows no
            knob are pasted; the others stay as they are.
    """

    label: str
    infotext: str
    help: str
    kind: Kind
    default: Any = None
    name: str = ""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    slider: bool = True
    choices: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    placeholder: str = ""
    row: int | None = None
    fold: str = MORE
    always_written: bool = False
    automatic: bool = False
    needs: str = ""
    resets: bool = False

    @property
    def names_embedding(self) -> bool:
        return self.kind is Kind.EMBEDDING

    @property
    def words(self) -> list[str]:
        """What an embedding may be beside the names of those that there are."""
        return [NO_EMBEDDING, AUTOMATIC] if self.automatic else [NO_EMBEDDING]

    def brings(self, knobs: Sequence[Knob]) -> list[str]:
        """Names of the knobs that its choices may bring values of."""
        if isinstance(self.choices, Choices):
            return [knob.name for knob in knobs if not knob.resets and knob.kind is not Kind.CHOICE]
        return [knob.name for knob in knobs if any(knob.name in values for values in self.choices.values())]

    @property
    def optional(self) -> bool:
        """Whether it is a number that can be off."""
        return self.default is None

    @property
    def typed(self) -> bool:
        """Whether it is a number for which no slider suits."""
        number = self.kind in (Kind.NUMBER, Kind.INTEGER) and not self.optional
        return number and not (self.slider and self.minimum is not None)

    @property
    def type(self) -> type:
        """Python's type of its values (that are not off)."""
        return {Kind.NUMBER: float, Kind.INTEGER: int, Kind.SWITCH: bool}.get(self.kind, str)

    @property
    def range(self) -> str:
        """In words; empty if anything goes."""
        words = "" if self.minimum is None else f"{self.minimum:g} to {self.maximum:g}"
        return f"{words} or {OFF}".removeprefix(" or ") if self.optional else words or ", ".join(self.choices)

    def parse(self, value: object) -> Any:
        """The value as this knob's type; None means the default.

        Raises:
            AestheticError: not of this type, not finite or out of range.
        """
        if value is None:
            return self.default
        if self.kind is Kind.SWITCH:
            return self._switch(value)
        if self.kind in (Kind.NUMBER, Kind.INTEGER):
            return self._number(value)
        if not isinstance(value, str):
            raise self._refuse(value, "a text")
        text = value.strip()
        if self.kind is Kind.CHOICE:
            return self._choice(text)
        if self.automatic and text.lower() in AUTOMATIC_WORDS:
            return AUTOMATIC
        return text or self.default

    def write(self, value: object) -> str:
        """The value as text, which :meth:`parse` reads back."""
        if value is None:
            return OFF
        # %g keeps 5e-05 readable and free of float noise.
        return f"{value:g}" if isinstance(value, float) else str(value)

    def _switch(self, value: object) -> bool:
        if isinstance(value, str):
            word = value.strip().lower()
            if word in ("true", "yes", "on", "1"):
                return True
            if word in ("false", "no", "off", "0", ""):
                return False
        elif isinstance(value, (bool, int, float)) and value in (0, 1):
            return bool(value)
        raise self._refuse(value, "true or false")

    def _number(self, value: object) -> float | int | None:
        wanted = "a whole number" if self.kind is Kind.INTEGER else "a number"
        if self.optional:
            wanted = f"{wanted} or {OFF}"
            if isinstance(value, str) and value.strip().lower() in ("", OFF, "none"):
                return None
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self._refuse(value, wanted)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise self._refuse(value, wanted) from None
        if not math.isfinite(number) or (self.kind is Kind.INTEGER and number != int(number)):
            raise self._refuse(value, wanted)
        if self.minimum is not None and self.maximum is not None and not self.minimum <= number <= self.maximum:
            raise AestheticError(
                f"{self.label} is {number:g}.",
                f"It can be from {self.range}.",
                "Choose a value in that range.",
            )
        return int(number) if self.kind is Kind.INTEGER else number

    def _choice(self, text: str) -> str:
        for choice in self.choices:
            if choice.lower() == text.lower():
                return choice
        if not text:
            return str(self.default)
        raise self._refuse(text, f"one of {', '.join(self.choices)}")

    def _refuse(self, value: object, wanted: str) -> AestheticError:
        return AestheticError(
            f"{self.label} can't be {value!r}.",
            f"It has to be {wanted}.",
            f"Leave it out to get {self.write(self.default)!r}.",
        )


def setting(kind: Kind, default: Any, label: str, infotext: str, help: str, **more: Any) -> Any:
    """A field of :class:`Settings`, for the dataclass; see :class:`Knob` for what more can be said."""
    return dataclasses.field(default=default, metadata={"knob": Knob(label, infotext, help, kind, default, **more)})


@dataclass(frozen=True)
class Settings:
    """What the user chose for one generation (defaults: Gallego 2022 and the WebUI's first extension)."""

    weight: float = setting(
        Kind.NUMBER,
        0.9,
        "Aesthetic weight",
        "Aesthetic weight",
        "How much of the personalised prompt is mixed into the ordinary one: 0 is off, 1 is all.",
        minimum=0,
        maximum=1,
        step=0.01,
        row=3,
        always_written=True,
    )
    steps: int = setting(
        Kind.INTEGER,
        5,
        "Aesthetic steps",
        "Aesthetic steps",
        "Optimisation steps toward the embedding. More steps, more of its taste and less of your prompt; "
        "start with 2 to 5, then try 10, 15, 20.",
        minimum=0,
        maximum=50,
        step=1,
        row=3,
        always_written=True,
    )
    lr: float = setting(
        Kind.NUMBER,
        0.0001,
        "Aesthetic learning rate",
        "Aesthetic LR",
        "Size of each optimisation step. 0.0001 suits almost always: change the steps first.",
        minimum=0,
        maximum=0.1,
        step=0.0001,
        slider=False,
        row=4,
        always_written=True,
    )
    slerp: bool = setting(
        Kind.SWITCH,
        False,
        "Slerp interpolation",
        "Aesthetic slerp",
        "Mix the two encodings of the prompt along the arc between them instead of the straight line.",
        row=4,
        always_written=True,
    )
    embedding: str = setting(
        Kind.EMBEDDING,
        NO_EMBEDDING,
        "Aesthetic embedding",
        "Aesthetic embedding",
        "The taste to steer toward. None costs nothing. Make your own in the tab Create aesthetic embedding.",
        row=1,
        fold="",
        resets=True,
    )
    text: str = setting(
        Kind.TEXT,
        "",
        "Aesthetic text",
        "Aesthetic text",
        "Optional text (up to 75 tokens) that turns the embedding toward what it says.",
        placeholder="turns the embedding toward this text",
        row=5,
    )
    slerp_angle: float = setting(
        Kind.NUMBER,
        0.1,
        "Slerp angle",
        "Aesthetic slerp angle",
        "How far the aesthetic text turns the embedding: 0 not at all, 1 all the way to the text.",
        minimum=0,
        maximum=1,
        step=0.01,
        row=6,
        always_written=True,
    )
    text_negative: bool = setting(
        Kind.SWITCH,
        False,
        "Is negative text",
        "Aesthetic text negative",
        "Turn the embedding away from the aesthetic text instead of toward it.",
        row=6,
        always_written=True,
    )
    negative_prompt: bool = setting(
        Kind.SWITCH,
        False,
        "Personalise the negative prompt too",
        "Aesthetic negative prompt",
        "The paper leaves the negative prompt alone; the first WebUI extension did not. "
        "Turn this on to come close to pictures made with that one.",
        row=4,
    )
    centre: str = setting(
        Kind.EMBEDDING,
        NO_EMBEDDING,
        "Aesthetic centre",
        "Aesthetic centre",
        "An embedding of many different pictures, such as a mixture of all that you have. With it the prompt takes on "
        "only how the embedding differs from that, and keeps more of itself. None is the paper's method; Automatic "
        "is the mean of your other embeddings, where there are four or more for the model.",
        row=7,
        automatic=True,
    )
    centre_strength: float = setting(
        Kind.NUMBER,
        1.0,
        "Centre strength",
        "Aesthetic centre strength",
        "With a centre: how much the difference counts, against 1 for the prompt itself.",
        minimum=0,
        maximum=10,
        step=0.1,
        row=7,
        always_written=True,
        needs="centre",
    )
    strength: float | None = setting(
        Kind.NUMBER,
        None,
        "Aesthetic strength",
        "Aesthetic strength",
        "How far the prompt goes toward the embedding, as a part of the way: the optimisation stops when it is there, "
        "after the aesthetic steps at the latest. The same on every checkpoint and for every prompt.",
        minimum=0,
        maximum=1,
        step=0.01,
        row=2,
        fold="",
    )
    preset: str = setting(
        Kind.CHOICE,
        CUSTOM,
        "Aesthetic preset",
        "Aesthetic preset",
        "Sets all that is under More, and the strength: how much of the taste you want. "
        "Change one of these by hand, and the preset is Custom.",
        choices=PRESETS,
        row=1,
        fold="",
    )
    guidance_start: float = setting(
        Kind.NUMBER,
        0.0,
        "Starting aesthetic step",
        "Aesthetic guidance start",
        "Where the personalised prompt takes over from the ordinary one, as a part of the sampling steps, as in "
        "ControlNet. Early steps lay the picture out, late ones make its surface.",
        minimum=0,
        maximum=1,
        step=0.01,
        row=7,
    )
    guidance_end: float = setting(
        Kind.NUMBER,
        1.0,
        "Ending aesthetic step",
        "Aesthetic guidance end",
        "Where the ordinary prompt takes over again, as a part of the sampling steps.",
        minimum=0,
        maximum=1,
        step=0.01,
        row=7,
    )
    away: str = setting(
        Kind.EMBEDDING,
        NO_EMBEDDING,
        "Keep away from",
        "Aesthetic away",
        "A second embedding, of what the pictures are not to look like: the prompt goes toward the first and not "
        "toward this. Alone it is what the prompt goes away from.",
        row=8,
    )
    away_strength: float = setting(
        Kind.NUMBER,
        0.5,
        "Away strength",
        "Aesthetic away strength",
        "How much the second embedding counts, against 1 for where the prompt would go without it.",
        minimum=0,
        maximum=2,
        step=0.05,
        row=8,
        needs="away",
    )

    @classmethod
    def knobs(cls) -> tuple[Knob, ...]:
        """The table, in the order of the fields."""
        return tuple(dataclasses.replace(field.metadata["knob"], name=field.name) for field in dataclasses.fields(cls))

    @classmethod
    def from_values(cls: type[_Settings], values: Sequence[object]) -> _Settings:
        """Positional values in the order of the fields; a first value that is a mapping stands for all.

        What is missing or None is at its default, what is too much is ignored.

        Raises:
            AestheticError: a value that its knob refuses, an unknown name.
        """
        if values and isinstance(values[0], Mapping):
            return cls.from_mapping(values[0])
        return cls.from_mapping({knob.name: value for knob, value in zip(cls.knobs(), values)})

    @classmethod
    def from_mapping(cls: type[_Settings], values: Mapping[str, object]) -> _Settings:
        """Named values, e.g. the API's object ``{"embedding": "sac_8plus", "preset": "clear"}``.

        What is None is not said: it is at its default, or at what a choice brings.

        Raises:
            AestheticError: a value that its knob refuses, an unknown name.
        """
        cls._check_names(values)
        return cls().replaced({name: value for name, value in values.items() if value is not None})

    def replaced(self: _Settings, values: Mapping[str, object]) -> _Settings:
        """These settings with some of them replaced by name; a choice replaces what it brings along as well.

        Raises:
            AestheticError: a value that its knob refuses, an unknown name.
        """
        self._check_names(values)
        by_name = {knob.name: knob for knob in self.knobs()}
        said = {name: by_name[name].parse(value) for name, value in values.items()}
        brought: dict[str, object] = {}
        for name, value in said.items():
            if by_name[name].kind is Kind.CHOICE:
                brought.update(by_name[name].choices[value])
        return dataclasses.replace(self, **{**brought, **said})

    @classmethod
    def _check_names(cls, values: Mapping[str, object]) -> None:
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                near = difflib.get_close_matches(str(name), names, n=1)
                raise AestheticError(
                    f"There is no aesthetic setting {name!r}.",
                    f"The settings are: {', '.join(names)}.",
                    f"Did you mean {near[0]!r}?" if near else "",
                )

    @property
    def has_embedding(self) -> bool:
        return self.embedding not in ("", NO_EMBEDDING)

    @property
    def has_centre(self) -> bool:
        return self.centre not in ("", NO_EMBEDDING)

    @property
    def has_away(self) -> bool:
        return self.away not in ("", NO_EMBEDDING) and self.away_strength != 0

    def infotext(self) -> dict[str, str]:
        """Generation parameters, by the keys that the WebUI's first extension used.

        What is left out reads back as its default. Each knob says when that is; an empty
        text (which the WebUI's parser refuses) always is. What a choice brings is written beside it, for
        readers that do not know it, and the choice itself only while the values are those.
        """
        values = {knob.name: knob.parse(getattr(self, knob.name)) for knob in self.knobs()}
        values = agreeing(values, self.knobs())
        changed = {knob.name for knob in self.knobs() if values[knob.name] != knob.default}
        return {
            knob.infotext: knob.write(values[knob.name])
            for knob in self.knobs()
            if (knob.always_written or knob.name in changed) and (not knob.needs or knob.needs in changed)
        }


KNOBS: tuple[Knob, ...] = Settings.knobs()
BY_NAME: dict[str, Knob] = {knob.name: knob for knob in KNOBS}


def pasted(parameters: Mapping[str, object], knobs: Sequence[Knob] = KNOBS) -> dict[str, Any]:
    """The knobs that a picture's generation parameters set, by name; the others stay as they are.

    With any knob among the parameters, what they leave out is at its default. What can't be read sets nothing, but for
    a choice that is not there or brings other values now: its values stand beside it, and it is at its default.
    """
    if not any(knob.infotext in parameters for knob in knobs):
        return {knob.name: knob.default for knob in knobs if knob.resets}
    values: dict[str, Any] = {}
    for knob in knobs:
        with contextlib.suppress(AestheticError):
            values[knob.name] = knob.parse(parameters.get(knob.infotext))
    values.update({k.name: k.default for k in knobs if k.kind is Kind.CHOICE and k.name not in values})
    return agreeing(values, knobs)


def agreeing(values: Mapping[str, Any], knobs: Sequence[Knob] = KNOBS) -> dict[str, Any]:
    """The values, with each choice at its default whose own values are not those that stand beside it."""
    by_name = {knob.name: knob for knob in knobs}

    def agrees(name: str, value: object) -> bool:
        return name in values and by_name[name].write(values[name]) == by_name[name].write(value)

    told = dict(values)
    for knob in knobs:
        if knob.kind is Kind.CHOICE and knob.name in told:
            brought = knob.choices.get(told[knob.name], {})
            if not all(agrees(name, value) for name, value in brought.items()):
                told[knob.name] = knob.default
    return told
