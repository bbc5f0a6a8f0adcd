"""The API: arguments of either kind, infotext, the X/Y/Z script."""

from __future__ import annotations

from typing import Any

import pytest

from aesthetic_clip.settings import CUSTOM, KNOBS, PRESETS

from .driver import TITLE, XYZ, asking, distance, forget, optimised, personalised, refusal
from .webui import PAYLOAD, Generated, RequestFailed, WebUI

OLD_PNG = (
    "a photo of a cat\n"
    "Steps: 4, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64, Model: sd1-a, "
    "Aesthetic LR: 0.001, Aesthetic weight: 0.8, Aesthetic steps: 3, Aesthetic embedding: vitl, "
    "Aesthetic slerp: True, Aesthetic text: sunset, Aesthetic text negative: False, Aesthetic slerp angle: 0.4"
)
OLD_ARGUMENTS = (0.8, 3, 0.001, True, "vitl", "sunset", 0.4, False)
"""What ``OLD_PNG`` says, in the first extension's order."""


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


@pytest.fixture
def old_job(webui: WebUI) -> Generated:
    return webui.txt2img(**asking(*OLD_ARGUMENTS))


def test_eight_positions_and_one_object_say_the_same(webui: WebUI, old_job: Generated) -> None:
    names = ("weight", "steps", "lr", "slerp", "embedding", "text", "slerp_angle", "text_negative")
    mark = webui.mark()
    named = webui.txt2img(**asking(dict(zip(names, OLD_ARGUMENTS))))
    assert distance(named.image, old_job.image) == 0
    assert named.infotext == old_job.infotext
    assert optimised(webui, mark) == []
    assert distance(webui.txt2img(**asking(*OLD_ARGUMENTS, True), negative_prompt="x").image, old_job.image) > 0


def test_what_is_left_out_is_at_its_default(webui: WebUI) -> None:
    plain = webui.txt2img()
    for arguments in ((), (0.5,), (0.9, 5, 0.0001), (None,) * len(KNOBS)):
        assert distance(webui.txt2img(**asking(*arguments)).image, plain.image) == 0, arguments
    expected = personalised(webui, "vitl")
    replaced = {"embedding": "vitl"}
    named: tuple[tuple[object, ...], ...] = (
        (0.9, 5, 0.0001, False, "vitl"),
        (None, None, None, None, "vitl", None, None, None, None),
        ("0.9", "5", "1e-4", "false", "vitl", "", "0.1", 0),
        (0.9, 5, 0.0001, False, "vitl", "", 0.1, False, False, "None", 1, None),
        (*(replaced.get(knob.name, knob.default) for knob in KNOBS), True, "one too many"),
    )
    for values in named:
        assert distance(webui.txt2img(**asking(*values)).image, expected.image) == 0, values


@pytest.mark.parametrize("title", [TITLE.lower(), TITLE.upper(), TITLE.title()])
def test_title_in_any_case(webui: WebUI, title: str) -> None:
    expected = personalised(webui, "vitl")
    picture = webui.txt2img(alwayson_scripts={title: {"args": [{"embedding": "vitl"}]}})
    assert distance(picture.image, expected.image) == 0


@pytest.mark.parametrize(
    "scripts",
    [
        {"Aesthetic Gradients": {"args": [{"embedding": "vitl"}]}},
        {TITLE: {"args": {"embedding": "vitl"}}},
        {"aesthetic gradients": {"embedding": "vitl"}},
    ],
)
def test_what_clients_write_is_understood(webui: WebUI, scripts: dict[str, object]) -> None:
    expected = personalised(webui, "vitl")
    assert distance(webui.txt2img(alwayson_scripts=scripts).image, expected.image) == 0


@pytest.mark.parametrize(
    ("scripts", "words"),
    [
        ({TITLE: {"args": "vitl"}}, "has to be a number"),
        ({TITLE: {"args": {"style": "vitl"}}}, "There is no aesthetic setting 'style'"),
        ({TITLE: {}, "Aesthetic Gradients": {}}, "names of the same script"),
    ],
)
def test_what_can_not_be_understood_is_refused(webui: WebUI, scripts: dict[str, object], words: str) -> None:
    with pytest.raises(RequestFailed) as refused:
        webui.txt2img(alwayson_scripts=scripts)
    assert refused.value.status == 422
    assert words in refused.value.body


def test_script_info_lists_the_knobs(webui: WebUI) -> None:
    found = [info for info in webui.get("/sdapi/v1/script-info") if info["name"] == TITLE.lower()]
    assert {info["is_img2img"] for info in found} == {False, True}
    for info in found:
        assert info["is_alwayson"]
        # And the switch in the accordion's header.
        assert len(info["args"]) == len(KNOBS) + 1
        assert info["args"][-1]["value"] is True
        args = {knob.name: said for knob, said in zip(KNOBS, info["args"])}
        for name, default, minimum, maximum in (
            ("weight", 0.9, 0, 1),
            ("steps", 5, 0, 50),
            ("slerp_angle", 0.1, 0, 1),
            ("centre_strength", 1, 0, 10),
        ):
            said = args[name]
            assert (said["value"], said["minimum"], said["maximum"]) == (default, minimum, maximum)
        assert (args["lr"]["value"], args["text"]["value"]) == (0.0001, "")
        for name in ("slerp", "text_negative", "negative_prompt"):
            assert not args[name]["value"]
        for name in ("embedding", "centre"):
            assert args[name]["value"] == "None" and "vitl" in args[name]["choices"]


# --- infotext ---


def test_old_png_gives_the_same_picture(webui: WebUI, old_job: Generated) -> None:
    for key in ("LR: 0.001", "weight: 0.8", "steps: 3", "embedding: vitl", "slerp: True", "text: sunset"):
        assert f"Aesthetic {key}" in old_job.infotext
    mark = webui.mark()
    pasted = webui.txt2img(infotext=OLD_PNG)
    assert distance(pasted.image, old_job.image) == 0
    assert optimised(webui, mark) == []


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"slerp": True, "text": 'oil, "thick": paint', "slerp_angle": 0.37, "text_negative": True},
        {"weight": 1, "steps": 7, "lr": 5e-05, "negative_prompt": True},
    ],
)
def test_infotext_round_trip(webui: WebUI, knobs: dict[str, Any]) -> None:
    first = personalised(webui, "sub/vitl-2", knobs, negative_prompt="blurry")
    forget(webui)
    again = webui.txt2img(infotext=first.infotext, negative_prompt="blurry")
    assert again.infotext == first.infotext
    assert distance(again.image, first.image) == 0


def test_infotext_without_an_embedding_is_a_plain_picture(webui: WebUI) -> None:
    plain = webui.txt2img()
    assert distance(webui.txt2img(infotext=plain.infotext).image, plain.image) == 0


def test_infotext_with_nonsense_does_not_break_the_job(webui: WebUI) -> None:
    picture = webui.txt2img(infotext=OLD_PNG.replace("weight: 0.8", "weight: much"))
    assert "Aesthetic embedding: vitl" in picture.infotext
    assert "Aesthetic steps: 3" in picture.infotext


# --- X/Y/Z plot ---


def plot(webui: WebUI, x: tuple[str, list[str]], y: tuple[str, list[str]], **payload: Any) -> Generated:
    """An X/Y plot; each axis is its label and its values."""
    labels: list[str] = webui.run(XYZ + "result = [axis.label for axis in axes]")
    choices: list[bool] = webui.run(XYZ + "result = [axis.choices is not None for axis in axes]")

    def axis(label: str, values: list[str]) -> list[object]:
        index = labels.index(label)
        return [index, "" if choices[index] else ", ".join(values), values if choices[index] else []]

    values = {"draw_legend": True, "include_lone_images": True, "margin_size": 0, "items_per_grid": 0, "row_count": 0}
    # After the job and three times three for the axes; the hosts have different ones.
    names: list[str] = webui.run(
        XYZ + "import inspect\nresult = list(inspect.signature(grid.Script.run).parameters)[11:]"
    )
    arguments = [*axis(*x), *axis(*y), *axis("Nothing", [])]
    arguments += [values.get(name, False) for name in names]
    return webui.txt2img(script_name="x/y/z plot", script_args=arguments, **payload)


@pytest.mark.parametrize(
    ("label", "values", "said"),
    [
        ("[Aesthetic] embedding", ["None", "vitl", "sub/vitl-2"], ["", "embedding: vitl", "embedding: sub/vitl-2"]),
        ("[Aesthetic] weight", ["0", "0.5", "1"], ["", "weight: 0.5", "weight: 1"]),
        ("[Aesthetic] steps", ["2", "4"], ["steps: 2", "steps: 4"]),
        ("[Aesthetic] learning rate", ["0.0001", "0.001"], ["LR: 0.0001", "LR: 0.001"]),
        ("[Aesthetic] Slerp interpolation", ["False", "True"], ["slerp: False", "slerp: True"]),
        ("[Aesthetic] text", ["sunset", "a pencil drawing"], ["text: sunset", "text: a pencil drawing"]),
        ("[Aesthetic] Slerp angle", ["0", "0.9"], ["slerp angle: 0", "slerp angle: 0.9"]),
    ],
)
def test_axis(webui: WebUI, label: str, values: list[str], said: list[str]) -> None:
    asked = asking({"embedding": "vitl", "lr": 0.001, "text": "winter", "slerp_angle": 0.5})
    plotted = plot(webui, (label, values), ("Seed", ["1", "2"]), **asked)
    _grid, *cells = plotted.images
    count = len(values)
    assert len(cells) == 2 * count
    for row in (cells[:count], cells[count:]):
        assert all(distance(a, b) > 0 for i, a in enumerate(row) for b in row[:i])
    texts = plotted.infotexts[1:]
    for text, wanted in zip(texts, said * 2):
        assert (f"Aesthetic {wanted}" in text) if wanted else ("Aesthetic" not in text)
    # A cell is the picture that the same settings give by themselves.
    knob = {"learning rate": "lr", "Slerp interpolation": "slerp", "Slerp angle": "slerp_angle"}
    name = label.removeprefix("[Aesthetic] ")
    knobs = {"lr": 0.001, "text": "winter", "slerp_angle": 0.5, "embedding": "vitl", knob.get(name, name): values[-1]}
    assert distance(personalised(webui, str(knobs.pop("embedding")), knobs).image, cells[count - 1]) == 0
    legends = webui.run(
        XYZ + f"axis = next(axis for axis in axes if axis.label == {label!r})\n"
        f"result = [axis.format_value(None, axis, axis.type(value)) for value in {values!r}]"
    )
    assert all(value in legend for value, legend in zip(values, legends)), legends


@pytest.mark.parametrize("preset", [name for name in PRESETS.built_in if name != CUSTOM])
def test_a_preset_gives_the_same_picture_by_each_way(webui: WebUI, preset: str) -> None:
    expected = personalised(webui, "vitl", {"preset": preset.lower()})
    by_place: list[object] = [{"embedding": "vitl", "preset": preset}.get(knob.name) for knob in KNOBS]
    plotted = plot(webui, ("[Aesthetic] preset", [CUSTOM, preset]), ("Nothing", []), **asking({"embedding": "vitl"}))
    ways = {
        "places": webui.txt2img(**asking(*by_place)).image,
        "tag": webui.txt2img(prompt=f"{PAYLOAD['prompt']}<aesthetic:vitl:{preset.lower()}>").image,
        "cell": plotted.images[2],
        "infotext": webui.txt2img(infotext=expected.infotext).image,
    }
    assert {way: distance(image, expected.image) for way, image in ways.items()} == dict.fromkeys(ways, 0)
    assert distance(plotted.images[1], expected.image) > 0


def test_repeated_cells_cost_no_step(webui: WebUI) -> None:
    forget(webui)
    mark = webui.mark()
    plot(webui, ("Seed", ["1", "2", "3"]), ("[Aesthetic] steps", ["2", "3"]), **asking({"embedding": "vitl"}))
    assert [steps for _, _, steps in optimised(webui, mark)] == [2, 3]


@pytest.mark.parametrize(
    ("label", "value", "part"),
    [
        ("[Aesthetic] embedding", "no such one", "no such one"),
        ("[Aesthetic] weight", "7", "from 0 to 1"),
        ("[Aesthetic] steps", "900", "from 0 to 50"),
    ],
)
def test_bad_axis_value_is_refused_before_the_first_cell(webui: WebUI, label: str, value: str, part: str) -> None:
    mark = webui.mark()
    with pytest.raises(RequestFailed) as refused:
        plot(webui, ("Nothing", []), (label, [value]), **asking({"embedding": "vitl"}))
    assert refused.value.status == 422
    assert part in refused.value.body
    assert optimised(webui, mark) == []


def test_unknown_name_in_the_object(webui: WebUI) -> None:
    assert "Did you mean 'weight'?" in refusal(webui, knobs={"wieght": 1})


def test_a_centre_goes_into_the_picture_and_comes_back(webui: WebUI) -> None:
    knobs = {"centre": "sub/vitl-2", "centre_strength": 2.5, "lr": 0.001}
    made = personalised(webui, "vitl", knobs)
    assert "Aesthetic centre: sub/vitl-2, Aesthetic centre strength: 2.5" in made.infotext
    assert distance(webui.txt2img(infotext=made.infotext).image, made.image) == 0
    assert "Aesthetic centre" not in personalised(webui, "vitl").infotext


def test_a_centre_that_does_not_fit_is_refused(webui: WebUI) -> None:
    assert "no vector for ViT-L/14" in refusal(webui, knobs={"centre": "vith"})
    assert "is the embedding itself" in refusal(webui, knobs={"centre": "vitl-flat"})
    assert "There is no aesthetic embedding 'nothing'" in refusal(webui, knobs={"centre": "nothing"})
