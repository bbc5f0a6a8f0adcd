"""One host for the session; it needs a process that runs nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aesthetic_clip.spaces import space_of

from ..support.checkpoints import Assets, write_all
from .host import PACKAGE, Host, installed

FOLDER = Path(__file__).parent
NAMES = {"one": (768,), "two": (768,), "h": (1024,), "both": (768, 1280)}
"""Aesthetic embeddings and the widths of their vectors."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests among others; asked for alone they run, or fail where the package is missing."""
    here = [item for item in items if item.path.is_relative_to(FOLDER)]
    if len(here) < len(items):
        for item in here:
            item.add_marker(pytest.mark.skip(reason="needs a process of its own: pytest tests/webui_modules"))


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("webui")


@pytest.fixture(scope="session")
def vectors(data_dir: Path) -> dict[str, dict[int, torch.Tensor]]:
    """Unit vectors by embedding and width; their files are written, fp16 and unnormalised as published ones."""
    folder = data_dir / "aesthetic_embeddings"
    folder.mkdir()
    found: dict[str, dict[int, torch.Tensor]] = {}
    for seed, (name, widths) in enumerate(NAMES.items()):
        generator = torch.Generator().manual_seed(seed)
        raw = {width: (torch.randn(1, width, generator=generator) * 0.3).half() for width in widths}
        if len(widths) == 1:
            torch.save(raw[widths[0]], folder / f"{name}.pt")
        else:
            from safetensors.torch import save_file

            save_file(
                {space_of(width).name: vector for width, vector in raw.items()}, str(folder / f"{name}.safetensors")
            )
        found[name] = {width: torch.nn.functional.normalize(v.float(), dim=-1)[0] for width, v in raw.items()}
    return found


@pytest.fixture(scope="session")
def assets(data_dir: Path) -> Assets:
    return write_all(data_dir)


@pytest.fixture(scope="session")
def session_host(data_dir: Path, assets: Assets, vectors: object) -> Host:
    if not installed():
        pytest.fail(f"{PACKAGE} is not installed; tests/run.py makes the environment that has it", pytrace=False)
    # Sums in the same order in every run: pictures are compared to the last bit.
    torch.set_num_threads(1)
    return Host(data_dir, assets)


class Before:
    """How a host was, to compare with later."""

    def __init__(self, host: Host) -> None:
        self.host, self.traces = host, host.traces()

    def assert_unchanged(self) -> None:
        """The text encoders' weights, bit for bit those of their files, and everything that could hang on them."""
        weights, traces = self.host.weights(), self.host.traces()
        assert {key: traces[key] for key in self.traces} == self.traces
        assert [key for key, loaded in self.host.loaded_weights.items() if not torch.equal(loaded, weights[key])] == []


@pytest.fixture
def host(session_host: Host) -> Iterator[Host]:
    """The host as after a restart; whatever a test did, it has to leave the host as it was."""
    session_host.forget_conditioning()
    before = Before(session_host)
    yield session_host
    session_host.shared.state.interrupted = False
    before.assert_unchanged()


class Passes:
    """Counts passes over the text encoder for personalisation.

    Attributes:
        at: what is called before the n-th pass.
        ready: the same, when the extension has prepared that pass.
    """

    def __init__(self) -> None:
        self.count = 0
        self.at: dict[int, Callable[[], None]] = {}
        self.ready: dict[int, Callable[[], None]] = {}


@pytest.fixture
def passes(host: Host, monkeypatch: pytest.MonkeyPatch) -> Passes:
    counted = Passes()
    module = host.extension("method.session")
    personalize = module.personalize

    signature = inspect.signature(personalize)

    def counting(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        before_pass = arguments["before_pass"]

        def before(step: int) -> None:
            counted.count += 1
            counted.at.get(counted.count, lambda: None)()
            before_pass(step)
            counted.ready.get(counted.count, lambda: None)()

        return personalize(**{**arguments, "before_pass": before})

    monkeypatch.setattr(module, "personalize", counting)
    return counted
