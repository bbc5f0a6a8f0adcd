"""The user's presets: one file, whatever stands in it, whoever writes it."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aesthetic_clip.embeddings.presets import BROUGHT, FILE, PresetFile, offer
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.tags import parse_tag
from aesthetic_clip.settings import KNOBS, PRESETS, Settings, pasted

MINE = Settings(weight=0.7, steps=9, lr=2e-4, text="a sea", centre="Automatic", strength=0.35, slerp=True)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[PresetFile]:
    """Offered as a program does it."""
    there = PresetFile(lambda: tmp_path / "embeddings")
    before = PRESETS.own
    offer(there)
    yield there
    PRESETS.own = before


def test_a_saved_preset_is_known_wherever_a_built_in_one_is(file: PresetFile) -> None:
    assert file.save(" Meine Farben ", MINE) == "Meine Farben"
    wanted = MINE.replaced({"embedding": "sea", "preset": "Meine Farben"})
    assert list(PRESETS) == ["Custom", "Subtle", "Clear", "Strong", "Paper", "Meine Farben"]
    assert Settings.from_mapping({"embedding": "sea", "preset": "meine farben"}) == wanted
    by_place = {"embedding": "sea", "preset": "Meine Farben"}
    assert Settings.from_values([by_place.get(knob.name) for knob in KNOBS]) == wanted
    assert parse_tag(["sea", "meine farben"]).knobs == {"preset": "Meine Farben"}
    assert Settings(**pasted(wanted.infotext())) == wanted
    # Whoever asks next, in another program.
    assert PresetFile(lambda: file.path.parent).read() == file.read()


def test_every_knob_but_the_embedding_is_kept(file: PresetFile) -> None:
    file.save("one", Settings(embedding="sea"))
    assert set(BROUGHT) == {knob.name for knob in KNOBS} - {"embedding", "preset"}
    assert file.read()["one"] == {name: getattr(Settings(), name) for name in BROUGHT}


def test_saving_again_replaces_and_deleting_takes_away(file: PresetFile) -> None:
    file.save("one", MINE)
    file.save("two", MINE)
    file.save("ONE", Settings())
    assert set(file.read()) == {"two", "ONE"} and file.read()["ONE"]["weight"] == 0.9
    assert file.delete("one") == "ONE"
    assert set(file.read()) == {"two"}
    with pytest.raises(AestheticError, match="There is none of that name"):
        file.delete("one")


def test_a_preset_that_is_gone_leaves_the_values_of_a_picture(file: PresetFile) -> None:
    file.save("one", MINE)
    written = Settings.from_mapping({"embedding": "sea", "preset": "one"}).infotext()
    assert written["Aesthetic preset"] == "one"
    file.delete("one")
    assert Settings(**pasted(written)) == MINE.replaced({"embedding": "sea"})


def test_a_preset_that_was_changed_since_leaves_the_values_of_a_picture(file: PresetFile) -> None:
    file.save("one", MINE)
    written = Settings.from_mapping({"preset": "one"}).infotext()
    file.save("one", MINE.replaced({"steps": 3}))
    assert Settings(**pasted(written)) == MINE


@pytest.mark.parametrize(
    "name",
    ["", " ", "Clear", "custom", "7 seas", "a:b", "a<b", "a=b", "a,b", "a\nb", "../a", "a/b", "x" * 41, "off", "Auto"],
)
def test_names_that_something_could_not_carry_are_refused(file: PresetFile, name: str) -> None:
    with pytest.raises(AestheticError, match="can't be called"):
        file.save(name, MINE)
    assert not file.path.exists()


def test_a_built_in_one_can_not_be_deleted(file: PresetFile) -> None:
    with pytest.raises(AestheticError, match="comes with the program"):
        file.delete("clear")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'"presets"',
        b"\xff\xfe\x00",
        b'{"presets": []}',
        b"[" * 100_000,
        b'{"presets": {"a": {}, "a": {}}}',
        b'{"presets": ' + b"1" * 3_000_000 + b"}",
        json.dumps({"presets": {f"p{i}": {} for i in range(501)}}).encode(),
    ],
)
def test_a_damaged_file_is_one_line_and_is_not_written_over(
    file: PresetFile, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert file.read() == file.read() == {}
    assert len(caplog.records) == 1 and FILE in caplog.text
    assert Settings.from_mapping({"preset": "clear"}).preset == "Clear"
    for change in (lambda: file.save("one", MINE), lambda: file.delete("one")):
        with pytest.raises(AestheticError, match="Repair or remove"):
            change()
    assert file.path.read_bytes() == content


@pytest.mark.parametrize(
    "values",
    [None, [], 3, "x", {"steps": "many"}, {"steps": 51}, {"embedding": "sea"}, {"preset": "Clear"}, {"stepz": 3}],
)
def test_a_preset_that_can_not_be_used_is_left_out_and_the_others_stay(
    file: PresetFile, values: Any, caplog: pytest.LogCaptureFixture
) -> None:
    file.path.parent.mkdir()
    there = {"bad \x1b[31m": {}, "bad": values, "good": {"steps": 7}, "Clear": {"steps": 1}}
    file.path.write_text(json.dumps({"presets": there}), encoding="utf-8")
    assert file.read() == {"good": {"steps": 7}}
    assert "preset 'bad'" in caplog.text and "\x1b" not in caplog.text
    assert Settings.from_mapping({"preset": "clear"}).steps == PRESETS["Clear"]["steps"]
    # What could not be used is kept for the program that can.
    file.save("two", MINE)
    assert set(json.loads(file.path.read_text(encoding="utf-8"))["presets"]) == {*there, "two"}


def test_a_hand_written_preset_may_set_a_part_only(file: PresetFile) -> None:
    file.path.parent.mkdir()
    file.path.write_text('{"presets": {"weaker": {"strength": 0.2, "centre": "auto"}}}', encoding="utf-8")
    settings = Settings(steps=30).replaced({"preset": "weaker"})
    assert (settings.steps, settings.strength, settings.centre) == (30, 0.2, "Automatic")


def test_a_file_that_changes_is_read_again_and_one_that_does_not_is_not(
    file: PresetFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save("one", MINE)
    old = time.time() - 60
    monkeypatch.setattr(time, "time_ns", lambda: int((old + 120) * 1e9))
    assert file.read() is file.read()
    file.path.write_text('{"presets": {"two": {}}}', encoding="utf-8")
    assert set(file.read()) == {"two"}


def test_many_writers_lose_nothing(file: PresetFile) -> None:
    threads = [threading.Thread(target=file.save, args=(f"p{i}", MINE)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(file.read()) == {f"p{i}" for i in range(12)}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user who may not write everywhere")
def test_a_folder_that_can_not_be_written(file: PresetFile) -> None:
    file.path.parent.mkdir(mode=0o500)
    with pytest.raises(AestheticError, match="can't be written"):
        file.save("one", MINE)
