"""What the tab tells people, as HTML."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ..embeddings.embedding import Embedding
from ..embeddings.library import Library
from ..embeddings.mixing import nearest
from ..errors import AestheticError
from ..geometry import unit
from ..spaces import Space

if TYPE_CHECKING:
    from ..create.pictures import CreateResult, Histogram
    from ..embeddings.published import Downloads

_SIMILAR = 5
_SHOWN_SKIPPED = 200
_THUMBNAIL = 48


def error(fault: AestheticError) -> str:
    return f"<div class='error'>{html.escape(str(fault))}</div>"


def pace(done: int, total: int, rate: float) -> str:
    """One line for a progress bar, which tells the time left itself."""
    return f"{done} of {total} pictures, {rate:.1f} per second,"


def created(embedding: Embedding, result: CreateResult, library: Library) -> str:
    """Counts, coherence, similar embeddings and what was skipped."""
    kept = "" if result.complete else " (interrupted: only what was done until then)"
    skipped = f" {_count(len(result.skipped), 'file')} skipped." if result.skipped else ""
    parts = [f"<p><b>{html.escape(embedding.name)}</b>: made from {_count(result.used, 'picture')}{kept}.{skipped}</p>"]
    for space, cosine in result.mean_cosine.items():
        parts.append(
            f"<p>{space.name}: mean cosine of the pictures to their mean {cosine:.3f}</p>"
            + _bars(result.histograms[space])
        )
    parts.append(_similar(embedding, library))
    if result.skipped:
        rows = "".join(
            f"<li>{html.escape(skipped.name)}: {html.escape(skipped.reason)}</li>"
            for skipped in result.skipped[:_SHOWN_SKIPPED]
        )
        more = len(result.skipped) - _SHOWN_SKIPPED
        rows += f"<li>and {more} more</li>" if more > 0 else ""
        parts.append(f"<details><summary>Skipped files</summary><ul>{rows}</ul></details>")
    return "".join(parts)


def about(embedding: Embedding, library: Library) -> str:
    """All that is known of one embedding."""
    rows = {"Spaces": embedding.spaces, "Digest": embedding.digest, "File": str(embedding.path), **embedding.metadata}
    cells = "".join(
        f"<tr><th align='left'>{html.escape(key)}</th><td style='overflow-wrap:anywhere'>{html.escape(value)}</td></tr>"
        for key, value in rows.items()
    )
    return f"<table>{cells}</table>{_similar(embedding, library)}"


def curve(similarities: Mapping[str, Sequence[float]]) -> str:
    """The similarity to the embedding over the steps, a picture and its numbers for each CLIP space."""
    width, height = 360, 120
    parts = []
    for space, numbers in similarities.items():
        low, high = min(numbers), max(max(numbers), min(numbers) + 0.01)
        points = [
            (i / max(len(numbers) - 1, 1) * width, height - (n - low) / (high - low) * height)
            for i, n in enumerate(numbers)
        ]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(
            f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='currentColor'><title>step {i}: {n:.4f}</title></circle>"
            for i, ((x, y), n) in enumerate(zip(points, numbers))
        )
        parts.append(
            f"<p>Similarity to the target in {html.escape(space)}: "
            f"{numbers[0]:.3f} before, {numbers[-1]:.3f} after {_count(len(numbers) - 1, 'step')}</p>"
            f"<svg viewBox='-6 -6 {width + 12} {height + 12}' style='max-width:{width}px'>"
            f"<polyline points='{line}' fill='none' stroke='currentColor' stroke-width='2'/>{dots}</svg>"
        )
    return "".join(parts) or "<p>Nothing was moved.</p>"


def table(library: Library) -> str:
    """The library: thumbnail, name, spaces, pictures, date, note; unusable files with the reason."""
    rows = []
    for name in library.names():
        try:
            embedding = library.load(name)
            data = embedding.metadata
            cells = [
                _thumbnail(library, name),
                html.escape(name),
                ", ".join(space.name for space in embedding.vectors),
                html.escape(data.get("image_count", "")),
                html.escape(data.get("created", "")[:10]),
                html.escape(data.get("note", "")),
            ]
        except AestheticError as fault:
            cells = ["", html.escape(name), "", "", "", error(fault)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th align='left'>{title}</th>" for title in ("", "Name", "Spaces", "Images", "Date", "Note"))
    empty = "<p>There are no embeddings yet.</p>" if not rows else ""
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>{empty}"


def against_text(embeddings: Sequence[Embedding], text: str, features: Mapping[Space, Tensor]) -> str:
    """Cosine of each embedding to a text's CLIP feature."""
    rows = []
    for embedding in embeddings:
        for space, feature in features.items():
            if space in embedding.vectors:
                cosine = float(embedding.vectors[space] @ unit(feature.float().cpu()))
                rows.append(
                    (
                        cosine,
                        f"<tr><td>{html.escape(embedding.name)}</td><td>{space.name}</td><td>{cosine:.3f}</td></tr>",
                    )
                )
    if not rows:
        raise AestheticError(
            "Nothing can be compared with the text.",
            f"The loaded checkpoint reads texts in {' and '.join(map(str, features))}, "
            "and none of the embeddings has a vector there.",
            "Choose others, or load a checkpoint of their kind.",
        )
    sorted_rows = "".join(row for _, row in sorted(rows, key=lambda item: -item[0]))
    return f"<p>Cosine similarity to “{html.escape(text)}”:</p><table>{sorted_rows}</table>"


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
        told = []
        for names in causes.values():
            first = done.failures[names[0]]
            what = first.what if len(names) == 1 else f"{', '.join(names)} were not downloaded."
            told.append(f"{what} {first.why} {first.do}")
        raise AestheticError(said, " ".join(told))
    return said


def numbers(text: str, count: int) -> list[float]:
    """``count`` weights written with commas or spaces; nothing written means 1 each.

    Raises:
        AestheticError: not that many numbers.
    """
    words = (text or "").replace(",", " ").split()
    try:
        values = [float(word) for word in words] or [1.0] * count
    except ValueError:
        values = []
    if len(values) != count:
        raise AestheticError(
            f"The weights {text!r} don't fit.",
            f"There are {count} embeddings.",
            "Write one number for each, in their order, with commas between them.",
        )
    return values


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _similar(embedding: Embedding, library: Library) -> str:
    others = []
    for name in library.names():
        try:
            others.append(library.load(name))
        except AestheticError:  # the table says what is wrong with it
            continue
    found = nearest(embedding, others, _SIMILAR)
    if not found:
        return ""
    rows = "".join(f"<li>{html.escape(name)}: {cosine:.3f}</li>" for name, cosine in found)
    return f"<p>Most similar:</p><ul>{rows}</ul>"


def _bars(histogram: Histogram) -> str:
    """A bar chart of the cosines without a plotting library."""
    highest = max(histogram.counts)
    bars = "".join(
        f"<span title='{histogram.edges[i]:.3f} to {histogram.edges[i + 1]:.3f}: {count}' style='display:inline-block;"
        f"width:4%;height:{round(60 * count / highest)}px;background:currentColor;opacity:.6;margin-right:1%'></span>"
        for i, count in enumerate(histogram.counts)
    )
    return (
        f"<div>{bars}</div><div style='display:flex;justify-content:space-between'>"
        f"<span>{histogram.edges[0]:.3f}</span><span>{histogram.edges[-1]:.3f}</span></div>"
    )


def _thumbnail(library: Library, name: str) -> str:
    path = library.preview(name)
    if path is None:
        return ""
    try:
        with Image.open(path) as picture:
            picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "JPEG")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return "?"
    return f"<img src='data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
