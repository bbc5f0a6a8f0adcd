"""What a job wants of each picture of a batch, and what the pictures' parameters say of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from modules import extra_networks, prompt_parser

from ...embeddings.picking import pick
from ...errors import AestheticError
from ...method.personalize import Encoded
from ...method.session import STEPS_TAKEN, Report
from ...method.tags import TAG, parse_tag, refuse_scheduled_tags, with_picks
from ...method.taste import AUTOMATIC_CENTRE, Taste, taste
from ...settings import KNOBS, Settings
from . import looking, options

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


def rows_of(p: Any, asked: Request, prompts: Any, extra_network_data: Any, hires: bool) -> list[Row]:
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


def in_groups(rows: Sequence[Row], prompts: Any, caches: Any, data: Any, encode: Callable[..., Any]) -> Any:
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


def networks(extra_network_data: Any) -> str:
    """A prompt's extra networks as text, to tell one set of them from another."""
    return str(sorted((name, [params.items for params in found]) for name, found in (extra_network_data or {}).items()))


def tell(p: Any, asked: Request, rows: Sequence[Row]) -> None:
    """Write into the job's parameters what took effect, for each picture where they differ."""
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


def forget(p: Any) -> None:
    """Take out of the job's parameters what stands there for another batch or cell."""
    # In a dict of its own: this job may be a copy that shares it with another (ADetailer's, X/Y/Z's).
    ours = {_LEFT_ALONE, _SIMILARITY, STEPS_TAKEN, AUTOMATIC_CENTRE, *(knob.infotext for knob in KNOBS)}
    p.extra_generation_params = {key: value for key, value in p.extra_generation_params.items() if key not in ours}
