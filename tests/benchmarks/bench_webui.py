"""A real WebUI with 10, 100 and 1,000 embeddings, seen from its page in Chromium.

    WEBUI_DIR=<installed WebUI> python tests/benchmarks/bench_webui.py      5 minutes

Half of the embeddings have a picture. The WebUIs run at the same time and are asked in turn. Beside each time stands
its ratio to that with the fewest; one row is of the WebUI's own cards, to compare with.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from aesthetic_clip.embeddings.embedding import Embedding, save  # noqa: E402
from aesthetic_clip.geometry import unit  # noqa: E402
from aesthetic_clip.spaces import VIT_L  # noqa: E402
from tests.support.checkpoints import write_all  # noqa: E402
from tests.webui.conftest import launched  # noqa: E402
from tests.webui.webui import WebUI, open_page  # noqa: E402

FIELD = "#script_txt2img_aesthetic_embeddings_embedding"
OPTIONS = f"{FIELD} ul.options li"


def furnish(models: Path, count: int) -> None:
    """So many embeddings, and empty files that the WebUI lists as hypernetworks; every other one has a picture."""
    tastes, others = models / "aesthetic_embeddings", models / "hypernetworks"
    for folder in (tastes, others):
        folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    picture = Image.radial_gradient("L").resize((512, 512)).convert("RGB")
    for number in range(count):
        taste, other = tastes / f"taste {number:04}.safetensors", others / f"other {number:04}.pt"
        save(Embedding(taste.stem, {VIT_L: unit(torch.randn(768, generator=generator))}), taste)
        other.touch()
        if number % 2:
            for path in (taste, other):
                picture.save(path.with_suffix(".preview.png"))


def prepared(home: Path, installation: Path, count: int) -> WebUI:
    host = WebUI(installation, home)
    host.prepare(write_all(home).open_clip_configs, "sd1-a")
    host.install_extension(ROOT, "aesthetic-gradients")
    furnish(home / "models", count)
    return host


def timed(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - start)


def look(browser: Any, host: WebUI, count: int) -> Iterator[tuple[str, float]]:
    """Milliseconds of each thing that is done on the page."""
    start = time.perf_counter()
    with open_page(browser, host, []) as page:
        yield "page opened", 1000 * (time.perf_counter() - start)
        listed = f"document.querySelectorAll({OPTIONS!r}).length > {min(count, 1)}"

        def open_list() -> None:
            page.click(f"{FIELD} input")
            page.wait_for_function(listed)

        def filter_list() -> None:
            page.keyboard.type(f"{count // 2:04}")
            page.wait_for_function(f"document.querySelectorAll({OPTIONS!r}).length === 1")

        page.click("#script_txt2img_aesthetic_embeddings_accordion > .label-wrap")
        page.wait_for_selector(f"{FIELD} input", state="visible")
        yield "list opened", timed(open_list)
        yield "list filtered", timed(filter_list)
        page.keyboard.press("Escape")

        def cards(tab: str, kind: str) -> None:
            page.click(f"#txt2img_extra_tabs > .tab-nav button:has-text('{tab}')")
            page.wait_for_selector(f"#txt2img_{kind}_cards", state="visible")

        yield "cards opened", timed(lambda: cards("Aesthetic", "aesthetic"))
        yield "the WebUI's own cards, of as many hypernetworks", timed(lambda: cards("Hypernetworks", "hypernetworks"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if not os.environ.get("WEBUI_DIR"):
        parser.error("WEBUI_DIR names no installed WebUI.")
    installation = Path(os.environ["WEBUI_DIR"]).resolve()
    times: dict[int, dict[str, list[float]]] = {count: {} for count in args.counts}

    def note(count: int, name: str, milliseconds: float) -> None:
        times[count].setdefault(name, []).append(milliseconds)

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running, launched() as browser:
        hosts = {count: prepared(Path(folder, str(count)), installation, count) for count in args.counts}
        for host in hosts.values():
            running.callback(host.stop)
        for round_ in range(args.rounds + 1):
            for count, host in hosts.items():
                host.restart()
                # The first start compiles what it imports.
                if round_:
                    note(count, "WebUI started", 1000 * host.get("/internal/profile-startup")["total"])
        for round_ in range(args.rounds + 1):
            for count, host in hosts.items():
                for name, milliseconds in look(browser, host, count):
                    if round_:
                        note(count, name, milliseconds)
    print(f"{platform.machine()}, medians of {args.rounds}, in milliseconds, and against {args.counts[0]} embeddings")
    print("| | " + " | ".join(f"{count:,}" for count in args.counts) + " |\n|---" + "|---" * len(hosts) + "|")
    for name in times[args.counts[0]]:
        medians = [statistics.median(times[count][name]) for count in args.counts]
        cells = [f"{medians[0]:.0f}", *(f"{it:.0f}, {it / medians[0]:.2f} x" for it in medians[1:])]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
