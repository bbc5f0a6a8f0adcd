"""The user's own presets: names of settings that go together, in one file beside the embeddings."""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import AestheticError
from ..files import locked, reason, write_atomically
from ..printable import printable
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json
from ..settings import BY_NAME, KNOBS, PRESETS, Settings, Values
from .scan import LeftOut, file_signature, tell_once

FILE = "presets.json"
_PRESET = BY_NAME["preset"]
BROUGHT = tuple(_PRESET.brings(KNOBS))
"""Names of the knobs that a preset sets: all but the embedding."""
_MOST_BYTES = 2**20
_MOST = 500
_LONGEST_NAME = 40
# A letter first, by which a tag knows it from a weight; none of the marks that tags and parameters are made of.
_NAME = re.compile(r"[^\W\d_](?:[\w .-]*\w)?")
_TAKEN = ("off", "none", "auto", "automatic")


class PresetFile:
    """Presets that a user saved; any number of threads and programs may use the same file at once.

    Args:
        folder: where it is; asked each time, since a program may be told another one.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._kept: tuple[tuple[object, ...], dict[str, Values]] = ((), {})

    @property
    def path(self) -> Path:
        return self._folder() / FILE

    def read(self) -> dict[str, Values]:
        """What each preset sets, by name, as it stands in the file; one that can't be used is left out with a line."""
        path = self.path
        state = (path, *file_signature(str(path)))
        with self._guard:
            if len(state) > 1 and self._kept[0] == state:
                return self._kept[1]
        presets: dict[str, Values] = {}
        try:
            for name, values in _raw(path).items():
                try:
                    presets[check_preset_name(name, presets)] = _checked(values)
                except AestheticError as error:
                    tell_once([LeftOut(printable(f"{path}, preset {name[:60]!r}"), printable(str(error)).rstrip("."))])
        except UnreadableFile as error:
            tell_once([LeftOut(printable(str(path)), printable(error.why).rstrip("."))])
        with self._guard:
            self._kept = (state, presets)
        return presets

    def save(self, name: str, settings: Settings) -> str:
        """Keep what the settings are, all but the embedding, in place of an earlier one of that name.

        Returns:
            The name as it is listed.

        Raises:
            AestheticError: a name that can't be, too many presets, or the file can't be read or written.
        """
        name = check_preset_name(name)
        values = {knob: getattr(settings, knob) for knob in BROUGHT}

        def put(presets: dict[str, Any]) -> None:
            for there in [there for there in presets if _same(there, name)]:
                del presets[there]
            if len(presets) >= _MOST:
                raise AestheticError(
                    f"The preset {name!r} was not saved.", f"There are {_MOST} already.", "Delete one that is not used."
                )
            # As text, which every knob reads back, and a person can.
            presets[name] = {knob: BY_NAME[knob].write(value) for knob, value in values.items()}

        self._change(put, f"The preset {name!r} was not saved.")
        return name

    def delete(self, name: str) -> str:
        """Take a preset out of the file.

        Returns:
            Its name as it was listed.

        Raises:
            AestheticError: there is none, it is a built-in one, or the file can't be read or written.
        """
        failed = f"The preset {name!r} was not deleted."
        if any(_same(name, one) for one in PRESETS.built_in):
            raise AestheticError(failed, "It comes with the program.", "Delete only your own ones.")
        deleted: list[str] = []

        def take(presets: dict[str, Any]) -> None:
            deleted.extend(there for there in presets if _same(there, name))
            if not deleted:
                raise AestheticError(failed, "There is none of that name.", "Choose one of the list.")
            for there in deleted:
                del presets[there]

        self._change(take, failed)
        return deleted[0]

    def _change(self, change: Callable[[dict[str, Any]], None], failed: str) -> None:
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path.parent):
                presets = _raw(path)
                change(presets)
                write_atomically(path, json.dumps({"presets": presets}, ensure_ascii=False, indent=1).encode())
        except UnreadableFile as error:
            raise AestheticError(failed, f"{path} can't be read. {error.why}", "Repair or remove that file.") from error
        except OSError as error:
            raise AestheticError(
                failed,
                f"{path.parent} can't be written: {reason(error)}.",
                "Make it a folder that this program may write to, and try again.",
            ) from error


def offer(file: PresetFile) -> None:
    """From now on this program knows these presets beside the built-in ones, whatever way they are asked for."""
    PRESETS.own = file.read


def check_preset_name(name: str, there: Mapping[str, object] = PRESETS.built_in) -> str:
    """A name that a preset may have, in Unicode's composed form (NFC).

    Raises:
        AestheticError: it can't be one, or it is that of one that is there, or of a built-in one.
    """
    name = unicodedata.normalize("NFC", name.strip())
    problem = ""
    if len(name) > _LONGEST_NAME:
        problem = f"It has {len(name)} letters, {_LONGEST_NAME} are allowed."
    elif not _NAME.fullmatch(name):
        problem = "It has to begin with a letter, and to have only letters, digits, space, dot, dash and underscore."
    elif any(_same(name, word) for word in (*_TAKEN, *PRESETS.built_in)):
        problem = "That word means something else already."
    elif any(_same(name, other) for other in there):
        problem = "There is one of that name already."
    if problem:
        raise AestheticError(f"A preset can't be called {name[:80]!r}.", problem, "Choose a name such as 'my taste'.")
    return name


def _same(a: str, b: str) -> bool:
    return unicodedata.normalize("NFC", a.strip()).casefold() == unicodedata.normalize("NFC", b.strip()).casefold()


def _raw(path: Path) -> dict[str, Any]:
    """The presets as they stand in the file; none if there is no file.

    Raises:
        UnreadableFile: it is no such file.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"It can't be read: {reason(error)}.") from error
    whole = parse_json(content, "text", _MOST_BYTES)
    presets = whole.get("presets") if isinstance(whole, dict) else None
    if not isinstance(presets, dict) or len(presets) > _MOST:
        raise UnreadableFile(f"It is no object with at most {_MOST} presets.")
    return presets


def _checked(values: object) -> dict[str, object]:
    if not isinstance(values, dict):
        raise AestheticError("Its settings are no object.")
    for name in values:
        if name not in BROUGHT:
            raise AestheticError(f"A preset does not set {name[:60]!r}.", f"It can set: {', '.join(BROUGHT)}.")
    return {name: BY_NAME[name].parse(value) for name, value in values.items()}
