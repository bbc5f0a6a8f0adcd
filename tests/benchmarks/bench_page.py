"""What the parts of the page cost in processor time, and whether a thousand embeddings cost more than ten.

    python tests/benchmarks/bench_page.py                  a minute; best with the packages that the WebUI pins

Without a WebUI: the extension's modules are imported behind the libraries that a WebUI has loaded, its parts of the page
are built, and the list of the embeddings is read, sorted and drawn. ``bench_startup.py`` has the same in a real one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

FEW, MANY = 10, 1000
ROWS = 10


def milliseconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return 1000 * (time.process_time() - start)


def import_all() -> float:
    """Of all modules that the extension has loaded when the page is there."""
    import fastapi  # noqa: F401
    import gradio  # noqa: F401
    import PIL.ImageDraw
    import PIL.ImageFont
    import PIL.PngImagePlugin  # noqa: F401
    import torch  # noqa: F401

    def ours() -> None:
        import aesthetic_clip.method.session
        import aesthetic_clip.pages.accordion
        import aesthetic_clip.pages.tab  # noqa: F401

    return milliseconds(ours)


def measure(folder: Path) -> dict[str, float]:
    """Processor milliseconds by part, with the embeddings in ``folder``."""
    found = {"import": import_all()}
    import gradio as gr
    import torch

    from aesthetic_clip.embeddings.library import open_library
    from aesthetic_clip.pages import accordion, picker, tab
    from aesthetic_clip.pages.index import Index, Question
    from aesthetic_clip.pages.local_page import Jobs
    from aesthetic_clip.settings import KNOBS
    from aesthetic_clip.spaces import VIT_L

    torch.set_num_threads(1)
    library, jobs = open_library([folder]), Jobs()
    host = tab.TabHost(
        library=lambda: library,
        spaces=list,
        encoder=lambda space, download: None,  # type: ignore[arg-type, return-value]
        text_features=lambda text: {},
        picture=None,
        job=jobs.make,
        progress=jobs.progress,
        interrupt=jobs.interrupt,
    )
    index = Index(host.library, lambda: [VIT_L])
    numbers = itertools.count()
    pictured = [entry.name for entry in library.entries() if entry.picture][:ROWS]
    count: dict[str, Any] = {}

    def ask(version: str = "", pictures: Sequence[str] = ()) -> str:
        answer: str = json.loads(index.answer(Question(next(numbers), version, pictures)))["version"]
        return answer

    def two_accordions() -> None:
        with gr.Blocks(analytics_enabled=False) as page:
            count["lists"] = [
                (control, knob)
                for name in ("txt2img", "img2img")
                for control, knob in zip(accordion.settings_accordion(library.names(), f"{name}_{{}}".format), KNOBS)
                if knob.names_embedding
            ]
        count["accordions"] = page

    def the_tab() -> None:
        with gr.Blocks(analytics_enabled=False) as page:
            count["built"] = tab.build(host, picker.lists(index, []))
        count["tab"] = page

    found["a list looked at first: every file is read"] = milliseconds(ask)
    version = ask()
    found[f"the pictures of {ROWS} rows"] = milliseconds(lambda: ask(version, pictured))
    two_accordions()  # what gradio does once
    the_tab()
    for name, part in {
        "a list looked at again": lambda: ask(version),
        "names": lambda: library.names(),
        "two accordions": two_accordions,
        "tab": the_tab,
        "its description": lambda: count["tab"].get_config_file(),
        "opening a page": lambda: count["built"].lists.fresh(),
    }.items():
        found[name] = statistics.median(milliseconds(part) for _ in range(5))
    found["parts"] = len(count["tab"].blocks) + len(count["accordions"].blocks)
    return found


def fill(folder: Path, count: int) -> None:
    import torch
    from PIL import Image

    from aesthetic_clip.embeddings.embedding import Embedding, save
    from aesthetic_clip.geometry import unit
    from aesthetic_clip.spaces import VIT_L

    first = folder / "taste 0.safetensors"
    save(Embedding("taste", {VIT_L: unit(torch.ones(VIT_L.dim))}, {}), first)
    for number in range(1, count):
        shutil.copy(first, folder / f"taste {number}.safetensors")
    drawn = Image.effect_noise((512, 512), 64)
    for number in range(ROWS):
        drawn.save(folder / f"taste {number}.png")


def opened(folder: Path, times: int) -> list[float]:
    """Processor milliseconds of the browser's page for script, style and layout, each time the list of embeddings opens."""
    from tests.support import vision_towers
    from tests.support.page_server import SPACE
    from tests.webui.conftest import launched
    from tests.webui.webui import free_port

    port = free_port()
    encoder = vision_towers.write_encoder(folder.parent / "encoder", SPACE.dim)
    command = [sys.executable, "-m", "tests.support.page_server", str(port), str(folder), str(encoder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with launched() as browser:
                page = browser.new_page(viewport={"width": 1500, "height": 1100})
                address = f"http://127.0.0.1:{port}/"
                page.route(lambda url: not url.startswith((address, "data:", "blob:")), lambda route: route.abort())
                for _ in range(120):
                    with contextlib.suppress(Exception):
                        page.goto(address)
                        break
                    time.sleep(0.5)
                field = page.locator("#aesthetic_page_embedding input").first
                field.wait_for(timeout=60_000)
                page.wait_for_timeout(3000)
                session = page.context.new_cdp_session(page)
                session.send("Performance.enable", {"timeDomain": "threadTicks"})

                def spent() -> float:
                    told = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
                    return 1000 * sum(told[f"{part}Duration"] for part in ("Script", "Layout", "RecalcStyle"))

                took = []
                for _ in range(times):
                    before = spent()
                    field.focus()
                    page.locator("#aesthetic_page_embedding li").first.wait_for()
                    page.wait_for_timeout(1000)
                    took.append(spent() - before)
                    page.keyboard.press("Escape")
                    field.blur()
                    page.wait_for_timeout(500)
                return took
        finally:
            server.terminate()


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def in_own_process(folder: Path) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "bytecode")
    said = subprocess.run(
        [sys.executable, __file__, "--measure", str(folder)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    import gradio

    print(
        f"{platform.machine()}, Python {platform.python_version()}, gradio {gradio.__version__}, processor milliseconds"
    )
    with tempfile.TemporaryDirectory() as place:
        folders = {count: Path(place, str(count)) for count in (FEW, MANY)}
        for count, folder in folders.items():
            folder.mkdir()
            fill(folder, count)
        in_own_process(folders[FEW])  # writes the bytecode
        rounds = [{count: in_own_process(folder) for count, folder in folders.items()} for _ in range(options.rounds)]
    if chromium() is not None:
        with tempfile.TemporaryDirectory() as place:
            for count in (FEW, MANY):
                Path(place, str(count)).mkdir()
                fill(Path(place, str(count)), count)
                for one, took in zip(rounds, opened(Path(place, str(count)), len(rounds))):
                    one[count]["a list opened in Chromium"] = took
    print(f"| part | {FEW} embeddings | {MANY} | ratio |\n|---|---|---|---|")
    for part in rounds[0][FEW]:
        few, many = (statistics.median(one[count][part] for one in rounds) for count in (FEW, MANY))
        print(f"| {part} | {few:.1f} | {many:.1f} | {many / few:.2f} |")
    pages = ROOT / "aesthetic_clip" / "pages"
    scripts = sum(path.stat().st_size for path in [*(ROOT / "javascript").iterdir(), *pages.glob("*.js")])
    styles = [
        style for path in pages.rglob("*.py") for style in re.findall(r"<style>.*?</style>", path.read_text(), re.S)
    ]
    print(f"script and style: {(scripts + sum(map(len, styles))) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
