"""Downloading from a local server that behaves well and badly."""

import hashlib
import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aesthetic_clip import download as downloading
from aesthetic_clip.embeddings.library import check_name
from aesthetic_clip.embeddings.published import CATALOGUE, Entry, download, entries
from aesthetic_clip.errors import AestheticError, Interrupted

CONTENT = bytes(range(256)) * 12


def entry(name: str) -> Entry:
    return Entry(name, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "made for a test")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind = Path(self.path).stem
        if kind == "hangup":
            self.connection.close()
            return
        body = {"wrong": bytes(len(CONTENT)), "login": b"<html>" * 10_000, "short": CONTENT[:-1]}.get(kind, CONTENT)
        self.send_response({"missing": 404, "broken": 500}.get(kind, 200))
        self.send_header("Content-Length", str(len(CONTENT) if kind == "truncated" else len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if kind == "truncated" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}/aesthetic_embeddings"
        httpd.shutdown()
        thread.join()


def test_good(server: str, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int, _line: str) -> None:
        if (done, total) not in seen:
            seen.append((done, total))

    wanted = [entry("a"), entry("b")]
    result = download(wanted, tmp_path / "new", progress, server)
    assert result.saved == [tmp_path / "new" / "a.pt", tmp_path / "new" / "b.pt"]
    assert not result.failures
    assert all(path.read_bytes() == CONTENT for path in result.saved)
    assert seen == [(0, 2), (1, 2), (2, 2)]
    again = download(wanted, tmp_path / "new", base_url="http://127.0.0.1:9/nothing")
    assert again.kept == result.saved
    assert not again.saved
    assert not again.failures


@pytest.mark.parametrize(
    ("kind", "reason", "advice"),
    [
        ("truncated", "broke after 1000 of", "Try again"),
        ("short", "broke after", "Try again"),
        ("wrong", "SHA-256 differs", "another network"),
        ("login", "SHA-256 differs", "login page"),
        ("missing", "404", "by hand"),
        ("broken", "500", "later"),
        ("hangup", "can't be reached", "connection"),
    ],
)
def test_bad(server: str, tmp_path: Path, kind: str, reason: str, advice: str) -> None:
    result = download([entry("a"), entry(kind), entry("b")], tmp_path, base_url=server)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "b.pt"]
    assert list(result.failures) == [kind]
    assert reason in result.failures[kind].why
    assert advice in result.failures[kind].do


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = download([entry("a"), entry("b")], tmp_path, base_url=f"http://127.0.0.1:{port}")
    assert list(result.failures) == ["a", "b"]
    assert "can't be reached" in str(result.failures["a"])
    assert "internet connection" in str(result.failures["a"])


def test_a_server_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloading, "LIMITS", downloading.Limits(silence=0.2))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        result = download([entry("a")], tmp_path, base_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "timed out" in str(result.failures["a"])


def test_another_file_of_that_name_is_left_alone(server: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"mine")
    result = download([entry("a"), entry("b")], tmp_path, base_url=server)
    assert "other content" in str(result.failures["a"])
    assert (tmp_path / "a.pt").read_bytes() == b"mine"
    assert result.saved == [tmp_path / "b.pt"]


def test_a_file_in_another_folder_of_the_library_is_there_already(tmp_path: Path) -> None:
    for folder in ("trashed/.trash", "second/sub"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.pt").write_bytes(CONTENT)
    nowhere = "http://127.0.0.1:9/nothing"
    result = download([entry("a")], tmp_path / "first", base_url=nowhere, others=[tmp_path / "second"])
    assert result.kept == [tmp_path / "second" / "sub" / "a.pt"]
    result = download([entry("a")], tmp_path / "first", base_url=nowhere, others=[tmp_path / "trashed"])
    assert list(result.failures) == ["a"]


def test_stopping_keeps_what_came(server: str, tmp_path: Path) -> None:
    def stop(done: int, _total: int, _line: str) -> None:
        if done:
            raise Interrupted

    with pytest.raises(Interrupted):
        download([entry("a"), entry("b")], tmp_path, stop, server)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_folder_that_cannot_be_written(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    result = download([entry("a")], tmp_path / "file", base_url=server)
    assert "a" in result.failures


def test_the_catalogue() -> None:
    assert [e.name for e in CATALOGUE] == [
        "sac_8plus",
        "laion_7plus",
        "aivazovsky",
        "cloudcore",
        "gloomcore",
        "glowwave",
        "fantasy",
        "flower_plant",
    ]
    for e in CATALOGUE:
        assert check_name(e.name) == e.name
        assert e.url == (
            f"https://raw.githubusercontent.com/vicgalle/stable-diffusion-aesthetic-gradients/"
            f"30ca347d39eb7c92dd651a513cf4f795ed995708/aesthetic_embeddings/{e.name}.pt"
        )
        assert len(e.sha256) == 64
        assert 2000 < e.size < 5000
        assert e.provenance.endswith(".")
    assert entries([]) == list(CATALOGUE)
    assert [e.name for e in entries(["fantasy", "sac_8plus"])] == ["fantasy", "sac_8plus"]
    with pytest.raises(AestheticError, match="no published embedding"):
        entries(["nothing"])
