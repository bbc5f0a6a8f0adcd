"""Tables whose rows can be chosen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import gradio as gr
import pytest

from aesthetic_clip.errors import AestheticError
from aesthetic_clip.pages import table
from aesthetic_clip.pages.table import ROWS, Column, Row, Table, View

COLUMNS = (Column("name", "Name"), Column("images", "Pictures"), Column("note", "Note", "wide"))


def rows(number: int) -> list[Row]:
    return [
        Row(f"key {n}", f"row {n:03}", {"name": f"row {n:03}", "images": str(n)}, {"images": float(n)})
        for n in range(number)
    ]


def built(all_rows: list[Row]) -> Table:
    def there(key: str) -> None:
        if key not in {row.key for row in all_rows}:
            raise AestheticError(f"There is no {key}.")

    with gr.Blocks():
        return table.build("shelf", "Things", COLUMNS, lambda: all_rows, there, "There is nothing.")


def shown(html: str) -> list[str]:
    return re.findall(r"data-aesthetic-row='([^']*)'", html)


@pytest.mark.parametrize(("page", "first", "last"), [(1, 0, ROWS - 1), (2, ROWS, 2 * ROWS - 1), (99, 2 * ROWS, 59)])
def test_a_page_at_a_time_is_drawn(page: int, first: int, last: int) -> None:
    drawn = built(rows(60)).draw(View(page=page))
    assert shown(drawn)[:: len(shown(drawn)) - 1] == [f"key {first}", f"key {last}"]
    assert f"{first + 1} to {last + 1} of 60" in drawn


def test_numbers_are_sorted_as_such_and_what_has_none_comes_last() -> None:
    things = [Row("none", "none"), *rows(12)]
    assert shown(built(things).draw(View(sort="images")))[-3:] == ["key 10", "key 11", "none"]


def test_a_filter_wants_every_word_in_any_case() -> None:
    assert shown(built(rows(60)).draw(View(words="ROW 017"))) == ["key 17"]
    assert "Nothing here has these words." in built(rows(3)).draw(View(words="sea"))
    assert "There is nothing." in built([]).draw()


def test_chosen_rows_are_marked_and_named_wherever_they_are() -> None:
    drawn = built(rows(60)).draw(View(page=2), ["key 30", "key 2", "gone"])
    assert drawn.count("aria-checked='true'") == 1
    assert "Chosen (2): row 002, row 030" in drawn


@pytest.mark.parametrize("sent", [None, "", "[]"])
def test_nothing_chosen(sent: object) -> None:
    assert built(rows(1)).chosen.check(sent) == []


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ('["key 0", "key 0"]', "chosen twice"),
        ('["key 7"]', "There is no key 7."),
        ('{"a": 1}', "some rows of the table"),
        ("[1]", "some rows of the table"),
        ("[" * 5000, "what this page sends"),
        ("\udce9", "what this page sends"),
        (["key 0"], "what this page sends"),
    ],
)
def test_what_is_no_choice_is_refused(sent: object, said: str) -> None:
    with pytest.raises(AestheticError, match=said):
        built(rows(1)).chosen.check(sent)


@pytest.mark.parametrize(
    "sent",
    [
        {"page": 0},
        {"page": True},
        {"page": 1.5},
        {"page": 10**400},
        {"sort": "path"},
        {"sort": ["name"]},
        {"words": "x" * 1000},
        {"words": 1},
        [],
        "name",
    ],
)
def test_what_is_no_view_is_refused(sent: object) -> None:
    with pytest.raises(AestheticError):
        built(rows(1)).view.check(json.dumps(sent))


def test_a_picture_that_can_not_be_read_is_a_question_mark(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    for path in (broken, tmp_path / "gone.png"):
        assert ">?</span>" in table.small_picture(path)
