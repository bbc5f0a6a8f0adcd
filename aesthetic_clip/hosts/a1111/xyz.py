"""X/Y/Z plot axes, one per knob."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...embeddings.library import Library
from ...embeddings.picking import pick
from ...errors import AestheticError
from ...pages.picker import choices
from ...settings import KNOBS, Kind, Knob

_PREFIX = "[Aesthetic] "


def attribute(knob: Knob) -> str:
    """Name under which an axis puts its value on the job."""
    return f"aesthetic_{knob.name}"


def overrides(p: Any, knobs: Sequence[Knob] = KNOBS) -> dict[str, object]:
    """The values that X/Y/Z axes put on this job, by knob name."""
    return {knob.name: getattr(p, attribute(knob)) for knob in knobs if hasattr(p, attribute(knob))}


def register(
    scripts_data: Iterable[Any],
    library: Callable[[], Library],
    refused: Callable[[AestheticError], Exception],
    knobs: Sequence[Knob] = KNOBS,
) -> None:
    """Add the axes to the X/Y/Z script, once.

    Args:
        scripts_data: the WebUI's, where that script is among.
        library: the embeddings, as they are now.
        refused: what is raised to the WebUI for a value that a knob refuses.
        knobs: the table.
    """
    for data in scripts_data:
        if data.script_class.__module__ in ("xyz_grid.py", "scripts.xyz_grid"):
            grid = data.module
            known = {axis.label for axis in grid.axis_options}
            axes = [_axis(grid, knob, library, refused) for knob in knobs]
            grid.axis_options.extend(axis for axis in axes if axis.label not in known)


def _axis(grid: Any, knob: Knob, library: Callable[[], Library], refused: Callable[[AestheticError], Exception]) -> Any:
    offered: dict[Kind, Callable[[], list[str]]] = {
        Kind.EMBEDDING: lambda: choices(library().names(), knob),
        Kind.SWITCH: lambda: ["False", "True"],
        Kind.CHOICE: lambda: list(knob.choices),
    }

    def apply(p: Any, value: object, _values: object) -> None:
        setattr(p, attribute(knob), value)

    def confirm(_p: Any, values: Sequence[object]) -> None:
        try:
            for value in values:
                name = knob.parse(value)
                if knob.names_embedding and name not in knob.words:
                    library().load(pick(name, library().names, 0))
        except AestheticError as error:
            raise refused(error) from error.__cause__

    return grid.AxisOption(
        _PREFIX + knob.label.removeprefix("Aesthetic "),
        # For numbers the WebUI understands ranges; anything else comes as text, which the knob itself reads.
        knob.type if knob.type in (int, float) else str,
        apply,
        confirm=confirm,
        **({"choices": offered[knob.kind]} if knob.kind in offered else {}),
    )
