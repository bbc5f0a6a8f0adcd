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
from pathlib import Path

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


def environment(name: str, python: str, extras: str) -> Path:
    """A virtual environment with the project's needs, made once per content of pyproject.toml."""
    folder = ROOT / f".venv-{name}"
    interpreter = folder / BIN / "python"
    stamp = folder / "installed.toml"
    wanted = (ROOT / "pyproject.toml").read_text()
    if not stamp.is_file() or stamp.read_text() != wanted:
        make_room(folder)
        print(f"== setting up {folder.name} ({extras}) with {python}", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(interpreter), "-m", "pip", "install", "-q", "-e", f"{ROOT}[{extras}]"], check=True)
        stamp.write_text(wanted)
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


def main() -> int:
    failed, left_out = [], []

    def step(title: str, *command: str | Path, **env: str) -> None:
        print(f"== {title}", flush=True)
        # The towers of the tests are too small for a second thread to be of use.
        env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        if subprocess.run([str(part) for part in command], cwd=ROOT, env=env).returncode:
            failed.append(title)

    current = environment("current", sys.executable, "test,standalone")
    step("ruff", current, "-m", "ruff", "check", ".")
    step("ruff format", current, "-m", "ruff", "format", "--check", ".")
    step("mypy", current, "-m", "mypy")
    apart = ["--ignore=tests/webui", "--ignore=tests/webui_modules"]
    step("tests, current releases", current, "-m", "pytest", *apart, *sys.argv[1:])

    if os.environ.get("WEBUI_DIR"):
        step("the real WebUI", current, "-m", "pytest", "tests/webui", *sys.argv[1:])
    else:
        left_out.append("the suite in the real WebUI: set WEBUI_DIR to an installed one")

    if python := find_python("3.10"):
        pinned = environment("webui", python, "test,webui")
        step("tests, the WebUI's pins", pinned, "-m", "pytest", *apart, *sys.argv[1:])
        if sys.argv[1:]:
            left_out.append(
                "the WebUI's conditioning path, which runs with everything, or by pytest tests/webui_modules"
            )
        elif add_webui_modules(pinned):
            # By itself: it makes its process a WebUI.
            step("the WebUI's conditioning path", pinned, "-m", "pytest", "tests/webui_modules")
        else:
            failed.append(f"the WebUI's conditioning path: {WEBUI_MODULES} can't be installed")
    else:
        left_out.append("the tests under the WebUI's pins and its conditioning path: they need Python 3.10")

    for line in left_out:
        print(f"left out: {line}")
    print("failed: " + ", ".join(failed) if failed else "all passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
