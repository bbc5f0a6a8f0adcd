"""The tab "Create aesthetic embedding" in the WebUI."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import torch
from modules import call_queue, devices, scripts, shared, ui_components
from PIL import Image
from torch import Tensor

from ...errors import AestheticError, Interrupted
from ...pages import tab
from ...settings import KNOBS
from ...spaces import Space
from . import options
from .encoders import host_encoders, model_spaces, text_ids

try:
    from modules.infotext_utils import image_from_url_text
except ImportError:  # until 1.7
    from modules.generation_parameters_copypaste import image_from_url_text

if TYPE_CHECKING:
    from ...clip.image_encoder import ImageEncoder

SEND_BESIDE = {f"{name}_send_to_extras": name for name in ("txt2img", "img2img")}
_GALLERIES = {f"{name}_gallery": name for name in ("txt2img", "img2img")}
_INFOS = {f"generation_info_{name}": name for name in ("txt2img", "img2img")}


class SendButtons:
    """Buttons beside the galleries of txt2img and img2img that send their pictures to the tab."""

    def __init__(self) -> None:
        self.galleries: dict[str, Any] = {}
        self.infos: dict[str, Any] = {}
        self.buttons: dict[str, Any] = {}

    def after_component(self, component: Any, elem_id: str | None = None, **_: Any) -> None:
        """Callback ``on_after_component``."""
        if elem_id in _GALLERIES:
            self.galleries[_GALLERIES[elem_id]] = component
        if elem_id in _INFOS:
            self.infos[_INFOS[elem_id]] = component
        if elem_id in SEND_BESIDE:
            name = SEND_BESIDE[elem_id]
            self.buttons[name] = ui_components.ToolButton(
                "❤️", elem_id=f"{name}_send_to_aesthetic", tooltip="Send the pictures to Create aesthetic embedding."
            )

    def connect(self, built: tab.Tab) -> None:
        """Make the buttons fill the tab's gallery and show the tab."""
        for name, button in self.buttons.items():
            if name in self.galleries and name in self.infos:
                button.click(
                    fn=_sent,
                    inputs=[built.sent, self.galleries[name], self.infos[name]],
                    outputs=[built.sent, built.sent_accordion],
                ).then(fn=None, inputs=[], outputs=[], _js="aestheticShowTab")


def _sent(before: Any, items: Any, info: str | None) -> tuple[list[Image.Image], Any]:
    """What was sent before and the pictures of a gallery, without the grid that may precede them."""
    try:
        first = int(json.loads(info or "{}").get("index_of_first_image", 0))
    except (ValueError, TypeError, AttributeError):
        first = 0
    return [_picture(item) for item in [*(before or []), *(items or [])[first:]]], gr.update(open=True)


def _picture(item: Any) -> Image.Image:
    picture = image_from_url_text(item)
    if picture is None:
        raise gr.Error("A picture of the gallery can't be read. Send it again.")
    return picture


def build(send: SendButtons) -> list[tuple[Any, str, str]]:
    """The tab, for the callback ``on_ui_tabs``."""
    with gr.Blocks(analytics_enabled=False) as page:
        built = tab.build(_host())
        send.connect(built)
        # What the page is built with stays as it was at the start of the WebUI.
        page.load(fn=built.fresh_lists, inputs=[], outputs=built.lists, queue=False)
    return [(page, tab.TITLE, tab.ID)]


class _Jobs:
    """The tab's jobs in the WebUI's queue: its Interrupt is for them alone, not for a generation before them."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._running = False

    def make(self, run: tab.Job, nothing: list[Any]) -> tab.Job:
        def begin(task: str, *values: Any) -> Any:
            if task not in self._waiting:
                shared.state.interrupt()
            self._waiting.discard(task)
            self._running = True
            try:
                return run(task, *values)
            finally:
                self._running = False

        queued = call_queue.wrap_gradio_gpu_call(begin, extra_outputs=nothing)

        def job(task: str, *values: Any) -> Any:
            self._waiting.add(task)
            return queued(task, *values)

        return job

    def interrupt(self) -> None:
        self._waiting.clear()
        if self._running:
            shared.state.interrupt()


def _host() -> tab.TabHost:
    jobs = _Jobs()
    return tab.TabHost(
        library=options.embeddings,
        spaces=lambda: model_spaces(shared.sd_model),
        encoder=encoder,
        text_features=_text_features,
        picture=_picture,
        job=jobs.make,
        progress=_progress,
        stopped=lambda: bool(shared.state.interrupted),
        interrupt=jobs.interrupt,
        submit_js="aestheticCreate",
        folders_allowed=not shared.cmd_opts.hide_ui_dir_config,
        dropdowns=_dropdowns(),
    )


def _dropdowns() -> list[Any]:
    """The embedding dropdowns of txt2img and img2img on this page."""
    runners = (scripts.scripts_txt2img, scripts.scripts_img2img)
    return [
        control
        for runner in runners
        for script in runner.alwayson_scripts
        if script.controls and Path(script.filename).parents[1] == options.EXTENSION
        for control, knob in zip(script.controls, KNOBS)
        if knob.names_embedding
    ]


def _progress(done: int, total: int, line: str) -> None:
    state = shared.state
    state.job_count, state.job_no, state.textinfo = total, done, line
    if not done:  # loading the encoder would count as slow pictures in the time left
        state.time_start = time.time()


def encoder(space: Space, download: bool) -> ImageEncoder:
    from ...clip.image_encoder import load_encoder

    def allow(size: int, what: str) -> bool:
        if not download:
            raise AestheticError(
                f"The image encoder for {space.name} is not on this machine.",
                f"It would have to be downloaded: {what}.",
                "Tick 'Allow to download a missing image encoder' and try again, or give its path in the settings.",
            )
        return True

    def progress(done: int, total: int, line: str) -> None:
        if shared.state.interrupted:
            raise Interrupted
        _progress(done, total, line)

    return load_encoder(
        space,
        options.encoder_path(space),
        [options.models_folder(), *options.clip_folders()],
        devices.device,
        allow,
        progress,
    )


def _text_features(text: str) -> dict[Space, Tensor]:
    with call_queue.queue_lock, torch.no_grad(), devices.autocast():
        features = {}
        for host in host_encoders(shared.sd_model):
            ids = text_ids(host, text)
            host.wrapper.hijack.fixes = None
            host.wrapper.encode_with_transformers(ids.unsqueeze(0))
            features[host.encoder.space] = host.encoder.text_feature(ids)
        return features
