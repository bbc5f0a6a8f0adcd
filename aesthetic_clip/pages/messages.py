"""What the pages tell people, as HTML."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..create.images import UnreadableImage, thumbnail
from ..create.sources import skipped_lines
from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from ..embeddings.mixing import nearest
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
_THUMBNAIL = 48


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
    for space, cosine in result.mean_cosine.items():
        parts.append(html("<p>{}: mean cosine of the pictures to their mean {:.3f}</p>", space.name, cosine))
        parts.append(_bars(result.histograms[space]))
    parts.append(_similar(embedding, library))
    if lines := skipped_lines(skipped, result.left_out):
        rows = joined(html("<li>{}</li>", line) for line in lines)
        parts.append(html("<details><summary>Skipped files</summary><ul>{}</ul></details>", rows))
    return joined(parts)


def about(embedding: Embedding, library: Library) -> Markup:
    """All that is known of one embedding."""
    rows = {"Spaces": embedding.spaces, "Digest": embedding.digest, "File": str(embedding.path), **embedding.metadata}
    cells = joined(
        html("<tr><th align='left'>{}</th><td style='overflow-wrap:anywhere'>{}</td></tr>", key, value)
        for key, value in rows.items()
    )
    return html("<table>{}</table>{}", cells, _similar(embedding, library))


def pair(similarities: Mapping[str, Sequence[float]], parameters: str) -> Markup:
    """What two pictures were made with, and how the prompt was moved."""
    return html("{}<pre style='white-space:pre-wrap'>{}</pre>", curve(similarities), parameters)


def curve(similarities: Mapping[str, Sequence[float]]) -> Markup:
    """The similarity to the embedding over the steps, a picture and its numbers for each CLIP space."""
    width, height = 360, 120
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


def table(library: Library) -> Markup:
    """The library: thumbnail, name, spaces, pictures, date, note; unusable files with the reason."""
    rows = []
    for entry in library.entries():
        try:
            embedding = entry.load()
            data = embedding.metadata
            cells = [
                _thumbnail(entry.preview),
                entry.name,
                ", ".join(space.name for space in embedding.vectors),
                data.get("image_count", ""),
                data.get("created", "")[:10],
                data.get("note", ""),
            ]
        except AestheticError as fault:
            cells = ["", entry.name, "", "", "", error(fault, {})]
        rows.append(html("<tr>{}</tr>", joined(html("<td>{}</td>", cell) for cell in cells)))
    titles = ("", "Name", "Spaces", "Images", "Date", "Note")
    head = html("<tr>{}</tr>", joined(html("<th align='left'>{}</th>", title) for title in titles))
    empty = joined([]) if rows else note("There are no embeddings yet.")
    missing = joined(note(str(left_out)) for left_out in library.left_out())
    return html("<table>{}{}</table>{}{}", head, joined(rows), empty, missing)


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
    rows = joined(
        html("<tr><td>{}</td><td>{}</td><td>{:.3f}</td></tr>", name, space, cosine)
        for cosine, name, space in sorted(cosines, key=lambda row: -row[0])
    )
    return html("<p>Cosine similarity to “{}”:</p><table>{}</table>", text, rows)


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


def _similar(embedding: Embedding, library: Library) -> Markup:
    others = []
    for entry in library.entries():
        try:
            others.append(entry.load())
        except AestheticError:  # the table says what is wrong with it
            continue
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


def _thumbnail(path: Path | None) -> Markup:
    if path is None:
        return joined([])
    try:
        small = thumbnail(path, _THUMBNAIL)
    except UnreadableImage as fault:
        return html("<span title='{}'>?</span>", fault.reason)
    return html("<img src='data:image/jpeg;base64,{}'>", base64.b64encode(small).decode())
