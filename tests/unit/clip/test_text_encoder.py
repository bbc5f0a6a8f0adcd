"""Text encoders as callers have them in memory: in any mode and storage, and in several threads at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aesthetic_clip.clip.text_encoder import TextEncoder, TransformersTextEncoder, lock_of, locked
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.method.modes import Memory
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.targets import Toward

from ...support.elsewhere import DEVICE, Elsewhere, SecondDevice
from ...support.towers import PROMPT, TOWERS, encode, pad_id, padded, plain_method, transformers_tower

STEPS, LR = 4, 1e-3
TARGET = unit(torch.randn(32, generator=torch.Generator().manual_seed(5)))
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.fixture(params=TOWERS)
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return TOWERS[request.param]()


def similarities(encoder: TextEncoder) -> tuple[float, ...]:
    return optimize(encoder, torch.tensor(PROMPT), Toward(TARGET), STEPS, LR).similarities


def moved(encoder: TextEncoder, prompt: list[int] = PROMPT) -> Tensor:
    """What the host's own encoding says with the optimised weights."""
    weights = encoder.in_own_precision(optimize(encoder, torch.tensor(prompt), Toward(TARGET), STEPS, LR).weights)
    with torch.no_grad():
        ids = padded(prompt, pad_id(encoder))[None]
        return encoder.call(lambda one: encode(encoder.module, one), weights, ids)


def rebuilt(encoder: TextEncoder, module: nn.Module) -> TextEncoder:
    return type(encoder)(module, encoder.projection)  # type: ignore[call-arg, arg-type]


def small_layers(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


# Threads


def test_threads_on_one_encoder_get_what_one_thread_gets(encoder: TextEncoder) -> None:
    prompts = [[PROMPT[0], first, *PROMPT[2:]] for first in (320, 1000, 2000, 3000)]
    expected = [moved(encoder, prompt) for prompt in prompts]
    before = copy.deepcopy(encoder.module.state_dict())
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda prompt: moved(rebuilt(encoder, encoder.module), prompt), prompts))
    assert all(map(torch.equal, actual, expected))
    assert all(torch.equal(value, before[name]) for name, value in encoder.module.state_dict().items())


def test_a_lock_belongs_to_its_module_and_leaves_nothing_on_it() -> None:
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)
    before = set(vars(one))
    with locked(one, other), locked(other, one):
        assert lock_of(one) is lock_of(one) is not lock_of(other)
        with ThreadPoolExecutor(1) as pool:
            lock: Any = lock_of(one)
            assert not pool.submit(lock.acquire, False).result()
    assert set(vars(one)) == before


# Modes


@pytest.mark.parametrize("gradients", [False, True], ids=["frozen", "as_loaded"])
def test_a_model_made_in_inference_mode(encoder: TextEncoder, gradients: bool) -> None:
    expected = similarities(encoder)
    text = encoder.text_feature(torch.tensor(PROMPT))
    with torch.inference_mode():
        module = copy.deepcopy(encoder.module).requires_grad_(gradients)
        made = type(encoder)(module, encoder.projection.clone())  # type: ignore[call-arg, arg-type]
        assert next(module.parameters()).is_inference()
        inside = similarities(made)
        assert torch.equal(made.text_feature(torch.tensor(PROMPT)), text)
    assert inside == similarities(made) == expected


def test_no_gradient_is_left_on_an_encoder_that_asks_for_them(encoder: TextEncoder) -> None:
    encoder.module.requires_grad_(True)
    moved(encoder)
    assert all(p.grad is None and p.requires_grad for p in encoder.module.parameters())


# Storage


@pytest.mark.parametrize("dtype", FLOAT8, ids=str)
@pytest.mark.parametrize("everything", [False, True], ids=["linear_layers", "everything"])
def test_one_byte_weights_move_as_the_values_that_they_hold(
    encoder: TextEncoder, dtype: torch.dtype, everything: bool
) -> None:
    linear = {id(p) for layer in small_layers(encoder.module) for p in layer.parameters()}
    for name, parameter in encoder.module.named_parameters():
        if name != "text_projection" and (everything or id(parameter) in linear):
            parameter.data = parameter.data.to(dtype)
    upcast = copy.deepcopy(encoder.module)
    for parameter in upcast.parameters():
        parameter.data = parameter.data.float()
    ids = padded(PROMPT, pad_id(encoder))
    plain, expected = plain_method(rebuilt(encoder, upcast), ids, TARGET, STEPS, LR)
    optimized = optimize(encoder, torch.tensor(PROMPT), Toward(TARGET), STEPS, LR)
    assert optimized.similarities == pytest.approx(expected, abs=1e-4)

    worn = encoder.in_own_precision(optimized.weights)
    assert all(p.dtype == torch.float32 for p in worn.tensors()), "in one byte the steps would be lost"
    host = rebuilt(encoder, upcast)
    with torch.no_grad():
        actual = host.call(lambda one: encode(upcast, one), worn, ids[None])
        own, goal = encode(upcast, ids[None]), encode(plain, ids[None])
    assert (actual - goal).norm() < 1e-2 * (goal - own).norm()


# Adapters


class Adapted(nn.Module):
    """As PEFT puts LoRA around a layer."""

    def __init__(self, layer: nn.Module, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.base_layer = layer
        self.lora_A, self.lora_B = nn.ParameterDict({"x": down}), nn.ParameterDict({"x": up})

    def forward(self, x: Tensor) -> Tensor:
        down = self.lora_A["x"][x] if isinstance(self.base_layer, nn.Embedding) else x @ self.lora_A["x"]
        return self.base_layer(x) + down @ self.lora_B["x"]


class Beside(nn.Module):
    """Reads the table's numbers itself."""

    def __init__(self, table: Any) -> None:
        super().__init__()
        self.base_layer: Any = table

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.base_layer.weight)


class Strange(nn.Module):
    def __init__(self, table: nn.Module) -> None:
        super().__init__()
        self.hidden_one = table


def text_embeddings(module: Any) -> Any:
    return getattr(module, "text_model", module).embeddings


def test_an_adapter_on_the_token_table_and_a_layer_moves_with_them() -> None:
    encoder = transformers_tower()
    module: Any = encoder.module
    embeddings = text_embeddings(module)
    attention = getattr(module, "text_model", module).encoder.layers[1].self_attn
    draw = torch.Generator().manual_seed(1)
    table, query = embeddings.token_embedding, attention.q_proj
    factors = [
        torch.randn(*size, generator=draw) * 0.05 for size in ((len(table.weight), 2), (2, 64), (64, 2), (2, 64))
    ]
    merged = copy.deepcopy(module)
    embeddings.token_embedding, attention.q_proj = Adapted(table, *factors[:2]), Adapted(query, *factors[2:])
    text_embeddings(merged).token_embedding.weight.data += factors[0] @ factors[1]
    getattr(merged, "text_model", merged).encoder.layers[1].self_attn.q_proj.weight.data += (factors[2] @ factors[3]).T

    adapted = TransformersTextEncoder(module, encoder.projection)
    expected = similarities(TransformersTextEncoder(merged, encoder.projection))
    assert similarities(adapted) == pytest.approx(expected, abs=1e-5)
    assert not [name for name in adapted.weights(torch.tensor(PROMPT)).parameters if "lora" in name]


@pytest.mark.parametrize("wrapper", [Beside, Strange])
def test_a_token_table_that_is_used_in_an_unknown_way_is_refused(wrapper: type[nn.Module]) -> None:
    encoder = transformers_tower()
    embeddings = text_embeddings(encoder.module)
    embeddings.token_embedding = wrapper(embeddings.token_embedding)  # type: ignore[call-arg, arg-type]
    with pytest.raises(AestheticError, match=r"can't be personalised.*Take .* off (its|the) token embedding"):
        similarities(TransformersTextEncoder(encoder.module, encoder.projection))


# Quantised


def as_int8(layer: nn.Linear) -> None:
    """As bitsandbytes has it."""
    layer.weight = nn.Parameter(layer.weight.data.mul(100).to(torch.int8), requires_grad=False)


def as_subclass(layer: nn.Linear) -> None:
    """As torchao and quanto have it: a tensor that says it is of a floating dtype, and is not."""

    class Int8Tensor(Tensor):
        pass

    layer.weight = nn.Parameter(layer.weight.data.as_subclass(Int8Tensor), requires_grad=False)


def before_freeze(layer: nn.Linear) -> None:
    """As quanto has it before its freeze: plain weights that are quantised in each forward pass."""
    layer.weight_qtype = "qint8"  # type: ignore[assignment]


def as_buffers(layer: nn.Linear) -> None:
    """As GPTQ and AWQ have it."""
    del layer.weight
    layer.register_buffer("qweight", torch.zeros(8, 8, dtype=torch.int32))


def as_scaled_float8(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(layer.weight.data.to(torch.float8_e4m3fn), requires_grad=False)
    layer.register_buffer("weight_scale", torch.tensor(0.5))


def dynamically(layer: nn.Linear) -> None:
    del layer.weight
    layer.weight = lambda: None  # type: ignore[assignment, misc]


@pytest.mark.parametrize(
    "quantise",
    [as_int8, as_subclass, before_freeze, as_buffers, as_scaled_float8, dynamically],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("every", [False, True], ids=["one_layer", "all_layers"])
def test_a_quantised_encoder_is_refused_by_its_true_cause(quantise: Callable[[nn.Linear], None], every: bool) -> None:
    encoder = transformers_tower()
    layers = small_layers(encoder.module)
    for layer in layers if every else layers[3:4]:
        quantise(layer)
    with pytest.raises(AestheticError, match=r"is quantised .* Load the text encoder without quantisation"):
        rebuilt(encoder, encoder.module)


# The optimiser


def test_one_transfer_to_the_device_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    tensor = torch.tensor
    encoder, ids = transformers_tower(), torch.tensor(PROMPT)
    passes = STEPS + 1  # transformers makes one in each of them, for its mask

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        made.append(args)
        return tensor(*args, **kwargs)

    monkeypatch.setattr(torch, "tensor", counted)
    optimize(encoder, ids, Toward(TARGET), STEPS, LR)
    assert len(made) <= passes


# Another device than that of the weights


@pytest.mark.parametrize("memory", [Memory.FAST, Memory.LOW, Memory.LOWEST], ids=lambda memory: memory.value)
def test_all_goes_to_the_device_where_it_computes(encoder: TextEncoder, memory: Memory) -> None:
    """A host may keep the weights in main memory, or some of them, and hands the ids over on the CPU."""
    prompt = torch.tensor(PROMPT)
    ids = padded(PROMPT, pad_id(encoder))[None]

    def personalised(device: torch.device) -> tuple[tuple[float, ...], list[Tensor]]:
        tower = type(encoder)(encoder.module, encoder.projection, device=device)  # type: ignore[call-arg, arg-type]
        made = optimize(tower, prompt, Toward(TARGET), STEPS, LR, memory=memory)
        # What is not trained the host's layers bring along by themselves.
        weights = replace(tower.in_own_precision(made.weights), fixed=made.weights.fixed)
        with torch.no_grad():
            hidden = tower.call(tower.hidden_state, weights, ids.to(device))
        return made.similarities, [tower.text_feature(prompt), hidden, *weights.tensors()]

    expected, here = personalised(torch.device("cpu"))
    with SecondDevice():
        got, there = personalised(DEVICE)
    # Attention is added up in another order there.
    assert got == pytest.approx(expected, abs=1e-5)
    assert all(isinstance(one, Elsewhere) for one in there)
    for one, other in zip(here[:2], there):
        assert torch.allclose(one, other.inner, atol=1e-3)  # type: ignore[attr-defined, arg-type]
