"""The one downloader, against local servers that lie, drip, send without end and lead astray."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aesthetic_clip import download
from aesthetic_clip.download import DownloadFailed, Limits, fetch_bytes, fetch_file, is_digest
from aesthetic_clip.errors import Interrupted

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(silence=2.0, window=0.4, slowest=100_000, pause=0.0, chunk=4096)


class Server(http.server.ThreadingHTTPServer):
    """Behaves as the path asks it to, and counts what it is asked and what it sends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.sent = 0
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        kind, _, rest = self.path.lstrip("/").partition("/")
        self.server.asked.append(f"{self.path} {self.headers.get('Range', '')}".strip())
        # A client that has seen enough hangs up.
        with contextlib.suppress(OSError):
            getattr(self, f"_{kind}")(rest)

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent += len(data)

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def _whole(self, _: str) -> None:
        self.head(200, Content_Length=len(CONTENT))
        self.send(CONTENT)

    def _ranges(self, _: str) -> None:
        wanted = self.headers.get("Range")
        if not wanted:
            return self._whole("")
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        data = CONTENT[int(first) : int(last) + 1 if last else None]
        self.head(206, Content_Length=len(data), Content_Range=f"bytes {first}-{int(first) + len(data) - 1}/*")
        self.send(data)
        return None

    def _other_range(self, _: str) -> None:
        self.head(206, Content_Length=len(CONTENT), Content_Range=f"bytes 7-{len(CONTENT)}/*")
        self.send(CONTENT)

    def _wrong(self, _: str) -> None:
        self.head(200, Content_Length=len(CONTENT))
        self.send(bytes(len(CONTENT)))

    def _cut(self, size: str) -> None:
        """Breaks off after ``size`` bytes each time, wherever it was asked to begin."""
        self.head(200, Content_Length=len(CONTENT))
        self.send(CONTENT[: int(size)])
        self.close_connection = True

    def _crumbs(self, size: str) -> None:
        """Goes on where it was asked to, a few bytes at a time."""
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.head(206, Content_Range=f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send(CONTENT[begin : begin + int(size)])
        self.close_connection = True

    def _endless(self, _: str) -> None:
        self.head(200, **({} if self.server.asked[-1].endswith("unsaid") else {"Content_Length": 10**12}))
        while not self.server.closing.is_set():
            self.send(bytes(2**16))

    def _dripping(self, _: str) -> None:
        self.head(200, Content_Length=len(CONTENT))
        for byte in CONTENT:
            if self.server.closing.wait(0.05):
                return
            self.send(bytes([byte]))

    def _dripping_head(self, _: str) -> None:
        self.send(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        while not self.server.closing.wait(0.05):
            self.send(b"x")

    def _silent(self, _: str) -> None:
        self.server.closing.wait(10)

    def _to(self, address: str) -> None:
        self.head(302, Location=address or self.server.url("whole"), Content_Length=0)

    def _circle(self, count: str) -> None:
        self.head(302, Location=f"/circle/{int(count or 0) + 1}", Content_Length=0)

    def _beyond(self, _: str) -> None:
        if self.headers.get("Range"):
            self.head(416, Content_Length=0)
        else:
            self._whole("")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LIMITS", QUICK)
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)


Fetch = Callable[[str], bytes]


@pytest.fixture(params=["memory", "file"])
def fetch(request: pytest.FixtureRequest, tmp_path: Path) -> Fetch:
    """Both ways, as one."""

    def to_file(url: str) -> bytes:
        fetch_file(url, tmp_path / "file", len(CONTENT), SHA256)
        return (tmp_path / "file").read_bytes()

    return to_file if request.param == "file" else lambda url: fetch_bytes(url, len(CONTENT), SHA256)


def test_a_file_comes_whole(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    assert fetch(server.url("ranges")) == CONTENT
    assert {path.name for path in tmp_path.iterdir()} <= {"file"}


def test_a_redirect_is_followed(server: Server, fetch: Fetch) -> None:
    assert fetch(server.url("to/")) == CONTENT


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "gopher://x"])
def test_a_redirect_elsewhere_is_not(server: Server, fetch: Fetch, address: str) -> None:
    with pytest.raises(DownloadFailed):
        fetch(server.url(f"to/{address}"))


def test_no_way_back_from_https() -> None:
    import urllib.request

    request = urllib.request.Request("https://example.org/x")
    with pytest.raises(OSError, match="not safe"):
        download._Redirects().redirect_request(request, None, 302, "", {}, "http://example.org/x")


def test_redirects_come_to_an_end(server: Server, fetch: Fetch) -> None:
    with pytest.raises(DownloadFailed):
        fetch(server.url("circle/"))
    assert len(server.asked) < 50


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "/etc/passwd", "", "http://", "http://[", "http://a b/"],
)
def test_addresses_that_are_none(fetch: Fetch, url: str) -> None:
    with pytest.raises(DownloadFailed, match=r"can't be reached"):
        fetch(url)


@pytest.mark.parametrize("announced", ["", "unsaid"])
def test_a_server_that_sends_without_end_is_left(server: Server, fetch: Fetch, tmp_path: Path, announced: str) -> None:
    with pytest.raises(DownloadFailed, match=r"SHA-256|wrong hash"):
        fetch(server.url(f"endless/{announced}"))
    assert not list(tmp_path.iterdir())
    assert server.sent < 50 * len(CONTENT)  # what fits into the sockets' buffers


@pytest.mark.parametrize("kind", ["dripping", "dripping_head", "silent"])
def test_a_server_that_is_too_slow_is_left(server: Server, fetch: Fetch, kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(DownloadFailed, match="too slowly"):
        fetch(server.url(kind))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("kind", ["dripping", "dripping_head", "silent"])
def test_stopping_takes_no_time(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(download, "LIMITS", Limits())
    began = time.monotonic()

    def stop(_done: int, _total: int, _line: str) -> None:
        if time.monotonic() - began > 0.3:
            raise Interrupted

    with pytest.raises(Interrupted):
        fetch_file(server.url(kind), tmp_path / "file", len(CONTENT), SHA256, stop)
    with pytest.raises(Interrupted):
        fetch_bytes(server.url(kind), len(CONTENT), SHA256, progress=stop)
    assert time.monotonic() - began < 2


def test_a_server_that_always_begins_anew_is_not_asked_for_ever(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"broke after 50000 of 102400 bytes.*continues"):
        fetch_file(server.url("cut/50000"), tmp_path / "file", len(CONTENT), SHA256)
    assert len(server.asked) == 1 + QUICK.tries


def test_a_server_of_crumbs_is_too_slow(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="too slowly"):
        fetch_file(server.url("crumbs/2"), tmp_path / "file", len(CONTENT), SHA256)


def test_what_came_is_continued(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed):
        fetch_file(server.url("cut/50000"), tmp_path / "file", len(CONTENT), SHA256)
    server.asked.clear()
    told: list[tuple[int, int]] = []
    fetch_file(server.url("ranges"), tmp_path / "file", len(CONTENT), SHA256, lambda *n: told.append(n[:2]))
    assert server.asked == ["/ranges bytes=50000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert told == sorted(told)
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize("kind", ["whole", "other_range", "beyond"])
def test_a_server_that_does_not_continue(server: Server, tmp_path: Path, kind: str) -> None:
    (tmp_path / f".file.{SHA256[:16]}.part").write_bytes(CONTENT[:1000])
    fetch_file(server.url(kind), tmp_path / "file", len(CONTENT), SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("rest", [b"other" * 1000, bytes(len(CONTENT) + 1)])
def test_a_rest_that_is_not_of_this_file_does_not_stay(server: Server, tmp_path: Path, rest: bytes) -> None:
    (tmp_path / f".file.{SHA256[:16]}.part").write_bytes(rest)
    with contextlib.suppress(DownloadFailed):
        fetch_file(server.url("ranges"), tmp_path / "file", len(CONTENT), SHA256)
    fetch_file(server.url("ranges"), tmp_path / "file", len(CONTENT), SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_wrong_content_is_not_kept(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"SHA-256|wrong hash"):
        fetch(server.url("wrong"))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(self: Path, mode: str = "r", *more: Any) -> Any:
        file = opened(self, mode, *more)
        if "r" not in mode:

            class Full:
                def write(self, _: bytes) -> int:
                    raise OSError(errno.ENOSPC, "No space left on device")

                def close(self) -> None:
                    file.close()

            return Full()
        return file

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DownloadFailed, match=r"No space left on device\. Free some space"):
        fetch_file(server.url("whole"), tmp_path / "file", len(CONTENT), SHA256)


def test_a_part_of_a_file(server: Server) -> None:
    assert fetch_bytes(server.url("ranges"), 10, begin=300) == CONTENT[300:310]
    for kind in ("whole", "other_range"):
        with pytest.raises(DownloadFailed, match="whole files only"):
            fetch_bytes(server.url(kind), 10, begin=300)


def test_a_proxy_is_used(server: Server, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(Handler, "_http:", Handler._whole, raising=False)  # a proxy is asked for whole addresses
    assert fetch("http://example.invalid/file") == CONTENT
    assert server.asked == ["http://example.invalid/file"]


def test_the_speed_is_measured_over_the_last_window_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LIMITS", QUICK._replace(window=0.1, slowest=1))
    with pytest.raises(DownloadFailed, match="too slowly: 0 bytes"):
        fetch_bytes(server.url("silent"), 10)


@pytest.mark.parametrize("text", ["", "../../x", "0" * 39, "0" * 65, "G" * 64, "0" * 63 + "\n"])
def test_a_hash_is_checked_before_it_names_a_file(text: str) -> None:
    assert not is_digest(text)
    assert is_digest(SHA256)
