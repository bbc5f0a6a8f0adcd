"""The demonstration model as one file in Stable Diffusion's own layout: ``python -m aesthetic_clip.demo.export --out DIR``.

Writes ``aesthetic-demo.safetensors``, ``aesthetic-demo.yaml`` beside it, and the
folder ``aesthetic-demo-clip`` with the text tower's configuration and tokenizer,
which the .yaml names. The first two belong into a WebUI's models/Stable-diffusion.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..files import write_atomically
from . import MODEL, PROJECTION_FILE

NAME = "aesthetic-demo"
_LDM_GROUPS = 32

_RES_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_names(levels: int, layers: int) -> dict[str, str]:
    """Prefix in diffusers to prefix in ldm, for a UNet with attention everywhere."""
    names = {
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "conv_in.": "input_blocks.0.0.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
    }
    index = 0
    for level in range(levels):
        for layer in range(layers):
            index += 1
            names[f"down_blocks.{level}.resnets.{layer}."] = f"input_blocks.{index}.0."
            names[f"down_blocks.{level}.attentions.{layer}."] = f"input_blocks.{index}.1."
        if level + 1 < levels:
            index += 1
            names[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{index}.0.op."
    index = 0
    for level in range(levels):
        for layer in range(layers + 1):
            names[f"up_blocks.{level}.resnets.{layer}."] = f"output_blocks.{index}.0."
            names[f"up_blocks.{level}.attentions.{layer}."] = f"output_blocks.{index}.1."
            if layer == layers and level + 1 < levels:
                names[f"up_blocks.{level}.upsamplers.0.conv."] = f"output_blocks.{index}.2.conv."
            index += 1
    return names


def vae_names(levels: int) -> dict[str, str]:
    """Prefix in diffusers to prefix in ldm."""
    names = {"quant_conv.": "quant_conv.", "post_quant_conv.": "post_quant_conv."}
    for half, side, sampler, conv in (
        ("encoder", "down", "downsamplers", "downsample"),
        ("decoder", "up", "upsamplers", "upsample"),
    ):
        names |= {
            f"{half}.conv_in.": f"{half}.conv_in.",
            f"{half}.conv_norm_out.": f"{half}.norm_out.",
            f"{half}.conv_out.": f"{half}.conv_out.",
            f"{half}.mid_block.resnets.0.": f"{half}.mid.block_1.",
            f"{half}.mid_block.attentions.0.": f"{half}.mid.attn_1.",
            f"{half}.mid_block.resnets.1.": f"{half}.mid.block_2.",
        }
        for level in range(levels):
            # ldm counts the decoder's levels from the picture's side.
            there = level if half == "encoder" else levels - 1 - level
            names[f"{half}.{side}_blocks.{level}.resnets."] = f"{half}.{side}.{there}.block."
            names[f"{half}.{side}_blocks.{level}.{sampler}.0.conv."] = f"{half}.{side}.{there}.{conv}.conv."
    return names


def renamed(tensors: Mapping[str, Tensor], prefixes: Mapping[str, str]) -> dict[str, Tensor]:
    """Each tensor under the first prefix that fits.

    Raises:
        KeyError: a tensor that none fits.
    """
    result = {}
    for name, tensor in tensors.items():
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), None)
        if prefix is None:
            raise KeyError(name)
        result[prefixes[prefix] + name[len(prefix) :]] = tensor
    return result


def unet_tensors(config: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = unet_names(len(config.block_out_channels), config.layers_per_block)
    return {_inner(name, _RES_BLOCK): tensor for name, tensor in renamed(tensors, names).items()}


def _inner(name: str, names: Mapping[str, str]) -> str:
    # Only the part right behind the block's prefix; transformer blocks have a norm1 of their own.
    parts = re.fullmatch(r"((?:input|output)_blocks\.\d+\.0\.|middle_block\.[02]\.)(\w+)(\..*)", name)
    return f"{parts[1]}{names[parts[2]]}{parts[3]}" if parts and parts[2] in names else name


def vae_tensors(config: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The autoencoder for ldm, whose norms have 32 groups, always.

    Ours have fewer. With every channel there as many times as makes up for it, each
    copy has the same groups, and the result is the same number for number.
    """
    copies = _LDM_GROUPS // config.norm_num_groups
    result = {}
    for name, tensor in renamed(tensors, vae_names(len(config.block_out_channels))).items():
        for ours, theirs in _ATTENTION.items():
            name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
        name = name.replace("conv_shortcut", "nin_shortcut")
        if "attn_1." in name and tensor.ndim == 2:
            tensor = tensor[..., None, None]
        result[name] = tensor if "quant_conv" in name else _widened(name, tensor.float(), copies)
    return result


def _widened(name: str, tensor: Tensor, copies: int) -> Tensor:
    end = name.endswith((".conv_out.weight", ".conv_out.bias"))
    if tensor.ndim == 4 and not name.endswith("conv_in.weight"):
        # Read from the first copy only.
        nothing = torch.zeros_like(tensor)
        tensor = torch.cat([tensor, *[nothing] * (copies - 1)], 1)
    if not end:
        tensor = tensor.repeat(copies, *[1] * (tensor.ndim - 1))
    if ".attn_1.q." in name:
        # A product of vectors that are longer by this factor, over the root of their length.
        tensor = tensor / copies**0.5
    return tensor


def configuration(unet: Any, vae: Any, schedule: Any, clip_folder: Path) -> dict[str, Any]:
    """What a .yaml beside the checkpoint says, from the parts' configurations."""
    base = unet.block_out_channels[0]
    copies = _LDM_GROUPS // vae.norm_num_groups
    return {
        "model": {
            "base_learning_rate": 0.0001,
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "linear_start": schedule.beta_start,
                "linear_end": schedule.beta_end,
                "num_timesteps_cond": 1,
                "timesteps": schedule.num_train_timesteps,
                "first_stage_key": "jpg",
                "cond_stage_key": "txt",
                "image_size": unet.sample_size,
                "channels": unet.in_channels,
                "cond_stage_trainable": False,
                "conditioning_key": "crossattn",
                "scale_factor": vae.scaling_factor,
                "use_ema": False,
                "unet_config": {
                    "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                    "params": {
                        "image_size": unet.sample_size,
                        "in_channels": unet.in_channels,
                        "out_channels": unet.out_channels,
                        "model_channels": base,
                        "attention_resolutions": [2**i for i in range(len(unet.block_out_channels))],
                        "num_res_blocks": unet.layers_per_block,
                        "channel_mult": [width // base for width in unet.block_out_channels],
                        "num_heads": unet.attention_head_dim,
                        "use_spatial_transformer": True,
                        "transformer_depth": 1,
                        "context_dim": unet.cross_attention_dim,
                        "use_checkpoint": False,
                        "legacy": False,
                    },
                },
                "first_stage_config": {
                    "target": "ldm.models.autoencoder.AutoencoderKL",
                    "params": {
                        "embed_dim": vae.latent_channels,
                        "monitor": "val/rec_loss",
                        "ddconfig": {
                            "double_z": True,
                            "z_channels": vae.latent_channels,
                            "resolution": vae.sample_size,
                            "in_channels": 3,
                            "out_ch": 3,
                            "ch": vae.block_out_channels[0] * copies,
                            "ch_mult": [width // vae.block_out_channels[0] for width in vae.block_out_channels],
                            "num_res_blocks": vae.layers_per_block,
                            "attn_resolutions": [],
                            "dropout": 0.0,
                        },
                        "lossconfig": {"target": "torch.nn.Identity"},
                    },
                },
                "cond_stage_config": {
                    "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                    "params": {"version": str(clip_folder)},
                },
            },
        }
    }


def _config(folder: Path, name: str = "config.json") -> SimpleNamespace:
    return SimpleNamespace(**json.loads((folder / name).read_text(encoding="utf-8")))


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    (file,) = folder.glob("*.safetensors")
    return load_file(str(file))


def _texts(out: Path) -> dict[Path, Path]:
    """What is copied for the text tower as it is, by where it goes to."""
    folder = out / f"{NAME}-clip"
    copies = {folder / file.name: file for file in sorted((MODEL / "tokenizer").iterdir())}
    return {**copies, folder / "config.json": MODEL / "text_encoder" / "config.json"}


def files(out: Path) -> list[Path]:
    """All that :func:`export` writes, the checkpoint first."""
    path = out / f"{NAME}.safetensors"
    return [path, path.with_suffix(".yaml"), *_texts(out)]


def export(out: Path) -> Path:
    """Write the three; returns the .safetensors file's path, which comes last.

    Raises:
        AestheticError: no permission, disk full.
    """
    from safetensors.torch import load_file, save

    unet, vae = _config(MODEL / "unet"), _config(MODEL / "vae")
    schedule = _config(MODEL / "scheduler", "scheduler_config.json")
    text = _weights(MODEL / "text_encoder") | load_file(str(MODEL / PROJECTION_FILE))
    tensors = {
        **{
            f"model.diffusion_model.{name}": tensor
            for name, tensor in unet_tensors(unet, _weights(MODEL / "unet")).items()
        },
        **{f"first_stage_model.{name}": tensor for name, tensor in vae_tensors(vae, _weights(MODEL / "vae")).items()},
        **{f"cond_stage_model.transformer.{name}": tensor for name, tensor in text.items()},
    }
    path, description, *_ = files(out)
    texts = _texts(out)
    for target, source in texts.items():
        write_atomically(target, source.read_bytes())
    clip_folder = next(iter(texts)).parent.resolve()
    # JSON is valid YAML.
    about = json.dumps(configuration(unet, vae, schedule, clip_folder), indent=1)
    write_atomically(description, about.encode())
    halves = {name: tensor.half().contiguous() for name, tensor in tensors.items() if tensor.is_floating_point()}
    write_atomically(path, save(halves, {"format": "pt"}))
    return path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m aesthetic_clip.demo.export", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that the files go to")
    options = parser.parse_args(arguments)
    print(export(options.out))


if __name__ == "__main__":
    main()
