"""What a job's conditioning is made by, in place of ``get_conds_with_caching``: see :mod:`hook`, which loads this with the first job."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

from modules import extra_networks, processing

from ...errors import AestheticError
from ...method.part import nothing_in, part_of, steps_of
from ...method.session import Report
from ...settings import Settings
from . import options
from .batch import Request, Row, forget, in_groups, networks, rows_of, tell
from .conditioning import Conditioning
from .remedies import refused
from .schedules import steps_sampled

_REQUEST = "_aesthetic_request"
KEY = "_aesthetic_key"
"""Attribute of a job while its personalised conditioning is made: what the key of the cache gets in addition."""


def request(p: Any, read: Callable[[], Settings], hooked: bool = True) -> None:
    """Note on the job ``p`` what it asks for (callback ``process``).

    The WebUI swallows what a callback raises and makes the picture all the same,
    so an error is kept until the prompt is encoded; where nothing is hooked, the job itself raises it then.
    """
    forget(p)  # what the X/Y/Z cell before wrote
    try:
        setattr(p, _REQUEST, Request(read()))
    except AestheticError as error:
        setattr(p, _REQUEST, Request(error=error))
        if not hooked:  # beside the first extension: this one job asks for what can't be done
            p.get_conds_with_caching = functools.partial(_refuse, error)


def _refuse(error: AestheticError, *_: Any, **__: Any) -> None:
    raise refused(error)


def conditioning(
    original: Callable[..., Any],
    running: Sequence[Any],
    p: Any,
    function: Any,
    required_prompts: Any,
    steps: Any,
    caches: Any,
    extra_network_data: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """The conditioning of a batch's prompts, personalised where the job ``p`` asks for it.

    Args:
        original: the WebUI's ``get_conds_with_caching``, which takes the job and the rest.
        running: the jobs that this thread is at, the innermost last.
    """
    hires_steps = args[0] if args else kwargs.get("hires_steps")
    moved = False

    def encode(rows: Sequence[Row], prompts: Any, caches: Any, data: Any) -> Any:
        """The conditioning of pictures that want the same."""
        nonlocal moved
        wanted = rows[0].wanted
        if wanted is None:
            return original(p, function, prompts, steps, caches, data, *args, **kwargs)
        total = steps_sampled(p, steps, hires_steps)
        bounds = part_of(wanted.settings)
        part = None if bounds is None else steps_of(bounds, total)
        if bounds is not None and not part:
            p.comment(f"Aesthetic Gradients: {nothing_in(bounds, total)}")
            return original(p, function, prompts, steps, caches, data, *args, **kwargs)
        moved = True
        job = Conditioning(wanted, asked.memo, networks(data), part, total)
        setattr(p, KEY, (wanted.key, options.projection_sources().key, options.bf16(), part))
        try:
            conds = original(p, job.around(function), prompts, steps, caches, data, *args, **kwargs)
        finally:
            delattr(p, KEY)
        if job.interrupted:
            caches[0][0] = None
        report = _kept_report(conds, job.report)
        for row in rows:
            row.report = report
        return conds

    try:
        asked = _asked(p, running)
        rows = rows_of(p, asked, required_prompts, extra_network_data, hires_steps is not None)
        conds = in_groups(rows, required_prompts, caches, extra_network_data, encode)
    except AestheticError as error:
        _left_clean(p, extra_network_data)
        raise refused(error) from error.__cause__
    except Exception:
        if moved:
            _left_clean(p, extra_network_data)
        raise
    tell(p, asked, rows)
    return conds


def _left_clean(p: Any, extra_network_data: Any) -> None:
    """What the WebUI does at the end of a job, and leaves out after an exception: others undo there what they changed."""
    if not p.disable_extra_networks and extra_network_data:
        extra_networks.deactivate(p, extra_network_data)
    if p.scripts is not None:
        # A script's own trouble with a job that has no picture is told by the WebUI, and stops no other script.
        p.scripts.postprocess(p, processing.Processed(p, []))


def _asked(p: Any, running: Sequence[Any]) -> Request:
    asked: Request | None = getattr(p, _REQUEST, None)
    if asked is None:
        # A job that another extension makes and runs without this script.
        outer = next((asked for job in reversed(running) if (asked := getattr(job, _REQUEST, None))), None)
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
