"""A small SD3 checkpoint, drawn and read by the WebUI's own classes, offline."""

from __future__ import annotations

from typing import Any

LAYERS = 3
DEPTH = 2


class _NoT5:
    """Stands in for T5's tokenizer, which is not to be had offline, and not asked without T5."""

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> _NoT5:
        return cls()

    def __call__(self, *_: Any, **__: Any) -> dict[str, list[int]]:
        return {"input_ids": [1, 0]}

    def get_vocab(self) -> dict[str, int]:
        return {}


def write(path: str, clip_folder: str) -> None:
    """Write it, and have the WebUI load such ones: towers of three layers, CLIP's words from ``clip_folder``."""
    import safetensors.torch
    import torch
    from modules.models.sd3 import other_impls, sd3_cond, sd3_model
    from transformers import CLIPTokenizer

    class Words:
        @staticmethod
        def from_pretrained(_name: str) -> Any:
            return CLIPTokenizer.from_pretrained(clip_folder)

    for module in (other_impls, sd3_cond):
        module.T5TokenizerFast, module.CLIPTokenizer = _NoT5, Words
    for config in (sd3_cond.CLIPL_CONFIG, sd3_cond.CLIPG_CONFIG):
        config["num_hidden_layers"] = LAYERS

    root, width = "model.diffusion_model.", 64 * DEPTH
    shapes = {
        "x_embedder.proj.weight": (width, 16, 2, 2),
        "pos_embed": (1, 256, width),
        "y_embedder.mlp.0.weight": (width, 768 + 1280),
        "context_embedder.weight": (width, 4096),
    }
    torch.manual_seed(11)
    with torch.no_grad():
        model = sd3_model.SD3Inferencer({root + name: torch.empty(shape) for name, shape in shapes.items()})
        tensors = {}
        for name, value in model.state_dict().items():
            if ".model_lg." in name or ".model_t5." in name or name.startswith("model.model_sampling"):
                continue
            drawn = torch.randn(value.shape)
            if value.ndim < 2:
                drawn = 0.1 * drawn + (1.0 if name.endswith("weight") else 0.0)
            else:
                drawn = drawn * (0.02 if "embedding" in name or "pos_embed" in name else value[0].numel() ** -0.5)
            tensors[name] = drawn.half()
    safetensors.torch.save_file(tensors, path)
