"""What the UNet of a pipeline reads in each step, where the personalised prompt is for a part of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import diffusers

from aesthetic_clip import AestheticError, Embedding, PromptEmbeddings, Settings, encode_prompts
from aesthetic_clip.geometry import unit
from aesthetic_clip.hosts.diffusers import PartOfSampling
from aesthetic_clip.spaces import space_of

from ....support import pipelines

STEPS = 4
ON = Settings(steps=2, lr=0.001, weight=1.0)
LATE = dataclasses.replace(ON, guidance_start=0.5)
EARLY = dataclasses.replace(ON, guidance_end=0.25)
TASTE = Embedding(
    "taste",
    {
        space_of(dim): unit(torch.randn(dim, generator=torch.Generator().manual_seed(0)))
        for dim in (pipelines.DIM, pipelines.DIM_2)
    },
)


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.write_projection(tmp_path_factory.mktemp("projection"))


@pytest.fixture(scope="module", params=["sd", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return quiet(getattr(pipelines, request.param)())


@pytest.fixture(scope="module")
def sd() -> Any:
    return quiet(pipelines.sd())


def quiet(pipe: Any) -> Any:
    pipe.scheduler = diffusers.DDIMScheduler()  # as many steps as it is asked for
    pipe.set_progress_bar_config(disable=True)
    return pipe


def encoded(
    pipe: Any, tower: Path, settings: Settings, prompts: str | list[str] = "a portal", negative: str = "fog"
) -> PromptEmbeddings:
    return encode_prompts(pipe, prompts, settings, TASTE, negative_prompt=negative, text_tower=tower)


def read(pipe: Any, monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> list[dict[str, Tensor]]:
    """What the UNet is given, step by step: ``hidden`` (B, T, C), negative prompts first, and SDXL's ``pooled``."""
    seen: list[dict[str, Tensor]] = []
    forward = pipe.unet.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        more = kwargs.get("added_cond_kwargs") or {}
        seen.append({"hidden": kwargs["encoder_hidden_states"].clone()})
        if "text_embeds" in more:
            seen[-1]["pooled"] = more["text_embeds"].clone()
        return forward(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(pipe.unet, "forward", recorded)
        options: dict[str, Any] = {"num_inference_steps": STEPS, "height": 64, "width": 64, "output_type": "latent"}
        pipe(**{**options, **arguments}, generator=torch.Generator().manual_seed(0))
    return seen


def joined(embeddings: PromptEmbeddings, copies: int = 1) -> dict[str, Tensor]:
    """As the pipeline joins them."""

    def both(negative: Tensor | None, positive: Tensor | None) -> Tensor:
        assert negative is not None and positive is not None
        return torch.cat([negative.repeat_interleave(copies, 0), positive.repeat_interleave(copies, 0)])

    result = {"hidden": both(embeddings.negative_prompt_embeds, embeddings.prompt_embeds)}
    if embeddings.pooled_prompt_embeds is not None:
        result["pooled"] = both(embeddings.negative_pooled_prompt_embeds, embeddings.pooled_prompt_embeds)
    return result


def assert_read(seen: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> None:
    assert len(seen) == len(expected)
    for here, there in zip(seen, expected):
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here)


@pytest.mark.parametrize(
    ("settings", "personalised"),
    [
        (LATE, [False, False, True, True]),
        (EARLY, [True, False, False, False]),
        (dataclasses.replace(ON, guidance_start=0.25, guidance_end=0.75), [False, True, True, False]),
    ],
    ids=["late", "early", "middle"],
)
@pytest.mark.parametrize("negative_too", [False, True])
def test_the_personalised_prompt_is_read_in_its_part_and_the_ordinary_one_elsewhere(
    pipe: Any,
    tower: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    personalised: list[bool],
    negative_too: bool,
) -> None:
    settings = dataclasses.replace(settings, negative_prompt=negative_too)
    whole = dataclasses.replace(settings, guidance_start=0.0, guidance_end=1.0)
    sides = {True: joined(encoded(pipe, tower, whole)), False: joined(encoded(pipe, tower, Settings(steps=0)))}
    assert not torch.equal(sides[True]["hidden"], sides[False]["hidden"])
    seen = read(pipe, monkeypatch, **encoded(pipe, tower, settings).arguments())
    assert_read(seen, [sides[side] for side in personalised])


def test_several_prompts_and_pictures_of_each(sd: Any, tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["a portal", "a lighthouse at night"]
    late = encoded(sd, tower, LATE, prompts)
    assert late.ordinary is not None
    seen = read(sd, monkeypatch, **late.arguments(), num_images_per_prompt=2)
    assert_read(seen, [joined(late.ordinary, 2)] * 2 + [joined(late, 2)] * 2)


def test_rows_of_a_batch_have_parts_of_their_own(sd: Any, tower: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [encoded(sd, tower, settings) for settings in (Settings(steps=0), LATE, EARLY, ON)]
    part = PartOfSampling(rows)
    seen = read(
        sd,
        monkeypatch,
        **part.begin(),
        callback_on_step_end=part,
        callback_on_step_end_tensor_inputs=part.tensor_inputs,
    )
    plain, moved = rows[0].prompt_embeds, rows[3].prompt_embeds
    late, early = [plain, plain, moved, moved], [moved, plain, plain, plain]
    for step, one in enumerate(seen):
        assert torch.equal(one["hidden"][4:], torch.cat([plain, late[step], early[step], moved]))


def test_without_guidance_and_with_a_negative_prompt_that_says_the_same(
    sd: Any, tower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = encoded(sd, tower, LATE, negative="a portal")
    seen = read(sd, monkeypatch, **late.arguments(), guidance_scale=1.0)
    assert torch.equal(seen[-1]["hidden"], late.prompt_embeds)
    seen = read(sd, monkeypatch, **late.arguments())
    assert_read(seen[2:], [joined(late)] * 2)


def test_all_of_the_sampling_is_tensors_alone(pipe: Any, tower: Path) -> None:
    arguments = encoded(pipe, tower, ON).arguments()
    assert all(isinstance(value, Tensor) for value in arguments.values())


def test_a_part_without_a_step_says_so(
    sd: Any, tower: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = encoded(sd, tower, dataclasses.replace(ON, guidance_start=0.8, guidance_end=0.9))
    assert narrow.ordinary is not None
    seen = read(sd, monkeypatch, **narrow.arguments())
    assert_read(seen, [joined(narrow.ordinary)] * STEPS)
    assert "None of the 4 steps begins between 0.8 and 0.9" in caplog.text


def test_embeddings_that_another_callback_changed_are_not_taken_for_ours(sd: Any, tower: Path) -> None:
    late = encoded(sd, tower, LATE)
    part = PartOfSampling([late])

    def changing(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return part(pipe, step, time, {**tensors, "prompt_embeds": tensors["prompt_embeds"] + 1})

    with pytest.raises(AestheticError, match="other prompt embeddings than it was given"):
        sd(
            **late.tensors(),
            callback_on_step_end=changing,
            callback_on_step_end_tensor_inputs=part.tensor_inputs,
            num_inference_steps=STEPS,
            height=64,
            width=64,
        )
