"""Which part of the package may import what: read from the sources, so that no host is needed."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "aesthetic_clip"
HOSTS_MODULES = {"modules", "backend", "ldm", "sgm", "modules_forge", "scripts"}
PAGE = {"gradio"}
DIFFUSERS = {"diffusers", "accelerate"}

GROUND, PACKAGE_ITSELF = "the ground floor", "the package's own names"

# Each room and the rooms that it may use, from the bottom to the top; every room may use itself and the ground floor.
ROOMS: dict[str, set[str]] = {
    GROUND: set(),
    "readers": set(),
    "clip": {"readers"},
    "embeddings": {"readers"},
    "method": {"clip", "embeddings"},
    "create": {"readers", "clip", "embeddings"},
    # What a page sends comes from outside as files do.
    "pages": {"readers", "clip", "embeddings", "create"},
    "hosts": set(),
    "hosts.diffusers": {"readers", "clip", "embeddings", "method", "hosts"},
    "demo": {"clip", "embeddings", "method", "create", "hosts.diffusers"},
    "hosts.a1111": {"clip", "embeddings", "method", "create", "pages", "demo", "hosts"},
    "cli": {"clip", "embeddings", "method", "create", "pages", "hosts.diffusers", "demo"},
    # It only passes names on.
    PACKAGE_ITSELF: {"cli", "embeddings", "method", "hosts.diffusers"},
}
# What comes from outside, and the rooms where it may be imported.
OUTSIDE: dict[str, set[str]] = {
    **{module: {"hosts.a1111"} for module in HOSTS_MODULES},
    **{module: {"pages", "hosts.a1111", "cli"} for module in PAGE},
    **{module: {"hosts.diffusers", "demo"} for module in DIFFUSERS},
}


def room(module: str) -> str:
    """Of a module of the package, by its name."""
    name = module.removeprefix(PACKAGE).removeprefix(".")
    if name in ("", "__main__"):
        return PACKAGE_ITSELF
    parts = name.split(".")
    for candidate in (".".join(parts[:2]), parts[0]):
        if candidate in ROOMS:
            return candidate
    return GROUND


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
    own = room(module)
    allowed = ROOMS[own] | {own, GROUND}
    found = []
    for name in imported:
        outside = OUTSIDE.get(name.split(".")[0])
        # "from . import x" names the package, which is only a place.
        inside = name in MODULES and name != PACKAGE and room(name) not in allowed
        if inside or (outside is not None and own not in outside):
            found.append(f"{module} ({own}) imports {name}")
    return found


def test_every_folder_is_a_room() -> None:
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert folders == {name for name in ROOMS if "." not in name} - {GROUND, PACKAGE_ITSELF}


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
        ("clip.image_encoder", "def f():\n    from diffusers import UNet2DModel"),
        ("settings", "from .pages.accordion import choices"),
        ("settings", "from .pages import tab"),
        ("clip.text_encoder", "from ..embeddings import library"),
        ("create.pictures", "from ..method import personalize"),
        ("hosts.a1111.hook", "import diffusers"),
        ("hosts.a1111.hook", "from ..diffusers import encode_prompts"),
        ("hosts.diffusers.prompts", "from ..a1111 import hook"),
        ("cli.main", "from modules import shared"),
    ],
)
def test_a_breach_is_noticed(module: str, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{PACKAGE}.{module}"
    copy = tmp_path.joinpath(PACKAGE, *module.split(".")).with_suffix(".py")
    copy.parent.mkdir(parents=True)
    copy.write_text(statement)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert breaches(name, imports(copy))
