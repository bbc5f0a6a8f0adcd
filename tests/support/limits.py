"""Work in a process of its own, with limits: a crash or a hang is a failure of the test, not the end of the run."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

SECONDS, MEGABYTES = 0.5, 50
_WAIT = 60.0  # wall-clock seconds: a machine may have more to do
_PACE = 0.06  # CPU seconds that the squares of a million numbers take where the limits hold as they are
# What reading a file never needs.
_FORBIDDEN = {
    "pickle.find_class", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
    "socket.connect", "ctypes.dlopen", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree",
}  # fmt: skip

needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, rlimits and /proc")


@dataclass(frozen=True)
class Outcome:
    """What became of a piece of work.

    Attributes:
        said: what it returned, or the text of the exception it raised.
        raised: the exception's type, or empty.
        seconds: of CPU.
        megabytes: memory at its peak above that at its beginning.
        failure: why it broke a limit, or empty.
    """

    said: str = ""
    raised: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0
    failure: str = ""


def limited(work: Callable[[], object], seconds: float = SECONDS, megabytes: float = MEGABYTES) -> Outcome:
    """One piece of work in a fork of this process; what it needs should be imported and used once before.

    It fails if it dies, takes more CPU time or memory, or does what no reader of a file does: starts programs,
    writes, looks up names for a pickle, opens connections.
    """
    return limited_each([work], seconds, megabytes)[0]


def limited_each(
    works: Sequence[Callable[[], object]],
    seconds: float = SECONDS,
    megabytes: float = MEGABYTES,
    may_write: Path | None = None,
) -> list[Outcome]:
    """Several pieces, one after the other in one process, and in a new one after each that died.

    Args:
        works: what to do.
        seconds: of CPU for each; what takes longer is tried once more, with more of them where the machine is slow.
        megabytes: for each.
        may_write: the one file that the works themselves write.
    """
    outcomes: list[Outcome] = []
    while len(outcomes) < len(works):
        outcomes += _until_it_dies(works[len(outcomes) :], seconds, megabytes, may_write)
    for index, outcome in enumerate(outcomes):
        if outcome.failure and outcome.seconds > seconds:
            (outcomes[index],) = _until_it_dies([works[index]], seconds * _slowness(), megabytes, may_write)
    return outcomes


def _slowness() -> float:
    """How much longer this machine takes now than the one that the limits were set on; at least 1."""
    start = time.process_time()
    sum(number * number for number in range(10**6))
    return max(1.0, (time.process_time() - start) / _PACE)


def _until_it_dies(
    works: Sequence[Callable[[], object]], seconds: float, megabytes: float, may_write: Path | None
) -> list[Outcome]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(works, seconds, megabytes, may_write, theirs), daemon=True)
    child.start()
    theirs.close()
    outcomes: list[Outcome] = []
    try:
        while len(outcomes) < len(works):
            if not ours.poll(_WAIT):
                return [*outcomes, Outcome(failure=f"it took more than {_WAIT} s")]
            outcomes.append(ours.recv())
    except EOFError:
        child.join()
        return [*outcomes, Outcome(failure=f"its process ended with code {child.exitcode}")]
    finally:
        child.kill()
        child.join()
        ours.close()
    return outcomes


def _run(
    works: Sequence[Callable[[], object]], seconds: float, megabytes: float, may_write: Path | None, out: Connection
) -> None:
    import faulthandler
    import resource

    faulthandler.disable()
    os.close(2)  # what dies may say so
    os.open(os.devnull, os.O_WRONLY)
    forbidden: list[str] = []
    sys.addaudithook(lambda event, arguments: _watch(event, arguments, forbidden, may_write))
    room = int((megabytes + 200) * 2**20)  # beyond it an allocation fails at once; up to it, it is measured
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + room,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for work in works:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        forbidden.clear()
        before, start = _status("VmRSS"), time.process_time()
        said = raised = ""
        try:
            said = str(work())
        except BaseException as error:
            said, raised = str(error), type(error).__name__
        spent, used = time.process_time() - start, (_status("VmHWM") - before) / 2**20
        failure = ""
        if forbidden:
            failure = f"it did {forbidden[0]}"
        elif used > megabytes:
            failure = f"it took {used:.0f} MB"
        elif spent > seconds:
            failure = f"it took {spent:.2f} s"
        out.send(Outcome(said[:2000], raised, spent, used, failure))


def _watch(event: str, arguments: tuple[Any, ...], forbidden: list[str], may_write: Path | None) -> None:
    if event in _FORBIDDEN:
        forbidden.append(event)
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        with contextlib.suppress(Exception):
            if str(arguments[0]) not in (str(may_write), "/proc/self/clear_refs"):
                forbidden.append(f"open {arguments[0]} to write")


def _status(name: str) -> int:
    """Bytes, from the kernel's own account of this process."""
    match = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024
