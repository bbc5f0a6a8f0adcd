"""The prompt tag ``<aesthetic:...>`` as an extra network, and its page of cards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from modules import extra_networks, shared, ui_extra_networks

from ...method.tags import TAG
from ...settings import BY_NAME
from . import options


class AestheticNetwork(extra_networks.ExtraNetwork):  # type: ignore[misc]
    """Makes the WebUI take the tag out of the prompt; ``hook`` reads it from the job's extra network data."""

    def __init__(self) -> None:
        super().__init__(TAG)

    def activate(self, p: Any, params_list: list[Any]) -> None:
        pass

    def deactivate(self, p: Any) -> None:
        pass


class AestheticPage(ui_extra_networks.ExtraNetworksPage):  # type: ignore[misc]
    """Cards; a click puts the tag into the prompt."""

    def __init__(self) -> None:
        super().__init__("Aesthetic")

    def refresh(self) -> None:
        pass

    def create_item(self, name: str, index: int | None = None, enable_filter: bool = True) -> dict[str, Any] | None:
        path = options.embeddings().paths().get(name)
        if path is None:
            return None
        stem = str(path.with_suffix(""))
        tag = f"<{TAG}:{name}:{BY_NAME['weight'].default:g}>"
        return {
            "name": name,
            "filename": str(path),
            "shorthash": "",
            "preview": self.find_preview(stem),
            "description": self.find_description(stem),
            "search_terms": [self.search_terms_from_path(str(path))],
            "prompt": ui_extra_networks.quote_js(tag),
            "local_preview": f"{stem}.preview.{shared.opts.samples_format}",
            "sort_keys": {"default": index, **self.get_sort_keys(str(path))},
        }

    def list_items(self) -> Iterator[dict[str, Any]]:
        for index, name in enumerate(options.embeddings().names()):
            if (item := self.create_item(name, index)) is not None:
                yield item

    def allowed_directories_for_previews(self) -> list[str]:
        return [os.fspath(folder) for folder in options.embeddings().folders]


def register() -> None:
    """Register tag and page (callback ``on_before_ui``; the WebUI wipes both before it)."""
    extra_networks.register_extra_network(AestheticNetwork())
    ui_extra_networks.register_page(AestheticPage())
