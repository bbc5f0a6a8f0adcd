"""Bad input, faults and interruptions: what is said, and that nothing is lost by them."""

from __future__ import annotations

import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ..support.checkpoints import Assets
from .driver import FAMILIES, asking, distance, forget, optimised, options, personalised, refusal
from .inside import faults, model
from .webui import Generated, RequestFailed, WebUI

SEVERAL_CHUNKS = ", ".join(f"a photo of a cat number {number}" for number in range(14))


@pytest.fixture(autouse=True)
def _sd1(webui: WebUI) -> None:
    webui.use("sd1-a")


@pytest.fixture(scope="module")
def right(webui: WebUI) -> Generated:
    """The picture that has to come out after every fault."""
    webui.use("sd1-a")
    return personalised(webui, "vitl")


# --- bad files ---


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        import os

        return os.mkdir, (str(self.mark),)


@pytest.fixture
def bad(embeddings: Path) -> Iterator[Path]:
    """A subfolder of the embedding folder for bad files; names begin with ``bad/``."""
    folder = embeddings / "bad"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def _truncated(path: Path) -> None:
    torch.save(torch.ones(1, 768), path)
    path.write_bytes(path.read_bytes()[:-700])


def _truncated_safetensors(path: Path) -> None:
    safetensors.torch.save_file({"ViT-L/14": torch.ones(768)}, path.with_suffix(".safetensors"))
    path = path.with_suffix(".safetensors")
    path.write_bytes(path.read_bytes()[:-100])


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("not an embedding"), "It is a text"),
    "truncated": (_truncated, "It is cut off"),
    "truncated-safetensors": (_truncated_safetensors, "It is cut off"),
    "matrix": (lambda path: torch.save(torch.ones(2, 768), path), "shape (2, 768)"),
    "other-width": (lambda path: torch.save(torch.ones(1, 512), path), "CLIP-512"),
    "integers": (lambda path: torch.save(torch.ones(768, dtype=torch.int64), path), "torch.int64"),
    "nan": (lambda path: torch.save(torch.full((1, 768), float("nan")), path), "NaN"),
    "infinite": (lambda path: torch.save(torch.full((1, 768), float("inf")), path), "infinite"),
    "zero": (lambda path: torch.save(torch.zeros(1, 768), path), "all zeros"),
    "inversion": (
        lambda path: torch.save({"string_to_param": {"*": torch.ones(1, 768)}}, path),
        "is a textual inversion",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(webui: WebUI, right: Generated, bad: Path, name: str) -> None:
    write, part = BAD_FILES[name]
    write(bad / f"{name}.pt")
    said = refusal(webui, f"bad/{name}")
    assert part in said and name in said
    assert distance(personalised(webui, "vitl").image, right.image) == 0


@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_file_is_never_run(webui: WebUI, right: Generated, bad: Path, tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "ran"
    if zipped:
        torch.save(Bomb(mark), bad / "bomb.pt")
    else:
        (bad / "bomb.pt").write_bytes(pickle.dumps(Bomb(mark)))
    assert "was not executed" in refusal(webui, "bad/bomb")
    assert "was not executed" in refusal(webui, "None", prompt="a cat <aesthetic:bad/bomb>")
    assert not mark.exists()
    assert distance(personalised(webui, "vitl").image, right.image) == 0


@pytest.mark.parametrize(
    "name", ["nobody", "vitk", "../aesthetic_embeddings/vitl", "/etc/passwd", "sub\\vitl-2", "a\nb"]
)
def test_name_that_is_not_there(webui: WebUI, right: Generated, name: str) -> None:
    said = refusal(webui, name)
    assert "There is no aesthetic embedding" in said
    if name == "vitk":
        assert "Did you mean 'vitl'" in said
    assert distance(personalised(webui, "vitl").image, right.image) == 0


def test_file_that_is_gone_meanwhile(webui: WebUI, embeddings: Path, bad: Path) -> None:
    shutil.copy(embeddings / "vitl.pt", bad / "gone.pt")
    personalised(webui, "bad/gone")
    (bad / "gone.pt").unlink()
    assert "bad/gone" in refusal(webui, "bad/gone")


# --- bad values ---


@pytest.mark.parametrize(
    ("knobs", "part"),
    [
        ({"lr": "fast"}, "a number"),
        ({"lr": "nan"}, "a number"),
        ({"lr": 1}, "from 0 to 0.1"),
        ({"lr": [0.1]}, "a number"),
        ({"steps": 2.5}, "a whole number"),
        ({"steps": -1}, "from 0 to 50"),
        ({"steps": 1e9}, "from 0 to 50"),
        ({"weight": 1.5}, "from 0 to 1"),
        ({"slerp": "perhaps"}, "true or false"),
        ({"text": 7}, "a text"),
        ({"slerp_angle": 2}, "from 0 to 1"),
        ({"text": "cat " * 76}, "76 tokens"),
        ({"speed": 1}, "no aesthetic setting"),
    ],
)
def test_bad_value(webui: WebUI, right: Generated, knobs: dict[str, Any], part: str) -> None:
    assert part in refusal(webui, "vitl", knobs)
    assert distance(personalised(webui, "vitl").image, right.image) == 0


def test_text_of_75_tokens_is_read(webui: WebUI) -> None:
    assert "Aesthetic text: cat cat" in personalised(webui, "vitl", {"text": "cat " * 75}).infotext


@pytest.mark.parametrize(("checkpoint", "embedding"), [("sd1-a", "vith"), ("sd2", "vitl"), ("sdxl", "vith")])
def test_wrong_space(webui: WebUI, checkpoint: str, embedding: str) -> None:
    webui.use(checkpoint)
    said = refusal(webui, embedding)
    spaces = {"sd1-a": "ViT-L/14 (768", "sd2": "ViT-H/14 (1024", "sdxl": "ViT-bigG/14 (1280"}
    own = {"vitl": "ViT-L/14 (768", "vith": "ViT-H/14 (1024"}
    assert spaces[checkpoint] in said and own[embedding] in said and "pick another" in said
    other = personalised(webui, FAMILIES[checkpoint])
    assert distance(other.image, webui.txt2img().image) > 0.2


@pytest.mark.parametrize(
    ("place", "part"), [("", "not on the disk"), ("an empty folder", "has no model file"), ("a LoRA", "holds no")]
)
def test_a_text_projection_that_is_none_is_told(
    webui: WebUI, assets: Assets, right: Generated, tmp_path: Path, place: str, part: str
) -> None:
    path = {"": "", "an empty folder": str(tmp_path), "a LoRA": str(assets.lora)}[place]
    with options(webui, aesthetic_text_projection=path):
        forget(webui)
        said = refusal(webui)
        assert part in said and "Settings > Aesthetic Gradients > Text projection" in said
    assert distance(personalised(webui, "vitl").image, right.image) == 0


def test_a_checkpoint_with_its_own_text_projection_needs_none(webui: WebUI, right: Generated) -> None:
    with options(webui, aesthetic_text_projection=""):
        webui.use("sd2")  # this one has its own
        personalised(webui, "vith")
        webui.use("sd1-a")
    assert distance(personalised(webui, "vitl").image, right.image) == 0


# --- faults in the middle ---


@pytest.mark.parametrize(
    ("place", "checkpoint"), [("pass", "sd1-a"), ("inside", "sd1-a"), ("inside", "sd2"), ("inside", "sdxl")]
)
def test_fault_at_every_pass(webui: WebUI, place: str, checkpoint: str) -> None:
    webui.use(checkpoint)
    knobs: dict[str, Any] = {"steps": 2, "text": "sunset"}
    job = {"prompt": "a (red:1.2) cat", "negative_prompt": "blurry"}
    # Forge stores a tower's embeddings in fp32 from the first prompt on.
    forget(webui)
    sound = webui.call(model.text_encoder)
    assert sound[1:] == [[], [], []]
    try:
        webui.call(faults.break_at, place, 0)
        expected = personalised(webui, FAMILIES[checkpoint], knobs, **job)
        passes = webui.call(faults.mend)
        # The text's feature, two steps, the last similarity, the host's encoding; per text encoder.
        assert passes == 5 * (2 if checkpoint == "sdxl" else 1)
        for at in range(1, passes + 1):
            forget(webui)
            webui.call(faults.break_at, place, at)
            with pytest.raises(RequestFailed) as failed:
                personalised(webui, FAMILIES[checkpoint], knobs, **job)
            assert "made up" in failed.value.body
            webui.call(faults.mend)
            assert webui.call(model.text_encoder) == sound, at
            again = personalised(webui, FAMILIES[checkpoint], knobs, **job)
            assert distance(again.image, expected.image) == 0, at
    finally:
        webui.call(faults.mend)


@pytest.fixture
def mended(webui: WebUI) -> Iterator[None]:
    """Nothing is broken before the test, and whatever it breaks is whole afterwards."""
    forget(webui)
    yield
    webui.call(faults.mend)


@pytest.mark.parametrize("at", [1, 7, 40])
@pytest.mark.usefixtures("mended")
def test_fault_in_the_middle_of_a_backward_pass(webui: WebUI, right: Generated, at: int) -> None:
    sound = webui.call(model.text_encoder)
    webui.call(faults.break_at, "update", at)
    with pytest.raises(RequestFailed):
        personalised(webui, "vitl")
    webui.call(faults.mend)
    assert webui.call(model.text_encoder) == sound
    assert distance(personalised(webui, "vitl").image, right.image) == 0


@pytest.mark.parametrize("at", [1, 3, 7])
@pytest.mark.usefixtures("mended")
def test_fault_with_lora_and_inversion(webui: WebUI, assets: Assets, right: Generated, at: int) -> None:
    prompt = f"a {assets.textual_inversion.stem} cat <lora:{assets.lora.stem}:1>"
    expected = personalised(webui, "vitl", prompt=prompt)
    forget(webui)
    webui.call(faults.break_at, "inside", at)
    with pytest.raises(RequestFailed):
        personalised(webui, "vitl", prompt=prompt)
    webui.call(faults.mend)
    assert distance(personalised(webui, "vitl").image, right.image) == 0
    assert distance(personalised(webui, "vitl", prompt=prompt).image, expected.image) == 0


@pytest.mark.parametrize(
    ("place", "at"), [("pass", 1), ("pass", 6), ("inside", 1), ("inside", 6), ("update", 1), ("update", 20)]
)
@pytest.mark.parametrize("event", ["out of GPU memory", "out of memory"])
@pytest.mark.usefixtures("mended")
def test_out_of_memory(webui: WebUI, right: Generated, place: str, at: int, event: str) -> None:
    webui.call(faults.break_at, place, at, event)
    said = refusal(webui)
    assert "not enough memory" in said and "GB" in said
    assert webui.call(faults.mend) >= at
    assert distance(personalised(webui, "vitl").image, right.image) == 0


# --- interrupted ---


@pytest.mark.parametrize("at", range(1, 7))
@pytest.mark.parametrize("flag", ["interrupted", "skipped"])
@pytest.mark.usefixtures("mended")
def test_interrupt_at_every_step(webui: WebUI, right: Generated, flag: str, at: int) -> None:
    sound = webui.call(model.text_encoder)
    webui.call(faults.break_at, "pass", at, flag)
    mark = webui.mark()
    personalised(webui, "vitl")
    # The pass that it came in is the last one, unless it was the very last.
    assert webui.call(faults.mend) == at
    assert optimised(webui, mark) == [] or at == 6
    assert webui.call(model.text_encoder) == sound
    assert distance(personalised(webui, "vitl").image, right.image) == 0


def run_long_job(webui: WebUI, knobs: dict[str, Any], meanwhile: Callable[[], object], **payload: Any) -> Generated:
    """One job in a thread; ``meanwhile`` is called once the progress says that it personalises."""
    done: list[Generated] = []
    job = threading.Thread(
        target=lambda: done.append(webui.txt2img(**asking({"embedding": "vitl", **knobs}), **payload))
    )
    job.start()
    deadline = time.monotonic() + 30
    while job.is_alive() and time.monotonic() < deadline:
        said = webui.get("/sdapi/v1/progress?skip_current_image=true")["textinfo"]
        if "Personalising the prompt" in (said or ""):
            meanwhile()
            break
        time.sleep(0.02)
    else:
        pytest.fail("the progress never said that it personalises")
    # The request has a limit of its own, and how long the steps of all chunks take is the machine's matter.
    job.join()
    assert done, "the job failed"
    return done[0]


def test_interrupt_stops_quickly_and_the_same_job_again_is_right(webui: WebUI) -> None:
    knobs: dict[str, Any] = {"steps": 50}
    started = time.monotonic()
    expected = personalised(webui, "vitl", knobs, prompt=SEVERAL_CHUNKS)
    whole = time.monotonic() - started
    forget(webui)
    sound = webui.call(model.text_encoder)
    mark = webui.mark()
    pressed: list[float] = []

    def interrupt() -> None:
        webui.post("/sdapi/v1/interrupt", {})
        pressed.append(time.monotonic())

    stopped = run_long_job(webui, knobs, interrupt, prompt=SEVERAL_CHUNKS)
    took = time.monotonic() - pressed[0]
    assert took < whole / 2, f"{took:.2f} s after the interrupt, of {whole:.2f} s"
    assert len(optimised(webui, mark)) < 2
    assert distance(stopped.image, expected.image) > 0
    assert webui.call(model.text_encoder) == sound
    assert distance(personalised(webui, "vitl", knobs, prompt=SEVERAL_CHUNKS).image, expected.image) == 0


def test_stop_after_this_picture_finishes_it_right(webui: WebUI) -> None:
    knobs: dict[str, Any] = {"steps": 50}
    expected = personalised(webui, "vitl", knobs, prompt=SEVERAL_CHUNKS)
    forget(webui)
    stopped = run_long_job(
        webui, knobs, lambda: webui.run("shared.state.stop_generating()"), prompt=SEVERAL_CHUNKS, n_iter=3
    )
    assert len(stopped.images) == 1
    assert distance(stopped.image, expected.image) == 0
