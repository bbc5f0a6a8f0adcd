"""Fixtures that start a real WebUI, once per session, and open its page in Chromium."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ..support.checkpoints import Assets
from .driver import FAMILIES
from .hosts import host_in, left_out
from .webui import Generated, WebUI, open_page

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION = "aesthetic-gradients"

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """The program, if there is one."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """Headless Chromium (playwright's Browser)."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip this folder's tests when the environment names no installed WebUI, or those that this one leaves out."""
    items = [item for item in items if item.path.is_relative_to(Path(__file__).parent)]
    named = os.environ.get("WEBUI_DIR")
    if named and (Path(named) / "launch.py").is_file():
        host = host_in(Path(named))
        reasons = {item: left_out(host, item.nodeid) for item in items}
    else:
        reason = f"WEBUI_DIR={named} holds no launch.py" if named else "WEBUI_DIR names no installed WebUI"
        reasons = dict.fromkeys(items, reason)
    for item, why in reasons.items():
        if why is not None:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def webui_dir() -> Path:
    """The installed WebUI that the environment names."""
    return Path(os.environ["WEBUI_DIR"]).resolve()


@pytest.fixture(scope="session")
def data_dir(webui_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The WebUI's private data directory of this session."""
    folder = tmp_path_factory.mktemp("webui")
    yield folder
    # pytest keeps the folders of three sessions, and the checkpoints are most of this one.
    shutil.rmtree(folder / "models", ignore_errors=True)


@pytest.fixture(scope="session")
def assets(webui_dir: Path, data_dir: Path) -> Assets:
    """Small checkpoints, LoRA, textual inversion and text projection, in `data_dir`."""
    return host_in(webui_dir).write(data_dir)


@pytest.fixture(scope="session")
def embeddings(data_dir: Path) -> Path:
    """A folder of aesthetic embeddings, in the shapes and dtypes of those that people have.

    ``vitl`` is fp16 (1, 768) as published, ``vitl-flat`` the same vector as fp32
    (768,), ``vitl-2`` another one, ``vith`` one for SD 2.x, ``xl`` has both vectors
    for SDXL, ``bigg`` only that of the second text encoder.
    """
    folder = data_dir / "models" / "aesthetic_embeddings"
    (folder / "sub").mkdir(parents=True)
    generator = torch.Generator().manual_seed(1)

    def vector(dim: int, length: float = 10) -> torch.Tensor:
        drawn = torch.randn(dim, generator=generator)
        return drawn * (length / drawn.norm())

    vitl = vector(768, 18.6).half()
    torch.save(vitl.reshape(1, 768), folder / "vitl.pt")
    torch.save(vitl.float(), folder / "vitl-flat.pt")
    torch.save(vector(768, 0.5), folder / "sub" / "vitl-2.pt")
    torch.save(vector(1024).reshape(1, 1024), folder / "vith.pt")
    xl = {"ViT-L/14": vector(768, 1), "ViT-bigG/14": vector(1280, 1)}
    safetensors.torch.save_file(xl, folder / "xl.safetensors")
    safetensors.torch.save_file({"ViT-bigG/14": xl["ViT-bigG/14"]}, folder / "bigg.safetensors")
    return folder


@pytest.fixture(scope="session")
def references(webui_dir: Path, assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Generated]:
    """Per checkpoint, the picture that a WebUI without the extension makes of the rig's plain job."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "models").mkdir()
    (folder / "models" / "Stable-diffusion").symlink_to(assets.sd1_a.parent)
    host = WebUI(webui_dir, folder)
    host.prepare(assets.open_clip_configs, assets.sd1_a.stem)
    with host.running():
        assert host.run("from modules import extensions\nresult = len(extensions.active())") > 0
        assert "aesthetic" not in str(host.get("/sdapi/v1/scripts"))
        return {
            checkpoint: host.txt2img(checkpoint=checkpoint)
            for checkpoint in FAMILIES
            if checkpoint in host.host.families
        }


@pytest.fixture(scope="session")
def webui(webui_dir: Path, data_dir: Path, assets: Assets, embeddings: Path) -> Iterator[WebUI]:
    """The running WebUI with this repository as its extension; it stops at the end.

    It knows ``embeddings`` and the generated text projection. It is shared: the model `sd1-a` is loaded at first, and a test that changes
    options sets them back.
    """
    host = WebUI(webui_dir, data_dir)
    host.prepare(assets.open_clip_configs, assets.sd1_a.stem)
    host.install_extension(REPOSITORY, EXTENSION)
    with host.running():
        host.set_options(aesthetic_text_projection=str(assets.text_projection))
        yield host


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium (playwright's Browser)."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if chromium() is None:
        pytest.skip("neither chromium nor google-chrome is on the PATH")
    with launched() as browser:
        yield browser


@pytest.fixture
def page_errors() -> list[str]:
    """Uncaught script errors of `page`, filled while it is open."""
    return []


@pytest.fixture
def page(browser: Any, webui: WebUI, page_errors: list[str]) -> Iterator[Any]:
    """The WebUI's page, loaded and ready (playwright's Page); other sites are cut off."""
    with open_page(browser, webui, page_errors) as page:
        yield page
