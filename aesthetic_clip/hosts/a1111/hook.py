"""Makes the WebUI's conditioning, and the cache of it, know the aesthetic settings.

Two methods of ``StableDiffusionProcessing`` are wrapped, for all jobs and models:
``cached_params``, the key of the conditioning cache, and ``get_conds_with_caching``,
through which every conditioning goes (first pass, hires pass, refiner, img2img).
What a job wants stands on the job itself, so that nothing leaks from one to the next.
A job that another extension makes inside a job, and runs without this script (ADetailer's
for faces), wants what that one wants: ``process_images_inner`` is wrapped to know which that is.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from modules import extra_networks, processing, prompt_parser
from modules.processing import StableDiffusionProcessing

from ...embeddings.picking import pick
from ...errors import AestheticError
from ...method.part import nothing_in, part_of, steps_of
from ...method.personalize import Encoded
from ...method.session import STEPS_TAKEN, Report
from ...method.tags import TAG, parse_tag, refuse_scheduled_tags, with_picks
from ...method.taste import AUTOMATIC_CENTRE, Taste, taste
from ...settings import KNOBS, Settings
from . import looking, options
from .conditioning import Conditioning
from .remedies import REMEDIES
from .schedules import steps_sampled

_REQUEST = "_aesthetic_request"
_KEY = "_aesthetic_key"
_WRAPPER = "_aesthetic_wrapper"
_installed: list[bool] = []
_running: ContextVar[tuple[Any, ...]] = ContextVar("aesthetic_running", default=())
"""The jobs that this thread is at, the innermost last."""
_LEFT_ALONE = "Aesthetic left alone"
_SIMILARITY = "Aesthetic similarity"


@dataclass
class Request:
    """What one job asks for.

    Attributes:
        settings: the accordion's, the API's or an X/Y/Z cell's.
        error: why they can't be used; raised where the WebUI shows it.
        memo: chunks personalised in this job.
        iteration: number of the batch at hand.
        by_tags: for each picture of that batch the knobs that tags alone decided in every conditioning so far.
    """

    settings: Settings = field(default_factory=Settings)
    error: AestheticError | None = None
    memo: dict[Hashable, Encoded] = field(default_factory=dict)
    iteration: int = 0
    by_tags: dict[int, dict[str, object]] = field(default_factory=dict)

    def written(self, place: int, settings: Settings, wanted: Taste) -> Settings:
        """What stands in the picture's parameters: what took effect, and what makes the same picture of the same prompt.

        The tags stand in the prompt. A knob that they decide is written as they say it, unless its own value counts too,
        in another prompt of the picture (that of the hires pass) or for an embedding without a tag of its own.
        """
        before = self.by_tags.get(place, wanted.by_tags)
        self.by_tags[place] = {name: value for name, value in before.items() if name in wanted.by_tags}
        return settings.replaced(self.by_tags[place])


@dataclass
class Row:
    """What is wanted of one picture of a batch, and what came of it.

    Attributes:
        settings: with the embedding that is picked for it.
        tags: the items of its prompt's tags.
        report: None as long as nothing was personalised for it.
    """

    settings: Settings
    tags: tuple[tuple[str, ...], ...]
    wanted: Taste | None = None
    report: Report | None = None


def request(p: Any, read: Callable[[], Settings]) -> None:
    """Note on the job ``p`` what it asks for (callback ``process``).

    The WebUI swallows what a callback raises and makes the picture all the same,
    so an error is kept until the prompt is encoded.
    """
    _forget(p)  # what the X/Y/Z cell before wrote
    try:
        setattr(p, _REQUEST, Request(read()))
    except AestheticError as error:
        setattr(p, _REQUEST, Request(error=error))
        if not _installed:  # beside the first extension: this one job asks for what can't be done
            p.get_conds_with_caching = functools.partial(_refuse, error)


def _forget(p: Any) -> None:
    # In a dict of its own: this job may be a copy that shares it with another (ADetailer's, X/Y/Z's).
    ours = {_LEFT_ALONE, _SIMILARITY, STEPS_TAKEN, AUTOMATIC_CENTRE, *(knob.infotext for knob in KNOBS)}
    p.extra_generation_params = {key: value for key, value in p.extra_generation_params.items() if key not in ours}


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
            job = Conditioning(wanted, asked.memo, _networks(data), part, total)
            setattr(self, _KEY, (wanted.key, options.projection_sources().key, part))
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
            rows = _rows(self, asked, required_prompts, extra_network_data, hires_steps is not None)
            conds = _encoded(rows, required_prompts, caches, extra_network_data, encode)
        except AestheticError as error:
            _left_clean(self, extra_network_data)
            raise refused(error) from error.__cause__
        except Exception:
            if moved:
                _left_clean(self, extra_network_data)
            raise
        _tell(self, asked, rows)
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
        _forget(p)
    return asked


def _rows(p: Any, asked: Request, prompts: Any, extra_network_data: Any, hires: bool) -> list[Row]:
    """What is wanted for each of the batch's prompts."""
    if getattr(prompts, "is_negative_prompt", False) and not asked.settings.negative_prompt:
        return [Row(asked.settings, ()) for _ in prompts]
    tags = [] if p.disable_extra_networks else (extra_network_data or {}).get(TAG, [])
    shared_tags = tuple(tuple(tag.items) for tag in tags)
    typed = [] if p.disable_extra_networks else _typed(p, len(prompts), hires)
    library = options.embeddings()
    seeds = list(getattr(p, "seeds", None) or ()) or [0]
    made: dict[object, Taste | None] = {}
    rows = []
    for place in range(len(prompts)):
        seed = int(seeds[place % len(seeds)])
        # The WebUI knows those of the first prompt alone, as it does for all extra networks.
        items = typed[place] if typed and typed[place] != typed[0] else shared_tags
        embedding = pick(asked.settings.embedding, library.names, seed)
        row = Row(replace(asked.settings, embedding=embedding), items)
        parsed = [parse_tag(items) for items in row.tags]
        parsed = [replace(tag, name=pick(tag.name, library.names, seed, n)) for n, tag in enumerate(parsed, 1)]
        key = (embedding, str(parsed))
        if key not in made:
            made[key] = taste(row.settings, parsed, looking.load, library.readable)
        row.wanted = made[key]
        rows.append(row)
    if any(row.tags for row in rows):
        # As they were typed: the WebUI has taken the tags out of what it gives here.
        for prompt in {*(getattr(p, "all_prompts", None) or ()), *(getattr(p, "all_hr_prompts", None) or ())}:
            refuse_scheduled_tags(prompt)
    return rows


def _typed(p: Any, count: int, hires: bool) -> list[tuple[tuple[str, ...], ...]]:
    """The items of the tags in each prompt of the batch; none if that can't be told."""
    everything = getattr(p, "all_hr_prompts" if hires else "all_prompts", None) or []
    prompts = everything[p.iteration * p.batch_size :][:count]
    if len(prompts) != count:
        return []
    found = [extra_networks.parse_prompt(prompt)[1].get(TAG, []) for prompt in prompts]
    return [tuple(tuple(tag.items) for tag in tags) for tags in found]


def _encoded(rows: Sequence[Row], prompts: Any, caches: Any, data: Any, encode: Callable[..., Any]) -> Any:
    """The batch's conditioning: at once if all its pictures want the same, else the pictures of each taste by themselves."""
    groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(None if row.wanted is None else row.wanted.key, []).append(place)
    if len(groups) <= 1:
        return encode(rows, prompts, caches, data)
    parts: dict[int, Any] = {}
    for places in groups.values():
        few = prompt_parser.SdConditioning([prompts[place] for place in places], copy_from=prompts)
        tags = [extra_networks.ExtraNetworkParams(items=list(items)) for items in rows[places[0]].tags]
        # The WebUI's caches hold one conditioning, of a whole batch.
        own_caches = [[None] * len(caches[0])]
        whole = encode([rows[place] for place in places], few, own_caches, {**(data or {}), TAG: tags})
        parts.update(
            zip(places, whole.batch if isinstance(whole, prompt_parser.MulticondLearnedConditioning) else whole)
        )
    ordered = [parts[place] for place in range(len(rows))]
    kind = prompt_parser.MulticondLearnedConditioning
    return kind(shape=(len(rows),), batch=ordered) if isinstance(whole, kind) else ordered


def _networks(extra_network_data: Any) -> str:
    return str(sorted((name, [params.items for params in found]) for name, found in (extra_network_data or {}).items()))


def _kept_report(conds: Any, report: Report | None) -> Report:
    if report is None:  # the cache answered: it was reported on when it was made
        return getattr(conds, "aesthetic_report", Report())
    with contextlib.suppress(AttributeError):  # the negative's is a plain list
        conds.aesthetic_report = report
    return report


def _tell(p: Any, asked: Request, rows: Sequence[Row]) -> None:
    told = [_parameters(p, asked, place, row) for place, row in enumerate(rows)]
    for key in dict.fromkeys(key for one in told for key in one):
        values = [one.get(key) for one in told]
        same = all(value == values[0] for value in values)
        # Who asks counts through the batch, or through all batches.
        p.extra_generation_params[key] = values[0] if same else values * max(1, p.n_iter)


def _parameters(p: Any, asked: Request, place: int, row: Row) -> dict[str, str]:
    """What stands in one picture's parameters; the rest is told beside the pictures."""
    wanted, report = row.wanted, row.report
    if wanted is None or report is None:
        return {}
    parameters = {**asked.written(place, row.settings, wanted).infotext(), **report.parameters(wanted)}
    for note in wanted.notes:
        p.comment(f"Aesthetic Gradients: {note}")
    if report.left_alone:
        names = " and ".join(report.left_alone)
        parameters[_LEFT_ALONE] = names
        p.comment(
            f"Aesthetic Gradients: {wanted.title} has no vector for {names}, so that text encoder was left alone."
        )
    for space, numbers in report.similarities:
        # Under the picture; the WebUI shows a line once.
        p.comment(f"Aesthetic Gradients: similarity in {space} {numbers[0]:.3f} before, {numbers[-1]:.3f} after")
    if report.similarities and options.similarity_in_infotext():
        parameters[_SIMILARITY] = "; ".join(
            f"{space} {numbers[0]:.4f} -> {numbers[-1]:.4f}" for space, numbers in report.similarities
        )
    return parameters


def pick_for_batch(p: Any, batch: int) -> None:
    """Write into a batch's prompts which embeddings are picked for its pictures (callback ``before_process_batch``).

    So that its parameters name them. What can't be picked stays, and is refused where the WebUI shows it.
    """
    names = options.embeddings().names
    first = batch * p.batch_size
    # Each list by itself: others may have written into the batch's own.
    for prompts, start in ((p.all_prompts, first), (getattr(p, "all_hr_prompts", None) or [], first), (p.prompts, 0)):
        for place, seed in enumerate(p.all_seeds[first : first + p.batch_size], start):
            with contextlib.suppress(AestheticError, IndexError):
                prompts[place] = with_picks(prompts[place], names, int(seed))
