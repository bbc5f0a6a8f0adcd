"""Which part of the package may import what: read from the sources, so that no host is needed."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "aesthetic_clip"
HOSTS_MODULES = {"modules", "backend", "ldm", "sgm", "modules_forge", "scripts"}
PAGE = {"gradio"}
DIFFUSERS = {"diffusers", "accelerate"}

# From the bottom to the top; a layer may import its own modules and what stands below it.
CORE, PAGES, STANDALONE, WEBUI, PROGRAMS = "core", "pages", "hosts.standalone", "hosts.a1111", "programs"
MAY_USE = {
    CORE: {CORE},
    PAGES: {CORE, PAGES},
    STANDALONE: {CORE, STANDALONE},
    WEBUI: {CORE, PAGES, WEBUI},
    PROGRAMS: {CORE, PAGES, STANDALONE, PROGRAMS},
}
FORBIDDEN = {
    CORE: HOSTS_MODULES | PAGE | DIFFUSERS,
    PAGES: HOSTS_MODULES | DIFFUSERS,
    STANDALONE: HOSTS_MODULES | PAGE,
    WEBUI: DIFFUSERS,
    PROGRAMS: HOSTS_MODULES,
}


def layer(module: str) -> str:
    """Of a module of the package, by its name."""
    name = module.removeprefix(PACKAGE).removeprefix(".")
    first = name.split(".")[0]
    if first == "hosts":
        return {STANDALONE: STANDALONE, "hosts": CORE}.get(".".join(name.split(".")[:2]), WEBUI)
    if first in ("ui", "tab", "page"):
        return PAGES
    # The package itself only passes names on.
    return PROGRAMS if first in ("", "demo", "__main__") or first.startswith("cli") else CORE


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it, in full; of ``from a import b`` both a and a.b."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = importlib.util.resolve_name("." * node.level + base, package)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


MODULES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def breaches(module: str, imported: Iterator[str]) -> list[str]:
    own = layer(module)
    found = []
    for name in imported:
        top = name.split(".")[0]
        if top in FORBIDDEN[own] or (
            # "from . import x" names the package, which is only a place.
            name in MODULES and name != PACKAGE and layer(name) not in MAY_USE[own]
        ):
            found.append(f"{module} ({own}) imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_import_crosses_a_boundary(module: str) -> None:
    assert not breaches(module, imports(MODULES[module]))


def test_dependencies_point_one_way() -> None:
    # The package's own file passes on names when they are asked for, so it is no part of a circle.
    graph = {
        module: {name for name in imports(path) if name in MODULES and name not in (module, PACKAGE)}
        for module, path in MODULES.items()
        if module != PACKAGE
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way[way.index(module) :], module))}"
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("settings", "import gradio"),
        ("settings", "from modules import shared"),
        ("vision", "def f():\n    from diffusers import UNet2DModel"),
        ("settings", "from .ui import choices"),
        ("settings", "from . import tab"),
        ("hosts.a1111.hook", "import diffusers"),
        ("hosts.a1111.hook", "from ..standalone import encode_prompts"),
        ("hosts.standalone.prompts", "from ..a1111 import hook"),
        ("cli", "from modules import shared"),
    ],
)
def test_a_breach_is_noticed(module: str, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{PACKAGE}.{module}"
    copy = tmp_path.joinpath(PACKAGE, *module.split(".")).with_suffix(".py")
    copy.parent.mkdir(parents=True)
    copy.write_text(statement)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert breaches(name, imports(copy))
