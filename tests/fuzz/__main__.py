"""Goes on where the tests' few seconds end: ``python -m tests.fuzz --minutes 60``."""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from ..support.limits import Outcome, limited_each
from .readers import UNCOMPARED, attempt, cases, readers

_AT_ONCE = 200


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="where to begin (default: the time)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seed = int(time.time()) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, torch {torch.__version__}, Python {sys.version.split()[0]}", flush=True)
    streams = {name: cases(name, seed) for name in readers()}
    counts: dict[str, Counter[str]] = {name: Counter() for name in streams}
    worst = {name: Outcome() for name in streams}
    largest = dict.fromkeys(streams, 0.0)
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            for name, stream in streams.items():
                path = Path(folder) / readers()[name].name
                batch = list(itertools.islice(stream, _AT_ONCE))
                works = [functools.partial(attempt, name, path, data) for data in batch]
                for data, outcome in zip(batch, limited_each(works, may_write=path)):
                    count = counts[name]
                    count["tried"] += 1
                    count["accepted"] += bool(outcome.said) and not outcome.raised
                    count["uncompared"] += outcome.said == UNCOMPARED
                    worst[name] = max(worst[name], outcome, key=lambda other: other.seconds)
                    largest[name] = max(largest[name], outcome.megabytes)
                    if outcome.failure or outcome.raised:
                        count["failed"] += 1
                        kept = Path(f"fuzz-{seed}-{name.replace('.', '').replace(' ', '_')}-{count['tried']}")
                        kept.write_bytes(data)
                        print(f"FAILED {name}: {outcome}; kept as {kept}", flush=True)
    print(
        "| reader | files | accepted | not comparable | failed | longest | most memory |\n|---|---|---|---|---|---|---|"
    )
    for name, count in counts.items():
        print(
            f"| {name} | {count['tried']:,} | {count['accepted']:,} | {count['uncompared']:,} | {count['failed']:,} "
            f"| {worst[name].seconds:.2f} s | {largest[name]:.0f} MB |"
        )
    return 1 if any(count["failed"] for count in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
