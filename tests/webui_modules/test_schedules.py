"""A part of the sampling: what the sampler reads at each step, on the WebUI's own path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from .conftest import Passes
from .host import Host

ON = {"embedding": "one", "steps": 2, "lr": 0.001}
LATE = ON | {"guidance_start": 0.5}
EARLY = ON | {"guidance_end": 0.25}
HIRES: dict[str, Any] = {"enable_hr": True, "hr_scale": 1.25, "hr_upscaler": "Latent", "denoising_strength": 0.5}


class Read:
    """What the sampler was given in each step of the last job.

    Attributes:
        prompts, negatives: per step (B, T, C), or SDXL's dictionaries as one tensor (B, numbers).
    """

    def __init__(self) -> None:
        self.prompts: list[Tensor] = []
        self.negatives: list[Tensor] = []

    def __call__(self, params: Any) -> None:
        for seen, cond in ((self.prompts, params.text_cond), (self.negatives, params.text_uncond)):
            parts = [cond[key] for key in sorted(cond)] if isinstance(cond, dict) else [cond]
            seen.append(torch.cat([part.flatten(1) for part in parts], dim=1).clone())


@pytest.fixture
def read(host: Host, monkeypatch: pytest.MonkeyPatch) -> Read:
    seen = Read()
    monkeypatch.setattr(host.module("sd_samplers_cfg_denoiser"), "cfg_denoiser_callback", seen)
    return seen


def generate(host: Host, read: Read, aesthetic: object = None, **payload: Any) -> Any:
    read.prompts, read.negatives = [], []
    return host.generate(aesthetic, **payload)


def steps_read(host: Host, read: Read, aesthetic: object = None, **payload: Any) -> list[Tensor]:
    generate(host, read, aesthetic, **payload)
    return read.prompts


def assert_sides(seen: list[Tensor], ordinary: list[Tensor], personalised: list[Tensor], sides: str) -> None:
    """Step by step ``o`` for what a job without an embedding reads, ``p`` for what one with it reads all the time."""
    assert len(seen) == len(ordinary) == len(personalised) == len(sides)
    for now, plain, moved, side in zip(seen, ordinary, personalised, sides):
        assert not torch.equal(plain, moved)
        assert torch.equal(now, moved if side == "p" else plain)


@pytest.mark.parametrize(
    ("aesthetic", "sides"),
    [
        (LATE, "oooopppp"),
        (EARLY, "ppoooooo"),
        (ON | {"guidance_start": 0.25, "guidance_end": 0.75}, "oopppp" + "oo"),
        (ON | {"guidance_end": 0.01}, "p" + "o" * 7),
    ],
    ids=["late", "early", "middle", "the first step"],
)
@pytest.mark.parametrize(
    "prompt",
    ["a photo of a cat", "a [cat:dog:0.4] in the [rain::0.7]", "a [cat|dog]", "a cat AND a [dog:tree:3] :0.6"],
    ids=["plain", "edited", "in turns", "composed"],
)
def test_each_step_reads_the_personalised_prompt_in_the_part_and_the_ordinary_one_elsewhere(
    host: Host, read: Read, prompt: str, aesthetic: dict[str, object], sides: str
) -> None:
    payload: dict[str, Any] = {"prompt": prompt, "steps": 8}
    ordinary, personalised = steps_read(host, read, **payload), steps_read(host, read, ON, **payload)
    assert_sides(steps_read(host, read, aesthetic, **payload), ordinary, personalised, sides)


def test_prompts_of_a_batch_and_both_encoders_of_sdxl(host: Host, read: Read) -> None:
    payload: dict[str, Any] = {
        "prompt": ["a cat", "a [dog:bird:0.5]"],
        "batch_size": 2,
        "steps": 4,
        "checkpoint": host.assets.sdxl,
    }
    ordinary = steps_read(host, read, **payload)
    personalised = steps_read(host, read, ON | {"embedding": "both"}, **payload)
    assert_sides(steps_read(host, read, LATE | {"embedding": "both"}, **payload), ordinary, personalised, "oopp")


def test_the_negative_prompt_has_the_same_part(host: Host, read: Read) -> None:
    payload: dict[str, Any] = {"negative_prompt": "blurry [hands:feet:0.5]", "steps": 4}
    generate(host, read, **payload)
    ordinary = read.negatives
    generate(host, read, ON | {"negative_prompt": True}, **payload)
    personalised = read.negatives
    generate(host, read, EARLY | {"negative_prompt": True}, **payload)
    assert_sides(read.negatives, ordinary, personalised, "pooo")


def test_the_hires_pass_counts_its_own_steps(host: Host, read: Read) -> None:
    payload = {**HIRES, "steps": 4, "hr_second_pass_steps": 2}
    ordinary, personalised = steps_read(host, read, **payload), steps_read(host, read, ON, **payload)
    assert_sides(steps_read(host, read, LATE, **payload), ordinary, personalised, "oopp" + "op")


def test_image_to_image_counts_the_steps_that_are_taken(host: Host, read: Read) -> None:
    (picture,) = host.generate().pictures
    payload: dict[str, Any] = {"init_images": [picture], "steps": 8, "denoising_strength": 0.4}
    ordinary, personalised = steps_read(host, read, **payload), steps_read(host, read, ON, **payload)
    assert_sides(steps_read(host, read, LATE, **payload), ordinary, personalised, "oopp")
    # Another number of them is no part of the WebUI's key.
    more = payload | {"denoising_strength": 0.7}
    ordinary, personalised = steps_read(host, read, **more), steps_read(host, read, ON, **more)
    assert_sides(steps_read(host, read, LATE, **more), ordinary, personalised, "ooo" + "ppp")


def test_a_sampler_that_takes_each_step_twice(host: Host, read: Read) -> None:
    payload: dict[str, Any] = {"sampler_name": "Heun", "steps": 4}
    ordinary, personalised = steps_read(host, read, **payload), steps_read(host, read, ON, **payload)
    assert_sides(steps_read(host, read, LATE, **payload), ordinary, personalised, "oooo" + "ppp")


def test_a_sampler_that_takes_more_steps_than_it_says_ends_as_it_should(host: Host) -> None:
    parser = host.module("prompt_parser")
    for aesthetic, last in ((LATE, ON), (EARLY, None)):
        found, expected = (host.conditioning(settings, steps=4) for settings in (aesthetic, last))
        assert torch.equal(
            parser.reconstruct_multicond_batch(found, 40)[1], parser.reconstruct_multicond_batch(expected, 40)[1]
        )


def test_a_part_costs_no_step_more_and_the_same_again_none(host: Host, passes: Passes) -> None:
    host.generate(ON, steps=4)
    whole, passes.count = passes.count, 0
    first = host.generate(LATE, steps=4)
    assert passes.count == whole
    assert host.generate(LATE, steps=4).images == first.images
    assert host.generate(LATE, steps=4).parameters == first.parameters
    assert passes.count == whole


def test_the_whole_sampling_is_the_picture_without_a_part(host: Host) -> None:
    expected = host.generate(ON, steps=4)
    host.forget_conditioning()
    found = host.generate(ON | {"guidance_start": 0, "guidance_end": 1}, steps=4)
    assert found.images == expected.images
    assert found.parameters == expected.parameters


def test_pictures_of_the_parts_differ_and_say_which_they_are(host: Host) -> None:
    jobs = [host.generate(aesthetic, steps=4) for aesthetic in (None, EARLY, LATE, ON)]
    assert len({job.images[0] for job in jobs}) == len(jobs)
    assert jobs[1].parameters["Aesthetic guidance end"] == "0.25"
    assert "Aesthetic guidance start" not in jobs[1].parameters
    assert jobs[2].parameters["Aesthetic guidance start"] == "0.5"


def test_a_textual_inversion_is_told_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    name = host.assets.textual_inversion.stem
    # The package, unlike the WebUI, does not look at the file for its hash.
    inversion = host.module("textual_inversion.textual_inversion").Embedding
    monkeypatch.setattr(
        inversion, "shorthash", property(lambda self: "0123456789ab", lambda self, value: None), raising=False
    )
    told = []
    for aesthetic in (ON, LATE):
        host.forget_conditioning()
        told.append(host.encode(aesthetic, prompt=f"a photo of {name} in the rain", steps=4).parameters["TI hashes"])
    assert told[0] == told[1] == f"{name}: 0123456789ab"


@pytest.mark.parametrize("start_end", [(0.3, 0.4), (0.9, 1)])
def test_a_part_without_a_step_is_the_ordinary_picture_and_says_so(host: Host, start_end: tuple[float, float]) -> None:
    narrow = ON | dict(zip(("guidance_start", "guidance_end"), start_end))
    job = host.generate(narrow, steps=4)
    assert job.images == host.generate(steps=4).images
    assert any("None of the 4 steps begins between" in comment for comment in job.comments)
    assert "Aesthetic embedding" not in job.parameters


def test_a_part_that_ends_before_it_starts_is_refused(host: Host) -> None:
    # By its words: after Reload UI the class is another one of the same name.
    with pytest.raises(Exception, match="before it starts"):
        host.generate(ON | {"guidance_start": 0.6, "guidance_end": 0.4})


def test_an_interrupt_leaves_nothing_in_the_cache(host: Host, passes: Passes) -> None:
    def stop() -> None:
        host.shared.state.interrupted = True

    passes.at[2] = stop
    host.generate(LATE, steps=4)
    host.shared.state.interrupted = False
    passes.at.clear()
    expected = host.generate(ON, steps=4)
    assert host.generate(LATE, steps=4).images != expected.images
    assert host.generate(EARLY, steps=4).images != host.generate(steps=4).images
