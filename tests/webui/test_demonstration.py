"""The demonstration model in the WebUI: that its pictures take on the taste, not only that they change."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aesthetic_clip.demo import GUIDANCE_SCALE, MODEL, SAMPLING_STEPS, export, loading, world
from aesthetic_clip.demo.lab.architecture import Classifier
from aesthetic_clip.demo.lab.bench import Condition
from aesthetic_clip.embeddings.embedding import save

from ..support.demo_conditions import CENTRED, CENTRED_MARGIN, PAPER, PAPER_MARGIN
from .driver import distance, personalised
from .test_page import open_accordion, pick, picture, selector, wait_for
from .webui import Generated, WebUI, generate_on_page

pytestmark = pytest.mark.skipif(not (MODEL / "model_index.json").is_file(), reason="no trained model is stored here")

CONTENTS = world.HELD_OUT[:4]


@pytest.fixture(scope="module")
def demo(webui: WebUI, data_dir: Path, embeddings: Path) -> Iterator[WebUI]:
    """The WebUI with the exported model loaded, and an embedding of each style."""
    checkpoints = data_dir / "models" / "Stable-diffusion"
    file = export.export(checkpoints)
    encoder = loading.load_image_encoder()
    for style in world.STYLES:
        save(loading.style_embedding(encoder, style), embeddings / f"demo-{style}.safetensors")
    save(loading.centre_embedding(encoder), embeddings / f"{loading.CENTRE}.safetensors")
    webui.post("/sdapi/v1/refresh-checkpoints", {})
    webui.use(file.stem)
    yield webui
    webui.use("sd1-a")
    for path in (file, file.with_suffix(".yaml")):
        path.unlink()
    webui.post("/sdapi/v1/refresh-checkpoints", {})


JOB: dict[str, Any] = {
    "width": world.SIZE,
    "height": world.SIZE,
    "steps": SAMPLING_STEPS,
    "cfg_scale": GUIDANCE_SCALE,
    "sampler_name": "DDIM",
    "negative_prompt": "",
}


def generate(webui: WebUI, embedding: str, content: world.Content, condition: Condition) -> Generated:
    knobs = {
        "steps": condition.steps,
        "lr": condition.lr,
        "weight": condition.weight,
        "centre": loading.CENTRE if condition.centred else "None",
        "centre_strength": condition.centred,
    }
    return personalised(webui, embedding, knobs, prompt=content.prompt, seed=1, **JOB)


def read(pictures: Sequence[Image.Image], field: str) -> torch.Tensor:
    """(N, values) what the classifier says of the pictures."""
    pixels = torch.from_numpy(np.stack([np.asarray(p.convert("RGB")) for p in pictures])).permute(0, 3, 1, 2) / 255
    return loading.classify(loading.load_classifier(), pixels)[field]


def test_held_out_prompts_give_what_they_ask_for(demo: WebUI) -> None:
    pictures = [generate(demo, "None", content, Condition()).image for content in CONTENTS]
    for field, wanted in (("colour", [c.colour for c in CONTENTS]), ("background", [c.background for c in CONTENTS])):
        names = Classifier.FIELDS[field]
        said = [names[i] for i in read(pictures, field).argmax(1).tolist()]
        assert sum(a == b for a, b in zip(said, wanted)) >= len(CONTENTS) - 1, field


@pytest.mark.parametrize(("condition", "margin"), [(PAPER, PAPER_MARGIN), (CENTRED, CENTRED_MARGIN)])
@pytest.mark.parametrize("style", world.STYLES)
def test_an_embedding_moves_pictures_toward_its_style(
    demo: WebUI, style: str, condition: Condition, margin: float
) -> None:
    plain = [generate(demo, "None", content, Condition()).image for content in CONTENTS]
    moved = [generate(demo, f"demo-{style}", content, condition).image for content in CONTENTS]
    place = Classifier.FIELDS["look"].index(style)
    assert read(moved, "look")[:, place].mean() > read(plain, "look")[:, place].mean() + margin


def test_no_step_is_the_plain_picture(demo: WebUI) -> None:
    content = world.HELD_OUT[-1]
    plain = generate(demo, "None", content, Condition())
    none = generate(demo, "demo-night", content, Condition(centred=1.0))
    assert distance(plain.image, none.image) == 0


# What a newcomer sees: the preset that a page begins with

AT_A_GLANCE = 12.0
"""Mean difference in grey levels (of 255)."""
SEEDS = (1, 2, 3)


@pytest.mark.parametrize("style", world.STYLES)
def test_a_first_picture_differs_at_a_glance_and_shows_the_style(demo: WebUI, style: str, tmp_path: Path) -> None:
    content = world.HELD_OUT[0]
    plain = [demo.txt2img(prompt=content.prompt, seed=seed, **JOB) for seed in SEEDS]
    clear = [
        personalised(demo, f"demo-{style}", {"preset": "clear"}, prompt=content.prompt, seed=seed, **JOB)
        for seed in SEEDS
    ]
    sheet = Image.new("RGB", (len(SEEDS) * world.SIZE, 2 * world.SIZE))
    for row, made in enumerate((plain, clear)):
        for column, one in enumerate(made):
            sheet.paste(one.image, (column * world.SIZE, row * world.SIZE))
    sheet.resize((4 * sheet.width, 4 * sheet.height), Image.Resampling.NEAREST).save(tmp_path / f"{style}.png")
    assert "Aesthetic preset: Clear" in clear[0].infotext
    assert re.search(r"Aesthetic automatic centre: 6 others [0-9a-f]{8}", clear[0].infotext)
    for one, other in zip(plain, clear):
        assert distance(one.image, other.image) > AT_A_GLANCE
    place = Classifier.FIELDS["look"].index(style)
    shown = [read([one.image for one in made], "look")[:, place].mean() for made in (plain, clear)]
    assert shown[1] > shown[0] + 0.5


def test_a_newcomers_page_makes_that_picture(demo: WebUI, page: Any, tmp_path: Path) -> None:
    page.wait_for_selector("#txt2img_generate")
    for name, value in (("seed", "1"), ("cfg_scale", GUIDANCE_SCALE), ("steps", SAMPLING_STEPS)):
        fill(page, f"#txt2img_{name}", str(value))
    for name in ("width", "height"):
        fill(page, f"#txt2img_{name}", str(world.SIZE))
    open_accordion(page)
    wait_for(page, "preset", "Clear")
    prompt = world.HELD_OUT[0].prompt
    generate_on_page(page, prompt)
    plain = picture(page)
    page.screenshot(path=str(tmp_path / "plain.png"))
    page.click(selector("txt2img", "refresh_embedding"))
    page.wait_for_timeout(500)
    pick(page, "demo-night")
    text = generate_on_page(page, prompt)
    page.screenshot(path=str(tmp_path / "clear.png"))
    assert "Aesthetic preset: Clear" in text
    assert distance(picture(page), plain) > AT_A_GLANCE


def fill(page: Any, control: str, value: str) -> None:
    field = page.locator(f"{control} input").first
    field.fill(value)
    field.press("Tab")
