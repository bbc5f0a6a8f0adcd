"""Reload UI, changed options, the extension disabled, the first extension enabled beside it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from aesthetic_clip.settings import KNOBS

from .conftest import EXTENSION
from .driver import TITLE, XYZ, distance, forget, optimised, options, personalised, refusal
from .webui import WebUI

METHODS = """
from modules.processing import StableDiffusionProcessing as P
result = [getattr(P, name).__code__.co_filename for name in ("cached_params", "get_conds_with_caching")]
"""

# As far as the first extension can be told: a module and a script of these names, a title.
FIRST_MODULE = "class AestheticCLIP:\n    pass\n"
FIRST_SCRIPT = """
import gradio as gr
import aesthetic_clip
from modules import scripts


class Script(scripts.Script):
    def title(self):
        return "Aesthetic embeddings"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        with gr.Accordion("Open for Clip Aesthetic!", open=False):
            return [gr.Slider(minimum=0, maximum=1, step=0.01, label="Aesthetic weight of the first one", value=0.9)]

    def process(self, p, *args):
        print("the first extension's process", aesthetic_clip.AestheticCLIP.__name__)
"""


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


def test_reload_ui(webui: WebUI) -> None:
    plain, on = webui.txt2img(), personalised(webui, "vitl")
    for _ in range(2):
        mark = webui.mark()
        webui.reload_ui()
        assert "*** Error" not in webui.log(mark)
        forget(webui)
        mark = webui.mark()
        assert distance(personalised(webui, "vitl").image, on.image) == 0
        assert len(optimised(webui, mark)) == 1, "wrapped once, not twice"
        assert distance(webui.txt2img().image, plain.image) == 0
        labels = webui.run(
            XYZ + "result = [axis.label for axis in grid.axis_options if axis.label.startswith('[Aesthetic]')]"
        )
        assert len(labels) == len(set(labels)) == len(KNOBS)


def test_changed_cross_attention_option(webui: WebUI) -> None:
    plain, on = webui.txt2img(), personalised(webui, "vitl")
    names = webui.run("from modules import sd_hijack\nresult = [o.title() for o in sd_hijack.optimizers]")
    for name in names[:2]:
        with options(webui, cross_attention_optimization=name):
            forget(webui)
            mark = webui.mark()
            again = personalised(webui, "vitl")
            assert len(optimised(webui, mark)) == 1
            assert distance(again.image, webui.txt2img().image) > 0.2
    assert distance(webui.txt2img().image, plain.image) == 0
    assert distance(personalised(webui, "vitl").image, on.image) == 0


def test_clip_skip_and_emphasis_options(webui: WebUI) -> None:
    pictures = [personalised(webui, "vitl", prompt="a (red:1.3) cat").image]
    for option in ({"CLIP_stop_at_last_layers": 2}, {"emphasis": "None"}):
        with options(webui, **option):
            on = personalised(webui, "vitl", prompt="a (red:1.3) cat")
            assert distance(on.image, webui.txt2img(prompt="a (red:1.3) cat").image) > 0.2
            pictures.append(on.image)
    assert all(distance(a, b) > 0.05 for i, a in enumerate(pictures) for b in pictures[:i])


def test_disabled_extension_leaves_the_host_as_it_was(webui: WebUI) -> None:
    plain = webui.txt2img()
    personalised(webui, "vitl")
    assert not all("/modules/processing.py" in name for name in webui.run(METHODS))
    with options(webui, disabled_extensions=[EXTENSION]):
        webui.reload_ui()
        assert all("/modules/processing.py" in name for name in webui.run(METHODS))
        assert TITLE.lower() not in webui.get("/sdapi/v1/scripts")["txt2img"]
        assert distance(webui.txt2img().image, plain.image) == 0
    webui.reload_ui()
    assert distance(personalised(webui, "vitl").image, plain.image) > 0.2


@pytest.fixture
def first_extension(webui: WebUI) -> Iterator[str]:
    """A stand-in for the first aesthetic gradients extension, enabled while the test runs."""
    folder = webui.data_dir / "extensions" / "the-first-one"
    (folder / "scripts").mkdir(parents=True)
    (folder / "aesthetic_clip.py").write_text(FIRST_MODULE)
    (folder / "scripts" / "aesthetic.py").write_text(FIRST_SCRIPT)
    webui.reload_ui()
    yield folder.name
    shutil.rmtree(folder)
    webui.reload_ui()


def test_beside_the_first_extension_this_one_stands_back(webui: WebUI, first_extension: str, page: Any) -> None:
    log = webui.log()
    notice = f"The old extension '{first_extension}' is enabled too"
    assert f"Aesthetic Gradients: {notice}" in log
    assert all("/modules/processing.py" in name for name in webui.run(METHODS))
    mark = webui.mark()
    webui.txt2img()
    assert "the first extension's process AestheticCLIP" in webui.log(mark)
    # The API gives its arguments to the script of that title that it finds first, and this is ours.
    assert notice in refusal(webui, "vitl")
    webui.txt2img()
    accordion = page.locator(f"#script_txt2img_{TITLE.lower().replace(' ', '_')}_accordion")
    accordion.scroll_into_view_if_needed()
    assert notice in accordion.inner_text()
    assert page.locator("text=Open for Clip Aesthetic!").count() > 0


def test_after_the_first_extension_is_gone_this_one_works(webui: WebUI) -> None:
    assert not all("/modules/processing.py" in name for name in webui.run(METHODS))
    assert distance(personalised(webui, "vitl").image, webui.txt2img().image) > 0.2
