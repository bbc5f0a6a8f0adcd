"""What a library of 10, 100 and 1,000 embeddings costs, in processor time: ``python tests/benchmarks/bench_library.py``.

Each line is the median of five, but for the first, which nothing is known for yet. Half of the embeddings have a
picture of 512 x 512 pixels. The page is that of ``python -m aesthetic_clip ui``, without a browser.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.embeddings.library import Library, open_library
from aesthetic_clip.geometry import unit
from aesthetic_clip.pages import local_page, tab, table
from aesthetic_clip.settings import Settings
from aesthetic_clip.spaces import PUBLISHED, VIT_L

_TIMES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Python {sys.version.split()[0]}, gradio {gr.__version__}; seconds of processor time")
    columns = [dict(measure(count)) for count in args.counts]
    print("| | " + " | ".join(f"{count:,}" for count in args.counts) + " |\n|---" + "|---" * len(columns) + "|")
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.3f}" for column in columns) + " |")


def measure(count: int) -> Iterator[tuple[str, float]]:
    with tempfile.TemporaryDirectory() as home:
        write(Path(home), count)
        library = open_library([home])
        yield "list, the first time", seconds(library.names, 1)
        page, start = None, time.process_time()
        page = page_of(library)
        yield "page built (start)", time.process_time() - start
        yield "list", seconds(library.names)
        yield "every file read anew after a start", first_read(library)
        press = Presser(page)
        yield "page opened", seconds(press.loads)
        name = f"taste {count // 2:04}"
        chosen = table.as_chosen([name])
        yield "table sorted", seconds(lambda: press("table_view", table_view='{"sort": "images"}'))
        yield "table filtered", seconds(lambda: press("table_view", table_view='{"words": "0007"}'))
        yield "inspect", seconds(lambda: press("inspect", table_chosen=chosen))
        yield "compare two", seconds(lambda: press("compare", table_chosen='["taste 0000", "taste 0003"]'))
        yield "compare all with a text", seconds(lambda: press("compare_text", text="a cat"))
        yield "export", seconds(lambda: press("export", table_chosen=chosen))
        new_names = iter(range(_TIMES))
        two = '["taste 0000", "taste 0003"]'
        yield "mix", seconds(lambda: press("mix", table_chosen=two, new_name=f"mixed {next(new_names)}"))
        new_names = iter(range(_TIMES))
        olds = iter([name, *(f"renamed {n}" for n in range(_TIMES))])
        yield (
            "rename",
            seconds(
                lambda: press(
                    "rename", table_chosen=table.as_chosen([next(olds)]), new_name=f"renamed {next(new_names)}"
                )
            ),
        )
        victims = iter(f"mixed {n}" for n in range(_TIMES))
        yield "trash", seconds(lambda: press("trash", table_chosen=table.as_chosen([next(victims)])))
        yield "refresh", seconds(lambda: press("refresh"))


def first_read(library: Library) -> float:
    from aesthetic_clip.embeddings import scan

    scan._cache = scan._Cache()
    return seconds(lambda: [entry.load() for entry in library.entries()], 1)


def seconds(work: Callable[[], Any], times: int = _TIMES) -> float:
    taken = []
    for _ in range(times):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def write(folder: Path, count: int) -> None:
    noise = torch.Generator().manual_seed(0)
    for number in range(count):
        space = PUBLISHED[number % len(PUBLISHED)]
        about = {"image_count": str(10 + number), "created": "2026-01-02T10:00:00", "note": f"note {number}"}
        vector = unit(torch.randn(space.dim, generator=noise))
        path = folder / f"taste {number:04}.safetensors"
        save(Embedding(path.stem, {space: vector}, about), path)
        if number % 2:
            Image.effect_mandelbrot((512, 512), (-2, -1, 1 + number / 1000, 1), 20).save(path.with_suffix(".png"))


def page_of(library: Library) -> Any:
    jobs = local_page.Jobs()

    def nothing(*_: Any) -> Any:
        raise NotImplementedError

    host = tab.TabHost(
        library=lambda: library,
        spaces=lambda: [VIT_L],
        encoder=nothing,
        text_features=lambda text: {VIT_L: torch.ones(VIT_L.dim)},
        picture=None,
        job=jobs.make,
        progress=jobs.progress,
        interrupt=jobs.interrupt,
    )
    return local_page.build(host, jobs, nothing, "no model", (512, 512), 7.0, Settings())


class Presser:
    """Calls what the page's events call, with what the page would send."""

    def __init__(self, page: Any) -> None:
        self._page = page
        functions = page.fns.values() if isinstance(page.fns, dict) else page.fns
        self._events = list(zip(functions, page.config["dependencies"]))

    def loads(self) -> None:
        for function, dependency in self._events:
            # Until gradio 3 the page's own event has no target, in later ones it is called so.
            target = next(iter(dependency["targets"]), "load")
            if function.fn is not None and "load" in (target if isinstance(target, (list, tuple)) else [target]):
                function.fn()

    def __call__(self, button: str, **values: Any) -> None:
        """An event of the tab's component of this name, and what follows it."""
        blocks = self._page.blocks
        wanted = next(n for n, block in blocks.items() if getattr(block, "elem_id", "") == f"{tab.ID}_{button}")
        for function, dependency in self._events:
            target = next(iter(dependency["targets"]), None)
            if (target[0] if isinstance(target, (list, tuple)) else target) == wanted and function.fn is not None:
                sent = []
                for number in dependency["inputs"]:
                    name = (blocks[number].elem_id or "").removeprefix(f"{tab.ID}_")
                    sent.append(values.get(name, getattr(blocks[number], "value", None)))
                answer = function.fn(*sent)
                said = str(answer[-1] if isinstance(answer, (list, tuple)) else answer)
                assert "class='error'" not in said, said
        if button not in ("table_view", "inspect", "compare", "compare_text", "export"):
            self("table_view", **values)


if __name__ == "__main__":
    main()
