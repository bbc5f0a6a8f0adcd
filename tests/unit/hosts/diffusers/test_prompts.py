# mypy: disable-error-code="arg-type"
# A tensor that not every pipeline has is compared as it is; None fails the test.
"""Prompt embeddings for diffusers pipelines, against the method written out plainly."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import diffusers
import numpy
import safetensors.torch
import transformers

import aesthetic_clip
from aesthetic_clip import AestheticError, Embedding, Library, Memory, PromptEmbeddings, Settings, encode_prompts
from aesthetic_clip.clip.text_encoder import TransformersTextEncoder
from aesthetic_clip.embeddings.embedding import save
from aesthetic_clip.geometry import blend, rotate, unit
from aesthetic_clip.hosts.diffusers import encoders
from aesthetic_clip.spaces import Space, space_of

from ....support import pipelines
from ....support.towers import plain_method

PROMPT = "a portal towards another dimension"
OTHER = "a lighthouse on a cliff, by night"
SETTINGS = Settings(steps=4, lr=0.001, weight=0.9)
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-4}


def vector(dim: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(dim, generator=torch.Generator().manual_seed(seed)))


def embedding(*dims: int, name: str = "taste", seed: int = 0) -> Embedding:
    return Embedding(name, {space_of(dim): vector(dim, seed) for dim in dims})


TASTE = embedding(pipelines.DIM)
BOTH = embedding(pipelines.DIM, pipelines.DIM_2)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.write_projection(tmp_path_factory.mktemp("projection"))


@pytest.fixture(scope="module")
def sd() -> Any:
    return pipelines.sd()


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return pipelines.sdxl()


@torch.no_grad()
def encoded_by(
    pipe: Any, text: str | list[str], negative: str | list[str] | None = None, clip_skip: int | None = None
) -> Any:
    """The pipeline's own encoding, all four tensors or the two that there are."""
    return pipe.encode_prompt(
        prompt=text,
        device=torch.device("cpu"),
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
        negative_prompt=negative,
        clip_skip=clip_skip,
    )


def optimised(module: Any, projection: Tensor, tokens: Any, text: str, target: Tensor) -> tuple[Any, list[float]]:
    ids = tokens(text, padding="max_length", max_length=77, return_tensors="pt").input_ids[0]
    return plain_method(TransformersTextEncoder(module, projection), ids, target, SETTINGS.steps, SETTINGS.lr)


def with_parts(pipe: Any, **parts: Any) -> Any:
    return type(pipe)(**{**pipe.components, **parts, **_flags(pipe)})


def _flags(pipe: Any) -> dict[str, bool]:
    return {"add_watermarker": False} if hasattr(pipe, "text_encoder_2") else {"requires_safety_checker": False}


def picture(pipe: Any, embeds: PromptEmbeddings) -> numpy.ndarray:
    return pipe(
        **embeds.arguments(), num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np"
    ).images


def state(pipe: Any) -> dict[str, Tensor]:
    parts = (part for part in ("text_encoder", "text_encoder_2") if hasattr(pipe, part))
    return {f"{part}.{k}": v.clone() for part in parts for k, v in getattr(pipe, part).state_dict().items()}


def assert_same_state(pipe: Any, before: dict[str, Tensor]) -> None:
    after = state(pipe)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    table = pipe.text_encoder.get_input_embeddings()
    assert not (pipe.text_encoder._forward_pre_hooks or table._forward_hooks)


# The method


@pytest.mark.parametrize("clip_skip", [None, 1])
@pytest.mark.parametrize("slerp", [False, True])
def test_sd1_is_the_plain_method(sd: Any, tower: Path, clip_skip: int | None, slerp: bool) -> None:
    module, similarities = optimised(
        sd.text_encoder, pipelines.projection(), sd.tokenizer, PROMPT, vector(pipelines.DIM)
    )
    settings = dataclasses.replace(SETTINGS, slerp=slerp)
    result = encode_prompts(sd, PROMPT, settings, TASTE, text_tower=tower, negative_prompt="fog", clip_skip=clip_skip)

    hidden = [_skipped(m, sd.tokenizer, clip_skip) for m in (sd.text_encoder, module)]
    expected = blend(hidden[0], hidden[1], settings.weight, slerp)
    assert torch.allclose(result.prompt_embeds, expected, **CLOSE)
    assert not torch.allclose(result.prompt_embeds, hidden[0], **CLOSE)
    assert torch.equal(result.negative_prompt_embeds, encoded_by(sd, PROMPT, "fog")[1])
    assert result.similarities[0]["CLIP-32"] == pytest.approx(similarities, abs=1e-4)
    assert similarities[-1] > similarities[0]


@torch.no_grad()
def _skipped(module: Any, tokens: Any, clip_skip: int | None) -> Tensor:
    ids = tokens(PROMPT, padding="max_length", return_tensors="pt").input_ids
    inner = getattr(module, "text_model", module)
    output = module(ids, output_hidden_states=True)
    return (
        output.last_hidden_state if clip_skip is None else inner.final_layer_norm(output.hidden_states[-1 - clip_skip])
    )


def test_sdxl_is_the_plain_method_on_each_encoder(sdxl: Any, tower: Path) -> None:
    first, _ = optimised(sdxl.text_encoder, pipelines.projection(), sdxl.tokenizer, PROMPT, vector(pipelines.DIM))
    whole = copy.deepcopy(sdxl.text_encoder_2)
    matrix = whole.text_projection.weight.detach().T
    second, _ = optimised(whole.text_model, matrix, sdxl.tokenizer_2, PROMPT, vector(pipelines.DIM_2))
    whole.text_model = second
    ordinary = encoded_by(sdxl, PROMPT, "fog")
    moved = encoded_by(with_parts(sdxl, text_encoder=first, text_encoder_2=whole), PROMPT, "fog")

    result = encode_prompts(sdxl, PROMPT, SETTINGS, BOTH, text_tower=tower, negative_prompt="fog")
    assert torch.allclose(result.prompt_embeds, blend(ordinary[0], moved[0], 0.9, False), **CLOSE)
    assert torch.allclose(result.pooled_prompt_embeds, blend(ordinary[2], moved[2], 0.9, False), **CLOSE)
    assert not torch.allclose(result.pooled_prompt_embeds, ordinary[2], **CLOSE)
    assert torch.equal(result.negative_prompt_embeds, ordinary[1])
    assert torch.equal(result.negative_pooled_prompt_embeds, ordinary[3])
    assert set(result.similarities[0]) == {"CLIP-32", "CLIP-24"}


@pytest.mark.parametrize(("dim", "moves", "stays"), [(pipelines.DIM, 0, 1), (pipelines.DIM_2, 1, 0)])
def test_an_embedding_for_one_encoder_leaves_the_other(
    sdxl: Any, tower: Path, dim: int, moves: int, stays: int
) -> None:
    shares = (slice(0, pipelines.WIDTH), slice(pipelines.WIDTH, None))
    ordinary = encoded_by(sdxl, PROMPT)
    result = encode_prompts(sdxl, PROMPT, SETTINGS, embedding(dim), text_tower=tower)
    assert not torch.allclose(result.prompt_embeds[..., shares[moves]], ordinary[0][..., shares[moves]], **CLOSE)
    assert torch.equal(result.prompt_embeds[..., shares[stays]], ordinary[0][..., shares[stays]])
    assert torch.equal(result.pooled_prompt_embeds, ordinary[2]) == (dim == pipelines.DIM)
    assert result.left_alone == (("CLIP-24", "CLIP-32")[moves],)


@pytest.mark.parametrize("layout", ["transformers", "open_clip", "single_file"])
def test_sd2_is_the_plain_method_on_the_whole_tower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    monkeypatch.setattr(encoders, "VIT_H", Space("tiny H", pipelines.WIDTH))
    monkeypatch.setattr(encoders, "PUBLISHED", ())
    whole = pipelines.text_encoder(layers=3)
    cut = pipelines.text_encoder(layers=2)
    cut.load_state_dict(whole.state_dict(), strict=False)
    pipe = pipelines.sd(cut, pad="!")
    path = _write_tower(tmp_path, whole, layout)

    module, similarities = optimised(whole, pipelines.projection(), pipe.tokenizer, PROMPT, vector(pipelines.DIM))
    moved = copy.deepcopy(cut)
    moved.load_state_dict({k: v for k, v in module.state_dict().items() if ".layers.2." not in k})
    before = state(pipe)
    result = encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=path)
    expected = blend(
        encoded_by(pipe, PROMPT)[0], encoded_by(with_parts(pipe, text_encoder=moved), PROMPT)[0], 0.9, False
    )
    assert torch.allclose(result.prompt_embeds, expected, **CLOSE)
    assert result.similarities[0]["CLIP-32"] == pytest.approx(similarities, abs=1e-4)
    assert_same_state(pipe, before)
    assert len(pipe.text_encoder.state_dict()) == len(before)


def _write_tower(folder: Path, module: Any, layout: str) -> Path:
    weights = {key.removeprefix("text_model."): value for key, value in module.state_dict().items()}
    if layout == "transformers":
        content = {f"text_model.{key}": value for key, value in weights.items()}
        content["text_projection.weight"] = pipelines.projection().T.contiguous()
        content["vision_model.encoder.layers.5.mlp.fc1.weight"] = torch.zeros(1)
        safetensors.torch.save_file(content, folder / "model.safetensors")
        return folder
    content = {"text_projection": pipelines.projection(), "visual.transformer.resblocks.7.ln_1.weight": torch.zeros(1)}
    names = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for number in range(3):
        own = f"encoder.layers.{number}."
        layer = {key.removeprefix(own): value for key, value in weights.items() if key.startswith(own)}
        block = f"transformer.resblocks.{number}."
        for new, old in names.items():
            for kind in ("weight", "bias"):
                content[f"{block}{old}.{kind}"] = layer[f"{new}.{kind}"]
        for kind in ("weight", "bias"):
            parts = [layer[f"self_attn.{part}_proj.{kind}"] for part in "qkv"]
            content[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
    if layout == "single_file":
        content = {f"cond_stage_model.model.{key}": value for key, value in content.items()}
        torch.save({"state_dict": content}, folder / "sd2.ckpt")
        return folder / "sd2.ckpt"
    safetensors.torch.save_file(content, folder / "open_clip_model.safetensors")
    return folder / "open_clip_model.safetensors"


def test_sd2_without_its_tower_is_refused(monkeypatch: pytest.MonkeyPatch, sd: Any) -> None:
    monkeypatch.setattr(encoders, "VIT_H", Space("tiny H", pipelines.WIDTH, hub_id="nobody/nothing"))
    with pytest.raises(AestheticError, match="last layer and its projection cut off"):
        encode_prompts(sd, PROMPT, SETTINGS, embedding(pipelines.WIDTH))


def test_sd2_with_anothers_tower_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "VIT_H", Space("tiny H", pipelines.WIDTH))
    other = pipelines.text_encoder(layers=3)
    other.load_state_dict({k: torch.randn_like(v.float()) for k, v in other.state_dict().items()})
    path = _write_tower(tmp_path, other, "transformers")
    pipe = pipelines.sd(pipelines.text_encoder(layers=2))
    with pytest.raises(AestheticError, match="not those that the text encoder has"):
        encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=path)
    with pytest.raises(AestheticError, match="no text tower of 2 layers"):
        encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=pipelines.write_projection(tmp_path))
    with pytest.raises(AestheticError, match="no text tower at"):
        encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=tmp_path / "nowhere")
    (tmp_path / "broken.safetensors").write_bytes(b"broken")
    with pytest.raises(AestheticError, match="can't be used as a text tower"):
        encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=tmp_path / "broken.safetensors")


# The knobs


def test_the_text_turns_the_target(sd: Any, tower: Path) -> None:
    ids = sd.tokenizer("fog", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        feature = (sd.text_encoder(ids).pooler_output @ pipelines.projection())[0]
    turned = Embedding("taste", {space_of(pipelines.DIM): rotate(vector(pipelines.DIM), feature, 0.5, True)})
    expected = encode_prompts(sd, PROMPT, SETTINGS, turned, text_tower=tower)
    settings = dataclasses.replace(SETTINGS, text="fog", slerp_angle=0.5, text_negative=True)
    result = encode_prompts(sd, PROMPT, settings, TASTE, text_tower=tower)
    assert torch.allclose(result.prompt_embeds, expected.prompt_embeds, **CLOSE)
    with pytest.raises(AestheticError, match="90 tokens"):
        encode_prompts(sd, PROMPT, dataclasses.replace(SETTINGS, text="fog " * 90), TASTE, text_tower=tower)


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_the_negative_prompt_moves_with_the_switch_only(
    model: str, tower: Path, request: pytest.FixtureRequest
) -> None:
    pipe = request.getfixturevalue(model)
    on = dataclasses.replace(SETTINGS, negative_prompt=True)
    # Where it is read as the prompt is, it moves as a prompt does.
    positive = encode_prompts(pipe, "fog", SETTINGS, BOTH, text_tower=tower)
    result = encode_prompts(pipe, PROMPT, on, BOTH, text_tower=tower, negative_prompt="fog")
    assert torch.allclose(result.negative_prompt_embeds, positive.prompt_embeds, **CLOSE)
    if model == "sdxl":
        assert torch.allclose(result.negative_pooled_prompt_embeds, positive.pooled_prompt_embeds, **CLOSE)
    none = encode_prompts(pipe, PROMPT, on, BOTH, text_tower=tower)
    assert torch.equal(none.negative_prompt_embeds, encoded_by(pipe, PROMPT)[1])


def test_tags_in_a_prompt(sd: Any, tower: Path, tmp_path: Path) -> None:
    save(embedding(pipelines.DIM, name="tagged", seed=1), tmp_path / "tagged.safetensors")
    library = Library((tmp_path,))
    tagged = encode_prompts(
        sd, f"{PROMPT} <aesthetic:tagged:0.5:steps=2:lr=0.001>", Settings(), library, text_tower=tower
    )
    settings = Settings(embedding="tagged", weight=0.5, steps=2, lr=0.001)
    by_knobs = encode_prompts(sd, PROMPT, settings, library, text_tower=tower)
    assert torch.equal(tagged.prompt_embeds, by_knobs.prompt_embeds)
    by_path = dataclasses.replace(settings, embedding=str(tmp_path / "tagged.safetensors"))
    result = encode_prompts(sd, PROMPT, by_path, text_tower=tower)
    assert torch.equal(result.prompt_embeds, by_knobs.prompt_embeds)


@pytest.mark.parametrize("knob", [{"steps": 0}, {"weight": 0.0}, {"lr": 0.0}])
@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_nothing_to_move_is_the_plain_pipeline(
    model: str, knob: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    pipe = request.getfixturevalue(model)
    texts = [PROMPT, OTHER]
    result = encode_prompts(pipe, texts, dataclasses.replace(SETTINGS, **knob), BOTH, negative_prompt="fog")
    assert result.similarities == ({}, {})
    assert all(map(torch.equal, result.arguments().values(), encoded_by(pipe, texts, ["fog", "fog"])))


def test_prompts_do_not_influence_each_other(sdxl: Any, tower: Path) -> None:
    together = encode_prompts(
        sdxl, [PROMPT, "", OTHER], SETTINGS, BOTH, text_tower=tower, negative_prompt=["a", "b", "c"]
    )
    for i, (text, negative) in enumerate(zip([PROMPT, "", OTHER], "abc")):
        alone = encode_prompts(sdxl, text, SETTINGS, BOTH, text_tower=tower, negative_prompt=negative)
        for name, tensor in alone.arguments().items():
            assert torch.equal(together.arguments()[name][i : i + 1], tensor)
        assert together.similarities[i] == alone.similarities[0]
    assert together.similarities[1] == {}, "an empty prompt has nothing to move"


def test_progress_counts_every_step(sdxl: Any, tower: Path) -> None:
    said: list[tuple[int, int]] = []
    encode_prompts(
        sdxl,
        [PROMPT, "", OTHER],
        SETTINGS,
        BOTH,
        text_tower=tower,
        progress=lambda done, total, _: said.append((done, total)),
    )
    assert [done for done, _ in said] == sorted(done for done, _ in said)
    assert said[-1] == (24, 24)
    assert {total for _, total in said} == {24}


def test_without_guidance(sdxl: Any, tower: Path) -> None:
    result = encode_prompts(sdxl, PROMPT, SETTINGS, BOTH, text_tower=tower, guidance=False)
    assert set(result.arguments()) == {"prompt_embeds", "pooled_prompt_embeds"}


# Pictures


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_pictures(model: str, tower: Path, request: pytest.FixtureRequest) -> None:
    pipe = request.getfixturevalue(model)
    pipe.set_progress_bar_config(disable=True)
    plain = pipe(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="np").images
    still = encode_prompts(pipe, PROMPT, dataclasses.replace(SETTINGS, steps=0), BOTH)
    assert numpy.array_equal(picture(pipe, still), plain)
    moved = encode_prompts(pipe, PROMPT, SETTINGS, BOTH, text_tower=tower)
    assert not numpy.array_equal(picture(pipe, moved), plain)


def test_other_pipelines_take_the_embeddings(sd: Any, tower: Path) -> None:
    embeds = encode_prompts(sd, PROMPT, SETTINGS, TASTE, text_tower=tower)
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**sd.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    images = pipe(**embeds.arguments(), image=torch.zeros(1, 3, 64, 64), num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 64, 64, 3)
    again = encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=tower)
    assert torch.equal(again.prompt_embeds, embeds.prompt_embeds)


def test_half_precision_stays_half(tower: Path) -> None:
    pipe = pipelines.sd().to(torch.bfloat16)
    result = encode_prompts(pipe, PROMPT, SETTINGS, TASTE, text_tower=tower)
    assert result.prompt_embeds.dtype == torch.bfloat16
    assert not torch.equal(result.prompt_embeds, encoded_by(pipe, PROMPT)[0])


# What stays as it was


class Stop(Exception):
    pass


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_the_pipeline_is_left_as_it_was(model: str, tower: Path, request: pytest.FixtureRequest) -> None:
    pipe = request.getfixturevalue(model)
    before, random = state(pipe), torch.get_rng_state()
    result = encode_prompts(pipe, PROMPT, SETTINGS, BOTH, text_tower=tower, clip_skip=1)
    assert not any(tensor.requires_grad for tensor in result.arguments().values())
    assert_same_state(pipe, before)
    for stop in range(9):

        def progress(done: int, _total: int, _line: str, stop: int = stop) -> None:
            if done >= stop:
                raise Stop

        if stop <= SETTINGS.steps:
            with pytest.raises(Stop):
                encode_prompts(pipe, PROMPT, SETTINGS, BOTH, text_tower=tower, progress=progress)
        assert_same_state(pipe, before)
    assert torch.equal(torch.get_rng_state(), random)


# Text projection


def test_a_folder_may_carry_its_projection(tmp_path: Path, tower: Path, sd: Any) -> None:
    sd.save_pretrained(tmp_path)
    loaded = diffusers.StableDiffusionPipeline.from_pretrained(tmp_path)
    with pytest.raises(AestheticError, match=r"hidden size is 64.*as text_tower"):
        encode_prompts(loaded, PROMPT, SETTINGS, TASTE)
    pipelines.write_projection(tmp_path)
    result = encode_prompts(loaded, PROMPT, SETTINGS, TASTE)
    expected = encode_prompts(sd, PROMPT, SETTINGS, TASTE, text_tower=tower)
    assert torch.equal(result.prompt_embeds, expected.prompt_embeds)


# Faults


def _faults() -> dict[str, tuple[Callable[[Any, Path], object], str]]:
    return {
        "another space": (
            lambda pipe, tower: encode_prompts(pipe, PROMPT, SETTINGS, embedding(768, 1280), text_tower=tower),
            "does not fit",
        ),
        "no prompt": (lambda pipe, _: encode_prompts(pipe, [], SETTINGS, TASTE), "no prompt"),
        "negatives": (
            lambda pipe, _: encode_prompts(pipe, PROMPT, SETTINGS, TASTE, negative_prompt=["a", "b"]),
            "2 negative prompts for 1",
        ),
        "knob": (lambda pipe, _: encode_prompts(pipe, PROMPT, Settings(steps=99), TASTE), "from 0 to 50"),
        "no library": (lambda pipe, _: encode_prompts(pipe, PROMPT, Settings(embedding="x")), "no library was given"),
        "not in the library": (
            lambda pipe, _: encode_prompts(pipe, PROMPT, Settings(embedding="x"), Library((Path("/nowhere"),))),
            "no aesthetic embedding 'x'",
        ),
    }


@pytest.mark.parametrize("name", _faults())
def test_faults_are_explained(name: str, sd: Any, tower: Path) -> None:
    call, match = _faults()[name]
    with pytest.raises(AestheticError, match=match):
        call(sd, tower)


def test_another_kind_of_pipeline_is_refused(sd: Any) -> None:
    class Other(diffusers.DiffusionPipeline):  # type: ignore[misc]
        def __init__(self, unet: Any, text_encoder: Any, tokenizer: Any) -> None:
            super().__init__()
            self.register_modules(unet=unet, text_encoder=text_encoder, tokenizer=tokenizer)

        def encode_prompt(self) -> None:
            pass

    t5 = transformers.T5EncoderModel(transformers.T5Config(d_model=8, d_ff=8, num_layers=1, num_heads=1, d_kv=8))
    with pytest.raises(AestheticError, match="A Other can't be personalised"):
        encode_prompts(Other(sd.unet, t5, sd.tokenizer), PROMPT, SETTINGS, TASTE)


# The package


def test_what_the_package_offers() -> None:
    assert set(aesthetic_clip.__all__) >= {"Settings", "encode_prompts", "load_embedding", "Library"}
    assert all(getattr(aesthetic_clip, name) for name in aesthetic_clip.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = aesthetic_clip.nothing


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_every_way_with_memory_gives_the_same_conditioning(
    kind: str, request: pytest.FixtureRequest, tower: Path
) -> None:
    pipe = request.getfixturevalue(kind)
    fast, *others = (
        encode_prompts(pipe, [PROMPT, OTHER], SETTINGS, BOTH, text_tower=tower, memory=memory)
        for memory in (Memory.FAST, Memory.LOW, Memory.LOWEST)
    )
    for other in others:
        assert torch.allclose(fast.prompt_embeds, other.prompt_embeds, **CLOSE)
        assert fast.pooled_prompt_embeds is None or torch.allclose(
            fast.pooled_prompt_embeds, other.pooled_prompt_embeds, **CLOSE
        )
