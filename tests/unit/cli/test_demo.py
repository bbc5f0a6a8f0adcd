"""``demo``, and the demonstration model in ``txt2img``: the whole way as someone meets it first."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

from aesthetic_clip.cli.main import main
from aesthetic_clip.demo import MODEL, loading, world
from aesthetic_clip.demo.lab.architecture import Classifier

from ...support import pipelines, vision_towers

pytestmark = pytest.mark.skipif(not (MODEL / "model_index.json").is_file(), reason="no trained model is stored here")


def run(*arguments: object) -> Any:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        return stopped.code


def test_from_a_folder_to_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.write_style_images(tmp_path / "my night", "night", 12, seed=4)
    out = tmp_path / "out"
    library = ("--library", tmp_path / "library")
    assert run("demo", tmp_path / "my night", "--outdir", out, "--rows", 2, "--aesthetic-steps", 0, 10, *library) == 0
    said = capsys.readouterr().out
    assert "12 pictures" in said
    rows = [[float(n) for n in line.split()] for line in said.splitlines() if re.fullmatch(r" *\d+ +\S+ +\S+", line)]
    assert [row[0] for row in rows] == [0, 10]
    assert rows[1][1] > rows[0][1] + 0.2
    assert rows[1][2] > rows[0][2] + 0.1
    assert (out / "my night.safetensors").is_file()
    assert str(out / "grid.png") in said
    grid = Image.open(out / "grid.png")
    # The taste, as high as the two rows, then 0 and 10 steps.
    side = grid.width // 4
    classifier = loading.load_classifier()

    def night(column: int) -> float:
        chances = []
        for row in range(2):
            top = grid.height - (2 - row) * side
            box = ((column + 1) * side, top, (column + 2) * side, top + side)
            picture = np.asarray(grid.crop(box).resize((world.SIZE, world.SIZE), Image.Resampling.BOX))
            pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
            chances.append(
                float(loading.classify(classifier, pixels)["look"][0, Classifier.FIELDS["look"].index("night")])
            )
        return sum(chances) / len(chances)

    assert night(1) < 0.1
    assert night(2) > 0.5


def test_with_a_model_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "tiny-sd"
    pipelines.sd().save_pretrained(model)
    pipelines.write_projection(model)
    vision_towers.write_encoder(model / "image_encoder", pipelines.DIM)
    vision_towers.write_pictures(tmp_path / "pictures", 5)
    flags = ("--rows", 1, "--ddim_steps", 2, "--aesthetic_steps", 0, 3, "--aesthetic_lr", 0.01, "--prompt", "a cat")
    assert run("demo", tmp_path / "pictures", "--model", model, "--outdir", tmp_path / "out", *flags) == 0
    said = capsys.readouterr().out
    assert "pictures.safetensors: 5 pictures" in said
    before, after = (float(line.split()[1]) for line in said.splitlines() if re.fullmatch(r" *\d+ +\S+ +\S+", line))
    assert after > before


def test_the_papers_command_with_the_demonstration_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--W", 64, "--H", 64, "--n_iter", 1, "--n_samples", 2, "--ddim_steps", 5, "--scale", 4)
    prompt = world.HELD_OUT[0].prompt
    assert run("txt2img", "--ckpt", "demo", "--prompt", prompt, "--outdir", tmp_path, *flags) == 0
    (grid,) = tmp_path.glob("*.png")
    first, second = (Image.open(path) for path in sorted(tmp_path.glob("*/*.png")))
    assert first.size == second.size == (64, 64)
    assert first.tobytes() != second.tobytes()
    shown = Image.open(grid)
    for column, sample in enumerate((first, second)):
        left, top = 2 + 66 * column, 2  # as torchvision's make_grid lays them out
        assert shown.crop((left, top, left + 64, top + 64)).tobytes() == sample.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--style", "baroque"), "There is no style 'baroque'"),
        (("nowhere",), "nowhere"),
        (("--aesthetic_steps", "-3"), "Aesthetic steps is -3"),
        (("--ckpt", "nothing here"), "There is no model 'nothing here'"),
        (("--seed", "x"), "invalid int value"),
        (("--rows", "0"), "'0' is not a whole number above 0"),
        (("--colour", "red"), "unrecognized arguments"),
    ],
)
def test_faults_are_one_sentence(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("demo", "--outdir", tmp_path / "out", *arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said


def test_an_output_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run("demo", "--outdir", tmp_path / "file" / "out") == 2
    assert "Nothing can be written to" in capsys.readouterr().err
