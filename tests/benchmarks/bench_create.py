"""How close making an embedding comes to the image encoder's own speed, and how much memory it takes.

    python tests/benchmarks/bench_create.py                            a ViT-L/14 on the CPU, few pictures: 2 minutes
    python tests/benchmarks/bench_create.py --device cuda --images 200 --batch-size 16 --rounds 3

The weights are random, which costs the same; the pictures are 3000 x 2000 JPEGs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from aesthetic_clip.clip.image_encoder import ImageEncoder  # noqa: E402
from aesthetic_clip.clip.preprocess import crop  # noqa: E402
from aesthetic_clip.create.images import decode  # noqa: E402
from aesthetic_clip.create.pictures import create  # noqa: E402
from aesthetic_clip.spaces import VIT_L, Space  # noqa: E402
from tests.unit.create.test_images import photo  # noqa: E402

DISTINCT = 8


class Tower(nn.Module):
    def __init__(self, **config: int) -> None:
        super().__init__()
        self.model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))

    def forward(self, batch: Tensor) -> Tensor:
        return self.model(pixel_values=batch).image_embeds


def vit_l() -> ImageEncoder:
    tower = Tower(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
        projection_dim=768,
    )
    return ImageEncoder(VIT_L, tower, 224, "random ViT-L/14")


def small() -> ImageEncoder:
    tower = Tower(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=3,
        image_size=224,
        patch_size=32,
        projection_dim=768,
    )
    return ImageEncoder(Space("small", 768), tower, 224, "random small")


class Seconds(NamedTuple):
    """What a clock on the wall says, and what this process spent of all cores together."""

    wall: float
    processor: float


def timed(work: Callable[[], object]) -> Seconds:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - wall, time.process_time() - processor)


def encode_only(encoder: ImageEncoder, images: int, batch_size: int) -> None:
    """The encoder alone, on pixels that are already there."""
    batch = torch.randn(batch_size, 3, encoder.size, encoder.size)
    for first in range(0, images, batch_size):
        encoder.encode(batch[: images - first]).cpu()


def megabytes() -> float:
    """The process's largest size so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # elsewhere the number may be inherited from the parent process
        return float(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _peak(paths: Sequence[Path], batch_size: int) -> tuple[float, float]:
    torch.set_num_threads(1)
    encoder = small()
    decode(paths[0])
    before = megabytes()
    create(paths, [encoder], batch_size=batch_size)
    return before, megabytes()


def peak_memory(paths: Sequence[Path], batch_size: int) -> tuple[float, float]:
    """The process's largest size in MB before and after; in a process of its own, since a peak never falls."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (paths, batch_size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=4, help="in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--memory", type=int, nargs="*", default=[50, 200, 800], help="numbers of pictures")
    options = parser.parse_args()
    device = torch.cuda.get_device_name() if options.device.startswith("cuda") else platform.processor() or "CPU"
    print(f"{device}, {torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{i}.jpg") for i in range(DISTINCT)]
        for i, file in enumerate(files):
            photo(3000, 2000, i).save(file, quality=90)

        def pictures(count: int) -> list[Path]:
            return (files * (count // DISTINCT + 1))[:count]

        start = time.perf_counter()
        for file in files:
            crop(decode(file, target=224), 224)
        print(f"decoding and resizing in one thread: {DISTINCT / (time.perf_counter() - start):.1f} pictures/s")
        n, size = options.images, options.batch_size
        print("\npictures   peak MB before   peak MB after   growth")
        for count in options.memory:
            before, after = peak_memory(pictures(count), size)
            print(f"{count:8} {before:16.0f} {after:15.0f} {after - before:8.0f}")

        encoder = vit_l().to(options.device)
        encode_only(encoder, size, size)  # warms up
        # In turns and the median of each, so that other work on the machine does not decide.
        rounds = [
            (
                timed(lambda: encode_only(encoder, n, size)),
                timed(lambda: create(pictures(n), [encoder], batch_size=size)),
            )
            for _ in range(options.rounds)
        ]
        alone, whole = (Seconds(*map(statistics.median, zip(*times))) for times in zip(*rounds))
        print(
            f"\n{n} pictures of 3000 x 2000, batches of {size}     seconds   pictures/s   share   processor s   share"
        )
        for name, took in (("encoder alone", alone), ("making an embedding", whole)):
            print(
                f"{name:40} {took.wall:9.2f} {n / took.wall:12.2f} {alone.wall / took.wall:7.0%}"
                f" {took.processor:13.2f} {alone.processor / took.processor:7.0%}"
            )
        print("each round:", ", ".join(f"{a.wall:.2f} s and {b.wall:.2f} s" for a, b in rounds))


if __name__ == "__main__":
    main()
