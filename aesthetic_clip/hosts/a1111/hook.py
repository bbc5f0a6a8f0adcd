"""Makes the WebUI's conditioning, and the cache of it, know the aesthetic settings.

Two methods of ``StableDiffusionProcessing`` are wrapped, for all jobs and models:
``cached_params``, the key of the conditioning cache, and ``get_conds_with_caching``,
through which every conditioning goes (first pass, hires pass, refiner, img2img).
What a job wants stands on the job itself, so that nothing leaks from one to the next.
A job that another extension makes inside a job, and runs without this script (ADetailer's
for faces), wants what that one wants: ``process_images_inner`` is wrapped to know which that is.
What is refused is raised once more where a page waits for its job (see ``page_jobs``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from modules import processing
from modules.processing import StableDiffusionProcessing

from . import page_jobs

_WRAPPER = "_aesthetic_wrapper"
_installed: list[bool] = []
_running: ContextVar[tuple[Any, ...]] = ContextVar("aesthetic_running", default=())
"""The jobs that this thread is at, the innermost last."""


def is_installed() -> bool:
    return bool(_installed)


def install() -> None:
    """Wrap what is wrapped."""
    for owner, name, wrap in _WRAPS:
        if hasattr(owner, name):
            setattr(owner, name, wrap(getattr(owner, name)))
    _installed.append(True)


def uninstall() -> None:
    """Put the WebUI's methods back; under another extension's wrapper ours stays, and does nothing."""
    _installed.clear()
    for owner, name, _ in _WRAPS:
        current: Any = getattr(owner, name, None)
        ours: Any = getattr(current, _WRAPPER, None)
        if ours is not None and ours is current:
            setattr(owner, name, ours.__wrapped__)


def _wrap_process_images(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def process_images_inner(p: Any, *args: Any, **kwargs: Any) -> Any:
        token = _running.set((*_running.get(), p))
        try:
            return original(p, *args, **kwargs)
        finally:
            _running.reset(token)

    return _marked(process_images_inner)


def _wrap_cached_params(original: Callable[..., tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    @functools.wraps(original)
    def cached_params(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        from .encoding import KEY

        key = getattr(self, KEY, None)
        params = original(self, *args, **kwargs)
        return params if key is None else (*params, key)

    return _marked(cached_params)


def _wrap_get_conds(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_conds_with_caching(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not _installed:
            return original(self, *args, **kwargs)
        # The method and all that belongs to it, which the WebUI's start need not wait for.
        from .encoding import conditioning

        return conditioning(original, _running.get(), self, *args, **kwargs)

    return _marked(get_conds_with_caching)


def _marked(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    # A mark that points to its bearer, since functools.wraps copies marks to other extensions' wrappers.
    setattr(wrapper, _WRAPPER, wrapper)
    return wrapper


_WRAPS: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
    (StableDiffusionProcessing, "cached_params", _wrap_cached_params),
    (StableDiffusionProcessing, "get_conds_with_caching", _wrap_get_conds),
    (processing, "process_images_inner", _wrap_process_images),
    (page_jobs.THREAD, "run_and_wait_result", lambda original: _marked(page_jobs.telling(original))),
)
