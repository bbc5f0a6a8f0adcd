"""The tab "Create aesthetic embedding" in the WebUI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio.context import Context
from modules import call_queue, devices, scripts, ui_components
from PIL import Image
from torch import Tensor

from ....create.limits import MAX_SENT
from ....errors import AestheticError
from ....pages import picker, presets, tab, thumbs, trying
from ....printable import printable
from ....settings import KNOBS
from ....spaces import Space
from .. import options
from ..families.encoders import host_encoders, loaded_model, model_spaces
from ..image_encoders import image_encoder
from ..jobs import Jobs, show_progress
from ..remedies import REMEDIES
from .gallery import first_picture, gallery_file
from .shelf import INDEX
from .thumbs import ThumbRows
from .trying import HOST as TRY_HOST
from .trying import Fields

SEND_BESIDE = {f"{name}_send_to_extras": name for name in ("txt2img", "img2img")}
_GALLERIES = {f"{name}_gallery": name for name in ("txt2img", "img2img")}
_INFOS = {f"generation_info_{name}": name for name in ("txt2img", "img2img")}


class SendButtons:
    """Buttons beside the galleries of txt2img and img2img that send their pictures to the tab."""

    waits_for = frozenset({*_GALLERIES, *_INFOS, *SEND_BESIDE})

    def __init__(self) -> None:
        self.galleries: dict[str, Any] = {}
        self.infos: dict[str, Any] = {}
        self.buttons: dict[str, Any] = {}

    def after_component(self, component: Any, elem_id: str) -> None:
        """Told of each component that it waits for, right after it was made."""
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
                    preprocess=False,
                ).then(fn=None, inputs=[], outputs=[], _js="aestheticShowTab")


def _sent(before: object, items: object, info: object) -> Any:
    """What was sent before and the pictures of a gallery, without the grid that may precede them."""
    kept, new = (item if isinstance(item, list) else [] for item in (before, items))
    try:
        pictures = [str(gallery_file(item)) for item in [*kept, *new[first_picture(info) :]][:MAX_SENT]]
    except AestheticError as error:
        raise gr.Error(printable(error.told(REMEDIES))) from error
    return pictures, gr.update(open=True)


class Page:
    """What the WebUI takes for a tab's ``gr.Blocks``; it is built where it is rendered, in the WebUI's own.

    A ``gr.Blocks`` of its own would make a web application that nobody asks for, 15 ms of the start.

    Attributes:
        children: what is in it, for the WebUI's table of stored defaults.
    """

    def __init__(self, fill: Callable[[Any], None]) -> None:
        self._fill = fill
        self.children: list[Any] = []

    def render(self) -> None:
        place = Context.block
        before = len(place.children)
        self._fill(Context.root_block)
        self.children = place.children[before:]


def build(send: SendButtons, rows: ThumbRows, fields: Fields) -> list[tuple[Any, str, str]]:
    """The tab, for the callback ``on_ui_tabs``."""

    def fill(page: Any) -> None:
        own = _scripts()
        accordions = {name: script.controls for name, script in own.items()}
        lists = [
            (c, knob) for controls in accordions.values() for c, knob in zip(controls, KNOBS) if knob.names_embedding
        ]
        built = tab.build(_host(), picker.lists(INDEX, lists))
        send.connect(built)
        rows.connect(
            built, {name: dict(zip((knob.name for knob in KNOBS), controls)) for name, controls in accordions.items()}
        )
        offers = [(offer, True) for offer in [built.library.trying] if offer]
        offers += [(script.trying, False) for script in own.values() if script.trying]
        if "txt2img" in accordions:
            chooser = next(c for c, knob in zip(accordions["txt2img"], KNOBS) if knob.name == "embedding")
            fields.connect(built, [offer for offer, _ in offers], chooser)
            built.library.paint(tab.Painter(fields.found, _paint))
        trying.follow(page, TRY_HOST, offers, queue=False)
        # What the page is built with stays as it was at the start of the WebUI.
        built.follow(page, queue=False)
        for controls in accordions.values():
            presets.begin_with(page, controls, options.first_preset, queue=False)
        chosen = [control for control, knob in lists if knob.name == "embedding"]
        thumbs.follow(page, options.embeddings, list(rows.rows.values()), chosen, options.first_embedding, queue=False)

    return [(Page(fill), tab.TITLE, tab.ID)]


def _paint(name: str, asked: Mapping[str, object]) -> Image.Image:
    # Here, so that the WebUI starts without it.
    from .painting import paint

    return paint(name, asked)


def _host() -> tab.TabHost:
    jobs = Jobs()
    return tab.TabHost(
        library=options.embeddings,
        spaces=lambda: model_spaces(loaded_model()),
        encoder=lambda space, download: image_encoder(space, download, show_progress),
        text_features=_text_features,
        picture=gallery_file,
        job=jobs.make,
        progress=show_progress,
        interrupt=jobs.interrupt,
        submit_js="aestheticCreate",
        folders_allowed=options.paths_allowed(),
        remedies=REMEDIES,
        demonstration=True,
        has_cards=True,
    )


def _scripts() -> dict[str, Any]:
    """This extension's script of txt2img and of img2img on this page."""
    return {
        name: script
        for name, runner in (("txt2img", scripts.scripts_txt2img), ("img2img", scripts.scripts_img2img))
        for script in runner.alwayson_scripts
        if script.controls and Path(script.filename).parents[1] == options.EXTENSION
    }


def _text_features(text: str) -> dict[Space, Tensor]:
    from ....method.session import text_feature

    with call_queue.queue_lock, torch.no_grad(), devices.autocast():
        features = {}
        for host in host_encoders(loaded_model()):
            host.put_fixes(None)
            host.load()
            # As ever first: it loads the model to its device.
            ids = host.token_ids("")
            ids = torch.nn.functional.pad(ids, (0, 77 - len(ids)), value=host.reader.id_end)
            getattr(host.owner, host.encoding)(ids.unsqueeze(0))
            features[host.space] = text_feature(host, text)
        return features
