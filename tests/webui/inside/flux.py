"""A small Flux checkpoint, drawn and read by Forge's own classes."""

from __future__ import annotations

from typing import Any

FLUX = {"hidden_size": 256, "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "context_in_dim": 64}
T5 = {"d_model": 64, "d_ff": 128, "d_kv": 64, "num_heads": 1, "num_layers": 3}


def write(path: str) -> None:
    """Write it, and have Forge take Flux and T5 to be as small as those in it."""
    import safetensors.torch
    import torch
    import transformers
    from backend import loader
    from backend.nn.clip import IntegratedCLIP
    from backend.nn.flux import IntegratedFluxTransformer2DModel
    from backend.nn.t5 import IntegratedT5
    from backend.nn.vae import IntegratedAutoencoderKL
    from backend.utils import read_arbitrary_config
    from huggingface_guess import detection

    detect = getattr(detection, "rig_detect", detection.detect_unet_config)
    detection.rig_detect = detect

    def small_flux(*args: Any, **kwargs: Any) -> Any:
        config = detect(*args, **kwargs)
        return {**config, **FLUX} if config and config.get("image_model") == "flux" else config

    def small_t5(folder: str) -> Any:
        config = read_arbitrary_config(folder)
        return {**config, **T5} if config.get("model_type") == "t5" else config

    detection.detect_unet_config, loader.read_arbitrary_config = small_flux, small_t5

    repository = f"{loader.dir_path}/huggingface/black-forest-labs/FLUX.1-schnell"
    sizes = {"in_channels": 16, "vec_in_dim": 768, "mlp_ratio": 4.0, "axes_dim": [16, 56, 56], "theta": 10000}
    clip = transformers.CLIPTextConfig.from_pretrained(f"{repository}/text_encoder")
    vae = IntegratedAutoencoderKL.load_config(f"{repository}/vae")
    torch.manual_seed(12)
    with torch.inference_mode(False), torch.no_grad():
        parts = {
            "model.diffusion_model.": IntegratedFluxTransformer2DModel(
                **sizes, **FLUX, qkv_bias=True, guidance_embed=False
            ),
            "text_encoders.clip_l.": IntegratedCLIP(transformers.CLIPTextModel, clip),
            "text_encoders.t5xxl.": IntegratedT5(small_t5(f"{repository}/text_encoder_2")),
            "vae.": IntegratedAutoencoderKL.from_config(vae),
        }
        tensors = {}
        for prefix, part in parts.items():
            for name, value in part.state_dict().items():
                if not value.is_floating_point() or name.endswith(("text_projection.weight", "logit_scale")):
                    continue
                drawn = torch.randn(value.shape)
                if value.ndim < 2:
                    drawn = 0.1 * drawn + (1.0 if name.endswith(("weight", "scale")) else 0.0)
                else:
                    drawn = drawn * (0.02 if "embedding" in name else value[0].numel() ** -0.5)
                tensors[prefix + name] = drawn.half()
    safetensors.torch.save_file(tensors, path)
