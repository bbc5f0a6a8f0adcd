"""Interrupts an installed WebUI's generations at random moments, and looks at what is left.

    WEBUI_DIR=/path/to/webui python -m tests.webui.soak --times 500

The text encoders, the picture of a job that nobody interrupts, memory and temporary files have to be as
before. Linux only.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_H, VIT_L

from ..support.checkpoints import Assets
from .conftest import EXTENSION, REPOSITORY
from .driver import asking, personalised
from .hosts import host_in
from .inside import model
from .webui import RequestFailed, WebUI

_CHECKPOINTS = {"sd1-a": "taste", "sd2": "taste h", "sdxl": "taste xl"}
_LONGEST = 1.5  # seconds until the interrupt
_WARM_UP = 0.2  # of the jobs; what caches take until then is not growth
_MOST_GROWTH = 150  # MB


@dataclass
class State:
    """What has to be the same before and after."""

    encoders: dict[str, Any]
    pictures: dict[str, bytes]
    temporary: list[str]


class Soak:
    def __init__(self, host: WebUI, assets: Assets, seed: int) -> None:
        self.host, self.assets = host, assets
        self.random = random.Random(seed)
        self.seen: Counter[str] = Counter()

    def state(self) -> State:
        encoders, pictures = {}, {}
        for checkpoint, name in _CHECKPOINTS.items():
            self.host.use(checkpoint)
            self.host.txt2img(prompt="a cat")  # takes the last job's LoRA out of the weights, as any job does
            encoders[checkpoint] = self.host.call(model.text_encoder)
            pictures[checkpoint] = np.asarray(personalised(self.host, name).image).tobytes()
        folder = self.host.data_dir / "tmp"
        return State(encoders, pictures, sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))

    def resident(self) -> int:
        """MB with the first checkpoint, after what Python and the C library hold back has been given up."""
        for checkpoint in reversed(_CHECKPOINTS):
            self.host.use(checkpoint)
            self.host.txt2img(prompt="a cat", steps=1)
        code = """
import ctypes, gc, re
gc.collect()
ctypes.CDLL(None).malloc_trim(0)
result = int(re.search(r"VmRSS:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024
"""
        return int(self.host.run(code))

    def one(self) -> None:
        checkpoint, name = self.random.choice(list(_CHECKPOINTS.items()))
        if self.random.random() < 0.15:
            self.host.use(checkpoint)
        else:
            current = self.host.run("result = shared.sd_model.sd_checkpoint_info.model_name")
            name = _CHECKPOINTS[current]
            checkpoint = current
        prompt = self.random.choice(
            ["a cat", "a cat BREAK a dog", "a [cat:dog:2] AND a tree", ", ".join(["cat"] * 120)]
        )
        if checkpoint == "sd1-a" and self.random.random() < 0.3:
            prompt += f" <lora:{self.assets.lora.stem}:1> {self.assets.textual_inversion.stem}"
        job: dict[str, Any] = {
            "prompt": prompt,
            "steps": self.random.randint(1, 12),
            "seed": self.random.randint(0, 99),
        }
        knobs: dict[str, Any] = {"steps": self.random.randint(1, 40), "negative_prompt": self.random.random() < 0.3}
        if self.random.random() < 0.3:
            job["prompt"] += f"<aesthetic:{name}:0.7:steps={knobs.pop('steps')}>"
        else:
            knobs["embedding"] = name
        if self.random.random() < 0.2:
            job |= {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
        if self.random.random() < 0.3:
            job["n_iter"] = 3
        how, after = self.random.choice(["interrupt", "interrupt", "skip", "stop"]), self.random.uniform(0, _LONGEST)
        done = threading.Event()
        interrupter = threading.Thread(target=self._interrupt, args=(how, after, done))
        interrupter.start()
        try:
            self.host.txt2img(**job, **asking(knobs))
            self.seen["generations"] += 1
        except RequestFailed as error:
            self.seen[f"answered {error.status}: {error.body[-300:]}"] += 1
        finally:
            done.set()
            interrupter.join()

    def _interrupt(self, how: str, after: float, done: threading.Event) -> None:
        if done.wait(after):
            self.seen["over before"] += 1
            return
        if how == "stop":  # the page's button when "interrupt after the current picture" is set
            self.host.run("shared.state.stop_generating()")
        else:
            self.host.post(f"/sdapi/v1/{how}", {})
        self.seen[how] += 1


def run(host: WebUI, assets: Assets, times: int, seed: int) -> dict[str, object]:
    soak = Soak(host, assets, seed)
    began = time.monotonic()
    before = soak.state()
    memory = 0
    warm = max(1, round(times * _WARM_UP))
    for number in range(times):
        if number == warm:
            memory = soak.resident()
        soak.one()
    after_memory = soak.resident()
    after = soak.state()
    failed = [what for what in soak.seen if what.startswith("answered")]
    assert not failed, failed
    assert after.encoders == before.encoders
    assert after.pictures == before.pictures
    assert after.temporary == before.temporary, sorted({*after.temporary} ^ {*before.temporary})[:20]
    grown = after_memory - memory
    assert grown < _MOST_GROWTH, f"{memory} MB after {warm} jobs, {after_memory} MB at the end"
    assert "Traceback" not in host.log(), host.log()[-4000:]
    minutes = round((time.monotonic() - began) / 60, 1)
    return {**soak.seen, f"MB after {warm}": memory, "MB at the end": after_memory, "minutes": minutes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    installation = Path(os.environ["WEBUI_DIR"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        assets = host_in(installation).write(data_dir)
        shelf = data_dir / "models" / "aesthetic_embeddings"
        shelf.mkdir(parents=True)
        for name, spaces in (("taste", [VIT_L]), ("taste h", [VIT_H]), ("taste xl", [VIT_L, VIT_BIGG])):
            save(
                Embedding(name, {space: unit(torch.ones(space.dim)) for space in spaces}), shelf / f"{name}.safetensors"
            )
        host = WebUI(installation, data_dir)
        host.prepare(assets.open_clip_configs, assets.sd1_a.stem)
        host.install_extension(REPOSITORY, EXTENSION)
        with host.running():
            host.set_options(aesthetic_text_projection=str(assets.text_projection))
            print(", ".join(f"{what}: {count}" for what, count in run(host, assets, args.times, args.seed).items()))


if __name__ == "__main__":
    main()
