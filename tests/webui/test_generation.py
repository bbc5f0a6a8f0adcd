"""Pictures with and without an embedding: what changes them, what must not, what is computed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ..support.checkpoints import Assets
from .driver import FAMILIES, distance, forget, optimised, options, personalised, similarities
from .hosts import NEO
from .inside import model
from .webui import Generated, WebUI

HIRES: dict[str, Any] = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
LONG_PROMPT = ", ".join(f"a photo of a cat number {number}" for number in range(20))


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


@pytest.fixture
def scratch(embeddings: Path) -> Iterator[Path]:
    """A subfolder of the embedding folder for one test's own files; names begin with ``scratch/``."""
    folder = embeddings / "scratch"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


# --- on, off, knobs ---


@pytest.mark.parametrize("checkpoint", FAMILIES)
def test_on_changes_the_picture_and_off_is_as_before(webui: WebUI, checkpoint: str) -> None:
    webui.use(checkpoint)
    plain = webui.txt2img()
    mark = webui.mark()
    on = personalised(webui, FAMILIES[checkpoint])
    towers = 2 if checkpoint == "sdxl" else 1
    assert len(optimised(webui, mark)) == towers
    assert all(after > before for before, after in similarities(webui, mark))
    assert distance(on.image, plain.image) > 0.2
    assert "Aesthetic embedding: " + FAMILIES[checkpoint] in on.infotext

    off = webui.txt2img()
    assert distance(off.image, plain.image) == 0
    assert "Aesthetic" not in off.infotext
    assert distance(personalised(webui, FAMILIES[checkpoint]).image, on.image) == 0


@pytest.mark.parametrize("checkpoint", FAMILIES)
def test_nothing_to_do_is_the_picture_of_a_webui_without_the_extension(
    webui: WebUI, references: dict[str, Generated], checkpoint: str
) -> None:
    webui.use(checkpoint)
    embedding, reference = FAMILIES[checkpoint], references[checkpoint]
    personalised(webui, embedding)  # something that must leave no trace
    mark = webui.mark()
    for name, knobs in (
        ("None", {}),
        ("", {}),
        (embedding, {"steps": 0}),
        (embedding, {"lr": 0}),
        (embedding, {"weight": 0}),
    ):
        picture = personalised(webui, name, knobs)
        assert distance(picture.image, reference.image) == 0, (name, knobs)
        assert picture.infotext == reference.infotext
    assert optimised(webui, mark) == []


def test_every_knob_changes_the_picture(webui: WebUI) -> None:
    base = {"embedding": "vitl", "lr": 0.001, "text": "sunset", "slerp_angle": 0.5}
    changes: list[dict[str, Any]] = [
        {},
        {"embedding": "sub/vitl-2"},
        {"weight": 0.5},
        {"steps": 3},
        {"lr": 0.0005},
        {"slerp": True},
        {"text": "a pencil drawing"},
        {"slerp_angle": 0.9},
        {"text_negative": True},
        {"negative_prompt": True},
        {"centre": "sub/vitl-2"},
        {"centre": "sub/vitl-2", "centre_strength": 3},
        {"guidance_start": 0.5},
        {"guidance_end": 0.5},
        {"away": "sub/vitl-2"},
        {"away": "sub/vitl-2", "away_strength": 1},
    ]

    def picture(change: dict[str, Any]) -> Generated:
        knobs = base | change
        return personalised(webui, str(knobs.pop("embedding")), knobs, negative_prompt="blurry")

    pictures = [picture(change) for change in changes]
    same = [
        (changes[a], changes[b])
        for a in range(len(changes))
        for b in range(a)
        if distance(pictures[a].image, pictures[b].image) == 0
    ]
    assert same == []
    assert distance(picture({}).image, pictures[0].image) == 0


def test_published_files_of_either_shape_and_precision_are_the_same(webui: WebUI) -> None:
    assert distance(personalised(webui, "vitl").image, personalised(webui, "vitl-flat").image) == 0


def test_similarity_in_the_parameters(webui: WebUI) -> None:
    mark = webui.mark()
    assert "Aesthetic similarity" not in personalised(webui, "vitl").infotext
    with options(webui, aesthetic_similarity_infotext=True):
        told = personalised(webui, "vitl").infotext
    ((before, after),) = similarities(webui, mark)
    assert f"Aesthetic similarity: ViT-L/14 {before:.4f} -> {after:.4f}" in told


# --- the checkpoint's own encoder, with what the host does to it ---


def test_lora_inversion_and_emphasis_count_on_the_personalised_side(webui: WebUI, assets: Assets) -> None:
    prompts = [
        "a red cat",
        f"a red cat <lora:{assets.lora.stem}:1>",
        f"a red cat {assets.textual_inversion.stem}",
        "a (red:1.3) cat",
    ]
    # With weight 1 nothing of the ordinary encoding is left in the mixture.
    pictures = [personalised(webui, "vitl", {"weight": 1}, prompt=prompt) for prompt in prompts]
    for prompt, picture in zip(prompts, pictures):
        assert distance(picture.image, webui.txt2img(prompt=prompt).image) > 0.2, prompt
    for prompt, picture in zip(prompts[1:], pictures[1:]):
        assert distance(picture.image, pictures[0].image) > 0.2, prompt
    assert distance(personalised(webui, "vitl", {"weight": 1}, prompt=prompts[0]).image, pictures[0].image) == 0


@pytest.mark.parametrize("checkpoint", FAMILIES)
def test_negative_prompt_is_left_alone_unless_asked(webui: WebUI, checkpoint: str) -> None:
    webui.use(checkpoint)
    job: dict[str, Any] = {"prompt": "a cat in a tree", "negative_prompt": "blurry"}

    def conditionings(knobs: dict[str, Any]) -> dict[str, str]:
        personalised(webui, FAMILIES[checkpoint], knobs, **job)
        return webui.call(model.cached_conditionings)

    webui.txt2img(**job)
    plain = webui.call(model.cached_conditionings)
    on, switched = conditionings({}), conditionings({"negative_prompt": True})
    assert on["negative"] == plain["negative"]
    assert on["positive"] != plain["positive"]
    assert switched["positive"] == on["positive"]
    assert switched["negative"] != plain["negative"]
    assert conditionings({}) == on


@pytest.mark.parametrize(
    ("prompt", "chunks"),
    [
        ("a [cat:dog:2] outside", 2),
        ("a [cat|dog] outside", 2),
        ("a cat AND a dog", 2),
        ("a cat BREAK a dog", 2),
        (LONG_PROMPT, 3),
        ("a cat", 1),
    ],
)
def test_every_chunk_is_optimised_once(webui: WebUI, prompt: str, chunks: int) -> None:
    plain = webui.txt2img(prompt=prompt)
    mark = webui.mark()
    on = personalised(webui, "vitl", prompt=prompt)
    assert len(optimised(webui, mark)) == chunks
    assert distance(on.image, plain.image) > 0.2


def test_prompts_of_a_batch_come_out_as_alone(webui: WebUI) -> None:
    matrix: dict[str, Any] = {
        "script_name": "prompt matrix",
        "script_args": [False, False, "positive", "comma", 0],
        "batch_size": 4,
        "prompt": "a cat|red|very old",
    }
    batch = personalised(webui, "vitl", **matrix)
    _grid, *pictures = batch.images
    prompts = ["a cat", "a cat, red", "a cat, very old", "a cat, red, very old"]
    assert batch.info["all_prompts"][-4:] == prompts
    for prompt, picture in zip(prompts, pictures):
        alone = personalised(webui, "vitl", prompt=prompt).image
        assert distance(picture, webui.txt2img(prompt=prompt).image) > 0.2
        # The rest of the network adds in another order for a batch.
        assert distance(picture, alone) < 0.1, prompt


# --- what is computed, and when ---


def test_same_settings_again_cost_no_step(webui: WebUI) -> None:
    forget(webui)
    mark = webui.mark()
    first = personalised(webui, "vitl", n_iter=3)
    assert len(first.images) >= 3
    assert len(optimised(webui, mark)) == 1
    mark = webui.mark()
    again = personalised(webui, "vitl")
    new_seed = personalised(webui, "vitl", seed=77)
    assert optimised(webui, mark) == []
    assert distance(again.image, new_seed.image) > 1
    assert distance(again.image, webui.txt2img().image) > 0.2


def test_changed_file_under_the_same_name_is_noticed(webui: WebUI, embeddings: Path, scratch: Path) -> None:
    file = scratch / "mine.pt"
    shutil.copy(embeddings / "vitl.pt", file)
    first = personalised(webui, "scratch/mine")
    shutil.copy(embeddings / "sub" / "vitl-2.pt", file)
    second = personalised(webui, "scratch/mine")
    assert distance(first.image, second.image) > 0.05
    shutil.copy(embeddings / "vitl.pt", file)
    assert distance(personalised(webui, "scratch/mine").image, first.image) == 0


def test_folder_from_the_settings(webui: WebUI, tmp_path: Path) -> None:
    torch.save(torch.randn(768, generator=torch.Generator().manual_seed(9)), tmp_path / "elsewhere.pt")
    with options(webui, aesthetic_embeddings_dir=str(tmp_path)):
        assert "Aesthetic embedding: elsewhere" in personalised(webui, "elsewhere").infotext


@pytest.mark.parametrize("kept", [1, 2])
def test_checkpoint_switch(webui: WebUI, kept: int) -> None:
    with options(webui, sd_checkpoints_limit=kept, sd_checkpoints_keep_in_cpu=kept > 1):
        plain_a, a = webui.txt2img(), personalised(webui, "vitl")
        for _ in range(2):
            webui.use("sd1-b")
            mark = webui.mark()
            plain_b, b = webui.txt2img(), personalised(webui, "vitl")
            assert len(optimised(webui, mark)) == 1
            assert distance(plain_b.image, b.image) > 0.2
            assert distance(a.image, b.image) > 0.2
            webui.use("sd1-a")
            assert distance(webui.txt2img().image, plain_a.image) == 0
            assert distance(personalised(webui, "vitl").image, a.image) == 0
        if kept > 1:
            webui.use("sdxl")
            assert distance(personalised(webui, "xl").image, webui.txt2img().image) > 0.2
            webui.use("sd1-a")
            assert distance(personalised(webui, "vitl").image, a.image) == 0


@pytest.mark.parametrize("firstpass_conds", [False, True])
def test_hires_fix(webui: WebUI, firstpass_conds: bool) -> None:
    with options(webui, hires_fix_use_firstpass_conds=firstpass_conds):
        plain = webui.txt2img(**HIRES)
        mark = webui.mark()
        on = personalised(webui, "vitl", **HIRES)
        assert len(optimised(webui, mark)) == 1
        assert distance(on.image, plain.image) > 0.2
        assert distance(personalised(webui, "vitl", **HIRES).image, on.image) == 0
        mark = webui.mark()
        other = personalised(webui, "vitl", **HIRES, hr_prompt="an oil painting of a cat")
        assert len(optimised(webui, mark)) <= 2
        assert distance(other.image, on.image) > 0.2
        assert distance(webui.txt2img(**HIRES).image, plain.image) == 0


def test_hires_pass_of_sdxl(webui: WebUI) -> None:
    webui.use("sdxl")
    plain = webui.txt2img(**HIRES)
    mark = webui.mark()
    assert distance(personalised(webui, "xl", **HIRES).image, plain.image) > 0.2
    assert len(optimised(webui, mark)) == 2


def test_refiner(webui: WebUI) -> None:
    refined: dict[str, Any] = {"refiner_checkpoint": webui.title("sd1-b"), "refiner_switch_at": 0.5}
    plain = webui.txt2img(**refined)
    mark = webui.mark()
    on = personalised(webui, "vitl", **refined)
    # Neo asks its cache by the checkpoint that comes back after the picture, and goes on with the first one's prompt.
    assert len(optimised(webui, mark)) == (1 if webui.host is NEO else 2), "one per checkpoint"
    assert distance(on.image, plain.image) > 0.2
    assert distance(on.image, personalised(webui, "vitl").image) > 0.2
    assert distance(personalised(webui, "vitl", **refined).image, on.image) == 0
    assert distance(webui.txt2img(**refined).image, plain.image) == 0


@pytest.mark.parametrize(
    "payload",
    [
        {"prompt": "a photo of a [cat:dog:0.5]"},
        {"prompt": "a photo of a cat AND a dog :0.5"},
        HIRES,
        {"sampler_name": "Heun"},
    ],
    ids=["edited", "composed", "hires", "second order"],
)
def test_a_part_of_the_steps_is_another_picture_than_all_and_none(webui: WebUI, payload: dict[str, Any]) -> None:
    payload = {"steps": 4, **payload}
    plain, whole = webui.txt2img(**payload), personalised(webui, "vitl", **payload)
    mark = webui.mark()
    parts = [
        personalised(webui, "vitl", {"guidance_start": start, "guidance_end": end}, **payload)
        for start, end in ((0, 0.5), (0.5, 1))
    ]
    pictures = [plain, whole, *parts]
    assert all(distance(a.image, b.image) > 0 for n, a in enumerate(pictures) for b in pictures[:n])
    assert optimised(webui, mark)
    mark = webui.mark()
    again = personalised(webui, "vitl", {"guidance_start": 0.5}, **payload)
    assert distance(again.image, parts[1].image) == 0
    assert optimised(webui, mark) == []
    assert "Aesthetic guidance start: 0.5" in again.infotext
    assert "Aesthetic guidance" not in whole.infotext
    assert distance(webui.txt2img(**payload).image, plain.image) == 0


def test_a_part_from_the_refiner_on_leaves_the_first_model_alone(webui: WebUI) -> None:
    refined: dict[str, Any] = {
        "refiner_checkpoint": webui.title("sd1-b"),
        "refiner_switch_at": 0.5,
        "steps": 4,
    }
    plain, whole = webui.txt2img(**refined), personalised(webui, "vitl", **refined)
    late = personalised(webui, "vitl", {"guidance_start": 0.5}, **refined)
    assert distance(late.image, plain.image) > 0
    assert distance(late.image, whole.image) > 0
    assert distance(personalised(webui, "vitl", {"guidance_start": 0.5}, **refined).image, late.image) == 0


def test_a_textual_inversion_is_told_once_beside_a_part(webui: WebUI, assets: Assets) -> None:
    prompt = f"a photo of {assets.textual_inversion.stem}"
    told = [
        re.search(
            r"\bTI(?: hashes)?: ([^\n]*?)(, [A-Z]|$)",
            personalised(webui, "vitl", knobs, prompt=prompt, steps=4).infotext,
        )
        for knobs in ({"steps": 3}, {"steps": 3, "guidance_start": 0.5})
    ]
    assert told[0] and told[1] and told[0][1] == told[1][1]


@pytest.mark.parametrize("checkpoint", FAMILIES)
def test_img2img(webui: WebUI, checkpoint: str) -> None:
    webui.use(checkpoint)
    first = webui.txt2img(seed=5).image
    webui.img2img(first)  # the host reads the picture with the random state that the job before left
    plain = webui.img2img(first)
    on = webui.img2img(
        first, alwayson_scripts={"Aesthetic embeddings": {"args": [{"embedding": FAMILIES[checkpoint]}]}}
    )
    assert distance(on.image, plain.image) > 0.2
    assert "Aesthetic embedding" in on.infotext
    assert distance(webui.img2img(first).image, plain.image) == 0


# --- text encoders and embeddings that do not match ---


def test_sdxl_leaves_the_tower_without_a_vector_alone(webui: WebUI) -> None:
    webui.use("sdxl")
    plain, both = webui.txt2img(), personalised(webui, "xl")
    pictures = []
    for embedding, moved, left in (
        ("vitl", "ViT-L/14", "ViT-bigG/14"),
        ("bigg", "ViT-bigG/14", "ViT-L/14"),
    ):
        mark = webui.mark()
        picture = personalised(webui, embedding)
        assert [space for _, space, _ in optimised(webui, mark)] == [moved]
        assert f"Aesthetic left alone: {left}" in picture.infotext
        # Told again when the WebUI's cache answers.
        assert f"Aesthetic left alone: {left}" in personalised(webui, embedding, seed=3).infotext
        pictures.append(picture.image)
    assert all(distance(a, b) > 0.05 for a, b in zip([*pictures, *pictures], [plain.image] * 2 + [both.image] * 2))
    assert "left alone" not in both.infotext
    assert "left alone" not in webui.txt2img().infotext


def test_tower_that_is_left_alone_needs_no_text_projection(webui: WebUI) -> None:
    webui.use("sdxl")
    expected = personalised(webui, "bigg")
    forget(webui)
    with options(webui, aesthetic_text_projection=""):
        assert distance(personalised(webui, "bigg").image, expected.image) == 0
