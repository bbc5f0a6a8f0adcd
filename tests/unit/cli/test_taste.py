"""``taste``: embeddings that grow from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from aesthetic_clip.cli.main import main
from aesthetic_clip.embeddings.embedding import load

from ...support.vision_towers import write_pictures


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AESTHETIC_EMBEDDINGS_DIR", str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "pictures", 5)


class Terminal:
    def __init__(self, capsys: pytest.CaptureFixture[str], encoder: Path) -> None:
        self.capsys, self.encoder = capsys, encoder

    def run(self, *arguments: object, code: int = 0) -> str:
        """What it prints; of a fault, what it says of it."""
        words = ["taste", *map(str, arguments)]
        if words[1] in ("like", "dislike"):
            words += ["--encoder", str(self.encoder)]
        assert main(words) == code
        captured = self.capsys.readouterr()
        return captured.out if code == 0 else captured.err


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], vision_tower: Path) -> Terminal:
    return Terminal(capsys, vision_tower)


def test_a_taste_grows_and_shrinks(terminal: Terminal, shelf: Path, pictures: list[Path]) -> None:
    assert terminal.run("like", "mine", *pictures[:2]) == "mine: 2 liked, 0 disliked; p001.jpg is liked\n"
    grown = load(shelf / "mine.safetensors").digest
    assert terminal.run("dislike", "mine", pictures[2]) == "mine: 2 liked, 1 disliked; p002.jpg is disliked\n"
    assert load(shelf / "mine.safetensors").digest != grown
    assert terminal.run("undo", "mine") == "mine: 2 liked, 0 disliked; p002.jpg is taken out\n"
    assert load(shelf / "mine.safetensors").digest == grown
    assert terminal.run("show") == "mine: 2 liked, 0 disliked\n"

    first, second = terminal.run("show", "mine").splitlines()
    assert "liked" in first and first.endswith(str(pictures[1])) and second.endswith(str(pictures[0]))
    said = terminal.run("remove", "mine", second.split()[0])
    assert said == "mine: 1 liked, 0 disliked; p000.jpg is taken out\n"


def test_a_folder_with_what_is_no_picture_and_what_is_there_already(
    terminal: Terminal, shelf: Path, pictures: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures[0].parent / "broken.png").write_bytes(b"no picture")
    terminal.run("like", "mine", pictures[3])
    before = load(shelf / "mine.safetensors")
    assert main(["taste", "like", "mine", str(pictures[0].parent), "--encoder", str(terminal.encoder)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("mine: 5 liked, 0 disliked")
    assert "broken.png can't be used" in captured.err and "1 was there already." in captured.err
    assert load(shelf / "mine.safetensors").digest != before.digest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["like"], "No embedding is named"),
        (["like", "mine"], "No picture is named"),
        (["undo", "mine", "x.png"], "takes back what was done last"),
        (["undo", "mine"], "There is no taste profile 'mine'"),
        (["show", "mine"], "There is no taste profile 'mine'"),
        (["like", "../mine", "x.png"], "can't be called"),
        (["like", "mine", "not there.png"], "not there.png can't be used"),
    ],
)
def test_a_fault_is_a_sentence(terminal: Terminal, shelf: Path, arguments: list[str], said: str) -> None:
    assert said in terminal.run(*arguments, code=2)
    assert not list(shelf.glob("*.safetensors"))


def test_interrupted_it_keeps_what_is_counted(
    terminal: Terminal, shelf: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Image.Image.save

    def save(image: Image.Image, *args: object, **more: object) -> None:
        if (shelf / "mine.safetensors").exists():
            raise KeyboardInterrupt
        real(image, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "save", save)
    assert "Stopped; 1 pictures were counted." in terminal.run("like", "mine", *pictures, code=130)
    assert load(shelf / "mine.safetensors").about.liked == 1
