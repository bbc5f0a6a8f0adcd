"""HTML in which every value is escaped and printable, whatever it holds."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup

from ..printable import printable

__all__ = ["PRIMARY", "Markup", "html", "joined"]

PRIMARY = {"variant": "primary", "elem_classes": ["aesthetic-primary"]}
"""For the button that a form is about; its colours are in :data:`.picker.STYLE`, since those of gradio's themes are faint."""


def html(template: str, *values: object, **named: object) -> Markup:
    """``template`` with the values in place of its ``{}``, as ``str.format`` does it.

    Values are escaped unless they are :class:`Markup` themselves, so the template has to be
    written where it is used, and never be put together.
    """
    return Markup(template).format(*map(_shown, values), **{name: _shown(value) for name, value in named.items()})


def joined(parts: Iterable[Markup]) -> Markup:
    """The parts one after the other."""
    return Markup("").join(parts)


def _shown(value: object) -> object:
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(map(printable, value.split("\n")))
