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

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from modules import extra_networks, processing
from modules.processing import StableDiffusionProcessing

from ...errors import AestheticError
from ...method.part import nothing_in, part_of, steps_of
from ...method.session import Report
from ...settings import Settings
from . import options, page_jobs
from .batch import Request, Row, forget, in_groups, networks, rows_of, tell
from .conditioning import Conditioning
from .remedies import REMEDIES
from .schedules import steps_sampled

_REQUEST = "_aesthetic_request"
_KEY = "_aesthetic_key"
_WRAPPER = "_aesthetic_wrapper"
_installed: list[bool] = []
_running: ContextVar[tuple[Any, ...]] = ContextVar("aesthetic_running", default=())
"""The jobs that this thread is at, the innermost last."""


def request(p: Any, read: Callable[[], Settings]) -> None:
    """Note on the job ``p`` what it asks for (callback ``process``).

    The WebUI swallows what a callback raises and makes the picture all the same,
    so an error is kept until the prompt is encoded.
    """
    forget(p)  # what the X/Y/Z cell before wrote
    try:
        setattr(p, _REQUEST, Request(read()))
    except AestheticError as error:
        setattr(p, _REQUEST, Request(error=error))
        if not _installed:  # beside the first extension: this one job asks for what can't be done
            p.get_conds_with_caching = functools.partial(_refuse, error)


def _refuse(error: AestheticError, *_: Any, **__: Any) -> None:
    raise refused(error)


def refused(error: AestheticError) -> AestheticError:
    """The error in the WebUI's words, with what its API takes for its answer: status 422 and the sentence."""
    told = error.in_words_of(REMEDIES)
    told.status_code, told.detail = 422, str(told)  # type: ignore[attr-defined]
    return told


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
        key = getattr(self, _KEY, None)
        params = original(self, *args, **kwargs)
        return params if key is None else (*params, key)

    return _marked(cached_params)


def _wrap_get_conds(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_conds_with_caching(
        self: Any,
        function: Any,
        required_prompts: Any,
        steps: Any,
        caches: Any,
        extra_network_data: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        if not _installed:
            return original(self, function, required_prompts, steps, caches, extra_network_data, *args, **kwargs)
        hires_steps = args[0] if args else kwargs.get("hires_steps")
        moved = False

        def encode(rows: Sequence[Row], prompts: Any, caches: Any, data: Any) -> Any:
            """The conditioning of pictures that want the same."""
            nonlocal moved
            wanted = rows[0].wanted
            if wanted is None:
                return original(self, function, prompts, steps, caches, data, *args, **kwargs)
            total = steps_sampled(self, steps, hires_steps)
            bounds = part_of(wanted.settings)
            part = None if bounds is None else steps_of(bounds, total)
            if bounds is not None and not part:
                self.comment(f"Aesthetic Gradients: {nothing_in(bounds, total)}")
                return original(self, function, prompts, steps, caches, data, *args, **kwargs)
            moved = True
            job = Conditioning(wanted, asked.memo, networks(data), part, total)
            setattr(self, _KEY, (wanted.key, options.projection_sources().key, options.bf16(), part))
            try:
                conds = original(self, job.around(function), prompts, steps, caches, data, *args, **kwargs)
            finally:
                delattr(self, _KEY)
            if job.interrupted:
                caches[0][0] = None
            report = _kept_report(conds, job.report)
            for row in rows:
                row.report = report
            return conds

        try:
            asked = _asked(self)
            rows = rows_of(self, asked, required_prompts, extra_network_data, hires_steps is not None)
            conds = in_groups(rows, required_prompts, caches, extra_network_data, encode)
        except AestheticError as error:
            _left_clean(self, extra_network_data)
            raise refused(error) from error.__cause__
        except Exception:
            if moved:
                _left_clean(self, extra_network_data)
            raise
        tell(self, asked, rows)
        return conds

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


def _left_clean(p: Any, extra_network_data: Any) -> None:
    """What the WebUI does at the end of a job, and leaves out after an exception: others undo there what they changed."""
    if not p.disable_extra_networks and extra_network_data:
        extra_networks.deactivate(p, extra_network_data)
    if p.scripts is not None:
        # A script's own trouble with a job that has no picture is told by the WebUI, and stops no other script.
        p.scripts.postprocess(p, processing.Processed(p, []))


def _asked(p: Any) -> Request:
    asked: Request | None = getattr(p, _REQUEST, None)
    if asked is None:
        # A job that another extension makes and runs without this script.
        outer = next((asked for job in reversed(_running.get()) if (asked := getattr(job, _REQUEST, None))), None)
        asked = Request() if outer is None else Request(outer.settings, outer.error)
        setattr(p, _REQUEST, asked)
    if asked.error is not None:
        raise asked.error
    if asked.iteration != p.iteration:  # the next batch, of which other extensions may have changed the prompts
        asked.iteration, asked.by_tags = p.iteration, {}
        forget(p)
    return asked


def _kept_report(conds: Any, report: Report | None) -> Report:
    if report is None:  # the cache answered: it was reported on when it was made
        return getattr(conds, "aesthetic_report", Report())
    with contextlib.suppress(AttributeError):  # the negative's is a plain list
        conds.aesthetic_report = report
    return report
