"""What the pages tell people, as HTML."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..create.sources import skipped_lines
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from ..embeddings.mixing import nearest
from ..embeddings.verdict import verdict
from ..errors import AestheticError, Remedy
from ..geometry import unit
from ..spaces import Space
from .markup import Markup, html, joined

if TYPE_CHECKING:
    from ..create.pictures import CreateResult
    from ..create.sources import Skipped
    from ..create.statistics import Histogram
    from ..embeddings.published import Downloads, Entry

_SIMILAR = 5
_MOST_LINES = 50
_SLIDER_STYLE = Markup("""<style>
.aesthetic-compare {position: relative; max-width: 360px; margin: 0 auto; --at: 50%}
.aesthetic-compare img {display: block; width: 100%; margin: 0}
.aesthetic-compare img + img {position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at))}
.aesthetic-compare::after {content: ""; position: absolute; inset: 0 auto 0 var(--at); width: 2px; background: white;
    mix-blend-mode: difference; pointer-events: none}
.aesthetic-compare input {position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize}
.aesthetic-compare:focus-within {outline: 2px solid #2563eb; outline-offset: 2px}
</style>""")


def note(line: str) -> Markup:
    """One sentence."""
    return html("<p>{}</p>", line)


def error(fault: AestheticError, remedies: Mapping[Remedy, str]) -> Markup:
    """What, why, and what to do, in the words of the program around the page."""
    return html("<div class='error'>{}</div>", fault.told(remedies))


def progress(done: int, total: int, line: str) -> Markup:
    """How far a job is."""
    return html("<p>{}</p><progress value='{:d}' max='{:d}' style='width:100%'>", line, done, max(total, 1))


def created(embedding: Embedding, result: CreateResult, library: Library, skipped: Sequence[Skipped]) -> Markup:
    """Counts, coherence, similar embeddings and what was skipped.

    Args:
        embedding: as saved.
        result: what it was made of.
        library: where similar ones are looked for.
        skipped: pictures that were not used, under the names that people know them by.
    """
    kept = "" if result.complete else " (interrupted: only what was done until then)"
    parts = [
        html(
            "<p><b>{}</b>: made from {}{}.{}</p>",
            embedding.name,
            counted(result.used, "picture"),
            kept,
            f" {counted(len(result.skipped), 'file')} skipped." if result.skipped else "",
        )
    ]
    readable = library.readable()
    if said := verdict(embedding, readable).sentence:
        parts.append(html("<p><b>{}</b></p>", said))
    for space, cosine in result.mean_cosine.items():
        parts.append(html("<p>{}: mean cosine of the pictures to their mean {:.3f}</p>", space.name, cosine))
        parts.append(_bars(result.histograms[space]))
    parts.append(_similar(embedding, readable))
    if lines := skipped_lines(skipped, result.left_out):
        rows = joined(html("<li>{}</li>", line) for line in lines)
        parts.append(html("<details><summary>Skipped files</summary><ul>{}</ul></details>", rows))
    return joined(parts)


def about(embedding: Embedding, library: Library) -> Markup:
    """All that is known of one embedding: sentences, and everything as it is in the file below them."""
    data = embedding.about
    of = f"was made from {counted(data.image_count, 'picture')}" if data.image_count is not None else "is here"
    sentences = [
        html("<b>{}</b> {}{}.", embedding.name, of, f" on {data.created[:10]}" if data.created else ""),
        html("It fits {}.", " and ".join(f"{space.used_by} ({space.name})" for space in embedding.vectors)),
    ]
    if data.get("mixed_from"):
        sentences.append(html("It is a mixture: {}.", data["mixed_from"]))
    if data.mean_cosine is not None:
        sentences.append(html("Its pictures have a mean cosine of {:.3f} to their mean.", data.mean_cosine))
    readable = library.readable()
    if said := verdict(embedding, readable).sentence:
        sentences.append(html("<b>{}</b>", said))
    if not data.complete:
        sentences.append(html("Its making was interrupted, so not all of its pictures are in it."))
    if data.note:
        sentences.append(html("Note: {}", data.note))
    rows = {"Spaces": embedding.spaces, "Digest": embedding.digest, "File": str(embedding.path), **data}
    cells = joined(
        html("<tr><th align='left'>{}</th><td style='overflow-wrap:anywhere'>{}</td></tr>", key, value)
        for key, value in rows.items()
    )
    return html(
        "{}{}<details><summary>More</summary><table>{}</table></details>",
        joined(html("<p>{}</p>", sentence) for sentence in sentences),
        _similar(embedding, readable),
        cells,
    )


def parameters(text: str) -> Markup:
    """What a picture was made with."""
    return html("<pre style='white-space:pre-wrap'>{}</pre>", text)


def slider(before: bytes, after: bytes, kind: str = "png") -> Markup:
    """Two pictures of one size over each other, with a handle between them; as JPEG where ``kind`` says so."""
    one, other = (base64.b64encode(picture).decode() for picture in (before, after))
    return html(
        "{0}<div class='aesthetic-compare'><img alt='Before' src='data:image/{1};base64,{2}'>"
        "<img alt='After' src='data:image/{1};base64,{3}'>"
        "<input type='range' value='50' aria-label='Where before ends and after begins' data-aesthetic-slider></div>",
        _SLIDER_STYLE,
        kind,
        one,
        other,
    )


def curve(similarities: Mapping[str, Sequence[float]]) -> Markup:
    """The similarity to the embedding over the steps, a picture and its numbers for each CLIP space."""
    width, height = 360, 48
    parts = []
    for space, numbers in similarities.items():
        low, high = min(numbers), max(max(numbers), min(numbers) + 0.01)
        points = [
            (i / max(len(numbers) - 1, 1) * width, height - (n - low) / (high - low) * height)
            for i, n in enumerate(numbers)
        ]
        dots = joined(
            html("<circle cx='{:.1f}' cy='{:.1f}' r='3' fill='currentColor'>", x, y)
            + html("<title>step {}: {:.4f}</title></circle>", i, n)
            for i, ((x, y), n) in enumerate(zip(points, numbers))
        )
        parts.append(
            html(
                "<p>Similarity to the target in {}: {:.3f} before, {:.3f} after {}</p>",
                space,
                numbers[0],
                numbers[-1],
                counted(len(numbers) - 1, "step"),
            )
        )
        parts.append(
            html(
                "<svg viewBox='-6 -6 {} {}' style='max-width:{}px'>"
                "<polyline points='{}' fill='none' stroke='currentColor' stroke-width='2'/>{}</svg>",
                width + 12,
                height + 12,
                width,
                " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                dots,
            )
        )
    return joined(parts) or note("Nothing was moved.")


def origins(repository: str, catalogue: Sequence[Entry]) -> Markup:
    """Where the published embeddings come from."""
    entries = joined(html("<li><b>{}</b>: {}</li>", entry.name, entry.provenance) for entry in catalogue)
    return html("<p>{}</p><ul>{}</ul>", repository, entries)


def against_text(embeddings: Sequence[Embedding], text: str, features: Mapping[Space, Tensor]) -> Markup:
    """Cosine of each embedding to a text's CLIP feature."""
    cosines = [
        (float(embedding.vectors[space] @ unit(feature.float().cpu())), embedding.name, space.name)
        for embedding in embeddings
        for space, feature in features.items()
        if space in embedding.vectors
    ]
    if not cosines:
        raise AestheticError(
            "Nothing can be compared with the text.",
            f"The loaded checkpoint reads texts in {' and '.join(map(str, features))}, "
            "and none of the embeddings has a vector there.",
            "Choose others, or load a checkpoint of their kind.",
        )
    cosines.sort(key=lambda row: -row[0])
    rows = joined(
        html("<tr><td>{}</td><td>{}</td><td>{:.3f}</td></tr>", name, space, cosine)
        for cosine, name, space in cosines[:_MOST_LINES]
    )
    more = note(f"And {len(cosines) - _MOST_LINES} that are less similar.") if len(cosines) > _MOST_LINES else ""
    return html("<p>Cosine similarity to “{}”:</p><table>{}</table>{}", text, rows, more)


def downloaded(done: Downloads) -> str:
    """What became of a download.

    Raises:
        AestheticError: something could not be had; it says what came all the same.
    """
    said = f"{len(done.saved)} downloaded, {len(done.kept)} were already there."
    if done.failures:
        # One cause, such as no network, is told once.
        causes: dict[str, list[str]] = {}
        for name, fault in done.failures.items():
            causes.setdefault(fault.do, []).append(name)
        sentences = []
        for names in causes.values():
            first = done.failures[names[0]]
            what = first.what if len(names) == 1 else f"{', '.join(names)} were not downloaded."
            sentences.append(f"{what} {first.why} {first.do}")
        raise AestheticError(said, " ".join(sentences))
    return said


def numbers(text: str, count: int) -> list[float]:
    """``count`` weights written with commas or spaces; nothing written means 1 each.

    Raises:
        AestheticError: not that many numbers.
    """
    words = text.replace(",", " ").split()
    try:
        values = [float(word) for word in words] or [1.0] * count
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise AestheticError(
            f"The weights {text!r} don't fit.",
            f"There are {count} embeddings.",
            "Write one number for each, in their order, with commas between them.",
        )
    return values


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _similar(embedding: Embedding, others: Sequence[Embedding]) -> Markup:
    found = nearest(embedding, others, _SIMILAR)
    if not found:
        return joined([])
    rows = joined(html("<li>{}: {:.3f}</li>", name, cosine) for name, cosine in found)
    return html("<p>Most similar:</p><ul>{}</ul>", rows)


def _bars(histogram: Histogram) -> Markup:
    """A bar chart of the cosines without a plotting library."""
    highest = max(histogram.counts)
    bars = joined(
        html(
            "<span title='{:.3f} to {:.3f}: {}' style='display:inline-block;"
            "width:4%;height:{}px;background:currentColor;opacity:.6;margin-right:1%'></span>",
            histogram.edges[i],
            histogram.edges[i + 1],
            count,
            round(60 * count / highest),
        )
        for i, count in enumerate(histogram.counts)
    )
    return html(
        "<div>{}</div><div style='display:flex;justify-content:space-between'><span>{:.3f}</span><span>{:.3f}</span></div>",
        bars,
        histogram.edges[0],
        histogram.edges[-1],
    )
