"""The prompt tag ``<aesthetic:...>`` as an extra network, and its page of cards."""

from __future__ import annotations

import contextlib
import functools
import html
import os
from collections.abc import Iterator, Sequence
from typing import Any

from modules import extra_networks, shared, ui_extra_networks

from ....embeddings.fitting import misfit
from ....embeddings.preferences import notes, preferred
from ....embeddings.scan import Entry, is_text
from ....errors import AestheticError
from ....method.tags import TAG, tag_text
from ....settings import BY_NAME
from ....spaces import Space
from .. import options
from ..families.encoders import known_spaces
from .card_editor import CardEditor
from .shelf import INDEX

_CARD_SIDE = 256


class AestheticNetwork(extra_networks.ExtraNetwork):  # type: ignore[misc]
    """Makes the WebUI take the tag out of the prompt; ``hook`` reads it from the job's extra network data."""

    def __init__(self) -> None:
        super().__init__(TAG)

    def activate(self, p: Any, params_list: list[Any]) -> None:
        pass

    def deactivate(self, p: Any) -> None:
        pass


class AestheticPage(ui_extra_networks.ExtraNetworksPage):  # type: ignore[misc]
    """Cards; a click puts the tag into the prompt.

    The WebUI walks the folders by itself to draw its buttons and its tree of folders, where one that
    can't be read takes the page away, and writes names into HTML as they are. So both are drawn
    here, from the embeddings that are listed.
    """

    def __init__(self) -> None:
        super().__init__("Aesthetic")

    def refresh(self) -> None:
        pass

    def create_item(self, name: str, index: int | None = None, enable_filter: bool = True) -> dict[str, Any] | None:
        try:
            entry = options.embeddings().entry(name)
        except AestheticError:
            return None
        return self._item(entry, index, known_spaces(), options.hide_misfits() and enable_filter)

    def list_items(self) -> Iterator[dict[str, Any]]:
        spaces, hiding = known_spaces(), options.hide_misfits()
        for index, entry in enumerate(options.embeddings().entries()):
            if (item := self._item(entry, index, spaces, hiding)) is not None:
                yield item

    def read_user_metadata(self, item: dict[str, Any], use_cache: bool = True) -> None:
        """What stands beside an embedding, when the WebUI wants to know it anew."""
        with contextlib.suppress(AestheticError):
            entry = options.embeddings().entry(item["name"])
            item.update(self._written(entry, misfit(entry, known_spaces())))

    def _item(
        self, entry: Entry, index: int | None, spaces: Sequence[Space], hiding: bool = False
    ) -> dict[str, Any] | None:
        """A card; None if there is none.

        Args:
            spaces: the checkpoint's.
            hiding: there is none for what does not fit it.
        """
        why = misfit(entry, spaces)
        if why and hiding:
            return None
        stem = _stem(entry)
        written = self._written(entry, why)
        values = preferred(written["user_metadata"])
        tag = tag_text(entry.name, knobs=values) if values else tag_text(entry.name, BY_NAME["weight"].default)
        try:
            return {
                "name": entry.name,
                "filename": entry.file,
                "shorthash": "",
                "preview": self.find_preview(stem) or INDEX.latest_liked(entry, _CARD_SIDE) or None,
                # By name as well: what a folder's button searches for.
                "search_terms": [self.search_terms_from_path(entry.file), f"/{entry.name}"],
                "prompt": ui_extra_networks.quote_js(tag),
                "local_preview": f"{stem}.preview.{shared.opts.samples_format}",
                "sort_keys": {"default": index, **self.get_sort_keys(entry.file)},
                **written,
            }
        except OSError:  # its folder is gone since it was listed
            return None

    def _written(self, entry: Entry, why: str) -> dict[str, Any]:
        """What people wrote on a card; before its description stands why it does not fit."""
        found = notes(entry)
        written = found.get("description")
        said = written if isinstance(written, str) else self.find_description(_stem(entry)) or ""
        return {
            # Never nothing: the WebUI's editor would take what the card says for what people wrote.
            "user_metadata": {**found, "description": said},
            "description": "\n".join(filter(None, [why and f"⚠ {why}", said])),
        }

    def create_user_metadata_editor(self, ui: Any, tabname: str) -> Any:
        return CardEditor(ui, tabname, self)

    def create_item_html(self, tabname: str, item: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        # The WebUI's templates take these two as HTML.
        terms = [html.escape(term) for term in item.get("search_terms", [])]
        escaped = {**item, "filename": html.escape(item["filename"]), "search_terms": terms}
        return super().create_item_html(tabname, escaped, *args, **kwargs)

    def create_tree_file_item_html(self, tabname: str, file_path: str, item: dict[str, Any]) -> Any:
        escaped = {**item, "name": html.escape(item["name"])}
        return super().create_tree_file_item_html(tabname, html.escape(file_path), escaped)

    def create_tree_view_html(self, tabname: str) -> str:
        """The embeddings in their folders (WebUI 1.9 and later)."""
        root: dict[str, Any] = {}
        for item in self.items.values():
            *folders, name = item["name"].split("/")
            functools.reduce(lambda place, folder: place.setdefault(f"{folder}/", {}), folders, root)[name] = item

        def drawn(place: dict[str, Any], prefix: str) -> str:
            rows = {True: "", False: ""}
            for key in sorted(place, key=shared.natural_sort_key):
                is_folder = key.endswith("/")
                if is_folder:
                    below = drawn(place[key], prefix + key)
                    rows[True] += self.create_tree_dir_item_html(tabname, html.escape(prefix + key[:-1]), below) or ""
                else:
                    rows[False] += self.create_tree_file_item_html(tabname, prefix + key, place[key])
            return rows[True] + rows[False]

        return f"<ul class='tree-list tree-list--tree'>{drawn(root, '')}</ul>"

    def create_dirs_view_html(self, tabname: str) -> str:
        """A button for each folder that has embeddings in it, and one for all (WebUI 1.10)."""
        parts = [item["name"].split("/")[:-1] for item in self.items.values()]
        folders = {"/".join(part[:depth]) + "/" for part in parts for depth in range(1, len(part) + 1)}
        names = ["", *sorted(folders, key=shared.natural_sort_key)] if folders else []
        click = html.escape(f'extraNetworksSearchButton("{tabname}", "{self.extra_networks_tabname}", event)')
        return "".join(
            f"<button class='lg secondary gradio-button custom-button{'' if name else ' search-all'}' "
            f"onclick='{click}'>{html.escape(name or 'all')}</button>"
            for name in names
        )

    def allowed_directories_for_previews(self) -> list[str]:
        # The WebUI shows them on its page, so they have to be texts.
        return [os.fspath(folder) for folder in options.embeddings().folders if is_text(os.fspath(folder))]


def _stem(entry: Entry) -> str:
    return entry.file[: -len(entry.path.suffix)]


def register() -> None:
    """Register tag and page (callback ``on_before_ui``; the WebUI wipes both before it)."""
    extra_networks.register_extra_network(AestheticNetwork())
    ui_extra_networks.register_page(AestheticPage())
