"""The commands in the README of the paper's repository, with nothing but their paths changed.

``paper_commands.txt`` holds them as they stand there.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers")

import diffusers
import safetensors.torch

from aesthetic_clip import Settings, encode_prompts
from aesthetic_clip.cli.main import main
from aesthetic_clip.embeddings.embedding import Embedding, load, to_bytes
from aesthetic_clip.geometry import unit
from aesthetic_clip.hosts.diffusers.generator import Generator
from aesthetic_clip.spaces import VIT_L

from ...support import pipelines

COMMANDS = (Path(__file__).parent / "paper_commands.txt").read_text(encoding="utf-8").splitlines()
EMBEDDING = Embedding("e", {VIT_L: unit(torch.randn(VIT_L.dim, generator=torch.Generator().manual_seed(1)))})
SIDE = 64 // 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-sd"
    encoder = pipelines.text_encoder(dim=VIT_L.dim)
    pipelines.sd(encoder).save_pretrained(folder)
    projection = torch.randn(VIT_L.dim, pipelines.WIDTH, generator=torch.Generator().manual_seed(5)) / 8
    safetensors.torch.save_file({"text_projection.weight": projection}, folder / "text_projection.safetensors")
    return folder


@pytest.fixture
def papers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its embeddings by their paths, in the folder where its commands are given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AESTHETIC_EMBEDDINGS_DIR", str(tmp_path / "library"))
    folder = tmp_path / "aesthetic_embeddings"
    folder.mkdir()
    for name in ("sac_8plus", "laion_7plus", "aivazovsky"):
        (folder / f"{name}.pt").write_bytes(to_bytes(EMBEDDING, ".pt"))
    return tmp_path


def typed(line: str, model: Path) -> list[str]:
    """A command of the README as it is given here; the model is a path too, where it is not named as well."""
    words = shlex.split(line)
    words = words[words.index("scripts/txt2img.py") + 1 :]
    if "--ckpt" in words:
        words[words.index("--ckpt") + 1] = str(model)
    else:
        words += ["--ckpt", str(model)]
    return ["txt2img", *words]


def test_all_commands_are_here() -> None:
    assert len(COMMANDS) == 14
    assert len(set(COMMANDS)) == 14


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs(
    line: str, model: Path, papers_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled: list[tuple[Any, ...]] = []

    def pictures(self: Generator, *arguments: Any, **more: Any) -> list[Image.Image]:
        sampled.append((type(self.pipe.scheduler).__name__, *arguments))
        return [Image.new("RGB", (64, 64))] * len(arguments[0])

    monkeypatch.setattr(Generator, "pictures", pictures)
    assert main(typed(line, model)) == 0
    said = capsys.readouterr()
    wanted = dict(re.findall(r"--(\w+) +(?!--)(\S+)", line))
    assert len(said.out.splitlines()) == 7  # two rounds of three, and the grid
    assert len(sampled) == 2
    sampler, _, seeds, steps, scale, width, height = sampled[0]
    assert (sampler, steps, scale, height) == ("PNDMScheduler", 50, 7.5, None)
    assert seeds == [int(wanted["seed"])] * 3
    assert width == (int(wanted["W"]) if "W" in wanted else None)
    steps = int(wanted["aesthetic_steps"])
    assert f"in {steps} steps" in said.err if steps else "similarity" not in said.err


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[numpy.ndarray]:
    assert main([str(argument) for argument in arguments]) == 0
    return [numpy.asarray(Image.open(path)) for path in capsys.readouterr().out.splitlines()]


def close(a: numpy.ndarray, b: Any) -> bool:
    return bool(numpy.abs(a.astype(int) - numpy.asarray(b).astype(int)).max() <= 1)


@pytest.mark.parametrize(("sampler", "draws"), [("", 4), ("--plms", 5)])
def test_it_does_what_the_papers_script_does(
    sampler: str, draws: int, model: Path, papers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of the personalised prompt, 10 steps, and the noise of whole batches from one generator."""
    file = "aesthetic_embeddings/sac_8plus.pt"
    flags = ("--prompt", "a portal", "--ddim_steps", 4, "--seed", 332, "--aesthetic_lr", 0.01, "--n_samples", 2)
    *made, _ = run(capsys, "txt2img", "--ckpt", model, *flags, *filter(None, [sampler]), "--aesthetic_embedding", file)

    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model)
    pipe.scheduler = (
        diffusers.PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True)
        if sampler
        else diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    )
    settings = Settings(weight=1.0, steps=10, lr=0.01)
    encoded = encode_prompts(pipe, ["a portal"] * 2, settings, EMBEDDING).arguments()
    torch.manual_seed(332)
    shape = (2, 4, SIDE, SIDE)
    first = torch.randn(shape)
    for _ in range(draws):  # noise_like in ldm/models/diffusion, at every step
        torch.randn(shape)
    second = torch.randn(shape)
    wanted = [
        picture
        for noise in (first, second)
        for picture in pipe(**encoded, latents=noise, num_inference_steps=4, guidance_scale=7.5).images
    ]
    assert len(made) == 4
    assert all(close(a, b) for a, b in zip(made, wanted))
    assert not close(made[0], made[2])


def test_the_noise_of_ddims_steps_comes_from_the_same_generator(
    model: Path, papers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--prompt", "a portal", "--ddim_steps", 3, "--ddim_eta", 0.7, "--n_samples", 2, "--skip_grid")
    made = run(capsys, "txt2img", "--ckpt", model, *flags)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(model)
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    generator = torch.Generator().manual_seed(42)
    wanted = [
        picture
        for _ in range(2)
        for picture in pipe(["a portal"] * 2, num_inference_steps=3, eta=0.7, generator=generator).images
    ]
    assert all(close(a, b) for a, b in zip(made, wanted))


def test_fixed_code(model: Path, papers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--prompt", "a portal", "--ddim_steps", 2, "--n_samples", 2, "--fixed_code", "--C", 4, "--f", 8)
    a, b, c, d, _ = run(capsys, "txt2img", "--ckpt", model, *flags)
    assert numpy.array_equal(a, c)
    assert numpy.array_equal(b, d)
    assert not numpy.array_equal(a, b)


def test_a_grid_alone(model: Path, papers_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = (
        "--prompt",
        "a portal",
        "--ddim_steps",
        2,
        "--skip_save",
        "--n_rows",
        6,
        "--dpm_solver",
        "--precision",
        "full",
    )
    [grid] = run(capsys, "txt2img", "--ckpt", model, *flags)
    assert grid.shape == (64 + 2 * 2, 6 * 66 + 2, 3)
    assert not list(papers_folder.rglob("samples/*"))


def test_a_config_that_is_not_needed_is_told(
    model: Path, papers_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--ddim_steps", 1, "--n_iter", 1, "--n_samples", 1, "--skip_grid")
    config = ("--config", "configs/stable-diffusion/v1-inference-aesthetic.yaml")
    assert main([*map(str, ("txt2img", "--ckpt", model, *flags, *config))]) == 0
    assert "is not needed" in capsys.readouterr().err


def test_gen_aesthetic_embedding(papers_folder: Path, vision_tower: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments but the name, as in the script: the plain mean of what lies in reference_images."""
    pictures = papers_folder / "reference_images" / "aivazovsky"
    pictures.mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for i in range(3):
        Image.fromarray(random.integers(0, 256, (40, 50, 3), numpy.uint8)).save(pictures / f"{i}.png")
    encoder = ("--encoder", str(vision_tower), "--device", "cpu")
    assert main(["gen_aesthetic_embedding", "aivazovsky", *encoder]) == 0
    assert main(["create", "same", str(pictures), "--raw", *encoder]) == 0
    one, other = (load(papers_folder / "library" / f"{name}.safetensors") for name in ("aivazovsky", "same"))
    assert torch.equal(one.vectors[VIT_L], other.vectors[VIT_L])
    assert one.metadata["raw"] == "true"
    capsys.readouterr()
    assert main(["gen_aesthetic_embedding", "nobody", *encoder]) == 2
    assert "reference_images" in capsys.readouterr().err
