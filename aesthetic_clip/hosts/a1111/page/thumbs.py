"""👍 and 👎 beside the WebUI's galleries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modules import ui_components

from ....create.sources import Source
from ....pages import tab, thumbs
from ....pages.forms import Field
from .. import looking
from . import twins
from .gallery import selected_file

_GENERATING = ("txt2img", "img2img")
TABS = (*_GENERATING, "extras")
_SELECTED = "aestheticSelected"


class ThumbRows:
    """A row under each gallery, for the selected picture in it."""

    waits_for = frozenset(
        elem_id for name in TABS for elem_id in (f"{name}_gallery", f"generation_info_{name}", f"image_buttons_{name}")
    )

    def __init__(self) -> None:
        self._galleries: dict[str, Any] = {}
        self._infos: dict[str, Any] = {}
        self._twins: dict[str, twins.Twin] = {}
        self.rows: dict[str, thumbs.Thumbs] = {}

    def after_component(self, component: Any, elem_id: str) -> None:
        """Told of each component that it waits for, right after it was made."""
        for name in TABS:
            if elem_id == f"{name}_gallery":
                self._galleries[name] = component
            elif elem_id == f"generation_info_{name}":
                self._infos[name] = component
            elif elem_id == f"image_buttons_{name}":
                # It has just been made, and what comes now stands under it.
                self.rows[name] = thumbs.build(_button, f"{name}_aesthetic", this=name in _GENERATING)
                if name in _GENERATING:
                    self._twins[name] = twins.build(name)

    def connect(self, built: tab.Tab, accordions: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the rows work.

        Args:
            built: whose lists of embeddings follow.
            accordions: by tab, the control of each knob by its name.
        """
        for name, row in self.rows.items():
            if name not in self._galleries:
                continue
            parts = [shown[name] for shown in (self._galleries, self._infos) if name in shown]
            picture: Field[Source] = Field(parts, selected_file)
            row.connect(looking.HOST, [picture], built.lists, accordions.get(name, {}).get("embedding"), js=_SELECTED)
        for name, twin in self._twins.items():
            if name in self._galleries and name in self._infos:
                twin.connect(self._galleries[name], self._infos[name])


def _button(text: str, elem_id: str, hint: str) -> Any:
    return ui_components.ToolButton(text, elem_id=elem_id, tooltip=hint)
