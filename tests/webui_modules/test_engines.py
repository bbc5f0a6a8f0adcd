"""Forge's engines, by what is called of them: how a tower is found, and how the memory manager is asked."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from ..support.elsewhere import DEVICE, SecondDevice
from ..support.towers import encode, transformers_tower
from .host import Host

PATCHER = object()


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Forge's memory manager, which notes what it is asked."""
    manager: Any = ModuleType("backend.memory_management")
    manager.asked = []
    manager.text_encoder_device = lambda: torch.device("cpu")
    manager.load_model_gpu = lambda patcher: manager.asked.append((patcher, 0))
    manager.load_models_gpu = lambda patchers, memory_required: manager.asked.append((*patchers, memory_required))
    monkeypatch.setitem(sys.modules, "backend.memory_management", manager)
    found: ModuleType = manager
    return found


def engine(transformer: Any) -> Any:
    return SimpleNamespace(
        text_encoder=SimpleNamespace(transformer=transformer),
        embeddings=SimpleNamespace(fixes=None),
        tokenize=lambda texts: [[320, 2368] for _ in texts],
        id_start=49406,
        id_end=49407,
    )


def model(**engines: Any) -> Any:
    return SimpleNamespace(forge_objects=SimpleNamespace(clip=SimpleNamespace(patcher=PATCHER)), **engines)


def tower(width: int) -> Any:
    module: Any = transformers_tower(width=width, dim=width, layers=1).module
    with torch.no_grad():
        module.text_projection = nn.Linear(width, width, bias=False)
    return module


def test_room_for_the_steps_is_made_before_them(host: Host, manager: Any) -> None:
    module = tower(64)
    (found,) = host.extension("hosts.a1111.families.encoders").host_encoders(
        model(text_processing_engine=engine(module))
    )
    found.settle(torch.tensor([[49406, 320, 49407]]))
    ((patcher, room),) = manager.asked
    numbers = sum(p.numel() for name, p in module.named_parameters() if "token_embedding" not in name)
    assert patcher is PATCHER
    # fp32: the weights, and Adam's two moments of each.
    assert room >= 3 * 4 * (numbers - module.text_projection.weight.numel())


def test_the_second_towers_own_text_projection_is_taken(host: Host, manager: Any) -> None:
    module = tower(64)
    (found,) = host.extension("hosts.a1111.families.encoders").host_encoders(
        model(text_processing_engine_g=engine(module))
    )
    ids = torch.tensor([[49406, 320, 49407]])
    with torch.no_grad():
        expected = module.text_projection(encode(module, ids)[0, -1])
    assert torch.allclose(found.encoder.text_feature(ids[0]), expected, atol=1e-5)


def test_clip_l_has_its_projection_from_elsewhere(host: Host, manager: Any) -> None:
    module = tower(768)
    (found,) = host.extension("hosts.a1111.families.encoders").host_encoders(
        model(text_processing_engine_l=engine(module))
    )
    published = found.encoder.projection
    assert published.shape == (768, 768)
    assert not torch.allclose(published, module.text_projection.weight.T)


@pytest.mark.parametrize(
    "engines", [{}, {"text_processing_engine_t5": engine(None)}, {"text_processing_engine_l": engine(nn.Linear(1, 1))}]
)
def test_a_model_without_a_clip_is_told_by_its_name(host: Host, engines: dict[str, Any]) -> None:
    chroma = type("Chroma", (SimpleNamespace,), {})(**vars(model(**engines)))
    with pytest.raises(Exception, match="It is a Chroma whose prompt is read by no CLIP text encoder"):
        host.extension("hosts.a1111.families.encoders").host_encoders(chroma)


def test_a_tower_computes_where_the_manager_says(host: Host, manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where its weights are: single layers may be left in main memory, or all of them."""
    monkeypatch.setattr(manager, "text_encoder_device", lambda: DEVICE)
    (found,) = host.extension("hosts.a1111.families.encoders").host_encoders(
        model(text_processing_engine_g=engine(tower(64)))
    )
    with SecondDevice():
        ids = found.token_ids("a cat")
        assert ids.device == found.encoder.device == found.encoder.text_feature(ids).device == DEVICE
