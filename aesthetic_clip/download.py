"""Fetching over HTTP: the one way in which this package downloads.

huggingface_hub serves for what it knows: addresses on the hub, sizes and hashes. The transfer itself is done here:

* of CLIP's published file of 1.7 GB one tensor of 2.4 MB is wanted, and the hub's client fetches whole files;
* the releases that WebUIs pin can't be stopped, and how a download goes on afterwards differs between releases;
* it believes a server how long a file is, and waits as long as one byte comes now and then;
* the paper's embeddings lie in their author's repository, which is not on the hub.

A server may do whatever it likes: not one byte more than the file has is kept, a transfer that falls below
:attr:`Limits.slowest` ends, and so does one whose caller wants to stop, at once. Proxies are taken from the
environment (``https_proxy``, ``no_proxy``); only http and https are followed, and never from https to http.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import os
import queue
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .progress import Progress, silent

_TICK = 0.1  # seconds between two looks at the clock and at whether to stop
_SCHEMES = ("http://", "https://")


class Limits(NamedTuple):
    """How patient a download is.

    Attributes:
        silence: seconds without a byte after which a connection is given up.
        window: seconds over which the speed is measured.
        slowest: bytes per second that have to come over each window.
        tries: connections without anything new after which a file is given up.
        pause: seconds before the second of them; the others wait longer in turn.
        chunk: bytes that are read at once.
    """

    silence: float = 30.0
    window: float = 60.0
    slowest: int = 1024
    tries: int = 5
    pause: float = 0.5
    chunk: int = 2**20


LIMITS = Limits()


class DownloadFailed(Exception):
    """What came between, as the second and third sentence of an :class:`~aesthetic_clip.errors.AestheticError`."""

    def __init__(self, why: str, do: str) -> None:
        self.why, self.do = why, do
        super().__init__(f"{why} {do}")


def is_digest(text: str) -> bool:
    """Whether :func:`fetch_file` can check by it: a SHA-256, or git's SHA-1 of a file, in lower-case hexadecimal."""
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None


def fetch_bytes(
    url: str, size: int, sha256: str = "", begin: int | None = None, progress: Progress = silent, line: str = ""
) -> bytes:
    """A small file, or ``size`` bytes of a large one from ``begin`` on, into memory.

    Args:
        url: http or https.
        size: bytes, exactly.
        sha256: of the bytes in hexadecimal; empty if it is not known.
        begin: a part of the file from here, by an HTTP range; None is the whole file.
        progress: is told the bytes done and ``size``; may raise to stop.
        line: what progress says.

    Raises:
        DownloadFailed: no connection, too slow, another length, the wrong hash, or a part was asked and all is sent.
    """
    data = bytearray()
    headers = {} if begin is None else {"Range": f"bytes={begin}-{begin + size - 1}"}
    pace = _Pace(LIMITS)

    def tick() -> None:
        progress(len(data), size, line)
        pace.check(0)

    try:
        with contextlib.closing(_received(url, headers, LIMITS, tick)) as answer:
            status, start = next(answer, (0, None))
            if begin is not None and (status != 206 or start not in (None, begin)):
                raise DownloadFailed("The server sends whole files only.", "Get the file by other means.")
            for chunk in answer:
                data += chunk
                pace.check(len(chunk))
                if len(data) > size:
                    break
    except _NETWORK as error:
        raise _failure(url, error, len(data), size) from error
    if len(data) < size:
        raise _broken(len(data), size)
    if len(data) > size or (sha256 and hashlib.sha256(data).hexdigest() != sha256):
        raise DownloadFailed(
            f"What {url} holds is not the published file: "
            + ("it is longer, so that " if len(data) > size and sha256 else "")
            + ("its SHA-256 differs." if sha256 else f"more than the {size} bytes asked for came."),
            "Nothing was saved. Something on the way may have replaced it, for example a login page: "
            "try another network.",
        )
    progress(size, size, line)
    return bytes(data)


def fetch_file(url: str, path: Path, size: int, digest: str, progress: Progress = silent) -> None:
    """A large file onto the disk, continued where an earlier try ended.

    Until it is whole and its hash is right it lies beside ``path`` as ``.name.<digest>.part``.

    Args:
        url: http or https.
        path: where it goes; its folder exists.
        size: bytes, exactly.
        digest: see :func:`is_digest`.
        progress: is told the bytes done and ``size``, about ten times a second or more; may raise to stop.

    Raises:
        DownloadFailed: no connection, too slow, disk full, the wrong hash. Only what can be continued stays.
    """
    # The hash in its name keeps a rest of an older version from being continued with a newer one.
    part = path.with_name(f".{path.name}.{digest[:16]}.part")
    pace, failures = _Pace(LIMITS), 0
    with _disk(path.parent):
        if part.exists() and part.stat().st_size > size:
            part.unlink()
    best = have = _size(part)
    while have < size:
        failure: DownloadFailed
        try:
            _continue(url, part, have, size, pace, progress)
            failure = _broken(_size(part), size)
        except _NETWORK as error:
            failure = _failure(url, error, _size(part), size)
            if isinstance(error, urllib.error.HTTPError) and error.code == 416:  # what is here is not of that file
                with _disk(path.parent):
                    part.unlink(missing_ok=True)
        have = _size(part)
        # Against the longest so far: otherwise a server that starts anew each time would be asked for ever.
        failures = 0 if have > best else failures + 1
        best = max(best, have)
        if have < size and failures >= LIMITS.tries:
            raise DownloadFailed(failure.why, f"{failure.do} It continues where it ended.")
        _wait(LIMITS.pause * failures, functools.partial(progress, have, size, ""))
    with _disk(path.parent):
        if _digest(part, digest) != digest:
            part.unlink()
            raise DownloadFailed(
                f"What came as {path.name} is not what was announced (wrong hash).",
                "Try again; if it happens again, something on the way changes files.",
            )
        os.replace(part, path)
    progress(size, size, "")


def _continue(url: str, part: Path, have: int, size: int, pace: _Pace, progress: Progress) -> None:
    """One connection's worth of a file; returns when it ends, or at the last byte that is wanted."""

    def tick() -> None:
        progress(have, size, "")
        pace.check(0)

    headers = {"Range": f"bytes={have}-"} if have else {}
    with contextlib.closing(_received(url, headers, LIMITS, tick)) as answer:
        status, start = next(answer, (0, None))
        resumed = status == 206 and start in (None, have)
        have = have if resumed else 0
        with _disk(part.parent):
            file = part.open("ab" if resumed else "wb")
        with _closing(file, part.parent):
            for chunk in answer:
                chunk = chunk[: size - have]
                with _disk(part.parent):
                    file.write(chunk)
                have += len(chunk)
                pace.check(len(chunk))
                progress(have, size, "")
                if have == size:
                    return


@contextlib.contextmanager
def _closing(file: Any, folder: Path) -> Iterator[None]:
    # Closing writes what is buffered, which may not fit either.
    try:
        yield
    finally:
        with _disk(folder):
            file.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _digest(path: Path, expected: str) -> str:
    digest = hashlib.sha256()
    if len(expected) == 40:  # git's name of a file
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while data := file.read(2**20):
            digest.update(data)
    return digest.hexdigest()


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadFailed(
            f"{folder} can't be written: {error.strerror or error}.",
            "Free some space, or choose another folder; what has come is kept.",
        ) from error


def _wait(seconds: float, tick: Callable[[], object]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        tick()
        time.sleep(min(left, _TICK))


# The network

_NETWORK = (OSError, http.client.HTTPException, ValueError)
"""What urllib raises, for an address that is none as well."""


class _Pace:
    """Whether bytes come fast enough, over one connection or several."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.since = limits, time.monotonic()
        self.came = 0

    def check(self, new: int) -> None:
        """Count ``new`` bytes."""
        self.came += new
        elapsed = time.monotonic() - self.since
        if elapsed < self.limits.window:
            return
        if self.came < self.limits.slowest * elapsed:
            raise DownloadFailed(
                f"The server sends too slowly: {self.came} bytes in {elapsed:.0f} seconds.", "Try again later."
            )
        self.since, self.came = time.monotonic(), 0


def _failure(url: str, error: Exception, have: int, size: int) -> DownloadFailed:
    if isinstance(error, urllib.error.HTTPError):
        return DownloadFailed(
            f"The server answered {error.code} {error.reason} for {url}.",
            "Try again later; if it stays so, fetch the file by hand.",
        )
    if have:
        return _broken(have, size)
    reason = getattr(error, "reason", None) or error
    return DownloadFailed(
        f"{url} can't be reached: {reason or type(error).__name__}.",
        "Check the internet connection and any proxy, then try again.",
    )


def _broken(have: int, size: int) -> DownloadFailed:
    return DownloadFailed(f"The connection broke after {have} of {size} bytes.", "Try again.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        secure = req.full_url.lower().startswith("https:")
        if not newurl.lower().startswith(_SCHEMES[1:] if secure else _SCHEMES):
            raise urllib.error.URLError(f"it leads to {newurl[:200]}, which is not safe to follow")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    # Not urllib's own, which reads file: and ftp: as well.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _received(
    url: str, headers: dict[str, str], limits: Limits, tick: Callable[[], object]
) -> Generator[Any, None, None]:
    """First ``(status, begin)`` of the answer, with the begin that a range was answered with, then its bytes as they come.

    The network is read in a thread of its own: a server can hold a read for as long as it likes, in the headers
    too, and ``tick``, which may raise to stop, has to be called all the same. A thread that is left alone ends with
    its connection.
    """
    if not url.lower().startswith(_SCHEMES):
        raise ValueError("only http and https addresses are fetched")
    arrived: queue.Queue[Any] = queue.Queue(maxsize=4)
    left = threading.Event()

    def put(item: object) -> None:
        while not left.is_set():
            with contextlib.suppress(queue.Full):
                arrived.put(item, timeout=_TICK)
                return

    def read() -> None:
        try:
            request = urllib.request.Request(url, headers=headers)
            with _opener().open(request, timeout=limits.silence) as response:
                begin = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range") or "")
                put((response.status, int(begin[1]) if begin else None))
                # read1 gives what one packet brought; read would wait until all is there.
                while not left.is_set() and (data := response.read1(limits.chunk)):
                    put(data)
            put(None)
        except http.client.IncompleteRead:
            put(None)
        except Exception as error:  # raised where it is waited for
            put(error)

    threading.Thread(target=read, name="download", daemon=True).start()
    try:
        while True:
            tick()
            try:
                item = arrived.get(timeout=_TICK)
            except queue.Empty:
                continue
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item
    finally:
        left.set()
