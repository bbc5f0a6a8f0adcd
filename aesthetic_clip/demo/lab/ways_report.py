"""What ``ways.csv`` says: the table of docs/experiment.md, and the plot of style against content, from either."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MEASURES = {"chance": "style", "shape": "shape kept", "colour": "colour kept", "background": "background kept"}
"""In the file, and in the table."""
_UNWANTED = "unwanted style"
_SPREAD, _STEPS = "spread between prompts", "steps"


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per way: the mean of each measure, and half its 95% interval, that of the mean of the prompts' means.

    ``spread`` is the standard deviation of the style between prompts, mean over styles; ``steps`` those taken.
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["way"]].append(row)
    found = []
    for key, group in groups.items():
        entry: dict[str, Any] = {"way": key, "pictures": len(group), "steps": _mean([row["steps"] for row in group])}
        for name in (*MEASURES, "unwanted"):
            means = list(_by(group, "prompt", name).values())
            entry[name], entry[f"{name}_95"] = _mean(means), 1.96 * _deviation(means) / math.sqrt(len(means))
        styles = {row["style"] for row in group}
        entry["spread"] = _mean(
            [
                _deviation(list(_by([row for row in group if row["style"] == style], "prompt", "chance").values()))
                for style in styles
            ]
        )
        entry["by_style"] = {
            style: {name: _mean([row[name] for row in group if row["style"] == style]) for name in MEASURES}
            for style in sorted(styles)
        }
        found.append(entry)
    return found


def _by(rows: Sequence[Mapping[str, Any]], what: str, name: str) -> dict[str, float]:
    groups: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        groups[row[what]].append(row[name])
    return {key: _mean(values) for key, values in groups.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _deviation(values: Sequence[float]) -> float:
    mean = _mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else 0.0


def table(entries: Sequence[Mapping[str, Any]], unwanted: bool = False) -> str:
    """The summary as a Markdown table; with the unwanted style of mixed embeddings, or the spread and steps."""
    more = [_UNWANTED] if unwanted else [_SPREAD, _STEPS]
    heads = ["way", *MEASURES.values(), *more]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for entry in entries:
        names = (*MEASURES, *(["unwanted"] if unwanted else []))
        cells = [f"{entry[name]:.2f} ± {entry[f'{name}_95']:.2f}" for name in names]
        if not unwanted:
            cells += [f"{entry['spread']:.2f}", f"{entry['steps']:.1f}"]
        lines.append(f"| {entry['way']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def styles_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """Style, and the lesser of shape and colour kept, for each of the styles."""
    styles = list(entries[0]["by_style"])
    lines = ["| way | " + " | ".join(styles) + " |", "|---" * (len(styles) + 1) + "|"]
    for entry in entries:
        cells = [
            f"{one['chance']:.2f} / {min(one['shape'], one['colour']):.2f}"
            for one in (entry["by_style"][style] for style in styles)
        ]
        lines.append(f"| {entry['way']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def entries(text: str) -> list[dict[str, Any]]:
    """A summary out of the lines of :func:`table` in a text, as exact as they are written there."""
    found, names = [], list(MEASURES)
    for line in text.splitlines():
        key, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        numbers = [cell.split("±")[0] for cell in cells if "±" in cell]
        if line.startswith("|") and len(numbers) == len(names) and len(cells) == len(names) + 2:
            found.append({"way": key, **{name: float(number) for name, number in zip(names, numbers)}})
    return found


_COLOURS = ("C3", "C0", "C2", "C1", "C4", "C5", "C6", "C8", "C9")


_ALL, _CLOSE = ((-0.02, 1.04), (0.0, 1.03)), ((0.48, 1.02), (0.93, 1.005))


def plot(summaries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Style against content, a line for each family of ways: all of it, and the corner where both are."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    families: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    for entry in summaries:
        family, _, point = entry["way"].partition(": ")
        families[family].append((point, entry["chance"], (entry["shape"] + entry["colour"]) / 2))
    with pyplot.rc_context({"font.size": 12, "lines.linewidth": 2, "axes.spines.top": False}):
        figure, both = pyplot.subplots(1, 2, figsize=(14, 5.5))
        for axes, (across, up) in zip(both, (_ALL, _CLOSE)):
            colours = iter(_COLOURS)
            for family, points in families.items():
                styles, kept = zip(*sorted(point[1:] for point in points))
                if family in ("plain", "named", "preset"):
                    marker = {"plain": "kx", "named": "k*", "preset": "kD"}[family]
                    axes.plot(styles, kept, marker, markersize=9, zorder=3, label=family)
                else:
                    axes.plot(styles, kept, "o-", color=next(colours), label=family, alpha=0.8)
                named: dict[tuple[float, float], list[str]] = defaultdict(list)
                for name, style, content in points:
                    if family == "preset" and axes is both[1] and style > across[0]:
                        named[style, content].append(name)
                for where, names in named.items():
                    words = ", ".join(names)
                    axes.annotate(words, where, xytext=(-6, -16), textcoords="offset points", ha="right")
            axes.set(xlabel="style", ylabel="shape and colour kept", xlim=across, ylim=up)
        both[0].set_title("All")
        both[1].set_title("Where both are")
        figure.legend(*both[0].get_legend_handles_labels(), loc="lower center", ncol=3, frameon=False, fontsize=10)
        figure.tight_layout(rect=(0, 0.17, 1, 1))
        figure.savefig(path, dpi=100)
        pyplot.close(figure)
