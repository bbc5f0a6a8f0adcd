"""The extension's own settings and limits."""

from __future__ import annotations

from typing import Any


def set_largest_request(size: int) -> int:
    """How many bytes of pictures the API takes; returns what it was."""
    from aesthetic_clip.hosts.a1111 import api

    before, api.MAX_BYTES = api.MAX_BYTES, size
    return before


def restore_from_trash() -> None:
    """The last one that was put there."""
    from aesthetic_clip.hosts.a1111 import options

    library = options.embeddings()
    library.restore(library.trashed()[0].path)


def paths_allowed(flags: dict[str, Any]) -> bool:
    """Whether people at the page may name folders, if the WebUI had been started with these flags."""
    from modules import shared

    from aesthetic_clip.hosts.a1111 import options

    before = {name: getattr(shared.cmd_opts, name) for name in flags}
    vars(shared.cmd_opts).update(flags)
    try:
        return options.paths_allowed()
    finally:
        vars(shared.cmd_opts).update(before)
