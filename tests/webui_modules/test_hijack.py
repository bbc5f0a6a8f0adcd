"""reForge's towers, in AUTOMATIC1111's wrappers: where their text projection is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ..support.towers import encode, transformers_tower
from .host import Host

WIDTH = 64


@pytest.fixture
def module() -> Any:
    return transformers_tower(width=WIDTH, dim=WIDTH, layers=1).module


@pytest.fixture
def model(module: Any, tmp_path: Path) -> Any:
    """An SD 2.x checkpoint as reForge holds it: beside the tower it always has the identity matrix."""
    wrapped = SimpleNamespace(transformer=module)
    return SimpleNamespace(
        cond_stage_model=SimpleNamespace(wrapped=wrapped, encode_with_transformers=None),
        forge_objects=SimpleNamespace(
            clip=SimpleNamespace(
                cond_stage_model=SimpleNamespace(clip_h=SimpleNamespace(text_projection=torch.eye(WIDTH)))
            )
        ),
        sd_checkpoint_info=SimpleNamespace(filename=str(tmp_path / "sd2.safetensors")),
    )


def test_a_projection_that_was_left_in_the_file_is_read_from_there(host: Host, module: Any, model: Any) -> None:
    projection = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))
    save_file({"cond_stage_model.model.text_projection": projection}, model.sd_checkpoint_info.filename)
    (found,) = host.extension("hosts.a1111.families.encoders").host_encoders(model)
    ids = torch.tensor([49406, 320, 49407])
    with torch.no_grad():
        expected = encode(module, ids[None])[0, -1] @ projection
    assert torch.allclose(found.encoder.text_feature(ids), expected, atol=1e-5)


def test_an_identity_matrix_is_never_taken_for_a_projection(host: Host, model: Any) -> None:
    save_file({"nothing": torch.zeros(1)}, model.sd_checkpoint_info.filename)
    (found,) = host.extension("hosts.a1111.families.encoders").host_encoders(model)
    with pytest.raises(Exception, match="text projection is missing"):
        _ = found.encoder
