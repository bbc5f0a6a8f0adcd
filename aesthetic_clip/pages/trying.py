"""Trying the method with the demonstration: one button that puts it there and fills the page in, one that takes it away."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import gradio as gr

from ..embeddings.library import Library
from ..errors import Remedy
from ..settings import NO_EMBEDDING
from . import forms, messages, picker
from .forms import Field, Form, Updates
from .markup import PRIMARY, Markup, html, joined
from .picker import Lists

_LONGEST = 20_000


class TryHost(NamedTuple):
    """What trying needs of the program around the page.

    Attributes:
        library: the embedding folders.
        refused: why the demonstration can't be tried in this program; empty if it can.
        there: whether it has been put there.
        put: puts it there; its files.
        take_away: takes it away; the files that are gone.
        checkpoint: what the program calls the checkpoint that is loaded, and the demonstration's.
        other: what it calls one that is not the demonstration's; empty if there is none.
        load_js: name of the page's function that loads the checkpoint that it is told, if it is told one.
        remedies: ways out in the program's words.
    """

    library: Callable[[], Library]
    refused: Callable[[], str]
    there: Callable[[], bool]
    put: Callable[[], Sequence[Path]]
    take_away: Callable[[], Sequence[Path]]
    checkpoint: Callable[[], tuple[str, str]]
    other: Callable[[], str]
    load_js: str
    remedies: Mapping[Remedy, str] = MappingProxyType({})


class Filled(NamedTuple):
    """The fields of the page that are filled in for the demonstration's picture.

    Attributes:
        controls: gradio's components, by what they are called here.
        values: what they are to say.
        chooser: the control of the embedding, one of the page's lists.
        embedding: what it is to say.
    """

    controls: Mapping[str, Any]
    values: Callable[[], Mapping[str, object]]
    chooser: Any
    embedding: Callable[[], str]

    @property
    def field(self) -> Field[dict[str, object]]:
        """What they say, by name; whatever it is."""
        return Field(list(self.controls.values()), lambda *values: dict(zip(self.controls, values)))

    def changed(self, lists: Lists, values: Mapping[str, object], embedding: str) -> Updates:
        """All lists as they are now, the embedding chosen, and the fields with these values."""
        own = next((f"list {n}" for n, (shown, _) in enumerate(lists.dropdowns) if shown is self.chooser), "")
        chosen = {own: {**lists.fresh()[own], "value": embedding}} if own else {}
        written = {
            name: gr.update(value=value)
            for name, value in values.items()
            if name in self.controls and isinstance(value, (str, int, float))
        }
        return {**lists.fresh(), **chosen, **written}


class Trying(NamedTuple):
    """The parts on the page.

    Attributes:
        offer: all of them, shown to those who have no embeddings.
        line: says what it is.
        start, stop: buttons that put the demonstration there and take it away.
        message: what happened.
        kept: what the page's fields said before, as JSON.
        load: the checkpoint that is to be loaded.
    """

    offer: Any
    line: Any
    start: Any
    stop: Any
    message: Any
    kept: Any
    load: Any

    def connect(
        self,
        host: TryHost,
        lists: Lists,
        tables: Mapping[str, Any],
        drawn: Callable[[], Updates],
        filled: Filled,
        others: Sequence[Trying] = (),
    ) -> None:
        """Make the buttons work.

        Args:
            host: what only it can do.
            lists: of embeddings, which follow.
            tables: components that show the embeddings there are, by name.
            drawn: what they show.
            filled: the page's fields for a picture.
            others: parts of the same kind on the page, which follow.
        """
        all_of_them = [self, *others]
        fields: dict[str, Field[Any]] = {
            "kept": Field([self.kept], forms.checked_text("What was kept", _LONGEST)),
            "before": filled.field,
        }
        outputs = {
            **lists.outputs,
            **tables,
            **filled.controls,
            **{f"{name} {n}": part for n, one in enumerate(all_of_them) for name, part in one.shown.items()},
            "kept": self.kept,
            "load": self.load,
            "message": self.message,
        }
        form = Form(fields, "message", host.remedies)

        def put(kept: str, before: dict[str, object]) -> Updates:
            if refused := host.refused():
                return {"message": messages.note(refused), "load": ""}
            loaded, _ = host.checkpoint()
            files = host.put()
            _, own = host.checkpoint()
            # Pressed again, it still goes back to what there was at first.
            return {
                **drawn(),
                **filled.changed(lists, filled.values(), filled.embedding()),
                **self._following(others, there=True),
                "kept": kept or json.dumps({**before, "checkpoint": loaded}),
                "load": own,
                "message": _here(own, filled.embedding(), files),
            }

        def take_away(kept: str) -> Updates:
            loaded, own = host.checkpoint()
            gone = host.take_away()
            before = forms.json_object(kept, 4 * _LONGEST) or {}
            back = str(before.get("checkpoint") or host.other())
            return {
                **drawn(),
                **filled.changed(lists, before, NO_EMBEDDING),
                **self._following(others, there=False),
                "kept": "",
                "load": back if loaded == own else "",
                "message": _gone(gone),
            }

        for button, act, line in (
            (self.start, put, "Putting the demonstration there …"),
            (self.stop, take_away, "Taking it away …"),
        ):
            said = button.click(
                fn=lambda line=line: str(messages.note(line)), inputs=[], outputs=[self.message], queue=False
            )
            done = form.on(said.then, act, outputs, show_progress="hidden")
            done.then(fn=None, inputs=[self.load], outputs=[], **forms.js_argument(host.load_js))

    @property
    def shown(self) -> dict[str, Any]:
        """What is shown while the demonstration is there, or while it is not."""
        return {"line": self.line, "start": self.start, "stop": self.stop}

    @staticmethod
    def _following(others: Sequence[Trying], there: bool) -> Updates:
        """Changes of all parts on the page, these first."""
        return {f"{name} {n}": change for n in range(len(others) + 1) for name, change in _buttons(there).items()}


def build(elem_id: Callable[[str], str], shown: bool) -> Trying:
    """The parts inside the current ``gr.Blocks``.

    Args:
        elem_id: makes the page-wide id of a part.
        shown: from the start, and not only while there are no embeddings.
    """
    with gr.Column(elem_id=elem_id("try"), visible=shown) as offer:
        line = gr.HTML(
            html(
                "<p>{}Try it with the demonstration: a small checkpoint and six embeddings, 12 MB, "
                "which come with the extension.</p>",
                "" if shown else "There are no embeddings yet. Make one in the tab Create aesthetic embedding, or: ",
            )
        )
        start = gr.Button("Try it", elem_id=elem_id("try_start"), **PRIMARY)
        message = gr.HTML(elem_id=elem_id("try_message"))
        stop = gr.Button("Take the demonstration away", elem_id=elem_id("try_stop"), size="sm", visible=False)
        kept, load = (gr.Textbox(visible=False, elem_id=elem_id(f"try_{name}")) for name in ("kept", "load"))
        for field in (kept, load):
            # The WebUI would keep what they say as a default.
            field.do_not_save_to_config = True
    return Trying(offer, line, start, stop, message, kept, load)


def follow(page: Any, host: TryHost, offers: Sequence[tuple[Trying, bool]], **more: Any) -> None:
    """Have each page that is opened show the parts where they are wanted.

    Args:
        page: gradio's.
        host: what only it can do.
        offers: the parts, and whether they are shown however many embeddings there are.
        more: for gradio.
    """

    def fresh() -> list[Any]:
        wanted, there = not host.library().names() and not host.refused(), host.there()
        changes = []
        for _, always in offers:
            changes += [gr.update(visible=always or wanted), *_buttons(there).values()]
        return changes

    parts = [part for one, _ in offers for part in (one.offer, *one.shown.values())]
    picker.on_load(page, fresh, parts, **more)


def _buttons(there: bool) -> Updates:
    """What is shown while the demonstration is there, and while it is not."""
    return {
        "line": gr.update(visible=not there),
        "start": gr.update(visible=not there),
        "stop": gr.update(visible=there),
    }


def _here(checkpoint: str, embedding: str, files: Sequence[Path]) -> Markup:
    return html(
        "<p>The demonstration is here. The checkpoint <b>{}</b> is being loaded, the embedding <b>{}</b> is chosen, and a "
        "prompt, the sampler and a size of 64 x 64 pixels are filled in under txt2img: <b>press Generate</b>. Then choose None, "
        "and generate again to compare; or another of its embeddings. Its own pictures can be made an embedding of, too.</p>{}",
        checkpoint,
        embedding,
        _files("Its files", files),
    )


def _gone(files: Sequence[Path]) -> Markup:
    return html(
        "<p>The demonstration is gone; its embeddings are in the library's trash, and the fields say what they did before."
        "</p>{}",
        _files("What is gone", files),
    )


def _files(title: str, files: Sequence[Path]) -> Markup:
    rows = joined(html("<li>{}</li>", str(file)) for file in files)
    return html("<details><summary>{}</summary><ul style='overflow-wrap:anywhere'>{}</ul></details>", title, rows)
