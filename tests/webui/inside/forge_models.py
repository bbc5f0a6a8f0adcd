"""Small checkpoints of Flux and SD3, drawn and read by the classes of Forge and of Neo, which has no SD3."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

FLUX = {"hidden_size": 256, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "context_in_dim": 64}
T5 = {"d_model": 64, "d_ff": 128, "d_kv": 64, "num_heads": 1, "num_layers": 3}
SD3_DEPTH = 2
# What T5 gives stands under what the two CLIPs give, so here its width is not free.
SD3_T5 = {"d_ff": 128, "d_kv": 64, "num_heads": 1, "num_layers": 2}


def write_flux(path: str) -> None:
    """Write one, and have the host take Flux and T5 to be as small as those in it."""
    from backend.nn.flux import IntegratedFluxTransformer2DModel
    from huggingface_guess import detection

    detect = getattr(detection, "rig_detect", detection.detect_unet_config)
    detection.rig_detect = detect

    def small_flux(*args: Any, **kwargs: Any) -> Any:
        config = detect(*args, **kwargs)
        return {**config, **FLUX} if config and config.get("image_model") == "flux" else config

    detection.detect_unet_config = small_flux
    sizes = {"in_channels": 16, "vec_in_dim": 768, "mlp_ratio": 4.0, "axes_dim": [16, 56, 56], "theta": 10000}
    if "patch_size" in inspect.signature(IntegratedFluxTransformer2DModel).parameters:  # Neo
        sizes |= {"out_channels": 16, "patch_size": 2}
    _write(
        path,
        "black-forest-labs/FLUX.1-schnell",
        lambda: IntegratedFluxTransformer2DModel(**sizes, **FLUX, qkv_bias=True, guidance_embed=False),
        {"text_encoder": "text_encoders.clip_l.", "text_encoder_2": "text_encoders.t5xxl.", "vae": "vae."},
        T5,
    )


def write_sd3(path: str) -> None:
    """Write one, and have Forge take its T5 to be as small as that in it."""
    from backend.nn.mmditx import MMDiTX

    width = 64 * SD3_DEPTH
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": width}}
    _write(
        path,
        "stabilityai/stable-diffusion-3-medium-diffusers",
        lambda: MMDiTX(
            None, 2, 16, SD3_DEPTH, adm_in_channels=768 + 1280, context_embedder_config=embedder,
            pos_embed_max_size=16, num_patches=16 * 16,
        ),
        {
            "text_encoder": "text_encoders.clip_l.", "text_encoder_2": "text_encoders.clip_g.",
            "text_encoder_3": "text_encoders.t5xxl.", "vae": "first_stage_model.",
        },
        SD3_T5,
    )  # fmt: skip


def _write(path: str, repository: str, denoiser: Any, places: dict[str, str], t5: dict[str, int]) -> None:
    """One checkpoint: the denoiser, and the parts whose sizes stand in Forge's JSON, each under its prefix."""
    import safetensors.torch
    import torch
    import transformers
    from backend import loader
    from backend.nn.clip import IntegratedCLIP
    from backend.nn.t5 import IntegratedT5
    from backend.nn.vae import IntegratedAutoencoderKL
    from backend.utils import read_arbitrary_config

    def small_t5(folder: str) -> Any:
        config = read_arbitrary_config(folder)
        return {**config, **t5} if config.get("model_type") == "t5" else config

    loader.read_arbitrary_config = small_t5

    def part(name: str) -> Any:
        folder = str(Path(loader.__file__).parent / "huggingface" / repository / name)
        if name == "vae":
            return IntegratedAutoencoderKL.from_config(IntegratedAutoencoderKL.load_config(folder))
        config = small_t5(folder)
        if config["model_type"] == "t5":
            return IntegratedT5(config)
        text_config = transformers.CLIPTextConfig.from_pretrained(folder)
        return IntegratedCLIP(transformers.CLIPTextModel, text_config, add_text_projection=True)

    torch.manual_seed(12)
    with torch.inference_mode(False), torch.no_grad():
        parts = {"model.diffusion_model.": denoiser(), **{prefix: part(name) for name, prefix in places.items()}}
        tensors = {prefix + name: value for prefix, module in parts.items() for name, value in _drawn(module)}
    safetensors.torch.save_file(tensors, path)


def _drawn(module: Any) -> Any:
    """Names and values of a module's tensors; CLIP-L's text projection is left out, as files do."""
    import torch

    for name, value in module.state_dict().items():
        projection = name.endswith("text_projection.weight") and value.shape[0] == 768
        if not value.is_floating_point() or projection or name.endswith("logit_scale"):
            continue
        drawn = torch.randn(value.shape)
        if value.ndim < 2:
            drawn = 0.1 * drawn + (1.0 if name.endswith(("weight", "scale")) else 0.0)
        else:
            embedding = "embedding." in name or name.startswith("pos_embed")
            drawn = drawn * (0.02 if embedding else value[0].numel() ** -0.5)
        yield name, drawn.half()
