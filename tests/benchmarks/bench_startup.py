"""What the extension adds to a WebUI's start, by the WebUI's own startup profile.

    WEBUI_DIR=<installed WebUI> python tests/benchmarks/bench_startup.py      3 minutes

Starts with and without the extension take turns; only the stages in which an extension takes part are shown.
Files are read from the cache and Python's bytecode exists, as in every start but the first.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.checkpoints import write_all  # noqa: E402
from tests.webui.webui import WebUI  # noqa: E402

STAGES = {
    "load scripts/aesthetic.py": "the extension's script, callbacks included",
    "create ui": "two accordions and the tab",
    "gradio launch": "their part of the page's description",
    "add APIs": "the accordions again, for the API's default arguments",
    "app_started_callback": "the API's routes",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    if not os.environ.get("WEBUI_DIR"):
        parser.error("WEBUI_DIR names no installed WebUI.")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    installation = Path(os.environ["WEBUI_DIR"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        hosts = {}
        for name in ("without", "with"):
            data = Path(folder, name)
            hosts[name] = WebUI(installation, data)
            hosts[name].prepare(write_all(data).open_clip_configs, "sd1-a")
        hosts["with"].install_extension(ROOT, "aesthetic-gradients")
        times: dict[str, list[dict[str, float]]] = {name: [] for name in hosts}
        for _ in range(rounds + 1):
            for name, host in hosts.items():
                host.start()
                times[name].append(host.get("/internal/profile-startup")["records"])
                host.stop()

    def median(name: str, stage: str) -> float:
        return statistics.median(1000 * records.get(stage, 0) for records in times[name][1:])

    print(f"{platform.machine()}, medians of {rounds} starts each, in milliseconds")
    print("| stage | what of it is the extension's | without | with | more |")
    print("|---|---|---|---|---|")
    total = 0.0
    for stage, what in STAGES.items():
        without, with_it = median("without", stage), median("with", stage)
        total += with_it - without
        print(f"| {stage} | {what} | {without:.0f} | {with_it:.0f} | {with_it - without:.0f} |")
    print(f"| together | | | | {total:.0f} |")


if __name__ == "__main__":
    main()
