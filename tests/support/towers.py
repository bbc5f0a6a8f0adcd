"""Small random text encoders, and the method written out plainly to compare with."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import open_clip
import torch
import transformers
from torch import Tensor, nn

from aesthetic_clip.clip.text_encoder import OpenClipTextEncoder, TextEncoder, TransformersTextEncoder

START, END = 49406, 49407
PROMPT = [START, 320, 1125, 539, 320, 2368, 267, 0, 1674, END]  # 0 is "!", which is also SD 2.x's padding


def padded(ids: list[int], pad: int, length: int = 77) -> Tensor:
    return torch.tensor(ids + [pad] * (length - len(ids)))


def randomised(module: nn.Module, seed: int) -> Any:
    """The module with layer norms unlike those of initialisation, ready to be looked at and not trained."""
    # Zero biases and unit norms, as initialised, would hide a forgotten layer norm.
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            noise = torch.randn(parameter.shape, generator=generator) * 0.1
            parameter.data = noise + (1.0 if name.endswith("weight") else 0.0)
    return module.eval().requires_grad_(False)


def transformers_tower(seed: int = 0, width: int = 64, dim: int = 32, layers: int = 3) -> TransformersTextEncoder:
    torch.manual_seed(seed)
    config = transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        projection_dim=dim,
    )
    module = randomised(transformers.CLIPTextModel(config), seed)
    return TransformersTextEncoder(module, torch.randn(width, dim) / width**0.5)


def open_clip_tower(seed: int = 0, width: int = 64, dim: int = 32, layers: int = 3) -> OpenClipTextEncoder:
    torch.manual_seed(seed)
    module = randomised(
        open_clip.model.CLIP(
            dim,
            open_clip.model.CLIPVisionCfg(layers=1, width=64, head_width=32, image_size=32, patch_size=16),
            open_clip.model.CLIPTextCfg(width=width, heads=4, layers=layers),
        ),
        seed,
    )
    return OpenClipTextEncoder(module, module.text_projection)  # type: ignore[arg-type]


def in_float64(encoder: TextEncoder) -> TextEncoder:
    """A copy of the encoder in double precision."""
    module = copy.deepcopy(encoder.module).double()
    if hasattr(module, "attn_mask"):
        module.attn_mask = module.attn_mask.double()  # no parameter, so not turned
    return type(encoder)(module, encoder.projection.double())  # type: ignore[call-arg, arg-type]


def pad_id(encoder: TextEncoder) -> int:
    return 0 if isinstance(encoder, OpenClipTextEncoder) else END


def encode(module: Any, ids: Tensor) -> Tensor:
    """Last hidden state (B, 77, width), by the libraries' own forwards over the whole length."""
    if hasattr(module, "attn_mask"):
        x = module.token_embedding(ids) + module.positional_embedding
        swap = not getattr(module.transformer, "batch_first", False)
        x = module.transformer(x.transpose(0, 1) if swap else x, attn_mask=module.attn_mask)
        return module.ln_final(x.transpose(0, 1) if swap else x)
    return module(input_ids=ids).last_hidden_state


def text_feature(module: Any, projection: Tensor, ids: Tensor) -> Tensor:
    """Projected text feature (B, dim), by open_clip's own encode_text or transformers' own pooling."""
    if hasattr(module, "attn_mask"):
        return module.encode_text(ids)
    return module(input_ids=ids).pooler_output @ projection


def _trained(module: nn.Module) -> list[nn.Parameter]:
    fixed = ("visual", "logit", "text_projection")
    return [p for name, p in module.named_parameters() if not name.startswith(fixed)]


def plain_method(
    encoder: TextEncoder, ids: Tensor, target: Tensor, steps: int, lr: float, dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, list[float]]:
    """Gallego 2022 as it stands: a copy of the tower, all 77 positions, all parameters, torch's Adam.

    Returns:
        The optimised copy, and the cosine similarity before each step and after the last.
    """
    encoder = in_float64(encoder) if dtype is torch.float64 else encoder
    module: Any = copy.deepcopy(encoder.module).requires_grad_(True)
    projection = encoder.projection
    optimizer = torch.optim.Adam(_trained(module), lr=lr)
    similarities = []

    def similarity() -> Tensor:
        feature = text_feature(
            module, module.text_projection.detach() if hasattr(module, "attn_mask") else projection, ids.unsqueeze(0)
        )
        return torch.nn.functional.cosine_similarity(feature, target.to(dtype).unsqueeze(0)).squeeze(0)

    for _ in range(steps):
        value = similarity()
        optimizer.zero_grad()
        (-value).backward()
        optimizer.step()
        similarities.append(value.item())
    with torch.no_grad():
        similarities.append(similarity().item())
    return module, similarities


def plain_strength(
    encoder: TextEncoder, ids: Tensor, target: Tensor, steps: int, lr: float, strength: float
) -> tuple[nn.Module, int, float]:
    """The plain method in float64, stopped where a part of the angle is gone, between the last two sets of weights.

    Returns:
        A copy of the tower at the end, the steps taken (the last one maybe not whole), and the cosine similarity there.
    """
    encoder = in_float64(encoder)
    module = encoder.module.requires_grad_(True)
    goal = target.double().unsqueeze(0)
    trained = _trained(module)
    optimizer = torch.optim.Adam(trained, lr=lr)

    def similarity() -> Tensor:
        feature = text_feature(module, encoder.projection, ids.unsqueeze(0))
        return torch.nn.functional.cosine_similarity(feature, goal).squeeze(0)

    wanted = math.cos((1 - strength) * math.acos(similarity().item()))
    taken = 0
    while taken < steps:
        taken += 1
        before = [p.detach().clone() for p in trained]
        optimizer.zero_grad()
        (-similarity()).backward()
        optimizer.step()
        with torch.no_grad():
            if similarity() >= wanted:
                break
    with torch.no_grad():
        after = [p.detach().clone() for p in trained]
        low, high = 0.0, 1.0 if similarity() > wanted else 0.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            for place, a, b in zip(trained, before, after):
                place.copy_(a + middle * (b - a))
            low, high = (low, middle) if similarity() > wanted else (middle, high)
        return module, taken, similarity().item()


TOWERS: dict[str, Callable[[], TextEncoder]] = {"transformers": transformers_tower, "open_clip": open_clip_tower}
