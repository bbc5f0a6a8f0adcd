"""What a user notices, on the WebUI's own conditioning path."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from torch import Tensor, nn

from aesthetic_clip.clip.text_encoder import OpenClipTextEncoder, TextEncoder, TransformersTextEncoder

from ..support.checkpoints import open_clip_config, write_text_projection
from ..support.towers import END, START, padded, plain_method
from .conftest import Before, Passes
from .host import WRAPPED, Host, tensors

ON = {"embedding": "one", "steps": 3, "lr": 0.001}
LONG = "a very long prompt with many words " * 12
"""96 tokens: two chunks."""


def close(a: list[Tensor], b: list[Tensor], atol: float = 1e-4) -> bool:
    return [t.shape for t in a] == [t.shape for t in b] and all(torch.allclose(x, y, atol=atol) for x, y in zip(a, b))


def follows(found: list[Tensor], expected: list[Tensor], untouched: list[Tensor]) -> bool:
    """Whether it was moved as expected: where a gradient is a rounding error, Adam makes a whole step of it, in a few numbers."""
    return close(found, expected, atol=1e-3) and all(
        (a - b).norm() < 1e-4 * (b - c).norm() for a, b, c in zip(found, expected, untouched)
    )


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b))


# --- the picture and the cache -----------------------------------------------------


def test_an_embedding_changes_the_picture_and_the_same_again_costs_no_step(host: Host, passes: Passes) -> None:
    off = host.generate()
    on = host.generate(ON)
    assert on.images != off.images
    assert passes.count == 5  # three steps, the similarity after them, the second encoding
    again = host.generate(ON)
    assert again.images == on.images
    assert again.parameters == on.parameters
    other_seed = host.generate(ON, seed=2)
    assert other_seed.images != on.images
    assert passes.count == 5
    assert host.generate().images == off.images


def test_another_way_of_multiplying_is_another_conditioning(host: Host, passes: Passes) -> None:
    host.generate(ON)
    with host.options(aesthetic_bf16=True):
        host.generate(ON)
        assert passes.count == 10
        host.generate(ON)
    assert passes.count == 10


def test_the_console_says_what_was_done_once(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        host.encode(ON)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Aesthetic Gradients:")]
    assert len(lines) == 1
    assert "one on ViT-L/14" in lines[0] and "in 3 steps" in lines[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"embedding": "two"},
        {"steps": 4},
        {"lr": 0.002},
        {"weight": 0.5},
        {"slerp": True},
        {"text": "a dog", "slerp_angle": 0.5},
        {"text": "a dog", "slerp_angle": 0.5, "text_negative": True},
        {"away": "two"},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_a_changed_knob_recomputes(host: Host, passes: Passes, changed: dict[str, object]) -> None:
    before = host.encode(ON)
    passes.count = 0
    after = host.encode(ON | changed)
    assert passes.count > 0
    assert not same(after.positive, before.positive)
    assert not any(tensor.isnan().any() for tensor in after.positive)


def test_a_changed_embedding_file_recomputes(host: Host) -> None:
    folder = host.extension("hosts.a1111.options").embeddings().paths()["one"].parent
    file = folder / "edited.pt"
    generator = torch.Generator().manual_seed(9)
    try:
        torch.save(torch.randn(1, 768, generator=generator), file)
        before = host.encode(ON | {"embedding": "edited"})
        torch.save(torch.randn(1, 768, generator=generator), file)
        assert not same(host.encode(ON | {"embedding": "edited"}).positive, before.positive)
    finally:
        file.unlink()


def test_another_text_projection_recomputes(host: Host, passes: Passes, tmp_path: Path) -> None:
    """Named in the settings, or the file of that name a new one."""
    file = tmp_path / "model.safetensors"
    before = host.encode(ON)
    write_text_projection(file, seed=70)
    with host.options(aesthetic_text_projection=str(file)):
        named = host.encode(ON)
        passes.count = 0
        host.encode(ON)
        assert passes.count == 0
        write_text_projection(file, seed=71)
        os.utime(file, (1, 1))  # two writes can be nearer than the clock tells
        changed = host.encode(ON)
    assert not same(named.positive, before.positive)
    assert not same(changed.positive, named.positive)
    assert same(host.encode(ON).positive, before.positive)


@pytest.mark.parametrize(
    "aesthetic",
    [None, [], {"embedding": "None"}, ON | {"steps": 0}, ON | {"lr": 0}, ON | {"weight": 0}, [0.9, 5, 0.0001, False]],
    ids=["nothing", "no arguments", "no embedding", "no steps", "no rate", "no weight", "four arguments"],
)
def test_off_is_bit_for_bit_the_host_without_the_extension(host: Host, passes: Passes, aesthetic: object) -> None:
    job = host.generate(aesthetic)
    host.forget_conditioning()
    with host.uninstalled():
        bare = host.generate(aesthetic)
    assert job.images == bare.images
    assert same(job.positive + job.negative, bare.positive + bare.negative)
    assert passes.count == 0
    assert "Aesthetic embedding" not in job.parameters


def test_positional_arguments_of_the_first_extension(host: Host) -> None:
    named = host.encode(ON | {"weight": 0.8, "slerp": True})
    host.forget_conditioning()
    positional = host.encode([0.8, 3, "0.001", True, "one", "", 0.1, False])
    assert same(positional.positive, named.positive)
    assert positional.parameters == named.parameters


# --- the method --------------------------------------------------------------------


def reference_tower(host: Host, wrapper: Any) -> TextEncoder:
    """The wrapper's text encoder, rebuilt from its weights by the libraries alone."""
    wrapped = wrapper.wrapped
    if hasattr(wrapped, "transformer"):
        module: nn.Module = transformers.CLIPTextModel(wrapped.transformer.config)
        state = wrapped.transformer.state_dict()
        from safetensors.torch import load_file

        projection = load_file(host.assets.text_projection)["text_projection.weight"].T
    else:
        config = open_clip_config(wrapped.model.text_projection.shape[1])
        module = open_clip.model.CLIP(**config)
        state = {name: w for name, w in module.state_dict().items() if name.startswith("visual")}
        state |= wrapped.model.state_dict()
    module.load_state_dict({name.replace("token_embedding.wrapped", "token_embedding"): w for name, w in state.items()})
    module.eval().requires_grad_(False)
    if hasattr(module, "attn_mask"):
        return OpenClipTextEncoder(module, module.text_projection)  # type: ignore[arg-type]
    return TransformersTextEncoder(module, projection)


def sd1_encoding(module: Any, ids: Tensor) -> list[Tensor]:
    return [module(input_ids=ids).last_hidden_state]


def sd2_encoding(module: Any, ids: Tensor) -> list[Tensor]:
    x = (module.token_embedding(ids) + module.positional_embedding).permute(1, 0, 2)
    for block in module.transformer.resblocks[:-1]:
        x = block(x, attn_mask=module.attn_mask)
    return [module.ln_final(x.permute(1, 0, 2))]


def sdxl_l_encoding(module: Any, ids: Tensor) -> list[Tensor]:
    return [module(input_ids=ids, output_hidden_states=True).hidden_states[-2]]


def sdxl_g_encoding(module: Any, ids: Tensor) -> list[Tensor]:
    x = (module.token_embedding(ids) + module.positional_embedding).permute(1, 0, 2)
    for block in module.transformer.resblocks[:-1]:
        x = block(x, attn_mask=module.attn_mask)
    return [x.permute(1, 0, 2), module.encode_text(ids)]


Encoding = Callable[[Any, Tensor], list[Tensor]]
FAMILIES: dict[str, tuple[str, list[Encoding]]] = {
    "sd1_a": ("one", [sd1_encoding]),
    "sd2": ("h", [sd2_encoding]),
    "sdxl": ("both", [sdxl_l_encoding, sdxl_g_encoding]),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_conditioning_is_that_of_the_plain_method(
    host: Host, vectors: dict[str, dict[int, Tensor]], family: str
) -> None:
    name, encodings = FAMILIES[family]
    checkpoint, prompt, weight = getattr(host.assets, family), "a photo of a cat, oil on canvas", 0.9
    job = host.encode(ON | {"embedding": name, "weight": weight}, checkpoint=checkpoint, prompt=prompt)
    ordinary = host.encode(checkpoint=checkpoint, prompt=prompt)
    found, untouched = list(job.positive), list(ordinary.positive)
    encoders = host.encoders(checkpoint)
    assert len(encoders) == len(encodings)
    hidden, pooled = [], []
    for wrapper, encoding in zip(encoders, encodings):
        ids = padded([START, *wrapper.tokenize([prompt])[0], END], wrapper.id_pad)
        tower = reference_tower(host, wrapper)
        module, similarities = plain_method(tower, ids, vectors[name][tower.space.dim], 3, 0.001)
        assert similarities[-1] > similarities[0]
        with torch.no_grad():
            before, after = encoding(tower.module, ids[None]), encoding(module, ids[None])
        mixed = [a * (1 - weight) + b * weight for a, b in zip(before, after)]
        assert all((a - b).abs().max() > 1e-2 for a, b in zip(before, mixed))
        hidden.append(mixed[0])
        pooled += mixed[1:]
    if pooled:  # SDXL: crossattn, then vector, which ends with sizes
        sizes = untouched[1][pooled[0].shape[1] :]
        expected = [torch.cat(hidden, dim=2)[0], torch.cat([pooled[0][0], sizes])]
    else:
        expected = [hidden[0][0]]
    assert follows(found, expected, untouched)
    assert not close(found, untouched, atol=1e-2)


def test_a_tower_without_a_vector_is_left_alone_and_named(host: Host) -> None:
    off = host.encode(checkpoint=host.assets.sdxl)
    on = host.encode(ON, checkpoint=host.assets.sdxl)
    assert on.parameters["Aesthetic left alone"] == "ViT-bigG/14"
    assert any("ViT-bigG/14" in comment for comment in on.comments)
    crossattn, vector = on.positive
    assert torch.equal(vector, off.positive[1])
    assert torch.equal(crossattn[:, 768:], off.positive[0][:, 768:])
    assert not torch.equal(crossattn[:, :768], off.positive[0][:, :768])


def test_an_embedding_of_another_space_is_refused(host: Host) -> None:
    with pytest.raises(host.extension("errors").AestheticError, match=r"(?s)does not fit.*1024.*768"):
        host.generate(ON | {"embedding": "h"})
    with pytest.raises(host.extension("errors").AestheticError, match=r"(?s)does not fit.*768.*1024"):
        host.generate(ON, checkpoint=host.assets.sd2)


@pytest.mark.parametrize(
    "wrong", [{"embedding": "missing"}, {"steps": -1}, {"lr": "fast"}, {"stesp": 3}, {"text": "word " * 76}]
)
def test_wrong_settings_make_no_picture_and_spoil_nothing(host: Host, wrong: dict[str, object]) -> None:
    on = host.encode(ON)
    with pytest.raises(host.extension("errors").AestheticError):
        host.generate(ON | wrong)
    host.forget_conditioning()
    assert same(host.encode(ON).positive, on.positive)


# --- the negative prompt -------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd1_a", "sdxl"])
@pytest.mark.parametrize("negative", ["", "blurry, bad hands"])
def test_the_negative_prompt_is_left_alone_unless_asked_for(host: Host, family: str, negative: str) -> None:
    payload: dict[str, Any] = {"checkpoint": getattr(host.assets, family), "negative_prompt": negative}
    off = host.encode(**payload)
    on = host.encode(ON, **payload)
    assert same(on.negative, off.negative)
    both = host.encode(ON | {"negative_prompt": True}, **payload)
    assert same(both.positive, on.positive)
    # An empty text has nothing to move.
    assert same(both.negative, off.negative) == (not negative)


# --- prompts -------------------------------------------------------------------------


def test_alternatives_are_personalised_as_if_alone(host: Host) -> None:
    parts = host.encode(ON, prompt="a [cat:dog:1]", steps=2).positive
    alone = [host.encode(ON, prompt=f"a {word}").positive[0] for word in ("cat", "dog")]
    assert close(parts, alone, atol=1e-5)
    turns = host.encode(ON, prompt="a [cat|dog]", steps=2).positive
    assert close(turns, alone, atol=1e-5)


def test_composed_prompts_are_personalised_as_if_alone(host: Host) -> None:
    parts = host.encode(ON, prompt="a cat AND a dog :0.7").positive
    alone = [host.encode(ON, prompt=prompt).positive[0] for prompt in ("a cat", "a dog")]
    assert close(parts, alone, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"strength": 0.02, "steps": 9}])
def test_prompts_of_a_batch_are_personalised_as_if_alone(host: Host, more: dict[str, object]) -> None:
    prompts = ["a cat", LONG, "a cat"]
    parts = host.encode({**ON, **more}, prompt=prompts, batch_size=3).positive
    alone = [host.encode({**ON, **more}, prompt=prompt).positive[0] for prompt in prompts]
    assert close(parts, alone, atol=1e-5)


def test_each_chunk_is_personalised_by_itself_and_empty_ones_are_left_alone(host: Host, passes: Passes) -> None:
    (long,) = host.encode(ON, prompt="a cat BREAK a dog").positive
    assert long.shape == (154, 768) and passes.count == 10
    alone = [host.encode(ON, prompt=prompt).positive[0] for prompt in ("a cat", "a dog")]
    assert close([long], [torch.cat(alone)], atol=1e-5)
    passes.count = 0
    (gap,) = host.encode(ON, prompt="a cat BREAK BREAK a dog").positive
    empty = host.encode(prompt="").positive[0]
    assert passes.count == 10
    assert close([gap], [torch.cat([alone[0], empty, alone[1]])], atol=1e-5)


def test_a_short_prompt_beside_a_long_one_keeps_its_empty_chunk(host: Host, passes: Passes) -> None:
    short, long = host.encode(ON, prompt=f"[a cat:{LONG}:1]", steps=2).positive
    assert short.shape == long.shape == (154, 768)
    assert passes.count == 15
    empty = host.encode(prompt="").positive[0]
    assert torch.allclose(short[77:], empty, atol=1e-5)


def test_an_empty_prompt_costs_nothing(host: Host, passes: Passes) -> None:
    off = host.encode(prompt="")
    assert same(host.encode(ON, prompt="").positive, off.positive)
    assert passes.count == 0


def test_emphasis_acts_on_the_personalised_prompt(host: Host) -> None:
    plain = host.encode(ON, prompt="a photo of a cat").positive[0]
    (found,) = host.encode(ON, prompt="a photo of a (cat:1.3)").positive
    multipliers = torch.ones(77, 1)
    multipliers[5] = 1.3  # start, a, photo, of, a, cat
    expected = plain * multipliers
    expected = expected * (plain.mean() / expected.mean())
    assert torch.allclose(found, expected, atol=1e-5)


def test_clip_skip_is_the_hosts(host: Host, passes: Passes) -> None:
    with host.options(CLIP_stop_at_last_layers=2):
        off, on = host.encode(), host.encode(ON)
        assert host.encode(ON).positive[0] is on.positive[0]
    plain = host.encode(ON)
    assert passes.count == 10
    assert not same(on.positive, off.positive)
    assert not same(on.positive, plain.positive)


def test_a_textual_inversion_counts_on_both_sides(host: Host, vectors: dict[str, dict[int, Tensor]]) -> None:
    prompt = f"a photo of {host.assets.textual_inversion.stem} in the rain"
    found = host.encode(ON | {"weight": 1}, prompt=prompt)
    (wrapper,) = host.encoders(host.assets.sd1_a)
    from safetensors.torch import load_file

    inversion = load_file(host.assets.textual_inversion)["emb_params"]
    start = wrapper.tokenize(["a photo of"])[0]
    ids = padded([START, *start, *[0] * len(inversion), *wrapper.tokenize(["in the rain"])[0], END], END)
    tower = reference_tower(host, wrapper)

    class WithInversion(nn.Module):
        def __init__(self, wrapped: nn.Module) -> None:
            super().__init__()
            self.wrapped = wrapped

        def forward(self, ids: Tensor) -> Tensor:
            x, at = self.wrapped(ids), 1 + len(start)
            return torch.cat([x[:, :at], inversion[None], x[:, at + len(inversion) :]], dim=1)

    embeddings: Any = tower.module.text_model.embeddings  # type: ignore[union-attr]
    embeddings.token_embedding = WithInversion(embeddings.token_embedding)
    module, _ = plain_method(tower, ids, vectors["one"][768], 3, 0.001)
    with torch.no_grad():
        assert close(found.positive, [sd1_encoding(module, ids[None])[0][0]])
    beside = host.encode(ON | {"weight": 1}, prompt=f"[{prompt}:a cat:1]", steps=2)
    assert torch.allclose(beside.positive[0], found.positive[0], atol=1e-5)


# --- jobs ----------------------------------------------------------------------------


def test_a_batch_count_shares_one_conditioning(host: Host, passes: Passes) -> None:
    job = host.generate(ON, n_iter=2, batch_size=2)
    assert len(set(job.images)) == 4
    assert passes.count == 5


def test_hires_fix_is_personalised_and_costs_nothing_twice(host: Host, passes: Passes) -> None:
    hires: dict[str, Any] = {"enable_hr": True, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    on = host.generate(ON, **hires)
    assert on.pictures[0].size == (128, 128)
    assert passes.count == 5
    assert on.images != host.generate(**hires).images
    again = host.generate(ON, **hires)
    assert again.images == on.images
    passes.count = 0
    other = host.generate(ON, hr_prompt="a drawing of a dog", **hires)
    assert passes.count >= 5
    assert close(other.hires, host.encode(ON, prompt="a drawing of a dog").positive, atol=1e-5)


def test_img2img(host: Host, passes: Passes) -> None:
    picture = host.generate().pictures[0]
    payload: dict[str, Any] = {"init_images": [picture], "steps": 4}
    off = host.generate(**payload)
    on = host.generate(ON, **payload)
    assert on.images != off.images and passes.count == 5
    # The conditioning does not know which tab it is for.
    assert same(host.encode(ON).positive, host.encode(ON, steps=4).positive)
    assert host.generate(**payload).images == off.images


def test_override_settings_reach_the_personalisation(host: Host) -> None:
    off = host.encode(override_settings={"CLIP_stop_at_last_layers": 2})
    on = host.encode(ON, override_settings={"CLIP_stop_at_last_layers": 2})
    with host.options(CLIP_stop_at_last_layers=2):
        assert same(host.encode(ON).positive, on.positive)
    assert not same(on.positive, off.positive)


def test_switching_among_kept_checkpoints(host: Host, passes: Passes) -> None:
    a, b = host.encode(ON), host.encode(ON, checkpoint=host.assets.sd1_b)
    assert not close(a.positive, b.positive, atol=1e-2)
    host.forget_conditioning()
    assert same(host.encode(ON, checkpoint=host.assets.sd1_b).positive, b.positive)
    assert same(host.encode(ON).positive, a.positive)


def test_weights_replaced_in_place_by_an_override(host: Host, passes: Passes) -> None:
    a, b = host.encode(ON), host.encode(ON, checkpoint=host.assets.sd1_b)
    model, passes.count = host.model(host.assets.sd1_a), 0
    host.forget_conditioning()
    over = host.encode(ON, override_settings={"sd_model_checkpoint": host.assets.sd1_b.name})
    assert host.shared.sd_model is model
    assert same(over.positive, b.positive)
    assert same(host.encode(ON).positive, a.positive)
    assert passes.count == 10


def test_a_rebuilt_wrapper_is_personalised_too(host: Host) -> None:
    # What the WebUI does when the cross-attention option changes.
    on = host.encode(ON)
    model = host.model(host.assets.sd1_a)
    before = model.cond_stage_model
    host.module("sd_hijack").model_hijack.redo_hijack(model)
    assert model.cond_stage_model is not before
    host.forget_conditioning()
    assert same(host.encode(ON).positive, on.positive)


def test_the_tag(host: Host, passes: Passes) -> None:
    knobs = host.encode(ON | {"weight": 0.5})
    host.forget_conditioning()
    tag = host.generate(prompt="a photo of a cat<aesthetic:one:0.5:steps=3:lr=0.001>")
    assert same(tag.positive, knobs.positive)
    assert same(tag.negative, knobs.negative)
    passes.count = 0
    stronger = host.encode(prompt="a photo of a cat<aesthetic:one:0.6:steps=3:lr=0.001>")
    assert passes.count == 5 and not same(stronger.positive, knobs.positive)
    assert same(
        host.encode(prompt="a photo of a cat").positive,
        host.encode(prompt="a photo of a cat<aesthetic:one:0>").positive,
    )
    with pytest.raises(host.extension("errors").AestheticError):
        host.generate(prompt="a cat <aesthetic:missing:1>")


def test_tag_and_dropdown_mix(host: Host) -> None:
    mixed = host.encode(ON | {"weight": 0.9}, prompt="a cat<aesthetic:two:0.9>")
    for name in ("one", "two"):
        assert not close(mixed.positive, host.encode(ON | {"embedding": name}, prompt="a cat").positive, atol=1e-3)
    swapped = host.encode(ON | {"embedding": "two", "weight": 0.9}, prompt="a cat<aesthetic:one:0.9>")
    assert close(swapped.positive, mixed.positive)


@pytest.mark.parametrize(
    ("settings", "tags", "written"),
    [
        ({}, "<aesthetic:one:0.5:steps=3:lr=0.001>", {"weight": 0.5, "steps": 3, "lr": 0.001}),
        ({"weight": 0.4}, "<aesthetic:one:steps=3>", {"weight": 0.4, "steps": 3, "lr": 0.0001}),
        ({"weight": 0.4, "steps": 2}, "<aesthetic:one:0.9><aesthetic:two>", {"weight": 0.4, "steps": 2}),
        ({"weight": 0.4, "embedding": "two"}, "<aesthetic:one:0.9:steps=2>", {"weight": 0.4, "steps": 2}),
        ({}, "<aesthetic:one:strength=0.02>", {"strength": 0.02, "steps": 5}),
    ],
)
def test_parameters_are_what_took_effect_and_make_the_same_picture(
    host: Host, settings: dict[str, object], tags: str, written: dict[str, float]
) -> None:
    prompt = f"a photo of a cat{tags}"
    job = host.encode(settings, prompt=prompt)
    pasted = host.extension("settings").pasted(job.parameters)
    assert {name: pasted[name] for name in written} == written
    assert job.parameters.get("Aesthetic embedding") == settings.get("embedding")
    assert ("Aesthetic steps taken" in job.parameters) == ("strength" in written)
    host.forget_conditioning()
    again = host.encode(pasted, prompt=prompt)
    assert same(again.positive, job.positive)
    assert again.parameters == job.parameters


def test_a_tag_in_the_hires_prompt_does_not_change_what_is_written_of_the_first_pass(host: Host) -> None:
    hires: dict[str, Any] = {"enable_hr": True, "hr_scale": 1.25, "hr_upscaler": "Latent", "steps": 2}
    hires["denoising_strength"] = 0.5
    job = host.generate(
        {"embedding": "one", "steps": 2}, prompt="a cat", hr_prompt="a cat<aesthetic:two:0.5:steps=3>", **hires
    )
    assert (job.parameters["Aesthetic steps"], job.parameters["Aesthetic embedding"]) == ("2", "one")


def test_each_batch_is_told_of_its_own_prompt(host: Host) -> None:
    job = host.generate(prompt=["a cat<aesthetic:one:0.5>", "a cat"], n_iter=2, steps=1)
    assert not [key for key in job.parameters if key.startswith("Aesthetic")]
    job = host.generate(prompt=["a cat<aesthetic:one:0.5>", "a cat<aesthetic:one>"], n_iter=2, steps=1)
    assert job.parameters["Aesthetic weight"] == "0.9"


# --- presets, picks ------------------------------------------------------------------


def test_a_preset_is_the_same_by_object_positions_tag_and_axis(host: Host) -> None:
    by_object = host.encode({"embedding": "one", "preset": "clear"})
    knobs = [knob.name for knob in host.extension("settings").KNOBS]
    ways = {
        "positions": host.encode([{"embedding": "one", "preset": "Clear"}.get(name) for name in knobs]),
        "tag": host.encode(prompt="a photo of a cat<aesthetic:one:clear>"),
        "tag by name": host.encode({"steps": 3, "weight": 0.1}, prompt="a photo of a cat<aesthetic:one:preset=CLEAR>"),
        "tag beside a dropdown": host.encode({"embedding": "one"}, prompt="a photo of a cat<aesthetic:two:0:clear>"),
    }
    for way, job in ways.items():
        assert same(job.positive, by_object.positive), way
        assert job.parameters["Aesthetic preset"] == "Clear", way
    assert by_object.parameters["Aesthetic automatic centre"] == "none of 2"
    assert any("no automatic centre" in comment for comment in by_object.comments)
    host.forget_conditioning()
    pasted = host.extension("settings").pasted(by_object.parameters)
    assert same(host.encode(pasted).positive, by_object.positive)


def test_nothing_said_is_no_preset(host: Host) -> None:
    assert "Aesthetic preset" not in host.encode({"embedding": "one"}).parameters


def test_each_picture_of_a_batch_has_the_embedding_that_its_seed_picks(host: Host, passes: Passes) -> None:
    pick = host.extension("embeddings.picking").pick
    seeds = list(range(1, 7))
    picked = [pick("one|tw*", lambda: ["one", "two"], seed) for seed in seeds]
    assert {*picked[:3]} == {*picked[3:]} == {"one", "two"}
    alone = [host.encode({**ON, "embedding": name}).positive[0] for name in picked]
    passes.count = 0
    job = host.generate({**ON, "embedding": "one|tw*"}, batch_size=3, seed=1)
    assert close(job.positive, alone[:3])
    assert passes.count == 2 * 5
    assert job.parameters["Aesthetic embedding"] == picked[:3]
    assert job.parameters["Aesthetic steps"] == "3"
    two_batches = host.generate({**ON, "embedding": "one|tw*"}, batch_size=3, n_iter=2, seed=1, steps=1)
    assert close(two_batches.positive, alone[3:])
    assert two_batches.parameters["Aesthetic embedding"] == picked[3:] * 2
    assert passes.count == 2 * 5 + 2 * 5


def test_a_tag_that_leaves_a_choice_is_written_as_what_was_picked(host: Host) -> None:
    pick = host.extension("embeddings.picking").pick
    picked = [pick("one|two", lambda: ["one", "two"], seed, 1) for seed in (1, 2, 3, 4)]
    assert set(picked) == {"one", "two"}
    hires: dict[str, Any] = {"enable_hr": True, "hr_scale": 1.25, "hr_upscaler": "Latent", "steps": 2}
    hires["denoising_strength"] = 0.5
    seen: list[Any] = []
    tags = "<aesthetic:one|two:0.5:steps=2>"
    job = host.generate(prompt=f"a cat{tags}", batch_size=4, seed=1, look=seen.append, **hires)
    assert seen[0].all_prompts == [f"a cat<aesthetic:{name}:0.5:steps=2>" for name in picked]
    assert seen[0].all_hr_prompts == seen[0].all_prompts
    alone = [host.encode(prompt=prompt).positive[0] for prompt in seen[0].all_prompts]
    assert close(job.positive, alone) and len(job.hires) == 4


def test_each_prompt_of_a_batch_has_its_own_tags(host: Host) -> None:
    prompts = [
        "a cat<aesthetic:one:0.5:steps=2>",
        "a cat",
        "a dog<aesthetic:two:0.5:steps=2>",
        "a dog<aesthetic:one:0.5:steps=2>",
    ]
    job = host.encode(prompt=prompts, batch_size=4)
    alone = [host.encode(prompt=prompt).positive[0] for prompt in prompts]
    assert close(job.positive, alone)
    assert job.parameters["Aesthetic weight"] == ["0.5", None, "0.5", "0.5"]


def test_a_batch_of_several_tastes_personalises_each_negative_prompt_if_asked(host: Host) -> None:
    on = {**ON, "negative_prompt": True}
    job = host.encode({**on, "embedding": "one|two"}, batch_size=4, seed=1, negative_prompt="blurry")
    picked = job.parameters["Aesthetic embedding"]
    alone = [host.encode({**on, "embedding": name}, negative_prompt="blurry").negative[0] for name in picked]
    assert set(picked) == {"one", "two"} and close(job.negative, alone)


@pytest.mark.parametrize("family", ["sd1_a", "sdxl"])
def test_several_tastes_in_one_batch_make_the_pictures_that_each_makes_alone(host: Host, family: str) -> None:
    checkpoint = getattr(host.assets, family)
    job = host.generate({**ON, "embedding": "one|both"}, batch_size=2, seed=1, checkpoint=checkpoint)
    names = job.parameters["Aesthetic embedding"]
    names = names if isinstance(names, list) else [names] * 2
    assert len(job.pictures) == 2
    for place, name in enumerate(names):
        alone = host.generate({**ON, "embedding": name}, seed=1 + place, checkpoint=checkpoint)
        difference = torch.tensor(list(alone.images[0])).float() - torch.tensor(list(job.images[place])).float()
        assert difference.abs().mean() < 1


@pytest.mark.parametrize("wrong", ["one|missing", "hot*", "one|"])
def test_a_choice_of_nothing_is_refused(host: Host, wrong: str) -> None:
    refused = host.extension("errors").AestheticError
    with pytest.raises(refused, match=r"fits|empty part"):
        host.generate({"embedding": wrong})
    with pytest.raises(refused, match=r"fits|empty part"):
        host.generate(prompt=f"a cat<aesthetic:{wrong}>")


# --- faults --------------------------------------------------------------------------

TWO_CHUNKS = "a cat BREAK a dog"
FAULTY = ON | {"steps": 1}
PASSES = 6
"""Of these settings on that prompt: the step, the similarity after it and the second encoding, twice."""


class Fault(Exception):
    """Injected by a test."""


def strike() -> None:
    raise Fault


@pytest.mark.parametrize("moment", ["at", "ready"])
def test_an_exception_before_any_pass_leaves_no_trace(host: Host, passes: Passes, moment: str) -> None:
    fresh = host.encode(FAULTY, prompt=TWO_CHUNKS)
    assert passes.count == PASSES
    before = Before(host)
    for number in range(1, PASSES + 1):
        host.forget_conditioning()
        passes.count = 0
        getattr(passes, moment)[number] = strike
        with pytest.raises(Fault):
            host.encode(FAULTY, prompt=TWO_CHUNKS)
        assert passes.count == number
        before.assert_unchanged()
        passes.count = 0
        getattr(passes, moment).clear()
        assert same(host.encode(FAULTY, prompt=TWO_CHUNKS).positive, fresh.positive)
        assert passes.count == PASSES


@pytest.mark.parametrize("family", ["sd1_a", "sdxl"])
def test_an_exception_inside_any_encoding_leaves_no_trace(host: Host, family: str) -> None:
    checkpoint, aesthetic = getattr(host.assets, family), FAULTY | {"embedding": FAMILIES[family][0]}
    fresh = host.encode(aesthetic, checkpoint=checkpoint)
    wrapped = host.encoders(checkpoint)[-1].wrapped
    layer = wrapped.transformer.text_model.encoder.layers[-1] if family == "sd1_a" else wrapped.model.ln_final
    before = Before(host)
    for number in range(1, 50):
        host.forget_conditioning()
        calls = 0

        def count(*_: object, last: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls == last:
                raise Fault

        handle = layer.register_forward_pre_hook(count)
        try:
            host.encode(aesthetic, checkpoint=checkpoint)
        except Fault:
            continue
        finally:
            handle.remove()
            before.assert_unchanged()
        break
    # The negative prompt, the positive one, its last layer, two passes, the second encoding.
    assert number - 1 == 6
    host.forget_conditioning()
    assert same(host.encode(aesthetic, checkpoint=checkpoint).positive, fresh.positive)


def test_interrupt_before_any_pass_stops_there_and_caches_nothing(host: Host, passes: Passes) -> None:
    fresh = host.encode(FAULTY, prompt=TWO_CHUNKS)
    before = Before(host)
    for number in range(1, PASSES + 1):
        host.forget_conditioning()
        passes.count, passes.at = 0, {number: host.shared.state.interrupt}
        host.encode(FAULTY, prompt=TWO_CHUNKS)
        assert passes.count == number
        before.assert_unchanged()
        passes.count, passes.at = 0, {}
        assert same(host.encode(FAULTY, prompt=TWO_CHUNKS).positive, fresh.positive)
        assert passes.count == PASSES


def tensor_megabytes() -> float:
    gc.collect()
    return sum(o.numel() * o.element_size() for o in gc.get_objects() if isinstance(o, Tensor)) / 2**20


@pytest.mark.parametrize("end", ["success", "exception", "interrupt"])
def test_memory_is_given_back(host: Host, passes: Passes, end: str) -> None:
    # Weights and moments of this small tower are 76 MB, those of SD 1.x's a gigabyte.
    host.encode(ON)
    before = tensor_megabytes()
    for _ in range(3):
        host.forget_conditioning()
        ends = {"exception": strike, "interrupt": host.shared.state.interrupt, "success": lambda: None}
        passes.count, passes.at = 0, {3: ends[end]}
        with contextlib.suppress(Fault):
            host.encode(ON)
    assert tensor_megabytes() - before < 10


# --- the hook ------------------------------------------------------------------------


def test_uninstalled_it_leaves_the_hosts_own_methods(host: Host) -> None:
    assert [host.wrappers(name) for name in WRAPPED] == [1, 1]
    with host.uninstalled():
        processing = host.module("processing").StableDiffusionProcessing
        for name in WRAPPED:
            assert host.wrappers(name) == 0
            assert getattr(processing, name).__module__ == "modules.processing"


def test_reload_ui(host: Host) -> None:
    on, module = host.encode(ON), host.extension("hosts.a1111.hook")
    host.reload_ui()
    assert host.extension("hosts.a1111.hook") is not module
    assert [host.wrappers(name) for name in WRAPPED] == [1, 1]
    host.forget_conditioning()
    assert same(host.encode(ON).positive, on.positive)


def test_under_another_extensions_wrapper(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    processing = host.module("processing").StableDiffusionProcessing
    ours = processing.get_conds_with_caching
    calls: list[object] = []

    @functools.wraps(ours)
    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return ours(self, *args, **kwargs)

    def passes() -> int:
        return capsys.readouterr().out.count("Aesthetic Gradients: one")

    off, on = host.encode(), host.encode(ON)
    passes()
    processing.get_conds_with_caching = theirs
    host.forget_conditioning()
    calls.clear()
    assert same(host.encode(ON).positive, on.positive)
    assert len(calls) == 2 and passes() == 1
    with host.uninstalled():
        # Theirs stays in place and goes on working, with ours asleep below it.
        assert processing.get_conds_with_caching is theirs
        host.forget_conditioning()
        calls.clear()
        assert same(host.encode(ON).positive, off.positive)
        assert len(calls) == 2 and passes() == 0
        processing.get_conds_with_caching = theirs
        # On Reload UI ours comes once more on top, and only that one acts.
        host.reload_ui()
        host.forget_conditioning()
        calls.clear()
        assert same(host.encode(ON).positive, on.positive)
        assert len(calls) == 2 and passes() == 1
        host.extension("hosts.a1111.hook").uninstall()
        assert processing.get_conds_with_caching is theirs
        processing.get_conds_with_caching = ours.__wrapped__


def test_another_extensions_own_encoding_is_used_and_put_back(host: Host) -> None:
    (wrapper,) = host.encoders(host.assets.sd1_a)
    ordinary = wrapper.encode_with_transformers

    def louder(tokens: Tensor) -> Tensor:
        return ordinary(tokens) * 2

    on = host.encode(ON)
    host.forget_conditioning()
    wrapper.encode_with_transformers = louder
    try:
        loud = host.encode(ON)
        assert vars(wrapper)["encode_with_transformers"] is louder
    finally:
        del wrapper.encode_with_transformers
    assert close(loud.positive, [tensor * 2 for tensor in on.positive], atol=1e-5)


def test_a_job_without_scripts_is_left_alone(host: Host, passes: Passes) -> None:
    # E.g. another extension's second pass over a face.
    off, _ = host.encode(), host.encode(ON)
    passes.count = 0
    runner, host.runners[False] = host.runners[False], host.module("scripts").ScriptRunner()
    try:
        assert same(host.encode(ON).positive, off.positive)
    finally:
        host.runners[False] = runner
    assert passes.count == 0


def test_a_job_inside_a_job_and_without_scripts_wants_what_the_outer_one_wants(host: Host, passes: Passes) -> None:
    # As ADetailer makes its jobs for faces, and as it asks the scripts again on a shallow copy of the job.
    inner: list[list[torch.Tensor]] = []

    def job_inside(p: Any) -> None:
        if inner or p.scripts is not host.runners[False]:
            return
        inner.append([])
        p.scripts.process(copy.copy(p))
        runner, host.runners[False] = host.runners[False], host.module("scripts").ScriptRunner()
        try:
            inner[0] += host.encode(prompt="a face").positive
        finally:
            host.runners[False] = runner

    personalised = host.encode(ON, prompt="a face").positive
    host.forget_conditioning()
    p, run = host._job(ON)
    sample = p.sample

    def sample_and_more(*args: Any, **kwargs: Any) -> Any:
        job_inside(p)
        return sample(*args, **kwargs)

    p.sample = sample_and_more
    outer = host._run(p, run)
    assert same(inner[0], personalised)
    assert outer.parameters["Aesthetic embedding"] == "one"


def test_no_random_number_is_drawn(host: Host) -> None:
    host.encode()
    host.forget_conditioning()
    torch.manual_seed(5)
    host.encode()
    plain = torch.rand(1)
    host.forget_conditioning()
    torch.manual_seed(5)
    host.encode(ON)
    assert torch.equal(torch.rand(1), plain)


def test_tensors_sees_every_kind_of_conditioning() -> None:
    one = torch.ones(1)
    assert len(tensors([[{"crossattn": one, "vector": one}], one])) == 3
