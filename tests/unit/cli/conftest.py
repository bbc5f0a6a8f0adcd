"""What several commands are tried with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def vision_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision tower with random weights and the real width of ViT-L/14's features."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tower")
    CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
            projection_dim=768,
        )
    ).save_pretrained(folder)
    return folder
