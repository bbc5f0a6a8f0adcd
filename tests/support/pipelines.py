"""Small random diffusers pipelines, built from configurations; nothing is downloaded."""

from __future__ import annotations

import copy
import functools
import tempfile
from pathlib import Path
from typing import Any

import diffusers
import safetensors.torch
import torch
import transformers
from torch import Tensor

from ..support import checkpoints
from ..support.towers import randomised

WIDTH, DIM = 64, 32
"""The first text encoder's hidden size and features."""
WIDTH_2, DIM_2 = 48, 24
"""The same of SDXL's second."""


@functools.cache
def _clip_tokenizer() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return transformers.CLIPTokenizer.from_pretrained(checkpoints.write_clip_folder(Path(folder)))


def tokenizer(pad: str | None = None) -> Any:
    made = copy.deepcopy(_clip_tokenizer())
    if pad:
        made.pad_token = pad
    return made


def text_encoder(kind: Any = None, width: int = WIDTH, dim: int = DIM, layers: int = 3) -> Any:
    torch.manual_seed(width)
    config = transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        projection_dim=dim,
    )
    return randomised((kind or transformers.CLIPTextModel)(config), width)


def projection() -> Tensor:
    """(WIDTH, DIM), of the first text encoder."""
    return torch.randn(WIDTH, DIM, generator=torch.Generator().manual_seed(5)) / WIDTH**0.5


def write_projection(folder: Path) -> Path:
    path = folder / "text_projection.safetensors"
    safetensors.torch.save_file({"text_projection.weight": projection().T.contiguous()}, path)
    return path


def unet(context: int, **more: Any) -> Any:
    torch.manual_seed(3)
    made = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=context,
        **more,
    )
    return randomised(made, 1)


def _picture_parts(context: int, **more: Any) -> dict[str, Any]:
    vae = diffusers.AutoencoderKL(
        block_out_channels=(16,) * 4,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
    )
    return {"unet": unet(context, **more), "vae": randomised(vae, 2), "scheduler": scheduler}


def sd(encoder: Any = None, pad: str | None = None) -> Any:
    """SD 1.x, or with a cut off encoder and "!" as padding SD 2.x."""
    encoder = encoder or text_encoder()
    return diffusers.StableDiffusionPipeline(
        text_encoder=encoder,
        tokenizer=tokenizer(pad),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **_picture_parts(encoder.config.hidden_size),
    )


def sdxl() -> Any:
    return diffusers.StableDiffusionXLPipeline(
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(transformers.CLIPTextModelWithProjection, WIDTH_2, DIM_2),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer("!"),
        add_watermarker=False,
        **_picture_parts(
            WIDTH + WIDTH_2,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=DIM_2 + 6 * 4,
        ),
    )


def write_single_file(folder: Path) -> tuple[Path, Path]:
    """An SD 1.x checkpoint of 768 features in one file, and a diffusers folder that describes it."""
    clip = checkpoints.write_clip_folder(folder / "clip")
    file = checkpoints.write_sd1(folder / "single.safetensors", clip, seed=1)
    mult = checkpoints.UNET_MULT
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=tuple(checkpoints.UNET_CHANNELS * m for m in mult),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * len(mult),
        up_block_types=("CrossAttnUpBlock2D",) * len(mult),
        attention_head_dim=checkpoints.UNET_HEADS,
        cross_attention_dim=checkpoints.CLIP_WIDTH,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=tuple(checkpoints.VAE_CHANNELS * m for m in checkpoints.VAE_MULT),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    pipe = diffusers.StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig.from_pretrained(clip)),
        tokenizer=tokenizer(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder / "description")
    return file, folder / "description"
