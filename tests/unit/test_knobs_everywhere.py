"""A field added to the table of settings is all it takes: every surface is driven with a copy that has some more."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from aesthetic_clip.cli.knobs import knob_arguments, settings_of
from aesthetic_clip.embeddings.library import Library
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.hosts.a1111 import xyz
from aesthetic_clip.hosts.diffusers.infotext import infotext
from aesthetic_clip.pages.accordion import settings_accordion
from aesthetic_clip.pages.presets import shown
from aesthetic_clip.settings import KNOBS, NO_EMBEDDING, Kind, Knob, Settings, pasted, setting

from ..readme import README, updated


@dataclass(frozen=True)
class Wider(Settings):
    """The table with one more knob of each kind."""

    gain: float = setting(
        Kind.NUMBER, 0.25, "Gain", "Aesthetic gain", "How much.", minimum=0, maximum=2, step=0.05, row=2, fold=""
    )
    rounds: int = setting(Kind.INTEGER, 3, "Rounds", "Aesthetic rounds", "How often.", minimum=1, maximum=9, step=1)
    mirrored: bool = setting(Kind.SWITCH, False, "Mirrored", "Aesthetic mirrored", "The other way.")
    remark: str = setting(Kind.TEXT, "", "Remark", "Aesthetic remark", "Anything.", placeholder="said")
    apart: str = setting(Kind.EMBEDDING, NO_EMBEDDING, "Apart from", "Aesthetic apart", "A taste to leave.")
    part: float | None = setting(
        Kind.NUMBER, None, "Part", "Aesthetic part", "How far.", minimum=0, maximum=1, step=0.01, fold=""
    )
    manner: str = setting(
        Kind.CHOICE,
        "Custom",
        "Manner",
        "Aesthetic manner",
        "Several at once.",
        choices={"Custom": {}, "Strong": {"steps": 20, "part": 0.8}},
        fold="Manners",
    )
    gain_apart: float = setting(
        Kind.NUMBER, 1.0, "Gain apart", "Aesthetic gain apart", "With it.", minimum=0, maximum=2, needs="apart"
    )


TABLE = Wider.knobs()
ADDED = TABLE[len(KNOBS) :]


def samples(knob: Knob) -> list[Any]:
    """Values that it may have, its default among them."""
    if knob.kind in (Kind.NUMBER, Kind.INTEGER):
        assert knob.minimum is not None and knob.maximum is not None
        return [knob.default, knob.type(knob.minimum), knob.type(knob.maximum)]
    others: dict[Kind, list[Any]] = {
        Kind.SWITCH: [False, True],
        Kind.TEXT: ["", 'oil, "thick": paint\\', "off", "None"],
        Kind.EMBEDDING: [NO_EMBEDDING, "sub/name 1"],
        Kind.CHOICE: list(knob.choices),
    }
    return others[knob.kind]


CASES = [pytest.param(knob, value, id=f"{knob.name}={value!r}") for knob in TABLE for value in samples(knob)]
every_value = pytest.mark.parametrize(("knob", "value"), CASES)


def having(knob: Knob, value: Any) -> Wider:
    """Settings with this value, and with what the knob needs, or brings along."""
    needed = {knob.needs: "needed"} if knob.needs else {}
    return dataclasses.replace(Wider(), **{**needed, **knob.choices.get(value, {}), knob.name: value})


def test_a_choice_of_each_kind_is_tried() -> None:
    assert {knob.kind for knob in ADDED} == set(Kind)
    assert any(knob.optional for knob in ADDED)


@pytest.mark.parametrize("knob", TABLE, ids=lambda knob: knob.name)
def test_the_table_is_sound(knob: Knob) -> None:
    assert knob.parse(knob.default) == knob.default == knob.parse(None)
    assert (knob.minimum is None) == (knob.maximum is None)
    assert not knob.needs or knob.needs in {other.name for other in TABLE}
    assert knob.kind is not Kind.CHOICE or knob.default in knob.choices
    # What the WebUI's parser takes for a key.
    assert re.fullmatch(r"\w[\w \-/]+", knob.infotext)
    for values in knob.choices.values():
        Wider.from_mapping(values)


@pytest.mark.parametrize("fact", ["name", "label", "infotext"])
def test_no_two_knobs_share(fact: str) -> None:
    assert len({getattr(knob, fact) for knob in TABLE}) == len(TABLE)


# The accordion


def accordion(initial: Wider | None = None, names: tuple[str, ...] = ("one",)) -> tuple[Any, list[Any]]:
    with gr.Blocks() as page:
        controls = settings_accordion(names, lambda name: f"id_{name}", initial=initial, knobs=TABLE)
    return page, controls


@every_value
def test_what_the_accordion_shows_is_what_is_read(knob: Knob, value: Any) -> None:
    wanted = having(knob, value)
    _page, controls = accordion(wanted)
    assert Wider.from_values([control.value for control in controls]) == wanted


def test_controls_suit_their_knobs() -> None:
    controls = dict(zip((knob.name for knob in TABLE), accordion()[1]))
    kinds = {
        "gain": gr.Slider,
        "lr": gr.Number,
        "rounds": gr.Slider,
        "mirrored": gr.Checkbox,
        "remark": gr.Textbox,
        "apart": gr.Dropdown,
        "part": gr.Textbox,
        "manner": gr.Dropdown,
    }
    assert {name: type(controls[name]) for name in kinds} == kinds
    assert controls["gain"].step == 0.05 and controls["lr"].step == 0.0001
    assert [choice[0] if isinstance(choice, tuple) else choice for choice in controls["apart"].choices] == [
        "None",
        "one",
    ]
    assert "off" in controls["part"].placeholder


def test_a_knob_stands_where_it_says() -> None:
    _page, controls = accordion()
    places: dict[str, Any] = {}
    for knob, control in zip(TABLE, controls):
        row = control.parent if isinstance(control.parent, gr.Row) else control.parent.parent
        fold = row.parent.label
        places[knob.name] = (row, fold)
    assert places["gain"] == places["strength"] and places["gain"][1] == "Aesthetic Gradients"
    assert places["preset"] == places["embedding"] and places["preset"][1] == "Aesthetic Gradients"
    assert places["part"][1] == "Aesthetic Gradients" and places["part"][0] is not places["gain"][0]
    assert places["rounds"][1] == places["lr"][1] == places["steps"][1] == "More"
    assert places["rounds"][0] is not places["mirrored"][0]
    assert places["manner"][1] == "Manners"


def answers(page: Any, control: Any, event: str) -> Any:
    """The function that a page runs on an event of a control, and the ids of what it changes."""
    for index, found in enumerate(page.config["dependencies"]):
        # Until gradio 3 one event for all targets; later an event for each.
        events = [target if "trigger" not in found else (target, found["trigger"]) for target in found["targets"]]
        if (control._id, event) in map(tuple, events):
            return page.fns[found.get("id", index)].fn, found["outputs"]
    raise AssertionError(f"nothing happens on {event}")


def test_an_emptied_number_shows_its_default_again() -> None:
    page, controls = accordion()
    lr = controls[2]
    answer, outputs = answers(page, lr, "blur")
    assert answer(None)["value"] == 0.0001 and outputs == [lr._id]
    assert "value" not in answer(0.3)
    # What is left out of an update of a number, gradio 3 sets back.
    assert answer(None)["step"] == answer(0.3)["step"] == 0.0001


def test_a_choice_sets_the_controls_that_it_brings_along() -> None:
    page, controls = accordion()
    names = [knob.name for knob in TABLE]
    answer, outputs = answers(page, controls[names.index("manner")], "input")
    assert [names[[control._id for control in controls].index(output)] for output in outputs] == ["steps", "part"]
    assert [update["value"] for update in answer("Strong")] == [20, "0.8"]
    assert all("value" not in update for update in answer("Custom"))


# Infotext

_PARAMETER = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def parsed(text: str) -> dict[str, str]:
    """The last line of an infotext as modules/infotext_utils.py reads it."""
    found = _PARAMETER.findall(text.splitlines()[-1])
    return {key: json.loads(value) if value.startswith('"') else value for key, value in found}


@every_value
def test_infotext_reads_back(knob: Knob, value: Any) -> None:
    wanted = having(knob, value)
    written = parsed(infotext("a prompt", "", {"Steps": 20, **wanted.infotext(), "Version": "v1"}))
    assert Wider(**pasted(written, TABLE)) == wanted
    assert Wider.from_values([shown(knob, pasted(written, TABLE)[knob.name]) for knob in TABLE]) == wanted


def test_added_knobs_leave_the_parameters_of_old_pictures_as_they_are() -> None:
    old = Settings(embedding="one", centre="two")
    assert dataclasses.replace(Wider(), embedding="one", centre="two").infotext() == old.infotext()
    assert "Aesthetic gain apart" not in dataclasses.replace(Wider(), gain_apart=2.0).infotext()


def test_a_plain_picture_resets_what_says_so_and_leaves_the_rest() -> None:
    assert pasted({"Steps": "20", "Seed": "1"}, TABLE) == {"embedding": NO_EMBEDDING}


def test_what_can_not_be_read_is_left_as_it_is() -> None:
    values = pasted({"Aesthetic embedding": "one", "Aesthetic gain": "much", "Aesthetic manner": "Weak"}, TABLE)
    assert "gain" not in values
    assert values["embedding"] == "one" and values["rounds"] == 3


# The API


@every_value
def test_object_and_positions_say_the_same(knob: Knob, value: Any) -> None:
    by_position = Wider.from_values([value if other is knob else None for other in TABLE])
    for form in (value, knob.write(value)):
        by_name = Wider.from_mapping({knob.name: form})
        brought = {name: getattr(by_name, name) for name in knob.choices.get(value, {})}
        assert by_name == by_position.replaced(brought)


def test_a_choice_brings_others_along_and_what_is_said_counts_more() -> None:
    assert Wider.from_mapping({"manner": "strong"}) == Wider(manner="Strong", steps=20, part=0.8)
    assert Wider.from_mapping({"steps": 7, "manner": "Strong"}) == Wider(manner="Strong", steps=7, part=0.8)
    assert Wider(steps=7).replaced({"manner": "Custom"}) == Wider(steps=7)


@pytest.mark.parametrize("value", ["off", "Off", "", "none", None])
def test_a_number_that_can_be_off(value: object) -> None:
    assert Wider.from_mapping({"part": value}).part is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"part": "far"}, "has to be a number or off"),
        ({"part": 1.5}, "from 0 to 1 or off"),
        ({"manner": "Weak"}, "has to be one of Custom, Strong"),
        ({"rounds": 10**400}, "has to be a whole number"),
        ({"gian": 1}, "Did you mean 'gain'"),
    ],
)
def test_refusals_say_what_would_do(values: dict[str, object], words: str) -> None:
    with pytest.raises(AestheticError, match=words):
        Wider.from_mapping(values)


# X/Y/Z


def axes(library: Library | None = None) -> dict[str, Any]:
    """The axes by their knobs' names, made into a stand-in for the WebUI's script."""
    grid = SimpleNamespace(
        axis_options=[],
        AxisOption=lambda label, type, apply, confirm, choices=None: SimpleNamespace(
            label=label, type=type, apply=apply, confirm=confirm, choices=choices
        ),
    )
    script = type("Script", (), {"__module__": "xyz_grid.py"})
    data = [SimpleNamespace(script_class=script, module=grid)]
    for _ in range(2):
        xyz.register(data, lambda: library or Library(()), lambda error: error, TABLE)
    assert len({axis.label for axis in grid.axis_options}) == len(grid.axis_options) == len(TABLE)
    return dict(zip((knob.name for knob in TABLE), grid.axis_options))


@pytest.mark.parametrize(("knob", "value"), [case for case in CASES if case.values[1] is not None])
def test_an_axis_replaces_its_setting(knob: Knob, value: Any) -> None:
    axis, job = axes()[knob.name], SimpleNamespace()
    axis.apply(job, axis.type(str(value)), [])
    said = xyz.overrides(job, TABLE)
    assert said.keys() == {knob.name}
    assert getattr(Wider().replaced(said), knob.name) == value


def test_axes_offer_what_can_be_chosen() -> None:
    made = axes()
    assert made["mirrored"].choices() == ["False", "True"]
    assert made["manner"].choices() == ["Custom", "Strong"]
    assert made["apart"].choices() == ["None"]
    assert made["gain"].choices is made["remark"].choices is None
    # These are what the WebUI understands ranges for.
    assert made["part"].type is made["gain"].type is float and made["rounds"].type is int


@pytest.mark.parametrize(
    ("name", "value"), [("gain", 7.0), ("rounds", 0), ("mirrored", "maybe"), ("manner", "Weak"), ("apart", "nothing")]
)
def test_an_axis_refuses_before_the_first_cell(name: str, value: object) -> None:
    with pytest.raises(AestheticError):
        axes()[name].confirm(None, [value])


# The command line


@every_value
def test_a_flag_for_every_knob(knob: Knob, value: Any) -> None:
    parser = argparse.ArgumentParser()
    knob_arguments(parser, knobs=TABLE)
    assert f"--aesthetic_{knob.name}" in parser.format_help()
    flag = f"--aesthetic-{knob.name.replace('_', '-')}"
    switch = [flag] if value else []
    words = switch if knob.kind is Kind.SWITCH else [f"{flag}={knob.write(value)}"]
    assert settings_of(parser.parse_args(words), Wider()) == Wider.from_mapping({knob.name: value})
    assert settings_of(parser.parse_args([]), Wider(steps=7)) == Wider(steps=7)


# The README


def test_the_readme_lists_added_knobs() -> None:
    text = updated(README.read_text(encoding="utf-8"), TABLE)
    for knob in ADDED:
        assert f"| {knob.label} |" in text and f"`{knob.name}`" in text
    assert "| Part | off | 0 to 1 or off | Aesthetic part | How far. |" in text
    assert "| Manner | Custom | Custom, Strong | Aesthetic manner | Several at once. |" in text
