"""Which way is chosen for the optimiser's state, by what is free and what there is to do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from aesthetic_clip.clip.text_encoder import Weights, innermost_embedding
from aesthetic_clip.method import memory as choice
from aesthetic_clip.method.memory import bytes_needed, choose_memory, most_steps_from_factors
from aesthetic_clip.method.modes import Memory

GB = 1e9
SHAPES = {"ViT-L/14": (768, 3072, 12), "ViT-H/14": (1024, 4096, 24), "ViT-bigG/14": (1280, 5120, 32)}
# What a text tower takes in fp32, in GB.
WEIGHTS = {"ViT-L/14": 0.34, "ViT-H/14": 1.21, "ViT-bigG/14": 2.52}


def tower(name: str, device: str = "cpu") -> Any:
    """A text tower of full size without its numbers."""
    width, mlp, layers = SHAPES[name]
    config = transformers.CLIPTextConfig(
        hidden_size=width, intermediate_size=mlp, num_hidden_layers=layers, num_attention_heads=16
    )
    with torch.device("meta"):
        module = transformers.CLIPTextModel(config)
    table = innermost_embedding(getattr(module, "text_model", module).embeddings.token_embedding).weight
    trained = {name: p for name, p in module.named_parameters() if p is not table}
    weights = Weights(trained, torch.zeros(1, dtype=torch.long), table[:1])

    class There:
        """The tower as if it were on another device, which need not be here."""

        def __init__(self) -> None:
            self.device = torch.device(device)

        def weights(self, ids: torch.Tensor) -> object:
            return weights

    return There()


@pytest.mark.parametrize("name", SHAPES)
def test_what_each_way_needs(name: str) -> None:
    encoder = tower(name)
    weights = WEIGHTS[name] * GB
    assert bytes_needed(encoder, Memory.FAST) == pytest.approx(3 * weights, rel=0.05)
    assert weights < bytes_needed(encoder, Memory.LOW) < 1.2 * weights
    assert weights < bytes_needed(encoder, Memory.LOWEST, tokens=14, steps=5) < 1.2 * weights


@pytest.mark.parametrize(
    ("free", "tokens", "steps", "chosen"),
    [
        (100 * GB, 77, 50, Memory.FAST),
        (4 * GB, 14, 5, Memory.LOWEST),
        (4 * GB, 77, 10, Memory.LOWEST),
        (4 * GB, 77, 50, Memory.LOW),
        (4 * GB, 14, 50, Memory.LOW),
    ],
)
def test_on_a_gpu(free: float, tokens: int, steps: int, chosen: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda device: free)
    assert choose_memory(tower("ViT-bigG/14", "cuda"), Memory.AUTOMATIC, tokens, steps) is chosen


@pytest.mark.parametrize(
    ("free", "tokens", "steps", "chosen"),
    [
        (None, 14, 5, Memory.FAST),
        (100 * GB, 14, 5, Memory.FAST),
        (4 * GB, 14, 50, Memory.LOWEST),
        (4 * GB, 77, 50, Memory.FAST),  # the factors would take more
    ],
)
@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_where_all_memory_is_one(
    free: float | None, tokens: int, steps: int, chosen: Memory, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda device: free)
    assert choose_memory(tower("ViT-bigG/14", device), Memory.AUTOMATIC, tokens, steps) is chosen


@pytest.mark.parametrize("wanted", [Memory.FAST, Memory.LOW, Memory.LOWEST])
def test_what_is_set_is_taken(wanted: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "free_memory", lambda device: 4 * GB)
    assert choose_memory(tower("ViT-bigG/14", "cuda"), wanted, 77, 50) is wanted


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("tokens", [5, 14, 77])
def test_the_crossing_is_where_factors_outgrow_moments(name: str, tokens: int) -> None:
    encoder = tower(name)
    steps = most_steps_from_factors(encoder, tokens)
    fewer, more = (bytes_needed(encoder, Memory.LOWEST, tokens, round(part * steps)) for part in (0.95, 1.05))
    assert fewer < bytes_needed(encoder, Memory.FAST) < more


def test_main_memory_is_known_where_psutil_is() -> None:
    pytest.importorskip("psutil")
    free = choice.free_memory(torch.device("cpu"))
    assert free is not None and 0 < free < 1e13
