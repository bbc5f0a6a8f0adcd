"""Which of diffusers' pipelines work: all that read their prompt with CLIP are tried. docs/pipelines.md is made from this."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")

import diffusers
import transformers

from aesthetic_clip import AestheticError, Embedding, PromptEmbeddings, Settings, encode_prompts
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import space_of

from ....support import pipelines

ROOT = Path(__file__).parents[4]
PROMPT, NEGATIVE = "a portal towards another dimension", "fog"
SETTINGS = Settings(steps=2, lr=0.001)
BOTH = Embedding(
    "taste",
    {
        space_of(dim): unit(torch.randn(dim, generator=torch.Generator().manual_seed(0)))
        for dim in (pipelines.DIM, pipelines.DIM_2)
    },
)
CLIPS = (transformers.CLIPTextModel, transformers.CLIPTextModelWithProjection)
REFUSED = {"I2VGenXLPipeline"}
OWN_LAYOUT = {"StableDiffusionLatentUpscalePipeline"}
"""It reads another layer than the others, and the pooled vector too."""


def _reads_with_clip(cls: Any) -> bool:
    try:
        hints = typing.get_type_hints(cls.__init__)
    except Exception:  # one that needs a package that is not here
        return False
    kind = hints.get("text_encoder")
    return kind in CLIPS or bool(set(typing.get_args(kind)) & set(CLIPS))


def candidates() -> dict[str, Any]:
    """Pipelines with a UNet whose text_encoder is a CLIP text model, and that take prompt embeddings."""
    found = {}
    for name in dir(diffusers):
        if not name.endswith("Pipeline") or name.startswith(("Flax", "Onnx")):
            continue
        cls = getattr(diffusers, name)
        if not (inspect.isclass(cls) and issubclass(cls, diffusers.DiffusionPipeline)):
            continue
        if "__call__" not in dir(cls):
            continue
        parameters = inspect.signature(cls.__init__).parameters
        takes = "prompt_embeds" in inspect.signature(cls.__call__).parameters
        if takes and "unet" in parameters and "tokenizer" in parameters and _reads_with_clip(cls):
            found[name] = cls
    return found


CANDIDATES = candidates()


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.write_projection(tmp_path_factory.mktemp("projection"))


@pytest.fixture(scope="module")
def bases() -> dict[bool, Any]:
    return {False: pipelines.sd(), True: pipelines.sdxl()}


@pytest.fixture(scope="module")
def expected(bases: dict[bool, Any], tower: Path) -> dict[bool, PromptEmbeddings]:
    return {kind: personalised(pipe, tower) for kind, pipe in bases.items()}


def personalised(pipe: Any, tower: Path) -> PromptEmbeddings:
    return encode_prompts(pipe, PROMPT, SETTINGS, BOTH, negative_prompt=NEGATIVE, text_tower=tower)


def built(cls: Any, base: Any) -> Any:
    """The pipeline of the base's models, and without those that only pictures need."""
    parts = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        if name in base.components:
            parts[name] = base.components[name]
        elif parameter.default is parameter.empty:
            parts[name] = _part(name)
        elif name in ("requires_safety_checker", "add_watermarker"):
            parts[name] = False
    if "ControlNetXS" in cls.__name__:
        parts["unet"] = None  # it would join the two, which it can't with ones so small
    return cls(**parts)


def _part(name: str) -> Any:
    if name != "controlnet":
        return None
    return diffusers.ControlNetModel(
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=pipelines.WIDTH,
        conditioning_embedding_out_channels=(16,) * 4,
    )


def is_xl(cls: Any) -> bool:
    return "text_encoder_2" in inspect.signature(cls.__init__).parameters


@pytest.mark.parametrize("name", [name for name in CANDIDATES if name not in REFUSED])
def test_a_pipeline_gets_what_the_one_for_text_gets(
    name: str, bases: dict[bool, Any], expected: dict[bool, PromptEmbeddings], tower: Path
) -> None:
    cls = CANDIDATES[name]
    result, base = personalised(built(cls, bases[is_xl(cls)]), tower), expected[is_xl(cls)]
    taken = inspect.signature(cls.__call__).parameters
    assert result.similarities == base.similarities
    assert result.arguments().keys() <= taken.keys()
    if name not in OWN_LAYOUT:
        assert result.arguments().keys() == base.arguments().keys() & taken.keys()
        assert all(torch.equal(tensor, base.arguments()[key]) for key, tensor in result.arguments().items())


@pytest.mark.parametrize("name", sorted(REFUSED & CANDIDATES.keys()))
def test_a_pipeline_that_can_not_encode_by_itself_is_refused(name: str, bases: dict[bool, Any], tower: Path) -> None:
    with pytest.raises(AestheticError, match="only in the middle of a generation"):
        personalised(built(CANDIDATES[name], bases[False]), tower)


IMAGE = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
PICTURES: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {},
    "StableDiffusionImg2ImgPipeline": {"image": IMAGE},
    "StableDiffusionInpaintPipeline": {"image": IMAGE, "mask_image": torch.ones(1, 1, 64, 64)},
    "StableDiffusionControlNetPipeline": {"image": IMAGE},
    "StableDiffusionPAGPipeline": {},
    "StableDiffusionPanoramaPipeline": {},
    "StableDiffusionXLPipeline": {},
    "StableDiffusionXLImg2ImgPipeline": {"image": IMAGE},
    "StableDiffusionXLInpaintPipeline": {"image": IMAGE, "mask_image": torch.ones(1, 1, 64, 64)},
    "LatentConsistencyModelPipeline": {},
    "StableDiffusionInstructPix2PixPipeline": {"image": IMAGE},
}
UNLIKE_SD: dict[str, dict[str, Any]] = {
    "LatentConsistencyModelPipeline": {"time_cond_proj_dim": 8},
    "StableDiffusionInstructPix2PixPipeline": {"in_channels": 8},
}


def ready(name: str, bases: dict[bool, Any]) -> Any:
    """The pipeline, for pictures in a few steps."""
    cls = getattr(diffusers, name)
    pipe = built(cls, bases[is_xl(cls)])
    if name in UNLIKE_SD:
        pipe.unet = pipelines.unet(pipelines.WIDTH, **UNLIKE_SD[name])
    scheduler = {"LatentConsistencyModelPipeline": "LCMScheduler"}.get(name, "DDIMScheduler")
    pipe.scheduler = getattr(diffusers, scheduler)()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(name: str, pipe: Any, encoded: PromptEmbeddings, steps: int = 4) -> Tensor:
    made = pipe(
        **encoded.arguments(),
        **PICTURES[name],
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        **({} if "image" in PICTURES[name] else {"height": 64, "width": 64}),
    )
    return torch.from_numpy(made.images)


@pytest.mark.parametrize("name", PICTURES)
def test_its_pictures_change(name: str, bases: dict[bool, Any], tower: Path) -> None:
    pipe = ready(name, bases)

    def pictures(settings: Settings) -> Tensor:
        return run(name, pipe, encode_prompts(pipe, PROMPT, settings, BOTH, text_tower=tower, negative_prompt=NEGATIVE))

    assert not torch.equal(pictures(SETTINGS), pictures(Settings(steps=0)))


def test_the_documents_list_is_what_was_tried() -> None:
    text = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    listed = {word.strip("`|,. ") for word in text.split() if word.strip("`|,. ").endswith("Pipeline")}
    assert PICTURES.keys() | REFUSED <= listed
    assert {name for name in listed if hasattr(diffusers, name)} <= CANDIDATES.keys()


@pytest.mark.parametrize("name", PICTURES)
def test_a_part_of_its_steps_reads_the_personalised_prompt(
    name: str, bases: dict[bool, Any], tower: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, late = ready(name, bases), dataclasses.replace(SETTINGS, guidance_start=0.5)
    encoded = encode_prompts(pipe, PROMPT, late, BOTH, text_tower=tower, negative_prompt=NEGATIVE)
    read: list[Tensor] = []
    forward = pipe.unet.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        read.append(kwargs["encoder_hidden_states"].clone())
        return forward(*args, **kwargs)

    monkeypatch.setattr(pipe.unet, "forward", recorded)
    run(name, pipe, encoded, steps=8)  # of which some take a part
    assert encoded.ordinary is not None and len(read) >= 2
    moved, plain = encoded.prompt_embeds[0], encoded.ordinary.prompt_embeds[0]

    def holds(rows: Tensor, row: Tensor) -> bool:
        return any(torch.equal(one, row) for one in rows)

    sides = [(holds(rows, plain), holds(rows, moved)) for rows in read]
    assert sides == sorted(sides, reverse=True)
    assert set(sides) == {(True, False), (False, True)}
