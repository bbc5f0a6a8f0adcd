"""Small random checkpoints that a WebUI loads as SD1, SD2 and SDXL.

The files carry the tensor names and the shapes that the hosts' model classes
ask for, with few channels and few layers, so that loading takes a second and a
64x64 picture takes less. The text towers keep the widths of the published ones
where a CLIP space depends on it: 768, 1024 and 1280 projected dimensions.

Every tensor is drawn from its own generator, seeded by the checkpoint's seed and
the tensor's name: the same seed gives the same file. No WebUI is needed here.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

HALF = torch.float16
VOCABULARY = 49408
CONTEXT = 77
CLIP_WIDTH = 768
CLIP_LAYERS = 2
CLIP_MLP = 512
CLIP_HEADS = 12

OPEN_CLIP_WIDTH = 128
OPEN_CLIP_LAYERS = 3
OPEN_CLIP_HEADS = 4
OPEN_CLIP_SPACES = {"tiny-ViT-H": 1024, "tiny-ViT-bigG": 1280}
"""open_clip architecture name -> dimension of its CLIP space."""

LATENT_CHANNELS = 4
UNET_CHANNELS = 32
UNET_MULT = (1, 2)
UNET_HEADS = 2
VAE_CHANNELS = 32
VAE_MULT = (1, 1, 1, 1)
SIZE_EMBEDDING = 256

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Spec:
    """One tensor to draw: `mean + spread * normal`, stored as `dtype`."""

    name: str
    shape: Shape
    mean: float
    spread: float
    dtype: torch.dtype = torch.float32


# --- drawing -----------------------------------------------------------------


def draw(spec: Spec, seed: int) -> torch.Tensor:
    """The tensor of `spec`; equal seeds and names give equal tensors."""
    # 32 bits, since torch's generator for the CPU ignores the upper half of a seed.
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {spec.name}".encode()))
    values = torch.randn(spec.shape, generator=generator)
    return values.mul_(spec.spread).add_(spec.mean).to(spec.dtype).contiguous()


def draw_all(specs: Iterator[Spec], seed: int, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """State dict of all `specs`, in `dtype` if one is given; a name given twice is an error."""
    tensors: dict[str, torch.Tensor] = {}
    for spec in specs:
        if spec.name in tensors:
            raise ValueError(f"tensor {spec.name} is described twice")
        tensors[spec.name] = draw(spec, seed).to(dtype or spec.dtype)
    return tensors


def _weight(name: str, *shape: int, gain: float = 1.0) -> Spec:
    """A weight that keeps the variance of its input: spread = gain / sqrt(fan in)."""
    return Spec(f"{name}.weight", shape, 0.0, gain / math.sqrt(math.prod(shape[1:])))


def _layer(name: str, *shape: int, gain: float = 1.0) -> Iterator[Spec]:
    """Weight and bias of a linear layer or a convolution, shape (out, in, ...)."""
    yield _weight(name, *shape, gain=gain)
    yield Spec(f"{name}.bias", (shape[0],), 0.0, 0.05)


def _norm(name: str, width: int) -> Iterator[Spec]:
    """LayerNorm or GroupNorm.

    The biases differ from zero on purpose: with zero biases the mean of a text
    encoding is about 1e-9, and the host's emphasis divides by that mean.
    """
    yield Spec(f"{name}.weight", (width,), 1.0, 0.1)
    yield Spec(f"{name}.bias", (width,), 0.0, 0.1)


def _within(prefix: str, specs: Iterator[Spec]) -> Iterator[Spec]:
    for spec in specs:
        yield Spec(prefix + spec.name, spec.shape, spec.mean, spec.spread, spec.dtype)


# --- text towers -------------------------------------------------------------


def clip_text_specs(layers: int = CLIP_LAYERS, mlp: int = CLIP_MLP) -> Iterator[Spec]:
    """CLIPTextModel of transformers 4, width 768; checkpoints keep these names, newer
    versions of the class drop the prefix "text_model.". The token table is stored in
    half precision, as it is most of the file."""
    root = "text_model."
    yield Spec(f"{root}embeddings.token_embedding.weight", (VOCABULARY, CLIP_WIDTH), 0.0, 0.02, torch.float16)
    yield Spec(f"{root}embeddings.position_embedding.weight", (CONTEXT, CLIP_WIDTH), 0.0, 0.01)
    for index in range(layers):
        block = f"{root}encoder.layers.{index}."
        yield from _norm(f"{block}layer_norm1", CLIP_WIDTH)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _layer(f"{block}self_attn.{part}", CLIP_WIDTH, CLIP_WIDTH)
        yield from _norm(f"{block}layer_norm2", CLIP_WIDTH)
        yield from _layer(f"{block}mlp.fc1", mlp, CLIP_WIDTH)
        yield from _layer(f"{block}mlp.fc2", CLIP_WIDTH, mlp)
    yield from _norm(f"{root}final_layer_norm", CLIP_WIDTH)


def open_clip_text_specs(space: int, width: int = OPEN_CLIP_WIDTH, layers: int = OPEN_CLIP_LAYERS) -> Iterator[Spec]:
    """The text half of an open_clip model whose features have `space` dimensions."""
    yield Spec("positional_embedding", (CONTEXT, width), 0.0, 0.01)
    yield Spec("text_projection", (width, space), 0.0, 1 / math.sqrt(width))
    yield Spec("logit_scale", (), math.log(100), 0.0)
    yield Spec("token_embedding.weight", (VOCABULARY, width), 0.0, 0.02, torch.float16)
    for index in range(layers):
        block = f"transformer.resblocks.{index}."
        yield from _norm(f"{block}ln_1", width)
        yield Spec(f"{block}attn.in_proj_weight", (3 * width, width), 0.0, 1 / math.sqrt(width))
        yield Spec(f"{block}attn.in_proj_bias", (3 * width,), 0.0, 0.05)
        yield from _layer(f"{block}attn.out_proj", width, width)
        yield from _norm(f"{block}ln_2", width)
        yield from _layer(f"{block}mlp.c_fc", 4 * width, width)
        yield from _layer(f"{block}mlp.c_proj", width, 4 * width)
    yield from _norm("ln_final", width)


# --- UNet and VAE ------------------------------------------------------------


def _res_block(name: str, inner: int, outer: int, time: int) -> Iterator[Spec]:
    yield from _norm(f"{name}.in_layers.0", inner)
    yield from _layer(f"{name}.in_layers.2", outer, inner, 3, 3)
    yield from _layer(f"{name}.emb_layers.1", outer, time)
    yield from _norm(f"{name}.out_layers.0", outer)
    yield from _layer(f"{name}.out_layers.3", outer, outer, 3, 3)
    if inner != outer:
        yield from _layer(f"{name}.skip_connection", outer, inner, 1, 1)


def _attention(name: str, width: int, context: int, gain: float) -> Iterator[Spec]:
    yield _weight(f"{name}.to_q", width, width)
    yield _weight(f"{name}.to_k", width, context)
    yield _weight(f"{name}.to_v", width, context)
    yield from _layer(f"{name}.to_out.0", width, width, gain=gain)


def _transformer(name: str, width: int, context: int, linear: bool, depth: int = 1) -> Iterator[Spec]:
    if not depth:
        return
    kernel = () if linear else (1, 1)
    yield from _norm(f"{name}.norm", width)
    yield from _layer(f"{name}.proj_in", width, width, *kernel)
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        yield from _attention(f"{block}.attn1", width, width, gain=1.0)
        # The louder cross attention makes pictures depend visibly on the prompt.
        yield from _attention(f"{block}.attn2", width, context, gain=3.0 / math.sqrt(depth))
        yield from _layer(f"{block}.ff.net.0.proj", 8 * width, width)
        yield from _layer(f"{block}.ff.net.2", width, 4 * width)
        for index in (1, 2, 3):
            yield from _norm(f"{block}.norm{index}", width)
    yield from _layer(f"{name}.proj_out", width, width, *kernel)


@dataclass(frozen=True)
class UNet:
    """Sizes of a UNetModel of ldm and sgm; `depths` are the transformer blocks at each level, 0 for none."""

    base: int = UNET_CHANNELS
    mult: tuple[int, ...] = UNET_MULT
    blocks: int = 1
    depths: tuple[int, ...] = (1, 1)


def unet_specs(context: int, linear: bool, vector: int | None = None, sizes: UNet | None = None) -> Iterator[Spec]:
    """UNetModel of ldm and sgm; by default one residual block and one transformer per level.

    `context` is the width of the text conditioning, `vector` that of SDXL's
    vector conditioning; `linear` says how the transformers project.
    """
    sizes = sizes or UNet()
    base, time = sizes.base, 4 * sizes.base
    yield from _layer("time_embed.0", time, base)
    yield from _layer("time_embed.2", time, time)
    if vector is not None:
        yield from _layer("label_emb.0.0", time, vector)
        yield from _layer("label_emb.0.2", time, time)

    yield from _layer("input_blocks.0.0", base, LATENT_CHANNELS, 3, 3)
    index, width = 0, base
    skipped = [base]
    levels = list(zip(sizes.mult, sizes.depths))
    for level, (mult, depth) in enumerate(levels):
        for _ in range(sizes.blocks):
            index += 1
            yield from _res_block(f"input_blocks.{index}.0", width, mult * base, time)
            width = mult * base
            yield from _transformer(f"input_blocks.{index}.1", width, context, linear, depth)
            skipped.append(width)
        if level + 1 < len(levels):
            index += 1
            yield from _layer(f"input_blocks.{index}.0.op", width, width, 3, 3)
            skipped.append(width)

    yield from _res_block("middle_block.0", width, width, time)
    yield from _transformer("middle_block.1", width, context, linear, sizes.depths[-1])
    yield from _res_block("middle_block.2", width, width, time)

    index = 0
    for level, (mult, depth) in reversed(list(enumerate(levels))):
        for repeat in range(sizes.blocks + 1):
            yield from _res_block(f"output_blocks.{index}.0", width + skipped.pop(), mult * base, time)
            width = mult * base
            yield from _transformer(f"output_blocks.{index}.1", width, context, linear, depth)
            if level and repeat == sizes.blocks:
                yield from _layer(f"output_blocks.{index}.{2 if depth else 1}.conv", width, width, 3, 3)
            index += 1

    yield from _norm("out.0", width)
    yield from _layer("out.2", LATENT_CHANNELS, width, 3, 3)


def _vae_block(name: str, inner: int, outer: int) -> Iterator[Spec]:
    yield from _norm(f"{name}.norm1", inner)
    yield from _layer(f"{name}.conv1", outer, inner, 3, 3)
    yield from _norm(f"{name}.norm2", outer)
    yield from _layer(f"{name}.conv2", outer, outer, 3, 3)
    if inner != outer:
        yield from _layer(f"{name}.nin_shortcut", outer, inner, 1, 1)


def _vae_middle(name: str, width: int) -> Iterator[Spec]:
    yield from _vae_block(f"{name}.block_1", width, width)
    yield from _norm(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _layer(f"{name}.attn_1.{part}", width, width, 1, 1)
    yield from _vae_block(f"{name}.block_2", width, width)


def vae_specs(mult: tuple[int, ...] = VAE_MULT, blocks: int = 1) -> Iterator[Spec]:
    """AutoencoderKL, eight times smaller latents; by default one residual block per level."""
    widths = [VAE_CHANNELS * factor for factor in mult]

    yield from _layer("encoder.conv_in", widths[0], 3, 3, 3)
    width = widths[0]
    for level, outer in enumerate(widths):
        for block in range(blocks):
            yield from _vae_block(f"encoder.down.{level}.block.{block}", width, outer)
            width = outer
        if level + 1 < len(widths):
            yield from _layer(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from _vae_middle("encoder.mid", width)
    yield from _norm("encoder.norm_out", width)
    yield from _layer("encoder.conv_out", 2 * LATENT_CHANNELS, width, 3, 3)
    yield from _layer("quant_conv", 2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1, 1)

    yield from _layer("post_quant_conv", LATENT_CHANNELS, LATENT_CHANNELS, 1, 1)
    yield from _layer("decoder.conv_in", width, LATENT_CHANNELS, 3, 3)
    yield from _vae_middle("decoder.mid", width)
    for level, outer in reversed(list(enumerate(widths))):
        for block in range(blocks + 1):
            yield from _vae_block(f"decoder.up.{level}.block.{block}", width, outer)
            width = outer
        if level:
            yield from _layer(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    yield from _norm("decoder.norm_out", width)
    # Below one, so that the picture is not clipped to black and white.
    yield from _layer("decoder.conv_out", 3, width, 3, 3, gain=0.5)


# --- configurations ----------------------------------------------------------


def _unet_params(context: int, linear: bool, sizes: UNet | None = None) -> dict[str, Any]:
    sizes = sizes or UNet()
    return {
        "image_size": 32,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": sizes.base,
        "attention_resolutions": [2**level for level in range(len(sizes.mult))],
        "num_res_blocks": sizes.blocks,
        "channel_mult": list(sizes.mult),
        "num_heads": UNET_HEADS,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": linear,
        "transformer_depth": 1,
        "context_dim": context,
        "use_checkpoint": False,
        "legacy": False,
    }


def _vae_params() -> dict[str, Any]:
    return {
        "embed_dim": LATENT_CHANNELS,
        "monitor": "val/rec_loss",
        "ddconfig": {
            "attn_type": "vanilla",
            "double_z": True,
            "z_channels": LATENT_CHANNELS,
            "resolution": 256,
            "in_channels": 3,
            "out_ch": 3,
            "ch": VAE_CHANNELS,
            "ch_mult": list(VAE_MULT),
            "num_res_blocks": 1,
            "attn_resolutions": [],
            "dropout": 0.0,
        },
        "lossconfig": {"target": "torch.nn.Identity"},
    }


def _latent_diffusion(context: int, linear: bool, text: dict[str, Any], unet: UNet | None = None) -> dict[str, Any]:
    return {
        "model": {
            "base_learning_rate": 0.0001,
            "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
            "params": {
                "linear_start": 0.00085,
                "linear_end": 0.012,
                "num_timesteps_cond": 1,
                "timesteps": 1000,
                "first_stage_key": "jpg",
                "cond_stage_key": "txt",
                "image_size": 64,
                "channels": LATENT_CHANNELS,
                "cond_stage_trainable": False,
                "conditioning_key": "crossattn",
                "scale_factor": 0.18215,
                "use_ema": False,
                "unet_config": {
                    "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                    "params": _unet_params(context, linear, unet),
                },
                "first_stage_config": {
                    "target": "ldm.models.autoencoder.AutoencoderKL",
                    "params": _vae_params(),
                },
                "cond_stage_config": text,
            },
        }
    }


def sd1_config(clip_folder: Path, unet: UNet | None = None) -> dict[str, Any]:
    """Model configuration with one CLIP-L-like tower, read from `clip_folder`."""
    return _latent_diffusion(
        CLIP_WIDTH,
        False,
        {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(clip_folder)},
        },
        unet,
    )


def sd2_config() -> dict[str, Any]:
    """Model configuration with one OpenCLIP-H-like tower."""
    return _latent_diffusion(
        OPEN_CLIP_WIDTH,
        True,
        {
            "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
            "params": {"arch": "tiny-ViT-H", "freeze": True, "layer": "penultimate"},
        },
    )


SDXL_CONTEXT = CLIP_WIDTH + OPEN_CLIP_WIDTH
SDXL_VECTOR = OPEN_CLIP_SPACES["tiny-ViT-bigG"] + 6 * SIZE_EMBEDDING


def sdxl_config(clip_folder: Path) -> dict[str, Any]:
    """Model configuration with a CLIP-L-like and an OpenCLIP-bigG-like tower."""
    encoders = "sgm.modules.encoders.modules"
    embedders: list[dict[str, Any]] = [
        {
            "is_trainable": False,
            "input_key": "txt",
            "target": f"{encoders}.FrozenCLIPEmbedder",
            # The layer before the last, as in SDXL, where it is 11 of 12.
            "params": {
                "version": str(clip_folder),
                "layer": "hidden",
                "layer_idx": CLIP_LAYERS - 1,
            },
        },
        {
            "is_trainable": False,
            "input_key": "txt",
            "target": f"{encoders}.FrozenOpenCLIPEmbedder2",
            "params": {
                "arch": "tiny-ViT-bigG",
                "freeze": True,
                "layer": "penultimate",
                "always_return_pooled": True,
                "legacy": False,
            },
        },
    ]
    embedders += [
        {
            "is_trainable": False,
            "input_key": key,
            "target": f"{encoders}.ConcatTimestepEmbedderND",
            "params": {"outdim": SIZE_EMBEDDING},
        }
        for key in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
    ]
    denoiser = "sgm.modules.diffusionmodules"
    unet = _unet_params(SDXL_CONTEXT, True)
    del unet["image_size"]
    unet.update(
        adm_in_channels=SDXL_VECTOR,
        num_classes="sequential",
        spatial_transformer_attn_type="softmax",
    )
    return {
        "model": {
            "target": "sgm.models.diffusion.DiffusionEngine",
            "params": {
                "scale_factor": 0.13025,
                "disable_first_stage_autocast": True,
                "denoiser_config": {
                    "target": f"{denoiser}.denoiser.DiscreteDenoiser",
                    "params": {
                        "num_idx": 1000,
                        "weighting_config": {"target": f"{denoiser}.denoiser_weighting.EpsWeighting"},
                        "scaling_config": {"target": f"{denoiser}.denoiser_scaling.EpsScaling"},
                        "discretization_config": {"target": f"{denoiser}.discretizer.LegacyDDPMDiscretization"},
                    },
                },
                "network_config": {"target": f"{denoiser}.openaimodel.UNetModel", "params": unet},
                "conditioner_config": {
                    "target": "sgm.modules.GeneralConditioner",
                    "params": {"emb_models": embedders},
                },
                "first_stage_config": {
                    "target": "sgm.models.autoencoder.AutoencoderKLInferenceWrapper",
                    "params": _vae_params(),
                },
            },
        }
    }


def open_clip_config(space: int) -> dict[str, Any]:
    """open_clip model configuration; its image half is a stub that hosts delete."""
    return {
        "embed_dim": space,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 32},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": VOCABULARY,
            "width": OPEN_CLIP_WIDTH,
            "heads": OPEN_CLIP_HEADS,
            "layers": OPEN_CLIP_LAYERS,
        },
    }


# --- files -------------------------------------------------------------------


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, str(path), metadata={"format": "pt"})
    return path


def write_clip_folder(folder: Path, layers: int = CLIP_LAYERS) -> Path:
    """Configuration and tokenizer of the CLIP-L-like tower, as transformers reads them.

    The vocabulary is CLIP's own, taken from the copy that open_clip carries.
    """
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer()
    start, end = "<|startoftext|>", "<|endoftext|>"
    # open_clip 2.x spells the two special tokens otherwise than transformers.
    vocabulary = {
        {"<start_of_text>": start, "<end_of_text>": end}.get(token, token): index
        for token, index in bpe.encoder.items()
    }
    merges = [" ".join(pair) for pair, _ in sorted(bpe.bpe_ranks.items(), key=lambda item: item[1])]
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        {
            **special,
            "add_prefix_space": False,
            "do_lower_case": True,
            "errors": "replace",
            "model_max_length": CONTEXT,
            "tokenizer_class": "CLIPTokenizer",
        },
    )
    _write_json(
        folder / "config.json",
        {
            "architectures": ["CLIPTextModel"],
            "model_type": "clip_text_model",
            "hidden_act": "quick_gelu",
            "hidden_size": CLIP_WIDTH,
            "intermediate_size": CLIP_MLP,
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": CONTEXT,
            "num_attention_heads": CLIP_HEADS,
            "num_hidden_layers": layers,
            "projection_dim": CLIP_WIDTH,
            "vocab_size": VOCABULARY,
            "bos_token_id": 49406,
            "eos_token_id": 49407,
            "pad_token_id": 49407,
        },
    )
    return folder


def write_open_clip_configs(folder: Path) -> Path:
    """Configurations for `open_clip.add_model_config(folder)`, one per architecture."""
    for name, space in OPEN_CLIP_SPACES.items():
        _write_json(folder / f"{name}.json", open_clip_config(space))
    return folder


def _write_checkpoint(path: Path, config: dict[str, Any], specs: Iterator[Spec], seed: int) -> Path:
    # The host finds a configuration beside the checkpoint; JSON is valid YAML.
    _write_json(path.with_suffix(".yaml"), config)
    return _save(path, draw_all(specs, seed))


def write_sd1(path: Path, clip_folder: Path, seed: int, layers: int = CLIP_LAYERS, unet: UNet | None = None) -> Path:
    """SD1-like checkpoint and configuration; text features have 768 dimensions."""

    def specs() -> Iterator[Spec]:
        yield from _within("cond_stage_model.transformer.", clip_text_specs(layers))
        yield from _within("model.diffusion_model.", unet_specs(CLIP_WIDTH, linear=False, sizes=unet))
        yield from _within("first_stage_model.", vae_specs())

    return _write_checkpoint(path, sd1_config(clip_folder, unet), specs(), seed)


def write_sd2(path: Path, seed: int) -> Path:
    """SD2-like checkpoint and configuration; text features have 1024 dimensions."""
    space = OPEN_CLIP_SPACES["tiny-ViT-H"]

    def specs() -> Iterator[Spec]:
        yield from _within("cond_stage_model.model.", open_clip_text_specs(space))
        yield from _within("model.diffusion_model.", unet_specs(OPEN_CLIP_WIDTH, linear=True))
        yield from _within("first_stage_model.", vae_specs())

    return _write_checkpoint(path, sd2_config(), specs(), seed)


def write_sdxl(path: Path, clip_folder: Path, seed: int) -> Path:
    """SDXL-like checkpoint and configuration; features of 768 and of 1280 dimensions."""
    space = OPEN_CLIP_SPACES["tiny-ViT-bigG"]

    def specs() -> Iterator[Spec]:
        yield from _within("conditioner.embedders.0.transformer.", clip_text_specs())
        yield from _within("conditioner.embedders.1.model.", open_clip_text_specs(space))
        yield from _within("model.diffusion_model.", unet_specs(SDXL_CONTEXT, linear=True, vector=SDXL_VECTOR))
        yield from _within("first_stage_model.", vae_specs())

    return _write_checkpoint(path, sdxl_config(clip_folder), specs(), seed)


def write_text_projection(path: Path, seed: int) -> Path:
    """Random 768x768 matrix in transformers' layout: features = pooled @ weight.T."""
    spec = _weight("text_projection", CLIP_WIDTH, CLIP_WIDTH)
    return _save(path, {spec.name: draw(spec, seed)})


def write_lora(path: Path, seed: int, rank: int = 4, layers: int = CLIP_LAYERS, mlp: int = CLIP_MLP) -> Path:
    """LoRA for the text tower of the SD1-like checkpoints, kohya's names."""

    def specs() -> Iterator[Spec]:
        for index in range(layers):
            block = f"lora_te_text_model_encoder_layers_{index}_"
            parts = {f"self_attn_{part}_proj": (CLIP_WIDTH, CLIP_WIDTH) for part in ("q", "k", "v", "out")}
            parts |= {"mlp_fc1": (mlp, CLIP_WIDTH), "mlp_fc2": (CLIP_WIDTH, mlp)}
            for part, (outer, inner) in parts.items():
                yield _weight(f"{block}{part}.lora_down", rank, inner)
                yield _weight(f"{block}{part}.lora_up", outer, rank)
                yield Spec(f"{block}{part}.alpha", (), float(rank), 0.0)

    return _save(path, draw_all(specs(), seed))


def write_textual_inversion(path: Path, seed: int, vectors: int = 2) -> Path:
    """Textual inversion for the SD1-like checkpoints; louder than a word, so that it shows."""
    spec = Spec("emb_params", (vectors, CLIP_WIDTH), 0.0, 0.2)
    return _save(path, {spec.name: draw(spec, seed)})


@dataclass(frozen=True)
class Assets:
    """Where `write_all` put what."""

    clip_folder: Path
    open_clip_configs: Path
    sd1_a: Path
    sd1_b: Path
    sd2: Path
    sdxl: Path
    lora: Path
    textual_inversion: Path
    text_projection: Path

    @property
    def checkpoints(self) -> tuple[Path, ...]:
        return (self.sd1_a, self.sd1_b, self.sd2, self.sdxl)


def write_all(folder: Path) -> Assets:
    """Everything of this module under `folder`, laid out like a WebUI's data directory."""
    folder = folder.resolve()
    models = folder / "models" / "Stable-diffusion"
    clip_folder = write_clip_folder(folder / "clip")
    return Assets(
        clip_folder=clip_folder,
        open_clip_configs=write_open_clip_configs(folder / "open_clip"),
        sd1_a=write_sd1(models / "sd1-a.safetensors", clip_folder, seed=1),
        sd1_b=write_sd1(models / "sd1-b.safetensors", clip_folder, seed=2),
        sd2=write_sd2(models / "sd2.safetensors", seed=3),
        sdxl=write_sdxl(models / "sdxl.safetensors", clip_folder, seed=4),
        lora=write_lora(folder / "models" / "Lora" / "tiny-lora.safetensors", seed=5),
        textual_inversion=write_textual_inversion(folder / "embeddings" / "tiny-inversion.safetensors", seed=6),
        text_projection=write_text_projection(folder / "text_projection.safetensors", seed=7),
    )


# --- for hosts that know a checkpoint by the published shapes ---------------------

FULL_CLIP_LAYERS = 3
FULL_CLIP_MLP = 3072
FULL_SECOND_WIDTHS = {"sd2": 1024, "sdxl": 1280}
FULL_SECOND_LAYERS = {"sd2": 4, "sdxl": 3}
"""Of the ViT-L, ViT-H and ViT-bigG towers, which have 12, 24 and 32: `tests/webui/inside/rig_helper.py` tells the host."""
FULL_VAE_MULT = (4, 8, 16, 16)
_ONE_LEVEL = UNet(base=320, mult=(1,), depths=(1,))
_SDXL = UNet(base=320, mult=(1, 1, 1), blocks=2, depths=(0, 2, 10))


def _write_full(path: Path, seed: int, *parts: Iterator[Spec]) -> Path:
    return _save(path, draw_all(chain(*parts, _within("first_stage_model.", vae_specs(FULL_VAE_MULT, 2))), seed, HALF))


def write_full_sd1(path: Path, seed: int) -> Path:
    """SD1 with a few layers of ViT-L/14 and a UNet of one level: 340 MB."""
    return _write_full(
        path,
        seed,
        _within("cond_stage_model.transformer.", clip_text_specs(FULL_CLIP_LAYERS, FULL_CLIP_MLP)),
        _within("model.diffusion_model.", unet_specs(CLIP_WIDTH, linear=False, sizes=_ONE_LEVEL)),
    )


def write_full_sd2(path: Path, seed: int) -> Path:
    """SD2 with a few layers of ViT-H and a UNet of one level: 425 MB."""
    width = FULL_SECOND_WIDTHS["sd2"]
    return _write_full(
        path,
        seed,
        _within("cond_stage_model.model.", open_clip_text_specs(width, width, FULL_SECOND_LAYERS["sd2"])),
        _within("model.diffusion_model.", unet_specs(width, linear=True, sizes=_ONE_LEVEL)),
    )


def write_full_sdxl(path: Path, seed: int) -> Path:
    """SDXL with a few layers of ViT-L/14 and ViT-bigG, and SDXL's UNet, narrower: 1.2 GB."""
    width = FULL_SECOND_WIDTHS["sdxl"]
    return _write_full(
        path,
        seed,
        _within("conditioner.embedders.0.transformer.", clip_text_specs(FULL_CLIP_LAYERS, FULL_CLIP_MLP)),
        _within("conditioner.embedders.1.model.", open_clip_text_specs(width, width, FULL_SECOND_LAYERS["sdxl"])),
        _within("model.diffusion_model.", unet_specs(CLIP_WIDTH + width, linear=True, vector=2816, sizes=_SDXL)),
    )


def write_all_full(folder: Path, inversions: str) -> Assets:
    """What `write_all` writes, as hosts take it that recognise a checkpoint by its shapes.

    Args:
        inversions: the folder in which the host looks for textual inversions, below `folder`.
    """
    folder = folder.resolve()
    models = folder / "models" / "Stable-diffusion"
    return Assets(
        clip_folder=folder / "clip",
        open_clip_configs=folder / "open_clip",
        sd1_a=write_full_sd1(models / "sd1-a.safetensors", seed=1),
        sd1_b=write_full_sd1(models / "sd1-b.safetensors", seed=2),
        sd2=write_full_sd2(models / "sd2.safetensors", seed=3),
        sdxl=write_full_sdxl(models / "sdxl.safetensors", seed=4),
        lora=write_lora(
            folder / "models" / "Lora" / "tiny-lora.safetensors", 5, layers=FULL_CLIP_LAYERS, mlp=FULL_CLIP_MLP
        ),
        textual_inversion=write_textual_inversion(folder / inversions / "tiny-inversion.safetensors", seed=6),
        text_projection=write_text_projection(folder / "text_projection.safetensors", seed=7),
    )
