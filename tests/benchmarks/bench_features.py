"""How fast stored features are summed, against numpy that loads them and takes their mean, and in two processes.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_features.py            half a gigabyte in the system's temporary folder

The files lie in the cache of the system, so that no disk decides; the ratios are of runs that follow each other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from aesthetic_clip.create.features_npy import sum_npy  # noqa: E402
from aesthetic_clip.create.parts import Shard, embedding_of, merge_parts  # noqa: E402

WIDTH = 768


def write(folder: Path, files: int, rows: int) -> list[Path]:
    generator = numpy.random.default_rng(0)
    paths = [folder / f"img_emb_{i}.npy" for i in range(files)]
    for path in paths:
        numpy.save(path, generator.normal(size=(rows, WIDTH)).astype(numpy.float16))
    return paths


def raw_mean(paths: Sequence[Path]) -> numpy.ndarray:
    """What one writes without thinking: no look at what is in the files, features of any length, in fp32."""
    return numpy.mean([numpy.load(path).astype(numpy.float32).mean(0) for path in paths], axis=0)


def unit_mean(paths: Sequence[Path]) -> numpy.ndarray:
    """The same of unit vectors in float64, which is what an embedding is the mean of."""
    total = numpy.zeros(WIDTH)
    for path in paths:
        rows = numpy.load(path).astype(numpy.float64)
        total += (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).sum(0)
    return total


def shard(paths: Sequence[Path], number: int, of: int) -> object:
    torch.set_num_threads(1)
    return sum_npy(paths, shard=Shard(number, of))


def wall(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rows", type=int, default=40_000, help="in each file")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {numpy.__version__}, torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(2) as pool:
        paths = write(Path(folder), options.files, options.rows)
        size = sum(path.stat().st_size for path in paths)
        pool.starmap(shard, [(paths[:2], 1, 2), (paths[:2], 2, 2)])  # imports
        ways: dict[str, Callable[[], object]] = {
            "sum_npy": lambda: sum_npy(paths),
            "np.load, unit vectors, mean in float64": lambda: unit_mean(paths),
            "sum_npy, raw": lambda: sum_npy(paths, raw=True),
            "np.load, mean in fp32": lambda: raw_mean(paths),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        alone, shared = [], []
        for _ in range(options.rounds):
            for name, run in ways.items():
                times[name].append(processor(run))
            alone.append(wall(lambda: pool.apply(shard, (paths, 1, 1))))
            shared.append(wall(lambda: pool.starmap(shard, [(paths, 1, 2), (paths, 2, 2)], chunksize=1)))
        parts = [sum_npy(paths, shard=Shard(number, 2)) for number in (1, 2)]
        both, whole = (embedding_of(part, "x").vectors for part in (merge_parts(parts), sum_npy(paths)))
        assert all(torch.allclose(both[space], whole[space], atol=1e-6) for space in whole)
        print(f"\n{options.files} files, {size / 1e6:.0f} MB in half precision, processor time\n")
        print("| way | MB/s | against sum_npy |\n|---|---|---|")
        for name, taken in times.items():
            base = times["sum_npy, raw" if "fp32" in name or "raw" in name else "sum_npy"]
            ratio = statistics.median(one / ours for one, ours in zip(taken, base))
            print(f"| {name} | {size / 1e6 / statistics.median(taken):.0f} | {ratio:.2f} x |")
        gain = statistics.median(one / two for one, two in zip(alone, shared))
        print(f"\n--shard, two processes against one, by the clock on the wall: {gain:.2f} times as fast")


if __name__ == "__main__":
    main()
