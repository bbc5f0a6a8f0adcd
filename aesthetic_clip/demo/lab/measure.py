"""The paper's experiment in the demonstration world: ``python -m aesthetic_clip.demo.lab.measure --out DIR``.

Prompts for held-out contents, an embedding for each style, several seeds. Each
picture is measured in three ways: the cosine of its CLIP feature to the
embedding; what a separately trained classifier says about the style; whether
that classifier still reads the prompt's shape, colour and background.

Every condition is written to ``pictures.csv`` when it is done, and not computed
again when the command is repeated; the summary is made from that file.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import LR, MODEL, world
from .bench import Bench, Condition, append
from .quality import quality

STEPS = (0, 2, 5, 10, 15, 20)


PAPER = tuple(Condition(steps) for steps in STEPS)
_FAST, _TURNED = 6e-4, (0.3, 0.6)
VARIANTS = (
    *(Condition(steps, lr=lr) for lr in (LR, _FAST) for steps in STEPS[1:]),
    *(Condition(steps, lr=_FAST, weight=weight) for weight in (0.5, 0.75) for steps in (10, 20)),
    *(Condition(steps, lr=_FAST, weight=0.5, slerp=True) for steps in (10, 20)),
    *(Condition(steps, lr=_FAST, angle=angle) for angle in _TURNED for steps in (10, 20)),
    *(Condition(steps, lr=LR, centred=strength) for strength in (0.5, 1.0, 2.0) for steps in STEPS[1:]),
    *(Condition(steps, centred=1.0) for steps in STEPS[1:]),
)
SHOWN = (
    ("the paper's target", [PAPER[0], *(Condition(steps, lr=_FAST) for steps in STEPS[1:])], "C3"),
    ("centred target", [PAPER[0], *(Condition(steps, lr=LR, centred=1.0) for steps in STEPS[1:])], "C0"),
)
"""The two curves of the plot: the paper's way where it shows in this world, and the better one."""
TRADES = (
    ("the paper's target", [Condition(steps, lr=_FAST) for steps in STEPS[1:]], "C3"),
    ("the same, weight 0.5", [Condition(steps, lr=_FAST, weight=0.5) for steps in (10, 20)], "C1"),
    ("the same, turned to the prompt by 0.6", [Condition(steps, lr=_FAST, angle=0.6) for steps in (10, 20)], "C2"),
    ("centred target", [Condition(steps, lr=LR, centred=1.0) for steps in STEPS[1:]], "C0"),
)
"""What the plot shows of how style and content trade; the table has all."""
CONDITIONS = {c.key: c for c in (PAPER[0], Condition(named=True), *PAPER[1:], *VARIANTS)}
"""All that is measured, by their names."""


MEASURES = ("similarity", "style_chance", "style_read", "shape_kept", "colour_kept", "background_kept")


def run(
    bench: Bench,
    out: Path,
    conditions: Iterable[Condition],
    styles: Sequence[str],
    contents: Sequence[world.Content],
    seeds: Sequence[int],
    seconds: float = math.inf,
) -> bool:
    """Measure what ``pictures.csv`` does not have yet; False if the time was up before the end."""
    path = out / "pictures.csv"
    done = {(row["condition"], row["style"]) for row in read(path)} if path.exists() else set()
    start = time.monotonic()
    plain: Tensor | None = None
    for condition in conditions:
        for style in styles:
            if (condition.key, style) in done:
                continue
            if time.monotonic() - start > seconds:
                return False
            if condition.key == "plain":
                # The same pictures whatever the style they are compared with.
                pairs = [(content, seed) for content in contents for seed in seeds]
                if plain is None:
                    hidden = torch.cat([bench.condition(content.prompt, style, condition) for content, _ in pairs])
                    plain = bench.generate(hidden, [seed for _, seed in pairs])
                rows = bench.judge(plain, pairs, condition, style)
            else:
                rows = bench.measure(condition, style, contents, seeds)
            append(path, rows)
            means = " ".join(f"{m} {sum(r[m] for r in rows) / len(rows):.2f}" for m in MEASURES)
            print(f"{condition.key} | {style} | {means}", flush=True)
    return True


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) if key in (*MEASURES, "steps") else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per condition: the mean of each measure and half its 95% interval.

    The pictures of one prompt are not independent of each other, so the interval
    is that of the mean of the prompts' means.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["condition"]].append(row)
    result = []
    for key, group in groups.items():
        entry: dict[str, Any] = {
            "condition": key,
            "family": group[0]["family"],
            "steps": int(group[0]["steps"]),
            "pictures": len(group),
        }
        for measure in MEASURES:
            by_prompt: dict[str, list[float]] = defaultdict(list)
            for row in group:
                by_prompt[row["prompt"]].append(row[measure])
            means = torch.tensor([sum(values) / len(values) for values in by_prompt.values()])
            half = 1.96 * float(means.std()) / math.sqrt(len(means)) if len(means) > 1 else math.nan
            entry[measure], entry[f"{measure}_95"] = float(means.mean()), half
        result.append(entry)
    return result


def table(entries: Sequence[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    heads = ("similarity", "style", "style read", "shape kept", "colour kept", "background kept")
    lines = ["| condition | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for entry in entries:
        cells = [f"{entry[m]:.2f} ± {entry[f'{m}_95']:.2f}" for m in MEASURES]
        lines.append(f"| {entry['condition']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def entries(text: str) -> list[dict[str, Any]]:
    """A summary out of the first :func:`table` in a text, which may have other tables, as exact as it is written."""
    found = []
    _, _, rows = text.partition(table([]))
    for line in rows.partition("\n\n")[0].splitlines():
        key, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        entry: dict[str, Any] = {
            "condition": key,
            "family": CONDITIONS[key].family,
            "steps": CONDITIONS[key].steps,
        }
        for measure, cell in zip(MEASURES, cells):
            entry[measure], entry[f"{measure}_95"] = map(float, cell.split("±"))
        found.append(entry)
    return found


def plot(entries: Sequence[dict[str, Any]], path: Path) -> None:
    """Style and content over the steps, and each way's trade of one for the other."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context({"font.size": 13, "lines.linewidth": 2.2, "axes.spines.top": False}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 6))
        by_key = {entry["condition"]: entry for entry in entries}
        for label, conditions, colour in SHOWN:
            curve = [by_key[c.key] for c in conditions if c.key in by_key]
            for measure, what, line in (
                ("style_chance", "style", "-"),
                ("shape_kept", "shape kept", "--"),
                ("colour_kept", "colour kept", ":"),
            ):
                left.errorbar(
                    [e["steps"] for e in curve],
                    [e[measure] for e in curve],
                    [e[f"{measure}_95"] for e in curve],
                    color=colour,
                    linestyle=line,
                    capsize=3,
                    label=f"{label}: {what}",
                )
        left.set(xlabel="aesthetic steps", ylim=(-0.05, 1.05), xticks=STEPS)
        left.set_title(f"Over the steps; learning rates {_FAST:g} and {LR:g}")

        def kept(entry: dict[str, Any]) -> float:
            return (entry["shape_kept"] + entry["colour_kept"]) / 2

        for label, conditions, colour in TRADES:
            curve = [by_key[c.key] for c in (PAPER[0], *conditions) if c.key in by_key]
            right.plot([e["style_chance"] for e in curve], [kept(e) for e in curve], "o-", color=colour, label=label)
        if named := by_key.get("named"):
            right.plot(
                [named["style_chance"]], [kept(named)], "k*", markersize=16, label="the style's name in the prompt"
            )
        right.set(xlabel="style", ylabel="shape and colour kept", xlim=(-0.02, 1.04), ylim=(-0.05, 1.05))
        right.set_title("What the style costs; points are steps")
        for side in (left, right):
            side.legend(ncol=1, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
        figure.tight_layout()
        figure.savefig(path, dpi=120, bbox_inches="tight")
        pyplot.close(figure)


def report(out: Path) -> list[dict[str, Any]]:
    """Write summary.json, table.md and plot.png from pictures.csv."""
    entries = summary(read(out / "pictures.csv"))
    (out / "summary.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")
    (out / "table.md").write_text(table(entries), encoding="utf-8")
    plot(entries, out / "plot.png")
    return entries


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m aesthetic_clip.demo.lab.measure", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--model", type=Path, default=MODEL, help="default: the one that comes with the package")
    parser.add_argument("--prompts", type=int, default=25, help="how many held-out prompts (up to 36)")
    parser.add_argument("--seeds", type=int, default=3, help="pictures per prompt")
    parser.add_argument("--styles", nargs="+", choices=list(world.STYLES), default=list(world.STYLES))
    parser.add_argument("--only-paper", action="store_true", help="the paper's conditions without the variants")
    parser.add_argument("--quality", action="store_true", help="measure the model's parts instead, into quality.json")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after the condition that reaches this")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.model)
    if options.quality:
        text = json.dumps(quality(bench), indent=1)
        (options.out / "quality.json").write_text(text, encoding="utf-8")
        print(text)
        return
    conditions = [c for c in CONDITIONS.values() if not options.only_paper or c not in VARIANTS]
    contents = world.HELD_OUT[: options.prompts]
    whole = run(
        bench,
        options.out,
        conditions,
        options.styles,
        contents,
        range(options.seeds),
        60 * options.minutes,
    )
    report(options.out)
    print((options.out / "table.md").read_text(encoding="utf-8"))
    if not whole:
        print("The time was up before all conditions were measured; repeat the command to go on.")


if __name__ == "__main__":
    main()
