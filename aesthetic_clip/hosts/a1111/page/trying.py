"""The demonstration in the WebUI: put where it finds it, loaded, and its picture's parameters filled in."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modules import call_queue, paths, sd_models, shared

from ....demo import GUIDANCE_SCALE, SAMPLING_STEPS, export
from ....pages import tab
from ....pages.trying import Filled, TryHost, Trying
from .. import options
from ..remedies import REMEDIES

if TYPE_CHECKING:
    from ....demo.trial import Trial

_FIELDS = ("prompt", "neg_prompt", "width", "height", "cfg_scale", "steps", "sampling")


class Fields:
    """The fields of txt2img that the demonstration fills in.

    Attributes:
        found: the components, by name.
    """

    waits_for = frozenset(f"txt2img_{name}" for name in _FIELDS)

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def after_component(self, component: Any, elem_id: str) -> None:
        """Told of each component that it waits for, right after it was made."""
        self.found.setdefault(elem_id.removeprefix("txt2img_"), component)

    def connect(self, built: tab.Tab, offers: Sequence[Trying], chooser: Any) -> None:
        """Make the buttons of all offers on the page work.

        Args:
            built: whose lists and tables follow.
            offers: the parts.
            chooser: txt2img's control of the embedding.
        """
        filled = Filled(self.found, _values, chooser, _first)
        for offer in offers:
            others = [other for other in offers if other is not offer]
            offer.connect(HOST, built.lists, built.library.tables, built.library.drawn, filled, others)


def _values() -> Mapping[str, object]:
    # Here, so that the WebUI starts without it.
    from ....demo import trial

    size = trial.SIZE
    values = (trial.PROMPT, "", size, size, GUIDANCE_SCALE, SAMPLING_STEPS, trial.SAMPLER)
    return dict(zip(_FIELDS, values))


def _first() -> str:
    from ....demo import trial

    return trial.EMBEDDING


def refused() -> str:
    """Why the demonstration can't be tried here: hosts with a loader of their own know full-sized models only."""
    if importlib.util.find_spec("modules_forge") is None:
        return ""
    return (
        "The demonstration's checkpoint is smaller than any that this WebUI's loader knows. "
        "AUTOMATIC1111's WebUI loads it, and so does the local page: python -m aesthetic_clip ui"
    )


def _folder() -> Path:
    """Where checkpoints go."""
    return Path(paths.models_path) / "Stable-diffusion"


def _trial() -> Trial:
    from ....demo.trial import Trial

    return Trial(_folder(), options.embeddings())


def _put() -> Sequence[Path]:
    with call_queue.queue_lock:  # what draws and encodes its pictures would slow a generation down
        files = _trial().put()
    sd_models.list_models()
    return files


def _take_away() -> Sequence[Path]:
    gone = _trial().take_away()
    sd_models.list_models()
    return gone


def _checkpoint() -> tuple[str, str]:
    file = export.files(_folder())[0]
    own = (info.title for info in sd_models.checkpoints_list.values() if Path(info.filename) == file)
    return str(getattr(shared.opts, "sd_model_checkpoint", "") or ""), next(own, file.name)


def _other() -> str:
    own = export.files(_folder())[0]
    others = (info.title for info in sd_models.checkpoints_list.values() if Path(info.filename) != own)
    return next(others, "")


HOST = TryHost(
    library=options.embeddings,
    refused=refused,
    there=lambda: export.files(_folder())[0].is_file(),
    put=_put,
    take_away=_take_away,
    checkpoint=_checkpoint,
    other=_other,
    load_js="aestheticLoad",
    remedies=REMEDIES,
)
"""What pages need to offer it."""
