"""The handlers of the tab and of the local page, called with whatever a program may send in place of a page."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aesthetic_clip.create.limits import MAX_BATCH_SIZE
from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.pages import forms, local_page
from aesthetic_clip.pages.forms import Field, Form
from aesthetic_clip.pages.local_page import Order, Pair
from aesthetic_clip.pages.tab import TabHost
from aesthetic_clip.settings import Settings
from aesthetic_clip.spaces import Space, space_of

from ...support import vision_towers

SPACE = space_of(32)
LONG = "x" * 10_000_000
SPECIAL = [
    LONG,
    "\ud800",
    "a\0b",
    "../../x",
    "/etc",
    "~nobody/x",
    float("nan"),
    float("inf"),
    10**400,
    -1,
    1e9,
    "taste",
]

leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(SPECIAL)
path_keys = st.sampled_from(["name", "path", "image", "is_file", "data", "meta", "x"])
anything = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(path_keys, inner, max_size=3), max_leaves=6
)


@dataclass
class Page:
    """A page whose buttons are called without a browser."""

    blocks: Any
    root: Path
    orders: list[Order]

    def handlers(self) -> dict[str, tuple[Callable[..., Any], list[Any], list[Any]]]:
        """By the id of the component: what its event calls, its inputs and its outputs."""
        found = {}
        fns = self.blocks.fns.values() if isinstance(self.blocks.fns, dict) else self.blocks.fns
        config = self.blocks.config["dependencies"]
        for function, dependency in zip(fns, config):
            # With the event's name behind it in later releases; the page's own load has none.
            target = next(iter(dependency["targets"]), None)
            component = self.blocks.blocks.get(target[0] if isinstance(target, (list, tuple)) else target)
            inputs = [self.blocks.blocks[number] for number in dependency["inputs"]]
            outputs = [self.blocks.blocks[number] for number in dependency["outputs"]]
            follows = dependency.get("trigger") == "then"
            if function.fn is not None and getattr(component, "elem_id", None) and not follows:
                found[component.elem_id] = (function.fn, inputs, outputs)
        return found

    def press(self, elem_id: str, *values: Any, **by_id: Any) -> dict[str, Any]:
        """What a button answers, by the outputs' ids; inputs are given in order, or by id on top of what they show."""
        function, inputs, outputs = self.handlers()[elem_id]
        sent = list(values) or [
            by_id.get((component.elem_id or "").rpartition("aesthetic_")[2], getattr(component, "value", None))
            for component in inputs
        ]
        answer = function(*sent)
        if isinstance(answer, Iterator):
            *_, answer = answer
        answers = list(answer) if isinstance(answer, (list, tuple)) else [answer]
        # A program around the page may add its own to them.
        assert all(type(answer) is str for answer in answers if isinstance(answer, str))
        assert len(answers) == len(outputs)
        return {(shown.elem_id or "").rpartition("aesthetic_")[2]: value for shown, value in zip(outputs, answers)}

    def files(self) -> set[Path]:
        return {path for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("page")
    vision_towers.write_pictures(root / "pictures", 3)
    shelf = open_library([root / "library"])
    encoder_files = vision_towers.write_encoder(root / "encoder", SPACE.dim)
    for seed, name in enumerate(("taste", "other")):
        vector = unit(torch.randn(SPACE.dim, generator=torch.Generator().manual_seed(seed)))
        (root / "library").mkdir(exist_ok=True)
        save(Embedding(name, {SPACE: vector}, {}), root / "library" / f"{name}.safetensors")
    jobs = local_page.Jobs()
    orders: list[Order] = []

    def generate(order: Order) -> Pair:
        orders.append(order)
        return Pair(b"before", b"after", {SPACE.name: [0.1, 0.2]}, order.prompt)

    def encoder(space: Space, download: bool) -> Any:
        from aesthetic_clip.clip.image_encoder import load_encoder

        if space != SPACE:
            raise AestheticError("There is no such encoder.")
        return load_encoder(space, encoder_files)

    def nothing_kept(item: object) -> Any:
        raise AestheticError("It is no picture.")

    host = TabHost(
        library=lambda: shelf,
        spaces=lambda: [SPACE],
        encoder=encoder,
        text_features=lambda text: {SPACE: torch.ones(SPACE.dim)},
        picture=nothing_kept,
        job=lambda run, nothing: run,
        progress=jobs.progress,
        interrupt=jobs.interrupt,
    )
    blocks = local_page.build(host, jobs, generate, "a model", (64, 64), 4.0, Settings())
    return Page(blocks, root, orders)


@contextlib.contextmanager
def nothing_unforeseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No handler meets anything that it did not expect, and would only answer by its last resort."""
    caplog.clear()
    yield
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


BUTTONS = [
    "aesthetic_page_start",
    "aesthetic_page_prompt",
    *(
        f"aesthetic_create_{name}"
        for name in (
            *("start", "refresh", "trash", "restore", "rename", "mix", "home", "inspect", "export", "compare"),
            *("compare_text", "table_view", "trashed_view"),
        )
    ),
    *(f"aesthetic_create_taste_{name}" for name in ("show", "take_out", "undo")),
]


@pytest.mark.parametrize("button", BUTTONS)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_any_json_gets_a_sentence(
    page: Page, button: str, data: st.DataObject, caplog: pytest.LogCaptureFixture
) -> None:
    _, inputs, _ = page.handlers()[button]
    # Some as the page sends them, so that the others' checks are reached.
    sent = [
        data.draw(anything if data.draw(st.booleans()) else st.just(getattr(component, "value", None)))
        for component in inputs
    ]
    before = page.files()
    with nothing_unforeseen(caplog):
        answers = page.press(button, *sent)
    said = answers["create_result"] if button.endswith("create_start") else list(answers.values())[-1]
    # Drawing a table anew leaves what was said before.
    if not (button.endswith("_view") and said == gr.update()):
        assert isinstance(said, str)
        said.encode()
    assert page.files() <= before | set((page.root / "library").rglob("*"))


def test_every_component_has_an_id_of_its_own(page: Page) -> None:
    ids = [component.elem_id for component in page.blocks.blocks.values() if getattr(component, "elem_id", None)]
    assert sorted(ids) == sorted(set(ids))


def test_the_batch_size_can_be_what_the_core_takes(page: Page) -> None:
    slider = next(c for c in page.blocks.blocks.values() if getattr(c, "elem_id", "") == "aesthetic_create_batch_size")
    assert (slider.minimum, slider.maximum) == (1, MAX_BATCH_SIZE)


def test_every_handler_of_the_page_is_among_them(page: Page) -> None:
    with_inputs = {elem_id for elem_id, (_, inputs, _) in page.handlers().items() if inputs}
    # What the accordion does to its own controls is gradio's.
    own = {elem_id for elem_id in with_inputs if elem_id in BUTTONS or elem_id.startswith("aesthetic_create")}
    assert own == {*BUTTONS, "aesthetic_create_download"}, "the download takes what is chosen, and nothing else"


@pytest.mark.parametrize(
    "suffix", ["/../../evil.pt", "/x/evil.pt", "<img src=x onerror=alert(1)>", ".PT", "", None, [".pt"]]
)
def test_export_takes_only_the_formats_that_it_offers(page: Page, suffix: object) -> None:
    before = set(page.root.rglob("*"))
    answers = page.press("aesthetic_create_export", create_table_chosen='["taste"]', create_format=suffix)
    assert not answers["create_file"]["visible"]
    assert "It has to be one of .safetensors, .pt." in answers["create_message"]
    assert "<img" not in answers["create_message"]
    assert set(page.root.rglob("*")) == before


def test_export_gives_a_file(page: Page) -> None:
    answers = page.press("aesthetic_create_export", create_table_chosen='["taste"]', create_format=".safetensors")
    assert "Exported: taste as .safetensors." in answers["create_message"]
    [file] = answers["create_file"]["value"]
    assert Path(file).name == "taste.safetensors"


@pytest.mark.parametrize("key", ["name", "path"])
def test_only_uploaded_files_are_read(page: Page, key: str) -> None:
    stolen = page.root / "pictures" / "p000.jpg"
    for path in (str(stolen), f"{forms.upload_folder()}/../{stolen}", "/etc/passwd", ""):
        answers = page.press(
            "aesthetic_create_start",
            "task(1)",
            "stolen",
            *_rest(page, uploads=[{key: path, "is_file": True, "orig_name": "x.jpg", "data": None}]),
        )
        assert "Only files that were just uploaded are read." in answers["create_result"], path
    assert not (page.root / "library" / "stolen.safetensors").exists()


def _rest(page: Page, **by_name: Any) -> list[Any]:
    """The inputs of Create but for the job's id and the name."""
    _, inputs, _ = page.handlers()["aesthetic_create_start"]
    return [
        by_name.get(component.elem_id.removeprefix("aesthetic_create_"), component.value) for component in inputs[2:]
    ]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("batch_size", "x", "Batch size can't be 'x'. It has to be a whole number from 1 to 256."),
        ("batch_size", None, "Batch size can't be empty."),
        ("batch_size", float("nan"), "Batch size can't be nan."),
        ("batch_size", 1e9, "It has to be a whole number from 1 to 256."),
        ("batch_size", 2.5, "Choose a whole number."),
        ("batch_size", True, "Batch size can't be True."),
        ("note", LONG, "Note has 10000000 letters. It can have at most 1000."),
        ("note", ["a"], "Note can't be a list. It has to be a text."),
        ("folders", "a\0b", "It has to be a text without control characters."),
        ("folders", "~nosuchuser/x", "folder"),
        ("recursive", "yes", "It has to be ticked or not."),
        ("spaces", ["ViT-Q"], "It has to be some of ViT-L/14"),
        ("spaces", "ViT-L/14", "It has to be some of ViT-L/14"),
        ("uploads", [{"path": "/x"}] * 10_001, "At most 10,000 can be sent at once."),
        ("sent", [{}] * 1001, "At most 1,000 can be sent at once."),
    ],
)
def test_what_the_form_does_not_offer_is_refused(page: Page, field: str, value: object, sentence: str) -> None:
    answers = page.press("aesthetic_create_start", "task(1)", "never made", *_rest(page, **{field: value}))
    assert sentence.replace("'", "&#39;") in answers["create_result"]
    assert not list((page.root / "library").glob("never made*"))


def test_an_embedding_is_made_of_what_the_form_says(page: Page) -> None:
    rest = _rest(page, folders=str(page.root / "pictures"), note="noted", batch_size=2)
    answers = page.press("aesthetic_create_start", "task(1)", "made here", *rest)
    assert "made from 3 pictures" in answers["create_result"]
    metadata = open_library([page.root / "library"]).load("made here").metadata
    assert metadata["note"] == "noted"
    assert "made here" in answers["page_embedding"]["choices"]


def test_files_of_other_kinds_in_a_folder_are_not_named(page: Page) -> None:
    folder = page.root / "mixed"
    vision_towers.write_pictures(folder / "below", 2)
    (folder / "below" / "broken.jpg").write_bytes(b"nothing")
    (folder / "below" / "private letter.txt").write_text("x")
    answers = page.press(
        "aesthetic_create_start", "task(1)", "mixed", *_rest(page, folders=str(folder), recursive=True, overwrite=True)
    )
    said = answers["create_result"]
    assert "1 file skipped" in said
    assert "1 text file beside the pictures was left out" in said
    assert "<li>below/broken.jpg:" in said or "<li>below\\broken.jpg:" in said
    assert "private letter" not in said
    assert str(folder) not in said


def test_the_order_is_what_the_local_page_says(page: Page) -> None:
    page.orders.clear()
    answers = page.press(
        "aesthetic_page_start",
        page_prompt="a cat",
        page_negative="a dog",
        page_seed=7,
        page_sampling_steps=11,
        page_guidance_scale=3.5,
        page_width=128,
        page_height=192,
        page_embedding="taste",
        page_steps=9,
    )
    assert "0.100 before, 0.200 after 1 step" in answers["page_message"]
    assert page.orders == [Order("a cat", "a dog", 7, 11, 3.5, 128, 192, Settings(embedding="taste", steps=9))]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("page_seed", None, "Seed can't be empty."),
        ("page_seed", -2, "It has to be a whole number from -1"),
        ("page_width", 1e9, "It has to be a whole number from 64 to 2048."),
        ("page_width", 100, "Both have to be multiples of 8."),
        ("page_prompt", LONG, "Prompt has 10000000 letters."),
        ("page_text", LONG, "has 10000000 letters."),
        ("page_steps", "x", "x"),
    ],
)
def test_orders_that_are_refused(page: Page, field: str, value: object, sentence: str) -> None:
    page.orders.clear()
    answers = page.press("aesthetic_page_start", **{field: value})
    assert sentence.replace("'", "&#39;") in answers["page_message"]
    assert "class='error'" in answers["page_message"]
    assert not page.orders


# the mechanism


def connected(form: Form, handler: Callable[..., Any], outputs: dict[str, Any]) -> dict[str, Any]:
    """What gradio is given."""
    given: dict[str, Any] = {}
    form.on(lambda **arguments: given.update(arguments), handler, outputs)
    return given


def test_names_count_and_places_do_not() -> None:
    with gr.Blocks():
        fields: dict[str, forms.Field[Any]] = {"first": forms.text("First"), "second": forms.switch("Second")}
        shown = {"message": gr.HTML(), "other": gr.HTML()}

    def handler(second: bool, first: str) -> dict[str, Any]:
        return {"other": second, "message": first}

    turned = {name: fields[name] for name in reversed(fields)}
    for these in (fields, turned):
        given = connected(Form(these, "message", {}), handler, shown)
        values = {id(fields["first"].control): "text", id(fields["second"].control): True}
        answers = given["fn"](*(values[id(control)] for control in given["inputs"]))
        assert dict(zip(map(id, given["outputs"]), answers)) == {id(shown["message"]): "text", id(shown["other"]): True}


def test_a_field_that_is_not_there_is_noticed_when_the_page_is_built() -> None:
    with pytest.raises(KeyError):
        connected(Form({}, "message", {}), lambda missing: {}, {"message": None})


def test_the_last_resort_is_a_sentence_too(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("<b>an accident</b>")

    given = connected(Form({}, "message", {}), broken, {"message": None})
    assert "That did not work. &lt;b&gt;an accident" in given["fn"]()
    assert caplog.records, "the console has the traceback"


def test_gradio_does_not_read_values_before_their_check() -> None:
    """Gradio 3 would copy any file that is named to where the page can fetch it."""
    field = Field([object()], forms.checked_text("Text", 5))
    given = connected(Form({"text": field}, "message", {}), lambda text: {}, {"message": None})
    assert given["preprocess"] is False
