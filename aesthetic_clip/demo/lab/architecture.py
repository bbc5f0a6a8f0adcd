"""The sizes of the demonstration model's parts, before any training."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from .. import WIDTH as WIDTH
from ..world import COLOURS, LOOKS, SHAPES, SIZE

VAE_GROUPS = 4
VAE_CHANNELS = (16, 32, 64, 64)
UNET_CHANNELS = (64, 64)
MAX_TOKENS = 77
VOCABULARY = 49408
START, END = 49406, 49407


def new_clip() -> Any:
    """A transformers ``CLIPModel``."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": MAX_TOKENS,
        "hidden_act": "quick_gelu",
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": WIDTH,
        "image_size": SIZE,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH))


def new_vae() -> Any:
    """A diffusers ``AutoencoderKL``: 64x64x3 to 8x8x4."""
    from diffusers import AutoencoderKL

    levels = len(VAE_CHANNELS)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=VAE_CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        # With one channel per group the norm would wipe out flat colours.
        norm_num_groups=VAE_GROUPS,
        sample_size=SIZE,
    )
    _start_simple(vae)
    return vae


def _start_simple(vae: nn.Module) -> None:
    """Begin as plain down- and upscaling, with residual branches that say nothing yet: much sooner at flat colours."""
    for name, layer in vae.named_modules():
        if isinstance(layer, nn.Conv2d):
            if name.endswith("conv2"):
                nn.init.zeros_(layer.weight)
            elif "downsamplers" in name:
                nn.init.zeros_(layer.weight)
                # It is padded on the right and at the bottom only, so these four are one 2x2 block.
                for channel in range(layer.out_channels):
                    layer.weight.data[channel, channel, :2, :2] = 0.25
            elif "upsamplers" in name or name.endswith("conv_shortcut"):
                nn.init.dirac_(layer.weight)
            else:
                continue
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif name.endswith("to_out.0"):
            nn.init.zeros_(layer.weight)


def new_unet() -> Any:
    """A diffusers ``UNet2DConditionModel`` on 8x8x4 latents."""
    from diffusers import UNet2DConditionModel

    levels = len(UNET_CHANNELS)
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        block_out_channels=UNET_CHANNELS,
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        # The number of heads, for all that diffusers calls it.
        attention_head_dim=4,
        norm_num_groups=32,
    )


class Classifier(nn.Module):
    """Reads shape, colour, background and style off the pixels; no part of the model that draws them."""

    FIELDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "shape": SHAPES,
        "colour": tuple(COLOURS),
        "background": tuple(COLOURS),
        "look": LOOKS,
    }

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 32, 48, 64)
        self.body = nn.Sequential(
            *(
                layer
                for inner, outer in pairwise(widths)
                for layer in (nn.Conv2d(inner, outer, 3, 2, 1), nn.BatchNorm2d(outer), nn.ReLU())
            ),
            nn.Flatten(),
            nn.Linear(64 * (SIZE // 16) ** 2, 64),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(64, len(values)) for name, values in self.FIELDS.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, SIZE, SIZE) from -1 to 1 to logits (B, n) by field."""
        body = self.body(pixels)
        return {name: head(body) for name, head in self.heads.items()}
