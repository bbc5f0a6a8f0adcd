"""Sets up and runs all checks: lint, types, and the tests under two sets of packages.

    python3 tests/run.py            everything
    python3 tests/run.py -k tags    the tests that pytest selects with these arguments

The two sets are current releases (Python 3.10 or later) and the WebUI's pins (Python 3.10).
The WebUI's own modules, from a package, run in the second with this extension in them.
With WEBUI_DIR set to an installed WebUI, its own suite runs as well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WEBUI_MODULES = "auto1111sdk==0.0.95"
BIN = "Scripts" if os.name == "nt" else "bin"
ROOM = 10 * 2**30
"""Bytes: what an environment takes on the disk while torch's packages for CUDA are installed."""


def find_python(version: str) -> str | None:
    """An interpreter of this version that really starts."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for command in (
        [f"python{version}"],
        ["py", f"-{version}"],
        [sys.executable],
        *([str(path)] for path in sorted(pyenv.glob(f"{version}.*/bin/python"))),
    ):
        if shutil.which(command[0]):
            probe = subprocess.run(
                [*command, "-c", "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"],
                capture_output=True,
                text=True,
            )
            if probe.returncode == 0 and probe.stdout.split()[0] == version:
                return probe.stdout.split(maxsplit=1)[1].strip()
    return None


def is_made(name: str) -> bool:
    """Whether this environment is there as pyproject.toml wants it."""
    stamp = ROOT / f".venv-{name}" / "installed.toml"
    return stamp.is_file() and stamp.read_text() == (ROOT / "pyproject.toml").read_text()


def environment(name: str, python: str, extras: str) -> Path:
    """A virtual environment with the project's needs, made once per content of pyproject.toml."""
    folder = ROOT / f".venv-{name}"
    interpreter = folder / BIN / "python"
    if not is_made(name):
        make_room(folder)
        print(f"== setting up {folder.name} ({extras}) with {python}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "-q", "-e", f"{ROOT}[{extras}]"], check=True)
        (folder / "installed.toml").write_text((ROOT / "pyproject.toml").read_text())
    return interpreter


def make_room(folder: Path) -> None:
    """On a small disk give up the other environments of this program for this one."""
    shutil.rmtree(folder, ignore_errors=True)
    for other in ROOT.glob(".venv-*/installed.toml"):
        if shutil.disk_usage(ROOT).free < ROOM:
            print(f"== removing {other.parent.name}: little room on the disk", flush=True)
            shutil.rmtree(other.parent)


def add_webui_modules(interpreter: Path) -> bool:
    """Put the WebUI's modules into the environment with its pins; whether they are there now."""
    stamp = interpreter.parents[1] / "webui_modules"
    if not stamp.is_file():
        print(f"== adding {WEBUI_MODULES}", flush=True)
        pip = [str(interpreter), "-m", "pip", "install", "-q"]
        # Its own needs would replace the pins.
        for what in (["-e", f"{ROOT}[webui,sdk-host]"], ["--no-deps", WEBUI_MODULES]):
            if subprocess.run([*pip, *what]).returncode:
                return False
        stamp.touch()
    return True


class Steps:
    """The checks, and which of them failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def run(self, title: str, *command: str | Path) -> None:
        print(f"== {title}", flush=True)
        self._ended(title, _process(*command).wait())

    def start(self, title: str, *command: str | Path) -> Callable[[], None]:
        """Run it beside others; what is returned waits for its end and prints what it said."""
        said = tempfile.TemporaryFile()  # noqa: SIM115 - finish closes it
        process = _process(*command, stdout=said, stderr=subprocess.STDOUT)

        def finish() -> None:
            self._ended(title, process.wait())
            said.seek(0)
            print(f"== {title}\n{said.read().decode(errors='replace')}", flush=True)
            said.close()

        return finish

    def _ended(self, title: str, code: int) -> None:
        if code:
            self.failed.append(title)


def _process(*command: str | Path, **options: Any) -> subprocess.Popen[bytes]:
    # The towers of the tests are too small for a second thread to be of use.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(part) for part in command], cwd=ROOT, env=environment, **options)


def main() -> int:
    steps, left_out, chosen = Steps(), [], sys.argv[1:]
    current = environment("current", sys.executable, "test,standalone")
    python = find_python("3.10")

    def with_pins() -> Path:
        return environment("webui", str(python), "test,webui")

    steps.run("ruff", current, "-m", "ruff", "check", ".")
    steps.run("ruff format", current, "-m", "ruff", "format", "--check", ".")
    steps.run("mypy", current, "-m", "mypy")
    tests = ["-m", "pytest", "--ignore=tests/webui", "--ignore=tests/webui_modules", *chosen]
    title, finish = "tests, the WebUI's pins", None
    if python and (is_made("webui") or shutil.disk_usage(ROOT).free >= ROOM):
        # Side by side, each with a core: one after the other they take twice as long.
        finish = steps.start(title, with_pins(), *tests)
    steps.run("tests, current releases", current, *tests)
    if python:
        finish = finish or steps.start(title, with_pins(), *tests)
        finish()
        if chosen:
            left_out.append(
                "the WebUI's conditioning path, which runs with everything, or by pytest tests/webui_modules"
            )
        elif add_webui_modules(with_pins()):
            # By itself: it makes its process a WebUI.
            steps.run("the WebUI's conditioning path", with_pins(), "-m", "pytest", "tests/webui_modules")
        else:
            steps.failed.append(f"the WebUI's conditioning path: {WEBUI_MODULES} can't be installed")
    else:
        left_out.append("the tests under the WebUI's pins and its conditioning path: they need Python 3.10")
    if os.environ.get("WEBUI_DIR"):
        steps.run("the real WebUI", current, "-m", "pytest", "tests/webui", *chosen)
    else:
        left_out.append("the suite in the real WebUI: set WEBUI_DIR to an installed one")

    for line in left_out:
        print(f"left out: {line}")
    print("failed: " + ", ".join(steps.failed) if steps.failed else "all passed")
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
