"""X/Y/Z plot axes, one per knob."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import scripts

from ...errors import AestheticError
from ...pages.accordion import choices
from ...settings import KNOBS, Knob
from . import options
from .hook import refused

_PREFIX = "[Aesthetic] "


def attribute(knob: Knob) -> str:
    """Name under which an axis puts its value on the job."""
    return f"aesthetic_{knob.name}"


def overrides(p: Any) -> dict[str, object]:
    """The values that X/Y/Z axes put on this job, by knob name."""
    return {knob.name: getattr(p, attribute(knob)) for knob in KNOBS if hasattr(p, attribute(knob))}


def register() -> None:
    """Add the axes to the X/Y/Z script, once (callback ``on_before_ui``)."""
    for data in scripts.scripts_data:
        if data.script_class.__module__ in ("xyz_grid.py", "scripts.xyz_grid"):
            grid = data.module
            known = {axis.label for axis in grid.axis_options}
            grid.axis_options.extend(axis for knob in KNOBS if (axis := _axis(grid, knob)).label not in known)


def _axis(grid: Any, knob: Knob) -> Any:
    more: dict[str, Any] = {}
    if knob.names_embedding:
        more["choices"] = lambda: choices(options.embeddings().names())
    elif knob.type is bool:
        more["choices"] = lambda: ["False", "True"]
    # A bool arrives as text from the choices; the knob itself reads it.
    return grid.AxisOption(
        _PREFIX + knob.label.removeprefix("Aesthetic "),
        str if knob.type is bool else knob.type,
        _apply(knob),
        confirm=_confirm(knob),
        **more,
    )


def _apply(knob: Knob) -> Callable[[Any, object, object], None]:
    return lambda p, value, _values: setattr(p, attribute(knob), value)


def _confirm(knob: Knob) -> Callable[[Any, list[object]], None]:
    def confirm(_p: Any, values: list[object]) -> None:
        try:
            for value in values:
                if knob.parse(value) and knob.names_embedding and value != knob.default:
                    options.embeddings().load(str(value))
        except AestheticError as error:
            raise refused(error) from error.__cause__

    return confirm
