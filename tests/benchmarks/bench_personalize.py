"""How long personalising one prompt takes, and how much memory, against the plain method and the first extension's way.

    python tests/benchmarks/bench_personalize.py [--tower ViT-L/14 ViT-H/14 ViT-bigG/14] [--device cuda] [--rounds 10]
    OMP_NUM_THREADS=1 python tests/benchmarks/bench_personalize.py --pairs --no-memory     ours and the plain method
    python tests/benchmarks/bench_personalize.py --no-times --tower ViT-L/14 ViT-H/14 ViT-bigG/14     memory
    python tests/benchmarks/bench_personalize.py --bf16                                        the error of bf16 products

Text towers of full size with random weights; fp32; 5 steps; a 12-token prompt. The ways are measured in turn in one
process; a ratio is of two that followed each other, and the middle half of them is told. The time of a processor does not
count a neighbour's turns. Memory is the growth of the peak in a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import gc
import multiprocessing
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Run as a file, the folder of the tests is not on the path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aesthetic_clip.clip.text_encoder import TransformersTextEncoder
from aesthetic_clip.geometry import unit
from aesthetic_clip.method.memory import bytes_needed
from aesthetic_clip.method.modes import Memory
from aesthetic_clip.method.optimize import optimize
from aesthetic_clip.method.targets import Toward
from tests.support.memory import peak_allocated
from tests.support.towers import END, START, padded, plain_method, transformers_tower

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


class Spent(NamedTuple):
    """Seconds by a clock on the wall, and of all cores together by this process."""

    wall: float
    processor: float


def spent(run: Callable[[], object], device: str) -> Spent:
    gc.collect()
    wall, processor = time.perf_counter(), time.process_time()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return Spent(time.perf_counter() - wall, time.process_time() - processor)


def spread(numbers: Sequence[float]) -> str:
    """The median, and between which two the middle half lies."""
    if len(numbers) < 2:
        return f"{numbers[0]:.2f}"
    low, _, high = statistics.quantiles(numbers, n=4, method="inclusive")
    return f"{statistics.median(numbers):.2f} ({low:.2f} to {high:.2f})"


def floor(name: str, device: str) -> float:
    """Seconds that the products of one optimisation and its bytes take here at the least, one after the other.

    The products of three passes at the rate of this tower's shapes, and ten numbers read or written for each weight
    in each step at the rate of copying; a processor can't do both at once with one thread's worth of cache.
    """
    width, mlp, layers, _, _ = SHAPES[name]
    rows = torch.randn(len(IDS), width, device=device)
    matrices = [torch.randn(mlp, width, device=device) for _ in range(8)]  # more than a cache holds
    big = torch.empty(2**26, device=device)
    products, copies = 8 * 8, 8

    def multiply() -> None:
        for _ in range(8):
            for matrix in matrices:
                rows @ matrix.T

    def copy_all() -> None:
        for _ in range(copies // 2):
            big[: 2**25].copy_(big[2**25 :])
            big[2**25 :].copy_(big[: 2**25])

    multiply()
    copy_all()
    flops = products * 2 * len(IDS) * width * mlp / min(spent(multiply, device).processor for _ in range(5))
    bandwidth = copies * 2 * 4 * 2**25 / min(spent(copy_all, device).processor for _ in range(3))
    numbers = layers * (4 * width * width + 2 * width * mlp)
    operations = (STEPS * 3 + 1) * 2 * len(IDS) * numbers
    transferred = STEPS * 10 * 4 * numbers
    print(
        f"{name}: {operations / 1e9:.0f} GFLOP at {flops / 1e9:.0f} GFLOPS, {transferred / 1e9:.1f} GB at "
        f"{bandwidth / 1e9:.1f} GB/s: {operations / flops:.2f} s and {transferred / bandwidth:.2f} s of a processor"
    )
    return operations / flops + transferred / bandwidth


def _peak(name: str, device: str, memory: Memory, answer: multiprocessing.Queue[tuple[float, ...]]) -> None:
    torch.set_num_threads(1)
    encoder, small = tower(name, device), transformers_tower()
    # Whatever a library takes once is not the optimisation's, its code among it.
    optimize(small, torch.tensor(IDS), Toward(target_for(small)), STEPS, LR, memory=memory)
    with torch.no_grad():
        encoder.hidden_state(torch.tensor([IDS], device=device))
    ids, target = torch.tensor(IDS, device=device), Toward(target_for(encoder))

    def run() -> None:
        optimize(encoder, ids, target, STEPS, LR, memory=memory)

    gc.collect()
    before = _now(device)
    run()
    resident = _highest(device) - before
    given_out = peak_allocated(run) if device == "cpu" else resident
    weights = 4 * sum(p.numel() for p in encoder.weights(ids).tensors())
    answer.put((resident, given_out, bytes_needed(encoder, memory, len(IDS), STEPS), weights))


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


def peak(name: str, device: str, memory: Memory) -> tuple[float, ...]:
    """Of one optimisation in a process of its own, in bytes.

    Returns:
        Growth of the peak of what is resident, and of what torch gave out; what was counted before; the weights.
    """
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_peak, args=(name, device, memory, answer))
    process.start()
    grown = answer.get()
    process.join()
    return tuple(grown)


def instructions_counted() -> str:
    """Whether this machine can tell instructions from time, and how."""
    perf = shutil.which("perf")
    if perf is None:
        return "not counted: there is no perf here"
    said = subprocess.run([perf, "stat", "-e", "instructions:u", "true"], capture_output=True, text=True).stderr
    if "not supported" in said or "instructions" not in said:
        return "not counted: this machine hands out no counters of its processor"
    return f"perf stat -e instructions:u {' '.join(map(shlex.quote, [sys.executable, *sys.argv]))}"


def compare(name: str, device: str, rounds: int, old: bool, only_pairs: bool) -> None:
    """Print a row for each way with one tower."""
    encoder = tower(name, device)
    target, ids, full = target_for(encoder), torch.tensor(IDS, device=device), padded(IDS, END).to(device)
    four = [torch.tensor([START, *range(first, first + 12), END], device=device) for first in range(1000, 1048, 12)]
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: optimize(encoder, ids, Toward(target), STEPS, LR, memory=Memory.FAST),
        "plain method": lambda: plain_method(encoder, full, target, STEPS, LR),
    }
    if not only_pairs:
        ways["ours, low"] = lambda: optimize(encoder, ids, Toward(target), STEPS, LR, memory=Memory.LOW)
        ways["ours, lowest"] = lambda: optimize(encoder, ids, Toward(target), STEPS, LR, memory=Memory.LOWEST)
        ways["ours, bf16"] = lambda: optimize(encoder, ids, Toward(target), STEPS, LR, bf16=True)
        ways["ours, 4 prompts"] = lambda: [optimize(encoder, other, Toward(target), STEPS, LR) for other in four]
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
    times: dict[str, list[Spent]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            times[way].append(spent(run, device))
    least = floor(name, device) if device == "cpu" else None
    print("| tower | way | processor s | wall s | processor, against ours | wall, against ours | difference |")
    print("|---|---|---|---|---|---|---|")
    for way, measured in times.items():
        # In turn, so that a neighbour's work falls on both of a pair.
        ratios = [Spent(*(mine / our for mine, our in zip(one, base))) for one, base in zip(measured, times["ours"])]
        medians = [statistics.median(column) for column in zip(*measured)]
        shown = f"{difference:.1e}" if way == "plain method" else ""
        processor = spread([ratio.processor for ratio in ratios])
        print(
            f"| {name} | {way} | {medians[1]:.2f} | {medians[0]:.2f} | {processor} | "
            f"{spread([ratio.wall for ratio in ratios])} | {shown} |",
            flush=True,
        )
    if least is not None:
        ours = min(one.processor for one in times["ours"])
        print(f"{name}: ours takes {ours / least:.2f} times the floor ({ours:.2f} s, {least:.2f} s of a processor)")


class _ByWayOfBf16(torch.autograd.Function):
    """A linear layer whose three products read their factors rounded to bf16 and add up in fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        x, weight = x.bfloat16().float(), weight.bfloat16().float()
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, delta: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        delta = delta.bfloat16().float()
        return delta @ weight, delta.flatten(0, -2).T @ x.flatten(0, -2)


class Rounded(TorchFunctionMode):
    """What a processor that multiplies bf16 would make of the linear layers, on any."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.nn.functional.linear:
            x, weight, bias = args if len(args) == 3 else (*args, None)
            product = _ByWayOfBf16.apply(x, weight)
            return product if bias is None else product + bias
        return function(*args, **(kwargs or {}))


def bf16_error(name: str, device: str) -> None:
    """Print how far bf16 products lead elsewhere, against how far fp32 moves the conditioning."""
    encoder = tower(name, device)

    def encode(x: Tensor) -> Tensor:
        return encoder.module(input_ids=x).last_hidden_state

    print("| tower | similarity, fp32 | bf16 | conditioning: root mean square of the difference, of the movement |")
    print("|---|---|---|---|")
    for first in range(1000, 1048, 12):
        ids = torch.tensor([START, *range(first, first + 12), END], device=device)
        full, target = padded(ids.tolist(), END).to(device)[None], Toward(target_for(encoder))
        fp32 = optimize(encoder, ids, target, STEPS, LR)
        with Rounded():
            bf16 = optimize(encoder, ids, target, STEPS, LR)
        with torch.no_grad():
            plain, exact, rounded = encode(full), *(encoder.call(encode, it.weights, full) for it in (fp32, bf16))
        parts = ((rounded - exact).pow(2).mean() / (exact - plain).pow(2).mean()).sqrt()
        print(f"| {name} | {fp32.similarities[-1]:.4f} | {bf16.similarities[-1]:.4f} | {parts:.4f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tower", nargs="+", choices=SHAPES, default=["ViT-L/14"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--pairs", action="store_true", help="only ours and the plain method, in turn")
    parser.add_argument("--no-memory", action="store_true", help="measure times only")
    parser.add_argument("--no-times", action="store_true", help="measure memory only")
    parser.add_argument("--old", action="store_true", help="also the first extension's way (ViT-L/14; 2 GB)")
    parser.add_argument("--bf16", action="store_true", help="only the error of bf16 products, emulated in fp32")
    args = parser.parse_args()
    machine = torch.cuda.get_device_name() if args.device != "cpu" else platform.machine()
    print(
        f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, transformers {transformers.__version__}"
    )
    if args.bf16:
        for name in args.tower:
            bf16_error(name, args.device)
        return
    print(f"instructions: {instructions_counted()}")
    for name in [] if args.no_times else args.tower:
        compare(name, args.device, args.rounds, args.old, args.pairs)
    print(
        "\n| tower | memory | resident, at the peak | given out, at the peak | counted | weights |\n|---|---|---|---|---|---|"
    )
    for name in [] if args.no_memory else args.tower:
        # On the CPU the moments are in main memory in any case.
        for memory in (
            (Memory.FAST, Memory.LOW, Memory.LOWEST) if args.device != "cpu" else (Memory.FAST, Memory.LOWEST)
        ):
            resident, given_out, counted, weights = (number / 1e9 for number in peak(name, args.device, memory))
            print(
                f"| {name} | {memory.value} | {resident:.2f} GB | {given_out:.3f} GB | {counted:.3f} GB | "
                f"{weights:.3f} GB, {given_out / weights:.2f} x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
