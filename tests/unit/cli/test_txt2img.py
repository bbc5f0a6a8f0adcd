"""``txt2img`` and ``encode`` on the command line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

import numpy
import safetensors

from aesthetic_clip import Embedding, Settings, encode_prompts
from aesthetic_clip.cli.main import main
from aesthetic_clip.embeddings.embedding import save
from aesthetic_clip.embeddings.picking import pick
from aesthetic_clip.embeddings.presets import PresetFile
from aesthetic_clip.geometry import unit
from aesthetic_clip.hosts.diffusers.infotext import infotext
from aesthetic_clip.settings import BY_NAME, KNOBS, PRESETS
from aesthetic_clip.spaces import VIT_L, space_of

from ...support import pipelines

PROMPT = "a portal, by night: huge"
STRONG = ("--aesthetic_lr", "0.01", "--aesthetic_steps", "6", "--aesthetic_weight", "1")


def embedding(name: str, dim: int = pipelines.DIM) -> Embedding:
    return Embedding(name, {space_of(dim): unit(torch.randn(dim, generator=torch.Generator().manual_seed(1)))})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-sd"
    pipelines.sd().save_pretrained(folder)
    pipelines.write_projection(folder)
    return folder


@pytest.fixture(autouse=True)
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "library"
    monkeypatch.setenv("AESTHETIC_EMBEDDINGS_DIR", str(folder))
    for name in ("taste", "a, b"):
        save(embedding("taste"), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def works(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[Path]:
    """The paths that a command printed."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return [Path(line) for line in captured.out.splitlines()]


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    try:
        code: Any = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2
    assert not captured.out
    assert "Traceback" not in captured.err
    return captured.err


def txt2img(model: Path, out: Path, *more: object) -> list[object]:
    return ["txt2img", "--ckpt", model, "--outdir", out, "--prompt", PROMPT, "--ddim_steps", 2, *more]


def pixels(path: Path) -> numpy.ndarray:
    return numpy.asarray(Image.open(path))


def parameters(path: Path) -> dict[str, str]:
    """What the WebUI's paste button reads (modules/infotext_utils.py, parse_generation_parameters)."""
    *lines, last = Image.open(path).text["parameters"].strip().split("\n")  # type: ignore[attr-defined]
    text = "\n".join(lines)
    prompt, _, negative = text.partition("\nNegative prompt: ")
    found = {"Prompt": prompt, "Negative prompt": negative}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', last):
        found[key] = json.loads(value) if value[:1] == '"' else value
    return found


# Pictures


def test_pictures_and_their_parameters(capsys: pytest.CaptureFixture[str], model: Path, out: Path) -> None:
    flags = ("--n_iter", 2, "--n_samples", 2, "--seed", 7, "--negative_prompt", "fog", "--scale", 5, "--W", 72)
    paths = works(capsys, *txt2img(model, out, *flags, *STRONG, "--aesthetic_embedding", "a, b"))
    assert paths == [*(out / "samples" / f"{n:05}.png" for n in range(4)), out / "grid-0000.png"]
    assert Image.open(paths[-1]).size == (2 * 72 + 3 * 2, 2 * 64 + 3 * 2)
    assert not list(out.rglob("*.tmp"))
    for place, path in enumerate(paths[:-1]):
        assert parameters(path) == {
            "Prompt": PROMPT,
            "Negative prompt": "fog",
            "Steps": "2",
            "Sampler": "DDIM",
            "CFG scale": "5",
            "Seed": "7",
            "Size": "72x64",
            "Model": "tiny-sd",
            "Batch size": "2",
            "Batch pos": str(place % 2),
            **({"Batch": "1"} if place > 1 else {}),
            "RNG": "CPU",
            "Aesthetic weight": "1",
            "Aesthetic steps": "6",
            "Aesthetic LR": "0.01",
            "Aesthetic slerp": "False",
            "Aesthetic embedding": "a, b",
            "Aesthetic slerp angle": "0.1",
            "Aesthetic text negative": "False",
            "Version": "aesthetic_clip 1.2.0",
        }


def test_steps_change_the_picture_and_none_is_the_plain_model(
    capsys: pytest.CaptureFixture[str], model: Path, out: Path
) -> None:
    import diffusers

    one = ("--n_iter", 1, "--n_samples", 1, "--skip_grid", "--aesthetic_embedding", "taste")
    [still] = works(capsys, *txt2img(model, out, *one, "--aesthetic_steps", 0))
    [moved] = works(capsys, *txt2img(model, out, *one, *STRONG))
    [again] = works(capsys, *txt2img(model, out, *one, *STRONG))
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    plain = pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(42)).images[0]
    assert numpy.array_equal(pixels(still), numpy.asarray(plain))
    assert not numpy.array_equal(pixels(still), pixels(moved))
    assert numpy.array_equal(pixels(moved), pixels(again))
    assert [path.name for path in (still, moved, again)] == ["00000.png", "00001.png", "00002.png"]


@pytest.mark.parametrize("name", ["clear", "Paper"])
def test_a_preset_by_flag_and_by_tag_is_what_its_values_are(
    capsys: pytest.CaptureFixture[str], model: Path, out: Path, name: str
) -> None:
    one = ("--n_iter", 1, "--n_samples", 1, "--skip_grid")
    chosen = (*one, "--aesthetic_embedding", "taste")
    [by_flag] = works(capsys, *txt2img(model, out, *chosen, "--preset", name))
    [by_long_flag] = works(capsys, *txt2img(model, out, *chosen, "--aesthetic-preset", name))
    [by_tag] = works(capsys, *txt2img(model, out, *one), "--prompt", f"{PROMPT}<aesthetic:taste:{name}>")
    values = {f"--aesthetic_{knob}": BY_NAME[knob].write(value) for knob, value in PRESETS[name.title()].items()}
    values.pop("--aesthetic_slerp")
    [by_values] = works(capsys, *txt2img(model, out, *chosen), *(word for item in values.items() for word in item))
    for other in (by_long_flag, by_tag, by_values):
        assert numpy.array_equal(pixels(other), pixels(by_flag))
    assert parameters(by_flag)["Aesthetic preset"] == name.title()
    assert ("Aesthetic automatic centre" in parameters(by_flag)) == (name == "clear")


def test_a_users_preset_by_flag(capsys: pytest.CaptureFixture[str], model: Path, out: Path, lib: Path) -> None:
    PresetFile(lambda: lib).save("mine", Settings(weight=1.0, steps=6, lr=0.01))
    chosen = ("--n_iter", 1, "--n_samples", 1, "--skip_grid", "--aesthetic_embedding", "taste")
    [by_name] = works(capsys, *txt2img(model, out, *chosen, "--preset", "MINE"))
    [by_values] = works(capsys, *txt2img(model, out, *chosen, *STRONG))
    assert numpy.array_equal(pixels(by_name), pixels(by_values))
    assert "one of Custom, Subtle, Clear, Strong, Paper, mine" in fails(
        capsys, *txt2img(model, out, *chosen, "--preset", "yours")
    )


def test_each_picture_picks_for_itself_and_tells_what(
    capsys: pytest.CaptureFixture[str], model: Path, out: Path
) -> None:
    both = ("--n_iter", 1, "--n_samples", 4, "--skip_grid", "--seed_each", *STRONG)
    by_setting = works(capsys, *txt2img(model, out, *both, "--aesthetic_embedding", "taste|a*"))
    found = [parameters(path)["Aesthetic embedding"] for path in by_setting]
    assert found == [pick("taste|a*", lambda: ["a, b", "taste"], seed) for seed in (42, 43, 44, 45)]
    assert set(found) == {"taste", "a, b"}
    by_tag = works(capsys, *txt2img(model, out, *both), "--prompt", f"{PROMPT}<aesthetic:taste|a*>")
    picked = [pick("taste|a*", lambda: ["a, b", "taste"], seed, 1) for seed in (42, 43, 44, 45)]
    assert [parameters(path)["Prompt"] for path in by_tag] == [f"{PROMPT}<aesthetic:{name}>" for name in picked]
    assert "No aesthetic embedding fits 'b*'" in fails(
        capsys, *txt2img(model, out, "--aesthetic_embedding", "taste|b*")
    )


def test_with_seeds_of_their_own_a_picture_does_not_depend_on_how_many_there_are(
    capsys: pytest.CaptureFixture[str], model: Path, out: Path
) -> None:
    all_ = works(capsys, *txt2img(model, out, "--n_iter", 1, "--n_samples", 2, "--skip_grid", "--seed_each"))
    assert [parameters(path)["Seed"] for path in all_] == ["42", "43"]
    [second] = works(capsys, *txt2img(model, out, "--n_iter", 1, "--n_samples", 1, "--skip_grid", "--seed", 43))
    assert numpy.abs(pixels(all_[1]).astype(int) - pixels(second)).max() <= 1
    assert not numpy.array_equal(pixels(all_[0]), pixels(all_[1]))


def test_prompts_from_a_file_and_dashes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, out: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a tree\n\n a cat <aesthetic:taste:0.5>\nein Käfer\n", encoding="utf-8")
    arguments = (
        "txt2img",
        "--model",
        model,
        "--outdir",
        out,
        "--from-file",
        file,
        "--ddim-steps",
        2,
        "--plms",
        "--n-samples",
        2,
        "--n-iter",
        1,
        "--skip-grid",
        "--aesthetic-slerp-angle",
        0.5,
        "--clip-skip",
        2,
        "--seed-each",
    )
    read = [parameters(path) for path in works(capsys, *arguments)]
    assert [p["Prompt"] for p in read] == ["a tree", "a cat <aesthetic:taste:0.5>", "ein Käfer"]
    assert [p["Seed"] for p in read] == ["42", "43", "44"]
    assert {p["Sampler"] for p in read} == {"PLMS"}
    assert {p["Clip skip"] for p in read} == {"2"}
    assert "Aesthetic embedding" not in read[0]


def test_a_picture_by_an_embedding_file_names_the_embedding(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path, out: Path
) -> None:
    file = tmp_path / "mine.safetensors"
    save(embedding("mine"), file)
    one = ("--n_iter", 1, "--n_samples", 1, "--skip_grid", "--aesthetic_embedding", file, "--seed", -1)
    [path] = works(capsys, *txt2img(model, out, *one))
    assert parameters(path)["Aesthetic embedding"] == "mine"
    assert int(parameters(path)["Seed"]) >= 0


def test_infotext_quotes_what_its_reader_would_split() -> None:
    text = infotext("a\nb", "", {"Steps": 2, "Text": 'x: "y", z', "Nothing": None})
    assert text == 'a\nb\nSteps: 2, Text: "x: \\"y\\", z"'


def test_a_single_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, lib: Path, out: Path) -> None:
    file, description = pipelines.write_single_file(tmp_path)
    projection = tmp_path / "projection.safetensors"
    safetensors.torch.save_file({"text_projection.weight": torch.eye(VIT_L.dim)}, projection)
    save(embedding("large", VIT_L.dim), lib / "large.safetensors")
    one = ("--n_iter", 1, "--n_samples", 1, "--skip_grid", "--aesthetic_embedding", "large", "--W", 64, "--H", 64)
    more = ("--config", description, "--text_tower", projection)
    [moved] = works(capsys, *txt2img(file, out, *one, *STRONG, *more))
    [still] = works(capsys, *txt2img(file, out, *one, "--aesthetic_weight", 0, *more))
    assert not numpy.array_equal(pixels(moved), pixels(still))
    assert parameters(moved)["Model"] == "single"


# Embeddings of prompts


def test_encode(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    import diffusers

    file = tmp_path / "prompts.safetensors"
    arguments = ("encode", "--ckpt", model, "--prompt", PROMPT, "--aesthetic_embedding", "taste", "--output", file)
    assert works(capsys, *arguments) == [file]
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model)
    expected = encode_prompts(pipe, PROMPT, Settings(), embedding("taste"))
    with safetensors.safe_open(file, "pt") as content:
        assert set(content.keys()) == {"prompt_embeds", "negative_prompt_embeds"}
        assert torch.equal(content.get_tensor("prompt_embeds"), expected.prompt_embeds)
        assert json.loads(content.metadata()["prompts"]) == [PROMPT]
    assert works(capsys, *arguments, "--overwrite", "--aesthetic_strength", 0.01) == [file]
    with safetensors.safe_open(file, "pt") as content:
        metadata = content.metadata()
    [similarities], [found] = json.loads(metadata["similarities"]), json.loads(metadata["found"])
    (numbers,) = similarities.values()
    assert found == {"Aesthetic steps taken": str(len(numbers) - 1)} and metadata["Aesthetic strength"] == "0.01"
    assert 1 - math.acos(numbers[-1]) / math.acos(numbers[0]) == pytest.approx(0.01, abs=0.003)
    assert "already something" in fails(capsys, *arguments)
    assert works(capsys, *arguments, "--overwrite", "--memory", "lowest") == [file]
    with safetensors.safe_open(file, "pt") as content:
        assert torch.allclose(content.get_tensor("prompt_embeds"), expected.prompt_embeds, rtol=0, atol=1e-4)


# Faults


def test_wrong_arguments(capsys: pytest.CaptureFixture[str], model: Path, out: Path) -> None:
    for flags, match in (
        (("--aesthetic_steps", 99), "from 0 to 50"),
        (("--aesthetic_lr", "fast"), "a number"),
        (("--aesthetic_nonsense", 1), "unrecognized arguments"),
        (("--W", 65), "multiple of 8"),
        (("--n_iter", 0), "above 0"),
        (("--seed", "x"), "whole number"),
        (("--from-file", "x"), "not allowed with"),
        (("--aesthetic_embedding", "tast"), "Did you mean 'taste'"),
        (("--aesthetic_text", "fog " * 80, "--aesthetic_embedding", "taste"), "80 tokens"),
        (("--text_tower", "/nowhere", "--aesthetic_embedding", "taste"), "/nowhere"),
        (("--device", "nonsense"), "can be put on"),
        (("--laion400m",), "BERT"),
        (("--C", 5), "4 channels"),
        (("--f", 4), "8 pixels per latent"),
        (("--ddim_eta", 2), "from 0"),
        (("--ddim_eta", 0.5, "--plms"), "DDIM only"),
        (("--plms", "--dpm_solver"), "not allowed with"),
        (("--scale", 0.5), "from 1"),
        (("--scale", "nan"), "from 1"),
        (("--fixed_code", "--seed_each"), "contradict"),
    ):
        assert match in fails(capsys, *txt2img(model, out, *flags)), flags
    assert not list(out.rglob("*.png"))


def test_models_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path, out: Path) -> None:
    empty, other, text = tmp_path / "empty", tmp_path / "other.safetensors", tmp_path / "model.txt"
    empty.mkdir()
    safetensors.torch.save_file({"x": torch.zeros(1)}, other)
    text.write_text("nothing")
    for model, match in (
        (tmp_path / "nowhere" / "model", "There is no model"),
        (empty, "can't be loaded"),
        (other, "holds no diffusion model"),
        (text, "ends in .safetensors or .ckpt"),
    ):
        said = fails(capsys, *txt2img(model, out))
        assert match in said
        assert len(said.splitlines()) == 1


def test_a_single_file_without_the_hub(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    file, _ = pipelines.write_single_file(tmp_path)
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_single_file", offline)
    assert "no network. Give --config" in fails(capsys, *txt2img(file, out))


def test_places_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path, model: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    # The model is not even looked for.
    assert "Nothing can be written" in fails(capsys, *txt2img(tmp_path / "none", blocked / "out"))
    encode = ("encode", "--ckpt", model, "--prompt", "x", "--output")
    assert "Nothing can be written" in fails(capsys, *encode, blocked / "x.safetensors")
    assert "has to be a .safetensors" in fails(capsys, *encode, tmp_path / "x.pt")
    assert "can't be read" in fails(
        capsys, "txt2img", "--ckpt", model, "--outdir", tmp_path, "--from-file", tmp_path / "nothing"
    )


def test_debug_shows_where(model: Path, out: Path) -> None:
    from aesthetic_clip import AestheticError

    with pytest.raises(AestheticError):
        main([str(a) for a in txt2img(model, out, "--aesthetic_embedding", "nothing", "--debug")])


def test_stopping_keeps_what_is_done(
    capsys: pytest.CaptureFixture[str], model: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aesthetic_clip.hosts.diffusers.generator import Generator

    pictures, calls = Generator.pictures, list[int]()

    def interrupted(self: Generator, *arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return pictures(self, *arguments, **more)

    monkeypatch.setattr(Generator, "pictures", interrupted)
    assert main([str(a) for a in txt2img(model, out, "--n_samples", 1)]) == 130
    assert "1 of 2 pictures" in capsys.readouterr().err
    assert len(list(out.rglob("*.png"))) == 1


def test_every_knob_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["txt2img", "--help"])
    said = capsys.readouterr().out
    assert all(f"--aesthetic_{knob.name}" in said for knob in KNOBS)
