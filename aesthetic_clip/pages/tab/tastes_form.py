"""The form that shows which pictures made a taste, and takes some out."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from ...embeddings import profiles
from ...embeddings.profiles import Change
from ...errors import AestheticError
from .. import forms, messages, picker, thumbs
from ..forms import Field, Form, Updates
from ..markup import Markup, html, joined
from ..picker import Lists
from .host import ID, TabHost

_PAGE = 60
_DIGEST = 32


class TastesForm(NamedTuple):
    """The form's fields and what else there is of it on the page.

    Attributes:
        host: what only it can do.
        fields: what can be chosen and filled in, by name.
        buttons: by name.
        pictures, message: what is shown.
    """

    host: TabHost
    fields: dict[str, Field[Any]]
    buttons: dict[str, Any]
    pictures: Any
    message: Any

    @property
    def profile(self) -> Any:
        """Its list of tastes."""
        return self.fields["profile"].control

    def connect(self, lists: Lists) -> None:
        """Make the buttons work.

        Args:
            lists: of embeddings, which follow.
        """
        library = self.host.library

        def show(profile: str, page: int) -> Updates:
            found = profiles.pictures(library(), profile)
            pages = max(1, math.ceil(len(found) / _PAGE))
            page = min(page, pages)
            part = found[(page - 1) * _PAGE : page * _PAGE]
            tiles = [(change, profiles.thumbnail(library(), profile, change.digest)) for change in part]
            return {
                "pictures": _tiles(tiles),
                "chosen": gr.update(choices=[_label(change) for change in part], value=[]),
                "profile": gr.update(choices=_names(self.host), value=profile),
                "message": html("<p>{}, page {} of {}.</p>", messages.counted(len(found), "picture"), page, pages),
            }

        def remove(profile: str, page: int, chosen: list[str]) -> Updates:
            if not chosen:
                raise AestheticError("No picture is chosen.", do="Choose some in the list above the button.")
            for label in chosen:
                profiles.remove(library(), profile, label[-_DIGEST:])
            done = messages.note(f"{messages.counted(len(chosen), 'picture')} taken out.")
            return {**show(profile, page), "message": done}

        def undo(profile: str, page: int) -> Updates:
            outcome = profiles.undo(library(), profile)
            shown = show(profile, page) if any(outcome.profile.counts) else {**_nothing(), **lists.fresh()}
            return {**shown, "message": thumbs.said(outcome)}

        form = Form(self.fields, "message", self.host.remedies)
        outputs = {"pictures": self.pictures, "message": self.message}
        outputs |= {name: self.fields[name].control for name in ("chosen", "profile")}
        form.on(self.buttons["show"].click, show, outputs, failed=_nothing)
        form.on(self.buttons["take_out"].click, remove, outputs)
        form.on(self.buttons["undo"].click, undo, {**lists.outputs, **outputs})

    def refresh(self, selected: Any) -> None:
        """Have the list of tastes follow whenever an event comes, such as a tab's ``select``."""
        selected(
            fn=lambda: gr.update(choices=_names(self.host)),
            inputs=[],
            outputs=[self.profile],
            queue=False,
            show_progress="hidden",
        )


def build(host: TabHost) -> TastesForm:
    """The form inside the current ``gr.Blocks``."""
    fields: dict[str, Field[Any]] = {}
    buttons: dict[str, Any] = {}

    def button(key: str, label: str) -> None:
        buttons[key] = gr.Button(label, elem_id=f"{ID}_taste_{key}")

    with gr.Row():
        with gr.Column(scale=2):
            names = picker.dropdown(_names(host), label="Taste", elem_id=f"{ID}_taste_profile")
            fields["profile"] = Field([names], _named)
            fields["page"] = forms.number("Page", 1, 1_000_000, 1, elem_id=f"{ID}_taste_page")
            button("show", "Show its pictures")
            chosen = picker.dropdown([], several=True, label="Pictures", elem_id=f"{ID}_taste_chosen")
            fields["chosen"] = Field([chosen], _chosen)
            with gr.Row():
                button("take_out", "Take them out")
                button("undo", "Undo the last change")
        with gr.Column(scale=3):
            message = gr.HTML(elem_id=f"{ID}_taste_message")
            pictures = gr.HTML(elem_id=f"{ID}_taste_pictures")
    return TastesForm(host, fields, buttons, pictures, message)


def _names(host: TabHost) -> list[str]:
    return [profile.name for profile in profiles.profiles(host.library())]


def _nothing() -> Updates:
    return {"pictures": "", "chosen": gr.update(choices=[], value=[])}


def _label(change: Change) -> str:
    opinion = thumbs.SYMBOLS[change.after] if change.after else ""
    return f"{opinion} {change.name} {change.digest}"


def _tiles(tiles: Sequence[tuple[Change, bytes]]) -> Markup:
    return html(
        "<div style='display:flex;flex-wrap:wrap;gap:8px'>{}</div>",
        joined(
            html(
                "<figure style='width:128px;margin:0' title='{}'><img src='data:image/jpeg;base64,{}' alt='{}' "
                "style='width:128px;height:128px;object-fit:cover'>"
                "<figcaption style='overflow-wrap:anywhere'>{} {} <small>{}…</small></figcaption></figure>",
                change.path or change.name,
                base64.b64encode(jpeg).decode(),
                change.name,
                thumbs.SYMBOLS[change.after] if change.after else "",
                change.name,
                change.digest[:6],
            )
            for change, jpeg in tiles
        ),
    )


def _named(value: object) -> str:
    name = forms.checked_text("Taste", 1000)(value)
    if not name:
        raise AestheticError("No taste is chosen.", do="Choose one in the list; a thumb under a picture begins one.")
    return name


def _chosen(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        return []
    return [forms.checked_text("Pictures", 1000)(label) for label in value[:_PAGE]]
