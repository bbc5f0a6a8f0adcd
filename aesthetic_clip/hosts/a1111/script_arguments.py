"""What API clients write as this script's arguments, in the form that the WebUI's API takes.

The API finds an always-on script by its title alone, counts through ``args`` as a list, and passes over
an entry without ``args`` in silence. Clients also write the accordion's title, and the object of
settings in place of the list or of the whole entry: what they mean is plain.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import AestheticError
from ...pages.accordion import ACCORDION

TITLE = "Aesthetic embeddings"
"""The script's: that of the WebUI's first extension, so that its API clients go on working."""
SWITCH = "enabled"
"""What the accordion's switch is called in the API's object."""
_NAMES = (TITLE.lower(), ACCORDION.lower())
_METHOD = "init_script_args"
_WRAPPER = "_aesthetic_wrapper"


def understood(scripts: Mapping[str, Any]) -> dict[str, Any]:
    """A request's ``alwayson_scripts`` with this script under its title and its arguments as a list.

    Raises:
        AestheticError: it stands there twice.
    """
    ours = [name for name in scripts if name.lower() in _NAMES]
    if len(ours) > 1:
        raise AestheticError(
            f"This request has arguments for {ours[0]!r} and for {ours[1]!r}.",
            "Both are names of the same script.",
            f"Leave one out; the script is called {TITLE!r}.",
        )
    return {
        TITLE if name in ours else name: _entry(entry) if name in ours else entry for name, entry in scripts.items()
    }


def _entry(entry: Any) -> dict[str, Any]:
    arguments = entry["args"] if isinstance(entry, Mapping) and "args" in entry else entry
    if arguments is None or arguments == {}:
        return {"args": []}
    # Whatever is no list stands for all arguments, and is refused there if it is no object.
    return {"args": arguments if isinstance(arguments, list) else [arguments]}


def without_switch(values: Sequence[object], knobs: int) -> tuple[Sequence[object], bool]:
    """A request's arguments without the switch, and whether it is on.

    Args:
        values: in the order of the knobs, then the switch; or one object for all.
        knobs: how many there are.

    Raises:
        AestheticError: an object with something else in place of true or false.
    """
    if values and isinstance(values[0], Mapping):
        rest = dict(values[0])
        said = rest.pop(SWITCH, None)
        if said is not None and not isinstance(said, bool):
            raise AestheticError(f"{SWITCH} is {said!r}.", "It can be true or false.", "Leave it out to have it on.")
        return [rest], said is not False
    return values[:knobs], not (len(values) > knobs and values[knobs] is False)


def install(refused: Callable[[AestheticError], Exception]) -> None:
    """Make the WebUI's API, where it is on, read requests through :func:`understood`.

    Args:
        refused: what is raised to the API.
    """
    # It has been imported if it is on; some versions have no such method, and all is as it was.
    original = getattr(getattr(sys.modules.get("modules.api.api"), "Api", None), _METHOD, None)
    if original is None:
        return

    @functools.wraps(original)
    def init_script_args(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        if request.alwayson_scripts:
            try:
                request.alwayson_scripts = understood(request.alwayson_scripts)
            except AestheticError as error:
                raise refused(error) from None
        return original(self, request, *args, **kwargs)

    # A mark that points to its bearer, since functools.wraps copies marks to other extensions' wrappers.
    setattr(init_script_args, _WRAPPER, init_script_args)
    setattr(sys.modules["modules.api.api"].Api, _METHOD, init_script_args)


def uninstall() -> None:
    """Put the WebUI's method back; under another extension's wrapper ours stays, and changes no request twice."""
    api = getattr(sys.modules.get("modules.api.api"), "Api", None)
    current: Any = getattr(api, _METHOD, None)
    if getattr(current, _WRAPPER, None) is current and current is not None:
        setattr(api, _METHOD, current.__wrapped__)
