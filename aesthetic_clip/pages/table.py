"""A table whose rows are chosen by a click: filtered, sorted, and shown one page at a time.

The page keeps two texts, what is chosen and what is looked at (``page.js`` writes them); both are checked here like
anything else that a page sends, and the table is drawn for them. So a library of a thousand costs what its first page does.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import gradio as gr

from ..create.images import UnreadableImage
from ..errors import AestheticError
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json
from .forms import Field, checked_text, refused
from .index import file_url
from .markup import Markup, html, joined
from .picker import HIDDEN

ROWS = 25
_LONGEST_FILTER = 200
_LARGEST_CHOICE = 2**20
_SHOWN_NAMES = 12
_THUMBNAIL = 48
STYLE = """<style>
.aesthetic-table table {width: 100%; border-collapse: collapse}
.aesthetic-table th, .aesthetic-table td {text-align: left; padding: .25em .5em; overflow-wrap: anywhere}
.aesthetic-table tbody tr {cursor: pointer; border-top: 1px solid rgba(128, 128, 128, .3)}
.aesthetic-table tbody tr:hover {background: rgba(128, 128, 128, .15)}
.aesthetic-table tbody tr.aesthetic-is-chosen {background: rgba(100, 130, 255, .25)}
.aesthetic-table button[role=checkbox] {font-size: 1.4em; line-height: 1}
.aesthetic-table button[role=checkbox]::before {content: "☐"}
.aesthetic-table button[role=checkbox][aria-checked=true]::before {content: "☑"}
.aesthetic-table th button {font-weight: bold; text-decoration: underline dotted}
.aesthetic-table nav {display: flex; gap: 1em; align-items: center; padding: .5em 0}
.aesthetic-table nav button {padding: .25em .75em; border: 1px solid currentColor; border-radius: 4px}
.aesthetic-table nav button[disabled] {opacity: .4}
.aesthetic-table img {max-width: none; width: 48px; height: 48px; object-fit: cover}
@media (min-width: 1000px) {.aesthetic-table .aesthetic-short {white-space: nowrap}}
@media (max-width: 640px) {.aesthetic-table .aesthetic-wide {display: none}}
</style>"""


class Column(NamedTuple):
    """A column.

    Attributes:
        key: of the rows' cells.
        title: stands above.
        kind: "wide" is left out on narrow screens, "short" stays in one line on wide ones; else neither.
    """

    key: str
    title: str
    kind: str = ""

    @property
    def css(self) -> str:
        return f"aesthetic-{self.kind}" if self.kind else ""


class Row(NamedTuple):
    """A row.

    Attributes:
        key: what is sent when it is chosen; empty for one that can't be.
        name: what people call it.
        cells: by column; what is not there is empty.
        order: what a column is sorted by, where that is not its text.
        picture: shown small.
    """

    key: str
    name: str
    cells: Mapping[str, str] = MappingProxyType({})
    order: Mapping[str, float] = MappingProxyType({})
    picture: Path | None = None

    @property
    def words(self) -> str:
        """What a filter looks in."""
        return " ".join(map(str, self.cells.values())).casefold()

    def place(self, column: str) -> tuple[float, str]:
        """Where it belongs in the order of a column."""
        return self.order.get(column, math.inf), str(self.cells.get(column, "")).casefold()


class View(NamedTuple):
    """What of a table is looked at.

    Attributes:
        words: each has to be in the row.
        sort: a column; empty for the order in which the rows come.
        page: from 1.
    """

    words: str = ""
    sort: str = ""
    descending: bool = False
    page: int = 1


_FIRST = View()


class Table(NamedTuple):
    """A table and the two texts that the page keeps for it.

    Attributes:
        elem_id: of the table; its parts' begin with it.
        columns: the first one's cells are the names.
        rows: all of them, now.
        empty: is said when there are none.
        chosen, view: fields with what is chosen, as keys, and what is looked at.
        shown: the component.
    """

    elem_id: str
    columns: Sequence[Column]
    rows: Callable[[], Sequence[Row]]
    empty: str
    chosen: Field[list[str]]
    view: Field[View]
    shown: Any

    def draw(self, view: View = _FIRST, chosen: Sequence[str] = ()) -> Markup:
        """The part of it that is looked at; of what is chosen, what is not there is not shown as chosen."""
        rows = self.rows()
        wanted = view.words.casefold().split()
        fitting = [row for row in rows if all(word in row.words for word in wanted)] if wanted else list(rows)
        if view.sort:
            fitting.sort(key=lambda row: row.place(view.sort), reverse=view.descending)
        pages = max(1, -(-len(fitting) // ROWS))
        page = min(view.page, pages)
        marked = set(chosen)
        names = [row.name for row in rows if row.key in marked]
        seen = fitting[(page - 1) * ROWS : page * ROWS]
        body = joined(self._row(row, row.key in marked) for row in seen)
        said = self.empty if not rows else "Nothing here has these words." if not fitting else ""
        return html(
            "<div class='aesthetic-table' data-aesthetic-table='{}' data-aesthetic-words='{}' data-aesthetic-sorted='{}' "
            "data-aesthetic-down='{}'>"
            "<p data-aesthetic-chosen aria-live='polite'>{}</p><table><thead><tr><th></th><th></th>{}</tr></thead>"
            "<tbody>{}</tbody></table>{}{}</div>",
            self.elem_id,
            view.words,
            view.sort,
            "1" if view.descending else "",
            _chosen_line(names),
            joined(self._title(column, view) for column in self.columns),
            body,
            html("<p>{}</p>", said) if said else "",
            _pager(page, pages, len(fitting)),
        )

    def _row(self, row: Row, marked: bool) -> Markup:
        cells = joined(
            html("<td class='{}'>{}</td>", column.css, row.cells.get(column.key, "")) for column in self.columns
        )
        if not row.key:
            return html("<tr><td></td><td></td>{}</tr>", cells)
        return html(
            "<tr data-aesthetic-row='{}' data-aesthetic-name='{}' class='{}'>"
            "<td><button type='button' role='checkbox' aria-checked='{}' aria-label='Choose {}'></button></td>"
            "<td>{}</td>{}</tr>",
            row.key,
            row.name,
            "aesthetic-is-chosen" if marked else "",
            # No <input>: gradio 6 changes attributes of what is there, which a box that was ticked no longer follows.
            "true" if marked else "false",
            row.name,
            small_picture(row.picture),
            cells,
        )

    def _title(self, column: Column, view: View) -> Markup:
        sorted_by = view.sort == column.key
        return html(
            "<th class='{}' aria-sort='{}'><button type='button' data-aesthetic-sort='{}'>{}{}</button></th>",
            column.css,
            ("descending" if view.descending else "ascending") if sorted_by else "none",
            column.key,
            column.title,
            (" ▼" if view.descending else " ▲") if sorted_by else "",
        )


def build(
    elem_id: str,
    label: str,
    columns: Sequence[Column],
    rows: Callable[[], Sequence[Row]],
    there: Callable[[str], object],
    empty: str,
) -> Table:
    """The table inside the current ``gr.Blocks``, with its filter.

    Args:
        elem_id: of the table.
        label: what its rows are, for messages.
        columns: what is shown of each.
        rows: all of them, now.
        there: raises AestheticError for a key that is none (any more).
        empty: said when there are no rows.
    """
    gr.Textbox(label=f"Filter {label}", elem_id=f"{elem_id}_filter", elem_classes=["aesthetic-filter"], max_lines=1)
    kept = {
        name: gr.Textbox("", label=f"{label}: {name}", elem_id=f"{elem_id}_{name}", elem_classes=[HIDDEN])
        for name in ("chosen", "view")
    }

    def checked_chosen(value: object) -> list[str]:
        keys = chosen_keys(label)(value)
        for key in keys:
            there(key)
        return keys

    shown = gr.HTML(elem_id=elem_id)
    sorts = [column.key for column in columns]
    table = Table(
        elem_id,
        columns,
        rows,
        empty,
        Field([kept["chosen"]], checked_chosen),
        Field([kept["view"]], lambda value: _view(label, sorts, value)),
        shown,
    )
    # Drawn for each page that is opened: at the start no file is read.
    return table


def chosen_keys(label: str) -> Callable[[object], list[str]]:
    """A check for keys as the page sends them, each once, whether or not they are in the table."""

    def check(value: object) -> list[str]:
        keys = _parsed(label, value, [])
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise refused(label, value, "some rows of the table")
        if len(set(keys)) < len(keys):
            raise AestheticError(f"{label}: one is chosen twice.", do="Choose each once.")
        return keys

    return check


def as_chosen(keys: Sequence[str]) -> str:
    """What the page keeps for them."""
    return json.dumps(list(keys)) if keys else ""


def _view(label: str, sorts: Sequence[str], value: object) -> View:
    sent = _parsed(f"The view of {label}", value, {})
    if isinstance(sent, dict):
        words, sort, page = sent.get("words", ""), sent.get("sort", ""), sent.get("page", 1)
        whole = isinstance(page, int) and not isinstance(page, bool)
        if sort in ("", *sorts) and whole and 1 <= page < 10**6:
            return View(checked_text("Filter", _LONGEST_FILTER)(words), sort, sent.get("descending") is True, page)
    raise refused(f"The view of {label}", value, "what this page sends")


def _parsed(label: str, value: object, nothing: Any) -> Any:
    if value is None or value == "":
        return nothing
    try:
        if isinstance(value, str):
            return parse_json(value.encode(), label, _LARGEST_CHOICE)
    except (UnreadableFile, UnicodeEncodeError):
        pass
    raise refused(label, value, "what this page sends")


def _chosen_line(names: Sequence[str]) -> str:
    # As page.js writes it after a click.
    if not names:
        return "Nothing is chosen: click a row, or tick several."
    more = "…" if len(names) > _SHOWN_NAMES else ""
    return f"Chosen ({len(names)}): {', '.join(names[:_SHOWN_NAMES])}{more}"


def _pager(page: int, pages: int, rows: int) -> Markup:
    if pages == 1:
        return joined([])
    return html(
        "<nav aria-label='Pages'><button type='button' data-aesthetic-page='{:d}'{}>‹ Previous</button>"
        "<span>{:d} to {:d} of {:d}</span><button type='button' data-aesthetic-page='{:d}'{}>Next ›</button></nav>",
        page - 1,
        html(" disabled") if page == 1 else "",
        (page - 1) * ROWS + 1,
        min(page * ROWS, rows),
        rows,
        page + 1,
        html(" disabled") if page == pages else "",
    )


def small_picture(path: Path | None) -> Markup:
    """A thumbnail as HTML; nothing if there is no picture, and a question mark if it can't be read."""
    if path is None:
        return joined([])
    try:
        return html("<img alt='' src='{}'>", file_url(path, _THUMBNAIL))
    except UnreadableImage as fault:
        return html("<span title='{}'>?</span>", fault.reason)
    except OSError:  # gone since it was listed
        return html("<span title='it is not there any more'>?</span>")
