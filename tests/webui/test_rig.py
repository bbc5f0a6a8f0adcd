"""The rig itself: the WebUI runs on the small checkpoints, with nothing of the extension asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ..support.checkpoints import Assets
from .hosts import REFORGE
from .webui import RequestFailed, WebUI, generate_on_page

FAMILIES = {"sd1-a": "is_sd1", "sd1-b": "is_sd1", "sd2": "is_sd2", "sdxl": "is_sdxl"}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.float32)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(pixels(one) - pixels(other)).mean())


@pytest.fixture(params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, webui: WebUI) -> str:
    webui.use(request.param)
    return request.param


def test_family(webui: WebUI, checkpoint: str) -> None:
    found = webui.run(
        "names = ('is_sd1', 'is_sd2', 'is_sdxl', 'is_ssd')\nresult = {n: getattr(shared.sd_model, n, False) for n in names}"
    )
    # reForge says of an SD 2.x model that it is SD 1.x.
    expected = "is_sd1" if webui.host is REFORGE and checkpoint == "sd2" else FAMILIES[checkpoint]
    assert [name for name, value in found.items() if value] == [expected]


def test_picture_follows_prompt_and_seed(webui: WebUI, checkpoint: str) -> None:
    first = webui.txt2img(prompt="a photo of a cat")
    again = webui.txt2img(prompt="a photo of a cat")
    other_prompt = webui.txt2img(prompt="an oil painting, sunset over the sea")
    other_seed = webui.txt2img(prompt="a photo of a cat", seed=2)

    assert first.image.size == (64, 64)
    assert pixels(first.image).std() > 10, "the picture is nearly constant"
    assert distance(first.image, again.image) == 0
    assert distance(first.image, other_prompt.image) > 1
    assert distance(first.image, other_seed.image) > 1
    assert first.infotext.startswith("a photo of a cat")
    assert f"Model: {checkpoint}" in first.infotext


def test_checkpoint_for_one_job(webui: WebUI) -> None:
    webui.use("sd1-a")
    a = webui.txt2img()
    b = webui.txt2img(checkpoint="sd1-b")
    assert "Model: sd1-b" in b.infotext
    assert distance(a.image, b.image) > 1
    back = webui.txt2img()
    assert "Model: sd1-a" in back.infotext
    assert distance(a.image, back.image) == 0


def test_same_config_reloads_weights_into_the_same_model(webui: WebUI) -> None:
    webui.use("sd1-a")
    before = webui.run("result = id(shared.sd_model)")
    webui.use("sd1-b")
    assert webui.run("result = id(shared.sd_model)") == before
    webui.use("sd1-a")


def test_refiner(webui: WebUI) -> None:
    webui.use("sd1-a")
    plain = webui.txt2img()
    refined = webui.txt2img(refiner_checkpoint=webui.title("sd1-b"), refiner_switch_at=0.5)
    assert "Refiner: sd1-b" in refined.infotext
    assert distance(plain.image, refined.image) > 1


def test_img2img_and_hires(webui: WebUI) -> None:
    webui.use("sd1-a")
    first = webui.txt2img()
    second = webui.img2img(first.image)
    assert second.image.size == (64, 64)
    hires = webui.txt2img(enable_hr=True, hr_scale=2, hr_upscaler="Latent", denoising_strength=0.7)
    assert hires.image.size == (128, 128)


def test_lora_and_textual_inversion(webui: WebUI, assets: Assets) -> None:
    webui.use("sd1-a")
    plain = webui.txt2img(prompt="a cat")
    lora = webui.txt2img(prompt=f"a cat <lora:{assets.lora.stem}:1>")
    inverted = webui.txt2img(prompt=f"a cat {assets.textual_inversion.stem}")
    assert "Lora hashes" in lora.infotext
    assert "TI hashes" in inverted.infotext or f"TI: {assets.textual_inversion.stem}" in inverted.infotext
    assert distance(plain.image, lora.image) > 1
    assert distance(plain.image, inverted.image) > 1
    assert distance(plain.image, webui.txt2img(prompt="a cat").image) == 0


def test_log_and_errors(webui: WebUI) -> None:
    mark = webui.mark()
    webui.run("print('a line for the log', flush=True)")
    assert "a line for the log" in webui.log(mark)
    with pytest.raises(RequestFailed) as refused:
        webui.txt2img(alwayson_scripts={"no such script": {"args": []}})
    assert refused.value.status == 422


def test_every_script_loads(webui: WebUI) -> None:
    start = webui.log().partition("Startup time: ")[0]
    errors = [line for line in start.splitlines() if line.startswith("*** Error")]
    assert not errors, f"{errors}: only files known to git are copied; was one not added?"


def test_reload_ui_keeps_the_model(webui: WebUI) -> None:
    webui.use("sd1-a")
    image = webui.txt2img().image
    model = webui.run("result = id(shared.sd_model)")
    webui.reload_ui()
    assert webui.run("result = id(shared.sd_model)") == model
    assert distance(image, webui.txt2img().image) == 0


def test_own_folder_is_untouched(webui: WebUI, webui_dir: Path) -> None:
    paths = webui.run(
        "from modules import paths, extensions\n"
        "result = [paths.data_path, paths.models_path, shared.config_filename, extensions.extensions_dir]"
    )
    assert all(Path(path).is_relative_to(webui.data_dir) for path in paths)
    assert not Path(webui.data_dir).is_relative_to(webui_dir)


def test_page_generates(webui: WebUI, page: Any, page_errors: list[str], tmp_path: Path) -> None:
    webui.use("sd1-a")
    page.fill("#txt2img_seed input", "1")
    page.press("#txt2img_seed input", "Tab")
    text = generate_on_page(page, "a photo of a cat")
    assert text.startswith("a photo of a cat")
    assert "Seed: 1, Size: 64x64" in text
    assert page.locator("#txt2img_gallery img").count() > 0
    page.screenshot(path=str(tmp_path / "page.png"))
    assert page_errors == []


def test_restart_keeps_the_data(webui: WebUI) -> None:
    webui.use("sd1-a")
    image = webui.txt2img().image
    webui.restart()
    assert distance(image, webui.txt2img().image) == 0
