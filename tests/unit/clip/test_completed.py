"""Layers without a weight, and layers that their host left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from aesthetic_clip.clip.completed import Completed, CompletedTextEncoder, missing_layers
from aesthetic_clip.clip.optimisable import quantised_layer
from aesthetic_clip.errors import AestheticError

from ...support.towers import PROMPT, transformers_tower


class EmptyLinear(nn.Module):
    """As Forge makes a layer for a weight that the file lacks: everything of a Linear but the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features, self.weight = 4, 4, None


def test_a_layer_without_a_weight_is_not_quantised() -> None:
    assert quantised_layer(EmptyLinear()) is None


def test_a_packed_layer_still_is() -> None:
    layer = EmptyLinear()
    layer.qweight = torch.zeros(4, dtype=torch.int32)
    assert "qweight" in (quantised_layer(layer) or "")


def test_a_scale_is_refused_unless_the_caller_works_it_in() -> None:
    layer = nn.Linear(4, 4)
    layer.scale_weight = nn.Parameter(torch.ones(()))
    assert "scale_weight" in (quantised_layer(layer) or "")
    assert quantised_layer(layer, ("scale_weight",)) is None


def test_a_tower_cut_short_and_completed_from_its_file_is_the_whole_one(tmp_path: Path) -> None:
    whole = transformers_tower(layers=3)
    file = tmp_path / "tower.safetensors"
    states = {
        name if name.startswith("text_model.") else f"text_model.{name}": tensor.contiguous()
        for name, tensor in whole.module.state_dict().items()
    }
    safetensors.torch.save_file(states, file)
    ids = torch.tensor([PROMPT])
    expected = whole.feature(ids, whole.weights(ids))

    inner: Any = getattr(whole.module, "text_model", whole.module)
    del inner.encoder.layers[2:]
    lost = missing_layers(whole.module, file)
    assert len(lost) == 1
    completed = CompletedTextEncoder(Completed(whole.module, lost), whole.projection)
    torch.testing.assert_close(completed.feature(ids, completed.weights(ids)), expected)
    assert len(inner.encoder.layers) == 2


def test_anothers_file_is_refused(tmp_path: Path) -> None:
    tower, other = transformers_tower(layers=3), transformers_tower(seed=5, layers=3)
    file = tmp_path / "tower.safetensors"
    safetensors.torch.save_file(
        {
            name if name.startswith("text_model.") else f"text_model.{name}": tensor.contiguous()
            for name, tensor in other.module.state_dict().items()
        },
        file,
    )
    with pytest.raises(AestheticError, match="not those that the text encoder has"):
        missing_layers(tower.module, file)
