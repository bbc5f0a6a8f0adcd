"""Finding CLIP ViT-L/14's text projection: files, caches, and one tensor over HTTP."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch
from torch import Tensor

from aesthetic_clip.clip.text_projection import ProjectionSources, find_text_projection
from aesthetic_clip.errors import AestheticError, Remedy


class Server(http.server.ThreadingHTTPServer):
    """Serves one file and counts the bytes that it sends."""

    content = b""
    ranges = True
    sent = 0


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        data = self.server.content
        asked = self.headers.get("Range")
        if asked and self.server.ranges:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            data = data[int(first) : int(last) + 1]
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
            self.server.sent += len(data)
        except OSError:  # the client has seen enough
            pass

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def matrix() -> Tensor:
    """(out, in), as transformers stores it."""
    return torch.randn(768, 768, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def server(matrix: Tensor) -> Iterator[Server]:
    tensors = {"a.before": torch.zeros(1000, 1000), "text_projection.weight": matrix, "z.after": torch.zeros(500, 500)}
    server = Server(("127.0.0.1", 0), Handler)
    server.content = safetensors.torch.save(tensors)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectionSources:
    """Sources with empty caches and nothing listening."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    return ProjectionSources(
        clip_folders=[tmp_path / "clip"],
        cache_folder=tmp_path / "cache",
        url="http://127.0.0.1:9/model.safetensors",
    )


def test_one_tensor_is_fetched_once(
    server: Server, nowhere: ProjectionSources, matrix: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "aesthetic_clip")
    url = f"http://127.0.0.1:{server.server_port}/model.safetensors"
    sources = replace(nowhere, url=url)
    assert torch.equal(find_text_projection(768, sources), matrix.T)
    assert server.sent < 3 * 2**20 < len(server.content)
    lines = caplog.messages
    assert len(lines) == 1
    assert "2.4 MB" in lines[0]
    assert url in lines[0]
    # From now on it is on the disk.
    assert torch.equal(find_text_projection(768, nowhere), matrix.T)


def test_a_server_that_sends_whole_files_only_is_not_listened_to(server: Server, nowhere: ProjectionSources) -> None:
    server.ranges = False
    with pytest.raises(AestheticError, match="whole files only"):
        find_text_projection(768, replace(nowhere, url=f"http://127.0.0.1:{server.server_port}/model.safetensors"))


@pytest.mark.parametrize("damage", [b"", b"not found", b"\xff" * 64, (100).to_bytes(8, "little") + b"{}" * 50])
def test_damaged_answers_are_explained(server: Server, nowhere: ProjectionSources, damage: bytes) -> None:
    server.content = damage
    with pytest.raises(AestheticError, match="openai/clip-vit-large-patch14"):
        find_text_projection(768, replace(nowhere, url=f"http://127.0.0.1:{server.server_port}/model.safetensors"))
    assert not list(nowhere.cache_folder.glob("*"))


def test_nowhere_to_be_had_says_what_to_put_where(nowhere: ProjectionSources) -> None:
    with pytest.raises(AestheticError) as caught:
        find_text_projection(768, nowhere)
    assert "failed" in caught.value.why
    assert "model.safetensors" in caught.value.do
    assert caught.value.remedy is Remedy.TEXT_PROJECTION


def test_offline_is_respected(nowhere: ProjectionSources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AestheticError, match="HF_HUB_OFFLINE"):
        find_text_projection(768, replace(nowhere, url=None))


def test_a_damaged_cache_is_made_again(server: Server, nowhere: ProjectionSources, matrix: Tensor) -> None:
    sources = replace(nowhere, url=f"http://127.0.0.1:{server.server_port}/model.safetensors")
    find_text_projection(768, sources)
    (kept,) = sources.cache_folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])
    assert torch.equal(find_text_projection(768, sources), matrix.T)


class _OpenAI(torch.nn.Module):
    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.text_projection = torch.nn.Parameter(matrix)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.text_projection


def write(kind: str, folder: Path, matrix: Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "transformers":
        safetensors.torch.save_file({"text_projection.weight": matrix}, folder / "model.safetensors")
        return folder / "model.safetensors"
    if kind == "pytorch":
        torch.save({"text_projection.weight": matrix, "other": torch.zeros(2)}, folder / "pytorch_model.bin")
        return folder / "pytorch_model.bin"
    if kind == "open_clip":
        safetensors.torch.save_file({"text_projection": matrix.T.contiguous()}, folder / "open_clip.safetensors")
        return folder / "open_clip.safetensors"
    torch.jit.script(_OpenAI(matrix.T.contiguous())).save(str(folder / "ViT-L-14.pt"))
    return folder / "ViT-L-14.pt"


@pytest.mark.parametrize("kind", ["transformers", "pytorch", "open_clip", "openai"])
def test_every_published_layout_is_read(kind: str, tmp_path: Path, nowhere: ProjectionSources, matrix: Tensor) -> None:
    path = write(kind, tmp_path / "mine", matrix)
    assert torch.equal(find_text_projection(768, replace(nowhere, path=path)), matrix.T)


def test_a_folder_will_do(tmp_path: Path, nowhere: ProjectionSources, matrix: Tensor) -> None:
    write("transformers", tmp_path / "mine", matrix)
    assert torch.equal(find_text_projection(768, replace(nowhere, path=tmp_path / "mine")), matrix.T)


def test_openais_file_in_the_hosts_cache_is_found(nowhere: ProjectionSources, matrix: Tensor) -> None:
    write("openai", Path(nowhere.clip_folders[0]), matrix)
    assert torch.equal(find_text_projection(768, nowhere), matrix.T)


def test_the_hub_cache_is_found(
    tmp_path: Path, nowhere: ProjectionSources, matrix: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("transformers", tmp_path / "hub", matrix)
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repo, name: str(path) if (repo, name) == ("openai/clip-vit-large-patch14", path.name) else None,
    )
    assert torch.equal(find_text_projection(768, nowhere), matrix.T)


@pytest.mark.parametrize("content", [{"other": torch.zeros(2)}, {"text_projection.weight": torch.zeros(512, 512)}])
def test_the_wrong_file_is_refused(tmp_path: Path, nowhere: ProjectionSources, content: dict[str, Tensor]) -> None:
    safetensors.torch.save_file(content, tmp_path / "wrong.safetensors")
    with pytest.raises(AestheticError, match=r"wrong\.safetensors"):
        find_text_projection(768, replace(nowhere, path=tmp_path / "wrong.safetensors"))


def test_a_tower_of_another_width_needs_the_users_file(nowhere: ProjectionSources) -> None:
    with pytest.raises(AestheticError, match="hidden size is 64"):
        find_text_projection(64, nowhere)
