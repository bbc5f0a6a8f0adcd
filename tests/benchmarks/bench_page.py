"""What the parts of the page cost in processor time, and whether a thousand embeddings cost more than ten.

    python tests/benchmarks/bench_page.py                  a minute; best with the packages that the WebUI pins

Without a WebUI: the extension's modules are imported behind the libraries that a WebUI has loaded, its parts of the page
are built, and the list of the embeddings is read, sorted and drawn. ``bench_startup.py`` has the same in a real one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

FEW, MANY = 10, 1000


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
    from aesthetic_clip.pages import accordion, tab
    from aesthetic_clip.pages.local_page import Jobs
    from aesthetic_clip.settings import KNOBS

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
    count: dict[str, Any] = {}

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
            count["built"] = tab.build(host, [])
        count["tab"] = page

    two_accordions()  # what gradio does once
    the_tab()
    for name, part in {
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

    from aesthetic_clip.embeddings.embedding import Embedding, save
    from aesthetic_clip.geometry import unit
    from aesthetic_clip.spaces import VIT_L

    first = folder / "taste 0.safetensors"
    save(Embedding("taste", {VIT_L: unit(torch.ones(VIT_L.dim))}, {}), first)
    for number in range(1, count):
        shutil.copy(first, folder / f"taste {number}.safetensors")


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
    print(f"| part | {FEW} embeddings | {MANY} | ratio |\n|---|---|---|---|")
    for part in rounds[0][FEW]:
        few, many = (statistics.median(one[count][part] for one in rounds) for count in (FEW, MANY))
        print(f"| {part} | {few:.1f} | {many:.1f} | {many / few:.2f} |")
    scripts = sum(path.stat().st_size for path in (ROOT / "javascript").iterdir())
    style = sum(path.stat().st_size for path in ROOT.glob("style.css"))
    print(f"script and style: {(scripts + style) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
