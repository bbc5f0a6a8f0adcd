"""Forms by name: a field is declared once, with its control and with what may come back from it.

What a page sends is whatever the one at the other end wants to send: handlers are called over
gradio's own route, with any JSON in place of any value. So gradio's reading of values is switched
off, and every one goes through the check of its field; a handler never sees anything else.
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import logging
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import gradio as gr

from ..create.limits import check_count
from ..create.sources import Source
from ..errors import AestheticError, Interrupted, Remedy, first_line
from ..printable import printable
from ..readers.faults import UnreadableFile
from ..readers.json_text import parse_json
from . import messages

T = TypeVar("T")
Check = Callable[[object], T]
Updates = Mapping[str, Any]
"""Outputs by name, each a value or a ``gr.update``; what is left out stays as it is."""
Job = Callable[..., Any]
"""Takes a job id and then the values of the inputs, and returns those of the outputs, of which the last one is HTML."""

_DATA = "data:image/"
_LARGEST_DATA = 64 * 2**20
_SHOWN = 60
_JS = "_js" if "_js" in inspect.signature(gr.Blocks.load).parameters else "js"
_RELOAD = "Reload the page and try again."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Field(Generic[T]):
    """One value of a form.

    Attributes:
        controls: the gradio components that it comes from, usually one.
        check: makes a checked value of what each of them sends, or raises AestheticError.
    """

    controls: Sequence[Any]
    check: Callable[..., T]

    @property
    def control(self) -> Any:
        (control,) = self.controls
        return control


class Form:
    """Named fields, and the handlers that take them by these names.

    A handler's parameters say which fields it gets, so that neither their order there nor
    that of the fields means anything. It returns :data:`Updates`.

    Args:
        fields: by name.
        message: name of the output that every handler has and that is told what went wrong.
        remedies: ways out in the words of the program around the page.
        interrupted: what is said of a job that was.
    """

    def __init__(
        self,
        fields: Mapping[str, Field[Any]],
        message: str,
        remedies: Mapping[Remedy, str],
        interrupted: str = "Interrupted.",
    ) -> None:
        self.fields, self._message, self._remedies = dict(fields), message, remedies
        self._interrupted = interrupted

    def on(
        self,
        event: Callable[..., Any],
        handler: Callable[..., Updates],
        outputs: Mapping[str, Any],
        *,
        takes: Sequence[str] | None = None,
        failed: Callable[[], Updates] | None = None,
        job: Callable[[Job, list[Any]], Job] | None = None,
        js: str = "",
        **more: Any,
    ) -> Any:
        """Have ``handler`` called at an event, e.g. ``button.click``.

        Args:
            event: gradio's way to listen to it.
            handler: takes fields by name.
            outputs: components by the names that the handler uses for them.
            takes: names of the fields, if the handler's parameters don't say them.
            failed: what is shown beside the message when it can't be done.
            job: makes the handler one of the program's long jobs.
            js: the page's own function that starts such a job; it puts an id in place of the first input.
            more: for gradio.
        """
        fields = {name: self.fields[name] for name in (parameters(handler) if takes is None else takes)}
        controls = [control for field in fields.values() for control in field.controls]
        ordered = [name for name in outputs if name != self._message] + [self._message]

        def run(*values: object) -> Any:
            updates = self._answer(handler, fields, values, failed or dict)
            if unknown := updates.keys() - outputs.keys():
                raise KeyError(f"{handler.__name__} has no outputs {unknown}")
            changes = [_text(updates.get(name, gr.update())) for name in ordered]
            return changes if len(changes) > 1 else changes[0]

        function: Callable[..., Any] = run
        if job is not None:
            # The program around the page knows values by their places: the job id first, the message last.
            function = job(lambda _id, *values: run(*values), [gr.update() for _ in ordered[:-1]])
            controls = [controls[0], *controls]
        return event(
            fn=function,
            inputs=controls,
            outputs=[outputs[name] for name in ordered],
            preprocess=False,
            **js_argument(js),
            **more,
        )

    def _answer(
        self,
        handler: Callable[..., Updates],
        fields: Mapping[str, Field[Any]],
        values: Sequence[object],
        failed: Callable[[], Updates],
    ) -> Updates:
        try:
            try:
                return handler(**_checked(fields, values))
            except AestheticError as error:
                return {**failed(), self._message: messages.error(error, self._remedies)}
        except Interrupted:
            return {**failed(), self._message: messages.note(self._interrupted)}
        except Exception as error:  # gradio would show the exception's type alone, and lose what the page shows
            _log.exception("Aesthetic Gradients: %s failed", handler.__name__)
            fault = AestheticError("That did not work.", f"{first_line(error)}.", "The console says more.")
            return {self._message: messages.error(fault, self._remedies)}


def _text(value: object) -> object:
    """HTML as an ordinary text, to which others may add theirs without its being escaped."""
    return str(value) if isinstance(value, str) else value


def parameters(handler: Callable[..., Any]) -> list[str]:
    """The names of a handler's parameters."""
    return list(inspect.signature(handler).parameters)


def _checked(fields: Mapping[str, Field[Any]], values: Sequence[object]) -> dict[str, Any]:
    left, checked = list(values), {}
    for name, field in fields.items():
        own, left = left[: len(field.controls)], left[len(field.controls) :]
        if len(own) < len(field.controls):
            raise AestheticError("Something is missing in what the page sent.", do=_RELOAD)
        checked[name] = field.check(*map(_plain, own))
    return checked


def _plain(value: object) -> object:
    """As JSON: later releases of gradio make models of files."""
    dump = getattr(value, "model_dump", None)
    return dump() if callable(dump) else value


def js_argument(js: str) -> dict[str, str]:
    """Gradio's argument for a function of the page, which had another name until its release 4."""
    return {_JS: js} if js else {}


# fields


def text(label: str, longest: int = 1000, **control: Any) -> Field[str]:
    """Some text; what is in the field is never longer, a browser sees to it."""
    return Field([gr.Textbox(label=label, **control)], checked_text(label, longest))


def switch(label: str, **control: Any) -> Field[bool]:
    """Yes or no."""

    def check(value: object) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        raise refused(label, value, "ticked or not")

    return Field([gr.Checkbox(label=label, **control)], check)


def slider(label: str, minimum: float, maximum: float, step: float, value: float, **control: Any) -> Field[Any]:
    """A number from a range; whole if the step is."""
    shown = gr.Slider(label=label, minimum=minimum, maximum=maximum, step=step, value=value, **control)
    return Field([shown], checked_number(label, minimum, maximum, whole=isinstance(step, int)))


def number(label: str, minimum: float, maximum: float, value: float, **control: Any) -> Field[int]:
    """A whole number to be typed."""
    shown = gr.Number(label=label, value=value, precision=0, **control)
    return Field([shown], checked_number(label, minimum, maximum, whole=True))


def choice(label: str, choices: Sequence[str], **control: Any) -> Field[str]:
    """One of a few."""

    def check(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        raise refused(label, value, f"one of {', '.join(choices)}")

    return Field([gr.Radio(choices=list(choices), value=choices[0], label=label, **control)], check)


def ticks(label: str, choices: Sequence[str], **control: Any) -> Field[list[str]]:
    """Any of a few, in the order in which they are offered."""

    def check(value: object) -> list[str]:
        ticked = [] if value is None else value
        if isinstance(ticked, list) and all(isinstance(item, str) and item in choices for item in ticked):
            return [one for one in choices if one in ticked]
        raise refused(label, value, f"some of {', '.join(choices)}")

    return Field([gr.CheckboxGroup(choices=list(choices), label=label, **control)], check)


def uploads(label: str, most: int, **control: Any) -> Field[list[Path]]:
    """Files that came over gradio's upload, and no others of this machine."""

    def check(value: object) -> list[Path]:
        folder = upload_folder()
        return [_uploaded(item, folder) for item in _list(value, most)]

    return Field([gr.File(label=label, file_count="multiple", **control)], check)


def gallery(label: str, most: int, **control: Any) -> Field[list[object]]:
    """Items of a gallery as the page sends them; which of them may be read, the host says when it reads them."""
    return Field([gr.Gallery(label=label, **control)], lambda value: _list(value, most))


def picture(label: str, shown: Any) -> Field[Source]:
    """What a component shows, which is a picture of the program's own: no other file of this machine."""

    def check(value: object) -> Source:
        text = path_in(value)
        if text.startswith(_DATA) and len(text) <= _LARGEST_DATA:  # until gradio 3
            with contextlib.suppress(ValueError):
                return label, base64.b64decode(text.partition(",")[2], validate=True)
        if not text:
            raise AestheticError(f"There is no picture {label!r} yet.", do="Generate one first.")
        return label, _uploaded(value, upload_folder())

    return Field([shown], check)


# checks


def checked_text(label: str, longest: int) -> Check[str]:
    """A check for texts of at most ``longest`` letters; nothing is an empty one."""

    def check(value: object) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            raise refused(label, value, "a text")
        if len(value) > longest:
            raise AestheticError(
                f"{label} has {len(value)} letters.", f"It can have at most {longest}.", "Write less, and try again."
            )
        if any(printable(line) != line for line in re.split("[\r\n\t]", value)):
            raise refused(label, value, "a text without control characters")
        return value

    return check


def checked_number(label: str, minimum: float, maximum: float, whole: bool) -> Check[Any]:
    """A check for numbers from ``minimum`` to ``maximum``."""
    wanted = f"a {'whole ' if whole else ''}number from {minimum:g} to {maximum:g}"

    def check(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= maximum:
            raise refused(label, value, wanted, "Choose a value in that range.")
        if whole and value != math.floor(value):
            raise refused(label, value, wanted, "Choose a whole number.")
        return int(value) if whole else float(value)

    return check


def refused(label: str, value: object, wanted: str, do: str = _RELOAD) -> AestheticError:
    """What came in place of a value is none."""
    return AestheticError(f"{label} can't be {_described(value)}.", f"It has to be {wanted}.", do)


def _described(value: object) -> str:
    """Any value in a few words."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, str):
        short = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"
        return repr(printable(short))
    if isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 10**15):
        return repr(value)
    kinds = {int: "a number that large", list: "a list", dict: "an object"}
    return kinds.get(type(value), "something of that kind")


def _list(value: object, most: int) -> list[object]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    check_count(len(items), most)
    return items


def upload_folder() -> Path:
    """Where gradio puts what is uploaded, in all its releases."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")).resolve()


def _uploaded(item: object, folder: Path) -> Path:
    given = path_in(item)
    try:
        path = Path(given).resolve(strict=True)
        if given and path.is_relative_to(folder) and path.is_file():
            return path
    except (OSError, ValueError, RuntimeError):  # gone; no path at all; links in a circle
        pass
    raise AestheticError(
        "A file that was dropped is not there any more.",
        "Only files that were just uploaded are read.",
        "Drop it anew.",
    )


def json_object(text: object, longest: int) -> dict[str, Any] | None:
    """What a page keeps as a JSON text of at most ``longest`` bytes, if it is an object."""
    try:
        read = parse_json(str(text).encode(), "text", longest)
    except (UnreadableFile, UnicodeError):
        return None
    return read if isinstance(read, dict) else None


def path_in(item: object) -> str:
    """The path in what a page sends for a file: ``name`` until gradio 3, ``path`` later; empty if there is none."""
    if isinstance(item, dict):
        for key in ("path", "name"):
            if isinstance(item.get(key), str):
                return str(item[key])
    return item if isinstance(item, str) else ""
