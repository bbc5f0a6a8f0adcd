"""Whatever a caller does with a pipeline: exact, or refused by its true cause, and nothing is left on its modules."""

from __future__ import annotations

import copy
import itertools
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("diffusers")

import accelerate
import diffusers.hooks

from aesthetic_clip import AestheticError, Embedding, PromptEmbeddings, Settings, encode_prompts
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import space_of

from ....support import pipelines

PROMPTS = ["a portal towards another dimension", "a lighthouse on a cliff", "fog", "two cats and a dog"]
SETTINGS = Settings(steps=4, lr=0.001, weight=0.9)
CPU = torch.device("cpu")
CLOSE = {"rtol": 0, "atol": 1e-4}


def vector(dim: int) -> Tensor:
    return unit(torch.randn(dim, generator=torch.Generator().manual_seed(0)))


BOTH = Embedding("taste", {space_of(dim): vector(dim) for dim in (pipelines.DIM, pipelines.DIM_2)})
FIRST = Embedding("taste", {space_of(pipelines.DIM): vector(pipelines.DIM)})


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.write_projection(tmp_path_factory.mktemp("projection"))


@pytest.fixture(params=["sd", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return getattr(pipelines, request.param)()


@pytest.fixture
def encode(tower: Path) -> Callable[..., PromptEmbeddings]:
    def encoded(pipe: Any, prompt: str = PROMPTS[0], embedding: Embedding = BOTH, **more: Any) -> PromptEmbeddings:
        return encode_prompts(pipe, prompt, more.pop("settings", SETTINGS), embedding, text_tower=tower, **more)

    return encoded


def text_encoders(pipe: Any) -> list[nn.Module]:
    return [m for name in ("text_encoder", "text_encoder_2") if (m := getattr(pipe, name, None)) is not None]


def traces(pipe: Any) -> list[Any]:
    """All that could be left behind on the text encoders, and on the pipeline."""
    found: list[Any] = [{name: id(value) for name, value in vars(pipe).items()}]
    for part in itertools.chain.from_iterable(encoder.modules() for encoder in text_encoders(pipe)):
        kept = {name: len(value) if isinstance(value, dict) else id(value) for name, value in vars(part).items()}
        tensors = [*part._parameters.items(), *part._buffers.items()]
        found.append(
            (kept, [(name, id(t), t.dtype, t.device, t.requires_grad, t.grad) for name, t in tensors if t is not None])
        )
    return found


def bits(pipe: Any) -> list[Tensor]:
    return [t.clone() for encoder in text_encoders(pipe) for t in (*encoder.parameters(), *encoder.buffers())]


@pytest.fixture
def untouched(pipe: Any) -> Iterator[None]:
    """The pipeline, as the test leaves it, has the same tensors, hooks and attributes as before."""
    encode_plainly(pipe)  # transformers puts its own marks on a module at its first use
    marks, before = traces(pipe), bits(pipe)
    yield
    assert traces(pipe) == marks
    assert all(map(torch.equal, bits(pipe), before))


@torch.no_grad()
def encode_plainly(pipe: Any, text: str = PROMPTS[0]) -> Any:
    return pipe.encode_prompt(
        prompt=text, device=CPU, num_images_per_prompt=1, do_classifier_free_guidance=True, clip_skip=None
    )


def same(one: PromptEmbeddings, other: PromptEmbeddings) -> bool:
    return one.similarities == other.similarities and all(
        torch.equal(a, b) for a, b in zip(one.arguments().values(), other.arguments().values())
    )


def alike(one: PromptEmbeddings, other: PromptEmbeddings, atol: float = 1e-4) -> bool:
    return all(
        torch.allclose(a.float(), b.float(), rtol=0, atol=atol)
        for a, b in zip(one.arguments().values(), other.arguments().values())
    )


# Threads


@pytest.mark.usefixtures("untouched")
def test_threads_on_one_pipeline_get_what_one_thread_gets(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    expected = [encode(pipe, prompt) for prompt in PROMPTS]
    with ThreadPoolExecutor(4) as pool:
        actual = list(pool.map(lambda prompt: encode(pipe, prompt), PROMPTS))
    assert all(map(same, actual, expected))


@pytest.mark.usefixtures("untouched")
def test_threads_on_two_pipelines_with_one_text_encoder(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    other = pipe.__class__(
        **{**pipe.components}, **({} if hasattr(pipe, "text_encoder_2") else {"requires_safety_checker": False})
    )
    expected = [encode(pipe, prompt) for prompt in PROMPTS[:2]]
    with ThreadPoolExecutor(2) as pool:
        actual = list(pool.map(encode, (pipe, other), PROMPTS[:2]))
    assert all(map(same, actual, expected))


@pytest.mark.usefixtures("untouched")
def test_a_thread_that_uses_the_text_encoder_by_itself_sees_its_own_weights(
    pipe: Any, encode: Callable[..., PromptEmbeddings]
) -> None:
    ids = pipe.tokenizer(PROMPTS[0], padding="max_length", return_tensors="pt").input_ids
    encoder = text_encoders(pipe)[-1]
    with torch.no_grad():
        expected = encoder(ids)[0]
    done, seen = threading.Event(), []

    def watch() -> None:
        with torch.no_grad():
            while not done.is_set():
                seen.append(torch.equal(encoder(ids)[0], expected))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            for prompt in PROMPTS:
                encode(pipe, prompt)
        finally:
            done.set()
        watching.result()
    assert len(seen) > 4
    assert all(seen)


# Modes


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, torch.no_grad, torch.enable_grad], ids=["inference_mode", "no_grad", "enable_grad"]
)
@pytest.mark.usefixtures("untouched")
def test_in_any_mode(pipe: Any, encode: Callable[..., PromptEmbeddings], mode: Callable[[], Any]) -> None:
    expected = encode(pipe)
    with mode():
        assert same(encode(pipe), expected)


@pytest.mark.usefixtures("untouched")
def test_under_autocast_the_steps_are_in_fp32(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    expected = encode(pipe)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = encode(pipe)
    assert result.similarities == expected.similarities
    assert alike(result, expected, 0.2)  # the encodings themselves are in bfloat16


def test_a_pipeline_loaded_in_inference_mode(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    expected = encode(pipe)
    with torch.inference_mode():
        for name in ("text_encoder", "text_encoder_2"):
            if hasattr(pipe, name):
                setattr(pipe, name, copy.deepcopy(getattr(pipe, name)).requires_grad_(True))
        assert next(pipe.text_encoder.parameters()).is_inference()
        assert same(encode(pipe), expected)
    assert same(encode(pipe), expected)


@pytest.mark.usefixtures("untouched")
def test_no_gradient_is_left_on_text_encoders_as_diffusers_loads_them(
    pipe: Any, encode: Callable[..., PromptEmbeddings]
) -> None:
    expected = encode(pipe)
    for encoder in text_encoders(pipe):
        encoder.requires_grad_(True)
    assert same(encode(pipe), expected)
    assert all(p.grad is None and p.requires_grad for e in text_encoders(pipe) for p in e.parameters())
    for encoder in text_encoders(pipe):
        encoder.requires_grad_(False)


def test_training_with_gradient_checkpointing(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    expected = encode(pipe)
    for encoder in text_encoders(pipe):
        encoder.train()
        encoder.gradient_checkpointing_enable()  # type: ignore[operator]
    assert alike(encode(pipe), expected)
    assert all(part.training for encoder in text_encoders(pipe) for part in encoder.modules())


# Storage


@pytest.mark.parametrize("skip", ["auto", None], ids=["layer_by_layer", "as_a_whole"])
@pytest.mark.parametrize("storage", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16], ids=str)
def test_layerwise_casting_is_the_pipeline_with_the_values_that_it_holds(
    pipe: Any, encode: Callable[..., PromptEmbeddings], storage: torch.dtype, skip: str | None
) -> None:
    for encoder in text_encoders(pipe):
        for part in encoder.modules():
            if skip is None or isinstance(part, (nn.Linear, nn.Embedding)):
                for p in part.parameters(recurse=False):
                    p.data = p.data.to(storage).float()
    expected = encode(pipe)
    for encoder in text_encoders(pipe):
        diffusers.hooks.apply_layerwise_casting(encoder, storage, torch.float32, skip_modules_pattern=skip)
    encode_plainly(pipe)
    before = traces(pipe)
    assert (
        text_encoders(pipe)[0].get_submodule(_LINEAR[hasattr(pipe.text_encoder, "text_model")]).weight.dtype == storage
    )
    assert alike(encode(pipe), expected)
    still = encode(pipe, settings=Settings(steps=0))
    assert all(map(torch.equal, still.arguments().values(), encode_plainly(pipe)))
    assert traces(pipe) == before


_LINEAR = {False: "encoder.layers.0.mlp.fc1", True: "text_model.encoder.layers.0.mlp.fc1"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(pipe: Any, encode: Callable[..., PromptEmbeddings], dtype: torch.dtype) -> None:
    expected = encode(pipe)
    result = encode(pipe.to(dtype=dtype))
    assert all(tensor.dtype == dtype for tensor in result.arguments().values())
    assert alike(result, expected, 0.2)


# Compilation


@pytest.mark.parametrize("clip_skip", [None, 1])
def test_a_compiled_text_encoder(pipe: Any, encode: Callable[..., PromptEmbeddings], clip_skip: int | None) -> None:
    expected = encode(pipe, clip_skip=clip_skip)
    for name in ("text_encoder", "text_encoder_2"):
        if hasattr(pipe, name):
            setattr(pipe, name, torch.compile(getattr(pipe, name), backend="eager"))
    assert same(encode(pipe, clip_skip=clip_skip), expected)


@pytest.mark.parametrize("way", ["module", "forward"])
def test_compiled_in_place(pipe: Any, encode: Callable[..., PromptEmbeddings], way: str) -> None:
    expected = encode(pipe)
    for encoder in text_encoders(pipe):
        if way == "module":
            encoder.compile(backend="eager")
        else:
            encoder.forward = torch.compile(encoder.forward, backend="eager")  # type: ignore[method-assign, assignment]
    assert same(encode(pipe), expected)


class Wrapped(nn.Module):
    """As PEFT's ``get_peft_model`` gives a model back: the adapters are in the layers inside it."""

    def __init__(self, module: nn.Module, is_prompt_learning: bool) -> None:
        super().__init__()
        self.base_model = module
        self.active_peft_config = types.SimpleNamespace(is_prompt_learning=is_prompt_learning)

    def get_base_model(self) -> nn.Module:
        return self.base_model


def test_a_text_encoder_wrapped_for_adapters(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    expected = encode(pipe)
    inner = pipe.text_encoder
    pipe.text_encoder = Wrapped(inner, False)
    assert same(encode(pipe), expected)
    pipe.text_encoder = Wrapped(inner, True)  # puts vectors of its own in front of the prompt
    with pytest.raises(AestheticError, match="can't be personalised"):
        encode(pipe)


# Offloading


def model_offload(pipe: Any) -> None:
    hook = None
    for name in ("text_encoder", "text_encoder_2", "unet", "vae"):
        if hasattr(pipe, name):
            _, hook = accelerate.cpu_offload_with_hook(getattr(pipe, name), CPU, prev_module_hook=hook)


def sequential_offload(pipe: Any) -> None:
    for part in (*text_encoders(pipe), pipe.unet, pipe.vae):
        accelerate.cpu_offload(part, CPU, offload_buffers=len(part._parameters) > 0)


def group_offload(pipe: Any) -> None:
    for part in text_encoders(pipe):
        diffusers.hooks.apply_group_offloading(part, onload_device=CPU, offload_device=CPU, offload_type="leaf_level")


@pytest.mark.parametrize("offload", [model_offload, sequential_offload, group_offload])
@pytest.mark.parametrize("embedding", [FIRST, BOTH], ids=["first", "both"])
def test_offloaded(
    pipe: Any, encode: Callable[..., PromptEmbeddings], offload: Callable[[Any], None], embedding: Embedding
) -> None:
    expected = encode(pipe, embedding=embedding)
    offload(pipe)
    encode_plainly(pipe)
    before = traces(pipe)
    assert same(encode(pipe, embedding=embedding), expected)
    assert traces(pipe) == before
    assert all(map(torch.equal, encode_plainly(pipe), encode(pipe, settings=Settings(steps=0)).arguments().values()))


def test_weights_that_went_to_an_unknown_place_are_refused(encode: Callable[..., PromptEmbeddings]) -> None:
    pipe = pipelines.sd()
    layer = next(part for part in pipe.text_encoder.modules() if isinstance(part, nn.Linear))
    accelerate.cpu_offload(pipe.text_encoder, CPU)
    layer._hf_hook.weights_map = {"weight": layer.weight, "bias": layer.bias}  # type: ignore[union-attr]
    with pytest.raises(AestheticError, match="offloaded in a way that is not known"):
        encode(pipe)


# Other people's changes


class KohyasLora:
    """Puts its own forward in front of a layer's, as the scripts for LoRA of that time do."""

    def __init__(self, layer: nn.Linear) -> None:
        self.down = torch.randn(layer.in_features, 2, generator=torch.Generator().manual_seed(1)) * 0.05
        self.up = torch.randn(2, layer.out_features, generator=torch.Generator().manual_seed(2)) * 0.05
        self.original = layer.forward
        layer.forward = self.forward  # type: ignore[method-assign, assignment]

    def forward(self, x: Tensor) -> Tensor:
        return self.original(x) + x @ self.down @ self.up


def test_a_layer_with_anothers_forward_is_moved_with_it(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    merged = copy.deepcopy(text_encoders(pipe)[-1])
    name = "text_encoder_2" if hasattr(pipe, "text_encoder_2") else "text_encoder"
    layers = [next(part for part in m.modules() if isinstance(part, nn.Linear)) for m in (merged, getattr(pipe, name))]
    lora = KohyasLora(layers[1])
    result = encode(pipe)
    layers[0].weight.data += (lora.down @ lora.up).T
    setattr(pipe, name, merged)
    assert alike(result, encode(pipe))


def test_hooks_of_the_callers_see_our_passes_as_well(pipe: Any, encode: Callable[..., PromptEmbeddings]) -> None:
    seen: list[int] = []
    pipe.text_encoder.register_forward_hook(lambda *_: seen.append(1))
    encode(pipe)
    assert len(seen) > SETTINGS.steps


# What can't be


def test_a_quantised_encoder_is_refused_and_still_encodes_plainly(
    pipe: Any, encode: Callable[..., PromptEmbeddings]
) -> None:
    layer = next(part for part in pipe.text_encoder.modules() if isinstance(part, nn.Linear))
    expected = encode_plainly(pipe)
    layer.weight_qtype = "qint8"  # type: ignore[assignment]
    before = traces(pipe)
    with pytest.raises(AestheticError, match=r"quantised.*weight_qtype.*without quantisation"):
        encode(pipe)
    assert all(map(torch.equal, encode(pipe, settings=Settings(steps=0)).arguments().values(), expected))
    assert traces(pipe) == before


def test_without_its_text_encoder(encode: Callable[..., PromptEmbeddings]) -> None:
    pipe = pipelines.sd()
    pipe.text_encoder = None
    with pytest.raises(AestheticError, match=r"text_encoder is None\. Encode the prompts with a pipeline that has"):
        encode(pipe)
