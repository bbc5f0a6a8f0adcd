"""👍 and 👎 for a picture: the row that lets a taste profile grow, for any page that shows pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import gradio as gr

from ..create.sources import Source
from ..embeddings import profiles
from ..embeddings.library import Library
from ..embeddings.profiles import DEFAULT_NAME, Counts, Opinion, Outcome, Picture
from ..errors import AestheticError, Remedy
from ..progress import Progress
from ..settings import KNOBS, NO_EMBEDDING
from ..spaces import Space
from . import forms, messages, picker
from .forms import Field, Form, Updates
from .jobs import Jobs
from .markup import Markup, html
from .picker import Lists

SYMBOLS = {Opinion.LIKED: "👍", Opinion.DISLIKED: "👎"}
_EMBEDDING = next(knob for knob in KNOBS if knob.name == "embedding")
_VERBS = {Opinion.LIKED: "like", Opinion.DISLIKED: "dislike"}
_LOOKING = "Looking at the picture …"
_ENCODER_MISSING = (Remedy.IMAGE_ENCODER, Remedy.DOWNLOAD)
REMEDIES = dict.fromkeys(_ENCODER_MISSING, "Press 'Download the image encoder', once for all pictures.")

MakeButton = Callable[[str, str, str], Any]
"""Makes a small button of its text, its name on the page, and what it does."""


class ThumbsHost(NamedTuple):
    """What thumbs need of the program around the page.

    Attributes:
        library: the embedding folders.
        look: encodes a picture.
        fetch: has the image encoders downloaded; tells how far that is, and is stopped by that.
        spaces: CLIP spaces of the loaded model.
        keep: makes a picture an embedding of this session, for the list of embeddings, and gives its name.
        remedies: ways out in the program's words.
    """

    library: Callable[[], Library]
    look: Callable[[Source], Picture]
    fetch: Callable[[Progress], object]
    keep: Callable[[Picture], str]
    spaces: Callable[[], Sequence[Space]] = tuple
    remedies: Mapping[Remedy, str] = MappingProxyType({})


class Thumbs(NamedTuple):
    """The row's components.

    Attributes:
        likes: for each picture, its buttons by opinion.
        this: the button "in the taste of this picture", if there is one.
        profile: whose taste it is.
        undo, download, stop: buttons; the last one ends the download.
        message: what happened.
    """

    likes: Sequence[Mapping[Opinion, Any]]
    this: Any | None
    profile: Any
    undo: Any
    download: Any
    stop: Any
    message: Any

    def connect(
        self,
        host: ThumbsHost,
        pictures: Sequence[Field[Source]],
        lists: Lists,
        embedding: Any | None = None,
        js: str = "",
    ) -> None:
        """Make the buttons work.

        Args:
            host: what only it can do.
            pictures: as the page sends them, one for each pair of buttons; "this picture" is the last of them.
            lists: of embeddings, which follow.
            embedding: the control that chooses one, for the button "in the taste of this picture".
            js: the page's own function that says which picture it is.
        """
        profile: Field[str] = Field([self.profile], forms.checked_text("Taste", 200))
        remedies = {**host.remedies, **REMEDIES}
        of_each = [Form({"picture": picture, "profile": profile}, "message", remedies) for picture in pictures]
        form = of_each[-1]
        own = {"message": self.message, "profile": self.profile, "download": self.download, "stop": self.stop}
        downloads = Jobs()
        quiet: dict[str, Any] = {"show_progress": "hidden"}

        def seen(picture: Source, then: Callable[[Picture], Updates]) -> Updates:
            try:
                return {"download": gr.update(visible=False), **then(host.look(picture))}
            except AestheticError as error:
                missing = error.remedy in _ENCODER_MISSING
                return {"download": gr.update(visible=missing), "message": messages.error(error, remedies)}

        def rating(opinion: Opinion) -> Callable[..., Updates]:
            def rate(picture: Source, profile: str) -> Updates:
                library = host.library()
                # Before anything long.
                name = profiles.refuse_other(library, profile.strip() or DEFAULT_NAME)

                def then(seen: Picture) -> Updates:
                    outcome = profiles.rate(library, name, seen, opinion)
                    return _after(outcome, host, lists, library, _left_out(host, seen))

                return seen(picture, then)

            return rate

        def undo(profile: str) -> Updates:
            library = host.library()
            return _after(profiles.undo(library, profile.strip() or DEFAULT_NAME), host, lists, library)

        def take(picture: Source) -> Updates:
            return seen(picture, partial(_taken, host))

        def fetch(profile: str) -> Updates:
            host.fetch(downloads.progress)
            return {**ended(False), "message": messages.note("It is there: press again.")}

        def ended(missing: bool = True) -> Updates:
            return {"download": gr.update(visible=missing), "stop": gr.update(visible=False)}

        for its_form, likes in zip(of_each, self.likes):
            for opinion, button in likes.items():
                its_form.on(self._at_once(button, _LOOKING), rating(opinion), {**lists.outputs, **own}, js=js, **quiet)
        form.on(self.undo.click, undo, {**lists.outputs, **own}, **quiet)
        begun = self.download.click(
            fn=lambda: [gr.update(visible=False), gr.update(visible=True)],
            inputs=[],
            outputs=[self.download, self.stop],
            queue=False,
        )
        form.on(begun.then, fetch, own, failed=ended, job=downloads.make, **quiet)
        self.stop.click(fn=downloads.interrupt, inputs=[], outputs=[], queue=False)
        if self.this is not None and embedding is not None:
            form.on(self._at_once(self.this, _LOOKING), take, {**own, "embedding": embedding}, js=js, **quiet)

    def _at_once(self, button: Any, line: str) -> Callable[..., Any]:
        """Where to listen to a button that says a line until its answer comes."""
        said = button.click(fn=lambda: str(messages.note(line)), inputs=[], outputs=[self.message], queue=False)
        listen: Callable[..., Any] = said.then
        return listen


def build(small_button: MakeButton, elem_id: str, this: bool, pictures: Sequence[str] = ("",)) -> Thumbs:
    """The row inside the current ``gr.Blocks``.

    Args:
        small_button: makes the small buttons.
        elem_id: begins the names of all parts.
        this: with a button "in the taste of this picture".
        pictures: what each picture is called, if there are several.
    """
    with gr.Row(elem_id=f"{elem_id}_thumbs"):
        likes = [
            {
                opinion: small_button(
                    " ".join(filter(None, [SYMBOLS[opinion], name])),
                    "_".join(filter(None, [elem_id, _VERBS[opinion], name.lower()])),
                    f"I {_VERBS[opinion]} the {name.lower() or 'selected'} picture: the taste learns from it.",
                )
                for opinion in Opinion
            }
            for name in pictures
        ]
        undo = small_button("↶", f"{elem_id}_undo", "Take the last thumb of this taste back.")
        profile = picker.dropdown(
            [DEFAULT_NAME],
            typed=True,
            value=DEFAULT_NAME,
            label="Taste",
            show_label=False,
            elem_id=f"{elem_id}_profile",
        )
        taste = (
            gr.Button("In the taste of this picture", elem_id=f"{elem_id}_this", size="sm", min_width=220)
            if this
            else None
        )
    message = gr.HTML(elem_id=f"{elem_id}_thumbs_message")
    download = gr.Button("Download the image encoder", elem_id=f"{elem_id}_download", size="sm", visible=False)
    stop = gr.Button("Interrupt the download", elem_id=f"{elem_id}_stop_download", size="sm", visible=False)
    return Thumbs(likes, taste, profile, undo, download, stop, message)


def drop_form(embedding: Any, elem_id: Callable[[str], str], host: ThumbsHost) -> None:
    """A folded place to drop a picture, whose taste becomes the embedding.

    Args:
        embedding: the control that chooses one.
        elem_id: makes the page-wide id of a part.
        host: what only it can do.
    """
    with gr.Accordion("In the taste of a picture", open=False, elem_id=elem_id("drop")):
        image = gr.Image(label="Drop a picture here", elem_id=elem_id("dropped"), height=200)
        message = gr.HTML(elem_id=elem_id("drop_message"))
    form = Form({"picture": forms.picture("dropped", image)}, "message", host.remedies)

    def take(picture: Source) -> Updates:
        return _taken(host, host.look(picture))

    form.on(image.upload, take, {"embedding": embedding, "message": message}, show_progress="hidden")


def follow(
    page: Any,
    library: Callable[[], Library],
    rows: Sequence[Thumbs],
    embeddings: Sequence[Any] = (),
    first: Callable[[], str] = lambda: NO_EMBEDDING,
    **more: Any,
) -> None:
    """Have each page that is opened offer the tastes that there are, and choose the last one used.

    Args:
        page: gradio's.
        library: asked each time.
        rows: of thumbs.
        embeddings: controls that choose one.
        first: what these begin with, shown in them and said in the rows; asked each time.
        more: for gradio.
    """

    def fresh() -> list[Any]:
        offered, used, begins = _offered(library()), profiles.last_used(library()), first()
        line, chosen = "", {}
        if begins != NO_EMBEDDING and begins in library().names():
            line, chosen = html("<p>On from the start, by the settings: “{}”.</p>", begins), {"value": begins}
        return [
            *(gr.update(choices=offered, value=used or DEFAULT_NAME) for _ in rows),
            *(gr.update(value=str(line)) for _ in rows),
            *(gr.update(**chosen) for _ in embeddings),
        ]

    outputs = [*(row.profile for row in rows), *(row.message for row in rows), *embeddings]
    if rows:
        picker.on_load(page, fresh, outputs, **more)


def _taken(host: ThumbsHost, picture: Picture) -> Updates:
    name = host.keep(picture)
    names = host.library().names()
    names = names if name in names else [*names, name]
    return {
        "embedding": gr.update(value=name, choices=picker.choices(names, _EMBEDDING)),
        "message": messages.note("The next pictures come in the taste of this one."),
    }


def _offered(library: Library) -> list[str]:
    names = [profile.name for profile in profiles.profiles(library)]
    return names if DEFAULT_NAME in names else [*names, DEFAULT_NAME]


def _left_out(host: ThumbsHost, seen: Picture) -> list[str]:
    """The model's spaces in which a picture could not be looked at."""
    return [space.name for space in host.spaces() if space not in seen.vectors]


def _after(outcome: Outcome, host: ThumbsHost, lists: Lists, library: Library, left_out: Sequence[str] = ()) -> Updates:
    counts = outcome.profile.counts
    # The lists change only where there is another name.
    fresh = lists.fresh() if sum(counts) <= 1 else {}
    name = outcome.profile.name if any(counts) else DEFAULT_NAME
    line = said(outcome)
    if left_out:
        line += html("<p>It does not count in {}, whose image encoder is not here.</p>", " and ".join(left_out))
    return {**fresh, "message": line, "profile": gr.update(choices=_offered(library), value=name)}


def said(outcome: Outcome) -> Markup:
    """What happened, in a line."""
    counts, name = outcome.profile.counts, outcome.profile.name
    if outcome.after is None:
        what = "Taken back" if outcome.before else "Nothing changed"
    elif outcome.before is outcome.after:
        what = f"{SYMBOLS[outcome.after]} This picture is {outcome.after.value} already"
    elif outcome.before:
        what = f"{SYMBOLS[outcome.after]} Now {outcome.after.value}, no longer {outcome.before.value}"
    else:
        what = f"{SYMBOLS[outcome.after]} {outcome.after.value.capitalize()}"
    if not any(counts):
        return html("<p>{}: “{}” has no pictures any more.</p>", what, name)
    return html("<p>{}: {} in “{}”.</p>", what, counted(counts), name)


def counted(counts: Counts) -> str:
    """Of a profile's pictures."""
    return f"{counts.liked} liked and {counts.disliked} disliked" if counts.disliked else f"{counts.liked}"
