"""What is known of an embedding beside its vectors."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from aesthetic_clip.embeddings.embedding import load
from aesthetic_clip.embeddings.metadata import LONGEST_VALUE, MOST_ENTRIES, Metadata, source_hash


def test_what_a_mean_is_known_by_survives_as_text() -> None:
    made = Metadata.of_mean(
        images=7, raw=True, sources="s", model_ids={"ViT-L/14": "m"}, mean_cosine=0.5, complete=False, note=" mine "
    )
    again = Metadata(dict(made))
    assert again == made == dict(made)
    assert (again.image_count, again.raw, again.source_hash) == (7, True, "s")
    assert (again.mean_cosine, again.complete, again.note) == (0.5, False, "mine")
    assert again.model_ids == {"ViT-L/14": "m"}
    assert again.created.endswith("+00:00")


def test_what_others_wrote_is_kept() -> None:
    assert Metadata({"author": "me"}).with_note("n") == {"author": "me", "note": "n"}


@pytest.mark.parametrize(
    "text",
    [
        {"image_count": "1e30"},
        {"image_count": "-1"},
        {"image_count": "9" * 5000},
        {"mean_cosine": "nan"},
        {"mean_cosine": "x"},
        {"model_id": "[" * 5000},
        {"model_id": "[1]"},
        {"model_id": '{"a": 1}'},
        {"raw": "yes"},
    ],
)
def test_typed_entries_that_are_none_are_left_out(text: dict[str, str]) -> None:
    about = Metadata(text)
    assert (about.image_count, about.mean_cosine, about.raw, about.model_ids) == (None, None, None, {})


@pytest.mark.parametrize("harm", ["\x1b[2J", "\x9b31m", "\x07", "\x7f", "\u202egpj", "\ud800", "\u2028", "\0", "\r"])
def test_nothing_in_it_acts_on_what_shows_it(tmp_path: Path, harm: str) -> None:
    about = Metadata({f"k{harm}": f"a{harm}b\nc\td"})
    ((key, value),) = about.items()
    assert harm not in key + value
    assert (key + value).replace("\n", "").replace("\t", "").isprintable()
    (key + value).encode()
    ((key, value),) = about.shown.items()
    assert (key + value).isprintable()


@given(st.dictionaries(st.text(), st.text()))
def test_any_text_becomes_harmless_and_stays_as_it_is_then(text: dict[str, str]) -> None:
    about = Metadata(text)
    assert Metadata(about) == about
    "".join(about.values()).encode()


def test_it_has_bounds(tmp_path: Path) -> None:
    vector = {"ViT-L/14": torch.ones(768)}
    many = {str(number): "x" * 20_000 for number in range(50)}
    safetensors.torch.save_file(vector, tmp_path / "a.safetensors", many)
    about = load(tmp_path / "a.safetensors").metadata
    assert {len(value) for value in about.values()} == {LONGEST_VALUE}
    assert len(Metadata({str(number): "" for number in range(1000)})) == MOST_ENTRIES


def test_a_set_has_one_hash() -> None:
    assert source_hash("abc") == source_hash("cba") != source_hash("abcc")
    assert len(source_hash([])) == len(source_hash(["\udcff"])) == 64
