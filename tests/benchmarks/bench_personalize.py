"""How long personalising one prompt takes, and how much memory, against the plain method and the first extension's way.

    python tests/benchmarks/bench_personalize.py [--tower ViT-L/14 ViT-H/14 ViT-bigG/14] [--device cuda] [--rounds 3]

Text towers of full size with random weights; fp32; 5 steps; a 12-token prompt. The ways are measured in turn in one
process, and the ratios are of the medians. Memory is the growth of the peak in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import gc
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from torch import Tensor

# Run as a file, the folder of the tests is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aesthetic_clip.clip.text_encoder import TransformersTextEncoder
from aesthetic_clip.geometry import unit
from aesthetic_clip.method.memory import Memory, bytes_needed
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.targets import Toward
from tests.support.towers import END, START, padded, plain_method

STEPS, LR = 5, 1e-4
IDS = [START, *range(1000, 1012), END]
# width, MLP, layers, heads, projected width
SHAPES = {
    "ViT-L/14": (768, 3072, 12, 12, 768),
    "ViT-H/14": (1024, 4096, 24, 16, 1024),
    "ViT-bigG/14": (1280, 5120, 32, 20, 1280),
}


def tower(name: str, device: str) -> TransformersTextEncoder:
    width, mlp, layers, heads, dim = SHAPES[name]
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act="quick_gelu" if name == "ViT-L/14" else "gelu",
    )
    module = transformers.CLIPTextModel(config).eval().requires_grad_(False).to(device)
    return TransformersTextEncoder(module, (torch.randn(width, dim) / width**0.5).to(device))


def target_for(encoder: TransformersTextEncoder) -> Tensor:
    return unit(torch.randn(encoder.space.dim, generator=torch.Generator().manual_seed(1))).to(encoder.device)


def first_extension(device: str) -> Callable[[], object]:
    """What the WebUI's first extension does per chunk: a deep copy of the whole CLIP, taken to the device."""
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "projection_dim": 768,
        },
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
            "projection_dim": 768,
        },
        projection_dim=768,
    )
    original = transformers.CLIPModel(config)
    ids = padded(IDS, END).unsqueeze(0).to(device)
    target = unit(torch.randn(768)).to(device)

    def run() -> None:
        model = copy.deepcopy(original).to(device).requires_grad_(True)
        optimizer = torch.optim.Adam(model.text_model.parameters(), lr=LR)
        for _ in range(STEPS):
            feature = unit(model.text_projection(model.text_model(input_ids=ids).pooler_output))
            optimizer.zero_grad()
            (-(feature @ target)).mean().backward()
            optimizer.step()

    return run


def seconds(run: Callable[[], object], device: str) -> float:
    gc.collect()
    start = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak(name: str, device: str, memory: Memory, answer: multiprocessing.Queue[float]) -> None:
    encoder = tower(name, device)
    # Whatever a library takes once is not the optimisation's.
    with torch.no_grad():
        encoder.hidden_state(torch.tensor([IDS], device=device))
    gc.collect()
    before = _now(device)
    optimize(encoder, torch.tensor(IDS, device=device), Toward(target_for(encoder)), STEPS, LR, memory=memory)
    answer.put(_highest(device) - before)


def _now(device: str) -> float:
    """Memory in use, in bytes; the peak counts from here."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak of what is resident begins anew
    return _resident("VmRSS")


def _highest(device: str) -> float:
    return torch.cuda.max_memory_allocated() if device != "cpu" else _resident("VmHWM")


def _resident(field: str) -> float:
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return float(lines[field].split()[0]) * 1024


def peak(name: str, device: str, memory: Memory) -> float:
    """Growth of the peak, in bytes, by one optimisation in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak, args=(name, device, memory, answer))
    process.start()
    grown = answer.get()
    process.join()
    return grown


def compare(name: str, device: str, rounds: int, old: bool) -> None:
    """Print a row for each way with one tower."""
    encoder = tower(name, device)
    target, ids, full = target_for(encoder), torch.tensor(IDS, device=device), padded(IDS, END).to(device)
    four = [torch.tensor([START, *range(first, first + 12), END], device=device) for first in range(1000, 1048, 12)]
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: optimize(encoder, ids, Toward(target), STEPS, LR),
        "ours, lowest": lambda: optimize(encoder, ids, Toward(target), STEPS, LR, memory=Memory.LOWEST),
        "plain method": lambda: plain_method(encoder, full, target, STEPS, LR),
        "ours, 4 prompts": lambda: [optimize(encoder, other, Toward(target), STEPS, LR) for other in four],
    }
    if old and name == "ViT-L/14":
        ways["first extension"] = first_extension(device)

    def encode(x: Tensor) -> Tensor:
        return encoder.module(input_ids=x).last_hidden_state

    weights = optimize(encoder, ids, Toward(target), STEPS, LR).weights
    module, _ = plain_method(encoder, full, target, STEPS, LR)
    with torch.no_grad():
        ours = encoder.call(encode, weights, full[None])
        difference = (ours - module(input_ids=full[None]).last_hidden_state).abs().max().item()
    del weights, module
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            times[way].append(seconds(run, device))
    base = statistics.median(times["ours"])
    for way, measured in times.items():
        median = statistics.median(measured)
        shown = f"{difference:.1e}" if way == "plain method" else ""
        print(f"| {name} | {way} | {median:.2f} s | {median / base:.1f} x | {shown} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", nargs="+", choices=SHAPES, default=["ViT-L/14"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-times", action="store_true", help="measure memory only")
    parser.add_argument("--old", action="store_true", help="also the first extension's way (ViT-L/14; 2 GB)")
    args = parser.parse_args()
    machine = torch.cuda.get_device_name() if args.device != "cpu" else platform.machine()
    print(
        f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    print("| tower | way | median | against ours | largest difference |\n|---|---|---|---|---|")
    for name in [] if args.no_times else args.tower:
        compare(name, args.device, args.rounds, args.old)
    print("\n| tower | memory | peak beside the model | counted |\n|---|---|---|---|")
    for name in args.tower:
        # On the CPU the moments are in main memory in any case.
        for memory in (
            (Memory.FAST, Memory.LOW, Memory.LOWEST) if args.device != "cpu" else (Memory.FAST, Memory.LOWEST)
        ):
            counted = bytes_needed(tower(name, "cpu"), memory, len(IDS), STEPS)
            print(
                f"| {name} | {memory.value} | {peak(name, args.device, memory) / 1e9:.2f} GB | {counted / 1e9:.2f} GB |"
            )


if __name__ == "__main__":
    main()
