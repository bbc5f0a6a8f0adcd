"""The demonstration model that comes with the package: that it is whole, small, and does what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from aesthetic_clip.demo import LR, MODEL, export, loading, world
from aesthetic_clip.demo.lab import measure, train
from aesthetic_clip.demo.lab.architecture import Classifier
from aesthetic_clip.demo.lab.bench import Bench, Condition
from aesthetic_clip.hosts.diffusers.prompts import encode_prompts
from aesthetic_clip.method import adam
from aesthetic_clip.method.modes import Memory
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.targets import Toward
from aesthetic_clip.settings import Settings

from ...support.demo_conditions import CENTRED, CENTRED_MARGIN, KEPT, PAPER, PAPER_MARGIN
from ...support.towers import encode, plain_method

pytestmark = pytest.mark.skipif(not (MODEL / "model_index.json").is_file(), reason="no trained model is stored here")

LARGEST = 15_000_000
CONTENTS = world.HELD_OUT[:8]
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, 2))
    yield Bench()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def plain(bench: Bench) -> dict[str, list[dict[str, float]]]:
    """The rows of the plain pictures by style."""
    pairs = [(content, seed) for content in CONTENTS for seed in SEEDS]
    hidden = torch.cat([bench.condition(content.prompt, "", Condition()) for content, _ in pairs])
    pictures = bench.generate(hidden, [seed for _, seed in pairs])
    return {style: bench.judge(pictures, pairs, Condition(), style) for style in world.STYLES}


def _mean(rows: list[dict[str, float]], measure: str) -> float:
    return sum(row[measure] for row in rows) / len(rows)


def test_the_stored_model_is_small_and_whole() -> None:
    files = [path for path in MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= LARGEST
    names = {str(path.relative_to(MODEL)) for path in files}
    assert {"README.md", "model_index.json", loading.PROJECTION_FILE, loading.CLASSIFIER_FILE} <= names


def test_the_classifier_reads_the_worlds_pictures(bench: Bench) -> None:
    import random

    rng = random.Random(99)
    scenes = [world.scene(rng, world.CONTENTS) for _ in range(200)]
    said = loading.classify(bench.classifier, train.pictures(scenes).float() / 255)
    for name, truth in train.labels(scenes).items():
        assert (said[name].argmax(-1) == truth).float().mean() > 0.9, name


def test_clip_tells_the_styles_of_pictures_apart(bench: Bench) -> None:
    for style in world.STYLES:
        pixels = train.pictures_of(world.style_images(style, 8, seed=77)).float() / 255
        mine = bench.similarity(pixels, bench.embeddings[style]).mean()
        others = [bench.similarity(pixels, e).mean() for name, e in bench.embeddings.items() if name != style]
        assert mine > max(others) + 0.1


def test_held_out_prompts_give_what_they_ask_for(plain: dict[str, list[dict[str, float]]]) -> None:
    rows = plain["warm"]
    assert _mean(rows, "shape_kept") > 0.9
    assert _mean(rows, "colour_kept") > 0.9
    assert _mean(rows, "background_kept") > 0.9


def test_no_steps_leave_the_pictures_bit_identical(bench: Bench) -> None:
    embedding = loading.style_embedding(bench.image_encoder, "night", n=8)
    prompts = [content.prompt for content in CONTENTS[:2]]

    def pictures(**prompt: object) -> torch.Tensor:
        start = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
        return torch.as_tensor(
            bench.pipe(**prompt, latents=start, num_inference_steps=10, guidance_scale=4.0, output_type="np").images
        )

    ordinary = pictures(prompt=prompts)
    none = encode_prompts(bench.pipe, prompts, Settings(steps=0), embedding)
    assert torch.equal(pictures(**none.arguments()), ordinary)
    some = encode_prompts(bench.pipe, prompts, Settings(steps=20), embedding)
    assert not torch.equal(pictures(**some.arguments()), ordinary)
    # The weights are the model's own again.
    assert torch.equal(pictures(prompt=prompts), ordinary)


@pytest.mark.parametrize("memory", [Memory.FAST, Memory.LOW, Memory.LOWEST])
@pytest.mark.parametrize("fused", [False, True], ids=["stepwise", "fused"])
def test_every_way_paints_the_plain_methods_picture(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, memory: Memory, fused: bool
) -> None:
    if fused and not adam._fused_works(torch.device("cpu")):
        pytest.skip("this torch has no fused Adam for the CPU")
    monkeypatch.setattr(adam, "_fused_works", lambda device: fused)
    ids, end = bench.ids(CONTENTS[0].prompt)
    encoder, target = bench.text_encoder, bench.embeddings["night"]
    plain, _ = plain_method(encoder, ids, target, 10, LR, torch.float64)
    optimized = optimize(encoder, ids[: end + 1], Toward(target), 10, LR, memory=memory)
    with torch.no_grad():
        expected = encode(plain, ids[None]).float()
        ours = encoder.call(lambda one: encode(encoder.module, one), optimized.weights, ids[None])
    ordinary, wanted, painted = bench.generate(torch.cat([bench.encode(ids[None])[0], expected, ours]), [5, 5, 5])
    assert (wanted - ordinary).abs().mean() > 5 / 255  # it moved at all
    assert (painted - wanted).abs().max() < 1.5 / 255  # pictures are in whole 255ths


@pytest.mark.parametrize("style", world.STYLES)
def test_an_embedding_moves_pictures_toward_its_style(
    bench: Bench, plain: dict[str, list[dict[str, float]]], style: str
) -> None:
    moved = bench.measure(PAPER, style, CONTENTS, SEEDS)
    assert _mean(moved, "style_chance") > _mean(plain[style], "style_chance") + PAPER_MARGIN
    assert _mean(moved, "similarity") > _mean(plain[style], "similarity")


@pytest.mark.parametrize("style", world.STYLES)
def test_with_a_centre_they_keep_what_they_show(
    bench: Bench, plain: dict[str, list[dict[str, float]]], style: str
) -> None:
    moved = bench.measure(CENTRED, style, CONTENTS, SEEDS)
    assert _mean(moved, "style_chance") > _mean(plain[style], "style_chance") + CENTRED_MARGIN
    assert _mean(moved, "similarity") > _mean(plain[style], "similarity") + 0.1
    assert _mean(moved, "shape_kept") > KEPT
    assert _mean(moved, "colour_kept") > KEPT


def _wide_names(name: str) -> str:
    for ours, theirs in export._ATTENTION.items():
        name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return name.replace("conv_shortcut", "nin_shortcut")


def test_the_exported_autoencoder_is_the_same_with_norms_of_32_groups(bench: Bench) -> None:
    from diffusers import AutoencoderKL

    vae = bench.pipe.vae
    copies = 32 // vae.config.norm_num_groups
    wide = AutoencoderKL.from_config(
        {**vae.config, "norm_num_groups": 32, "block_out_channels": [c * copies for c in vae.config.block_out_channels]}
    )
    tensors = export.vae_tensors(vae.config, vae.state_dict())
    levels = len(vae.config.block_out_channels)
    weights = {}
    for name, tensor in wide.state_dict().items():
        (ldm,) = export.renamed({name: tensor}, export.vae_names(levels))
        weights[name] = tensors.pop(_wide_names(ldm)).reshape(tensor.shape)
    assert not tensors
    wide.load_state_dict(weights)
    picture = train.pixels(train.pictures_of(world.style_images("warm", 1, seed=1)))
    with torch.no_grad():
        assert torch.allclose(vae.encode(picture).latent_dist.mean, wide.encode(picture).latent_dist.mean, atol=1e-3)
        latent = vae.encode(picture).latent_dist.mean
        assert torch.allclose(vae.decode(latent).sample, wide.decode(latent).sample, atol=1e-3)


def test_the_exported_file_has_the_layout_of_stable_diffusion(bench: Bench, tmp_path: Path) -> None:
    import json

    from safetensors.torch import load_file

    path = export.export(tmp_path)
    tensors = load_file(str(path))
    assert tensors["model.diffusion_model.input_blocks.0.0.weight"].shape[1] == 4
    assert tensors["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"].shape == (49408, 64)
    assert tensors["cond_stage_model.transformer.text_projection.weight"].shape == (64, 64)
    assert "first_stage_model.decoder.up.3.upsample.conv.weight" in tensors
    params = json.loads(path.with_suffix(".yaml").read_text("utf-8"))["model"]["params"]
    assert params["scale_factor"] == bench.pipe.vae.config.scaling_factor
    assert (Path(params["cond_stage_config"]["params"]["version"]) / "vocab.json").is_file()


def test_a_summary_counts_prompts_not_pictures() -> None:
    rows = [
        {"condition": "plain", "family": "f", "steps": 0.0, "prompt": prompt, **dict.fromkeys(measure.MEASURES, value)}
        for prompt, values in {"a": (0.0, 1.0), "b": (1.0, 1.0)}.items()
        for value in values
    ]
    (entry,) = measure.summary(rows)
    assert entry["pictures"] == 4
    assert entry["similarity"] == 0.75
    # Prompts' means of 0.5 and 1, standard deviation 0.354.
    assert entry["similarity_95"] == pytest.approx(1.96 * 0.3536 / 2**0.5, abs=1e-3)


def test_a_written_table_is_a_summary_again() -> None:
    text = (Path(__file__).parents[3] / "docs" / "experiment.md").read_text("utf-8")
    entries = measure.entries(text)
    assert {entry["condition"] for entry in entries} == set(measure.CONDITIONS)
    assert measure.table(entries) in text


def test_the_classifier_knows_every_word() -> None:
    assert Classifier.FIELDS["look"] == world.LOOKS
