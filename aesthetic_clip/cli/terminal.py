"""What several commands need of the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(unit: str, **options: object) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, as a function of what is done and what there is in all."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda *_: None
        return
    with tqdm(unit=unit, disable=None, **options) as shown:

        def progress(done: int, total: int, *_: float) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield progress


def agreed(size: int, what: str, yes: bool) -> bool:
    """Whether a download of ``size`` bytes is wanted: by the option ``--yes``, or by an answer."""
    if yes:
        return True
    if not sys.stdin.isatty():
        print(f"{what} ({size / 1e9:.1f} GB) would have to be downloaded; agree with --yes.", file=sys.stderr)
        return False
    return input(f"Download {what}? [y/N] ").strip().lower() in ("y", "yes")
