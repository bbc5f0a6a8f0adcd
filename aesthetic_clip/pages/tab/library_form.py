"""The form that looks after the embeddings there are."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import gradio as gr

from ...create.images import UnreadableImage, decode
from ...embeddings.embedding import SUFFIXES, Embedding
from ...embeddings.library import Library, Trashed
from ...embeddings.mixing import mix, similarity_matrix
from ...embeddings.published import CATALOGUE, REPOSITORY, download
from ...errors import AestheticError
from .. import forms, messages, table
from ..forms import Field, Form, Updates, parameters
from ..heatmap import similarity_picture
from ..markup import html
from ..picker import Lists
from ..table import Column, Row, Table
from ..trying import Trying
from ..trying import build as build_trying
from .card_pictures import CardPictures, Painter
from .card_pictures import build as build_pictures
from .host import ID, TabHost

# A file is read by gradio right after it was made; some more, for pages that ask at the same time.
_EXPORTS_KEPT = 8
_LARGEST_PICTURE = 1024
# Beyond it the picture of their similarities would be larger than a screen.
_MOST_COMPARED = 40
_COLUMNS = (
    Column("name", "Name"),
    Column("spaces", "Spaces", "wide"),
    Column("images", "Pictures", "short"),
    Column("created", "Date", "short"),
    Column("note", "Note", "wide"),
)
_TRASH_COLUMNS = (Column("name", "Name"), Column("when", "Thrown away"), Column("folder", "From", "wide"))


class Done(NamedTuple):
    """What a button did: a sentence, and the embeddings that are chosen afterwards, if others than before."""

    said: str
    chosen: Sequence[str] | None = None


class LibraryForm(NamedTuple):
    """The form's fields and what else there is of it on the page.

    Attributes:
        host: what only it can do.
        fields: what can be chosen and filled in, by name.
        buttons: by name.
        embeddings, trashed: tables of what there is.
        message, picture, file: what is shown.
        trying: what offers the demonstration, if the host wants it.
        pictures: what makes pictures for cards, if the host has such.
    """

    host: TabHost
    fields: dict[str, Field[Any]]
    buttons: dict[str, Any]
    embeddings: Table
    trashed: Table
    message: Any
    picture: Any
    file: Any
    trying: Trying | None
    pictures: CardPictures | None

    @property
    def tables(self) -> dict[str, Any]:
        """Components that show what there is, by name."""
        return {"embeddings": self.embeddings.shown, "trashed": self.trashed.shown}

    def drawn(self) -> Updates:
        """What they show on a page that was just opened."""
        return {"embeddings": self.embeddings.draw(), "trashed": self.trashed.draw()}

    def connect(self, lists: Lists) -> None:
        """Make the buttons work.

        Args:
            lists: of embeddings elsewhere, which follow.
        """
        for name, action in _changes(self.host).items():
            self._changing(name, action, lists)
        shown = {"picture": self.picture, "file": self.file}
        for name, (output, look) in _looks(self.host).items():
            self._showing(name, look, output, shown[output])
        for listing in (self.embeddings, self.trashed):
            # Not its input: gradio 6 takes the keys that are pressed for that.
            self._on(listing.view.control.change)

    def paint(self, painter: Painter) -> None:
        """Make the button work that makes pictures for cards."""
        if self.pictures is not None:
            self.follow(self.pictures.connect(self.host, self.fields["chosen"].control, painter))

    def follow(self, event: Any) -> None:
        """Have the tables drawn anew after an event."""
        self._on(event.then)

    def _on(self, event: Callable[..., Any]) -> None:
        # As the page knows it, since some of it may be gone by now.
        fields = {
            "view": self.fields["view"],
            "trash_view": self.fields["trash_view"],
            "chosen": Field([self.fields["chosen"].control], table.chosen_keys("Embeddings")),
            "chosen_trash": Field([self.fields["trashed"].control], table.chosen_keys("Trash")),
        }

        def draw(view: table.View, trash_view: table.View, chosen: list[str], chosen_trash: list[str]) -> Updates:
            return {
                "embeddings": self.embeddings.draw(view, chosen),
                "trashed": self.trashed.draw(trash_view, chosen_trash),
            }

        form = Form(fields, "message", self.host.remedies)
        form.on(event, draw, {**self.tables, "message": self.message}, show_progress="hidden")

    def _changing(self, button: str, action: Callable[..., Done], lists: Lists) -> None:
        """A button that changes the library: lists and tables follow, and a message says what happened."""
        host = self.host
        sent = Field([self.fields["chosen"].control], table.chosen_keys("Embeddings"))

        def change(sent: list[str], **values: Any) -> Updates:
            done = action(**values)
            names = set(host.library().names())
            chosen = [name for name in (sent if done.chosen is None else done.chosen) if name in names]
            kept = {"chosen": table.as_chosen(chosen), "chosen_trash": ""}
            return {"message": messages.note(done.said), **kept, **lists.fresh()}

        form = Form({**self.fields, "sent": sent}, "message", host.remedies)
        outputs = {
            **lists.outputs,
            "chosen": self.fields["chosen"].control,
            "chosen_trash": self.fields["trashed"].control,
            "message": self.message,
        }
        takes = ["sent", *parameters(action)]
        self.follow(form.on(self.buttons[button].click, change, outputs, takes=takes, failed=lists.fresh))

    def _showing(self, button: str, look: Callable[..., tuple[Any, Any]], name: str, output: Any) -> None:
        """A button that shows something in ``output``, which is there only while it holds something."""

        def show(**values: Any) -> Updates:
            value, said = look(**values)
            return {name: gr.update(value=value, visible=value is not None), "message": said}

        form = Form(self.fields, "message", self.host.remedies)
        form.on(
            self.buttons[button].click,
            show,
            {name: output, "message": self.message},
            takes=parameters(look),
            failed=lambda: {name: gr.update(value=None, visible=False)},
        )


def build(host: TabHost) -> LibraryForm:
    """The form inside the current ``gr.Blocks``."""
    fields: dict[str, Field[Any]] = {}
    buttons: dict[str, Any] = {}

    def button(key: str, label: str) -> None:
        buttons[key] = gr.Button(label, elem_id=f"{ID}_{key}")

    gr.HTML(table.STYLE)
    with gr.Row():
        # The tools come before the table, which may be longer than the screen, and what they answer stands among them.
        with gr.Column(scale=2, min_width=300):
            with gr.Row():
                button("inspect", "Inspect")
                button("trash", "Move to trash")
                button("refresh", "Refresh")
            message = gr.HTML(elem_id=f"{ID}_message")
            picture = gr.Image(label="Picture", interactive=False, height=480, elem_id=f"{ID}_picture", visible=False)
            with gr.Row():
                fields["new_name"] = forms.text(
                    "New name",
                    200,
                    elem_id=f"{ID}_new_name",
                    max_lines=1,
                    placeholder="for Rename, Mix, Restore",
                )
                button("rename", "Rename")
            with gr.Row():
                fields["weights"] = forms.text(
                    "Weights",
                    10_000,
                    elem_id=f"{ID}_weights",
                    max_lines=1,
                    placeholder="0.7, 0.3 or 1, -1",
                )
                button("mix", "Mix the chosen")
            with gr.Row():
                fields["text"] = forms.text(
                    "Text", elem_id=f"{ID}_text", max_lines=1, placeholder="to compare the embeddings with"
                )
                button("compare_text", "Compare with the text")
            with gr.Row():
                button("compare", "Compare the chosen")
                button("home", "Move to the first folder")
            with gr.Row():
                fields["suffix"] = forms.choice("Format", SUFFIXES, elem_id=f"{ID}_format")
                button("export", "Export")
            file = gr.File(
                label="Exported", file_count="multiple", interactive=False, elem_id=f"{ID}_file", visible=False
            )
            with gr.Accordion("Trash", open=False, elem_id=f"{ID}_trash_accordion"):
                trashed = table.build(
                    f"{ID}_trashed",
                    "Trash",
                    _TRASH_COLUMNS,
                    lambda: [_trash_row(key, one) for key, one in _trashed(host.library()).items()],
                    lambda key: _in_trash(host.library(), key),
                    "The trash is empty.",
                )
                button("restore", "Restore")
            pictures = build_pictures() if host.has_cards else None
            trying = None
            if host.demonstration:
                with gr.Accordion("The demonstration", open=False, elem_id=f"{ID}_try_accordion"):
                    trying = build_trying(lambda name: f"{ID}_{name}", shown=True)
            with gr.Accordion("The paper's embeddings", open=False, elem_id=f"{ID}_paper_accordion"):
                gr.HTML(messages.origins(REPOSITORY, CATALOGUE))
                button("download", "Download the paper's embeddings")
        with gr.Column(scale=3, min_width=300):
            embeddings = table.build(
                f"{ID}_table",
                "Embeddings",
                _COLUMNS,
                lambda: _rows(host.library()),
                lambda name: host.library().find(name),
                "There are no embeddings yet: make one in the tab Create, or download the paper's.",
            )
    fields.update(chosen=embeddings.chosen, view=embeddings.view, trashed=trashed.chosen, trash_view=trashed.view)
    return LibraryForm(host, fields, buttons, embeddings, trashed, message, picture, file, trying, pictures)


def _rows(library: Library) -> list[Row]:
    """Every embedding; unusable files with the reason."""
    rows = []
    for entry in library.entries():
        try:
            about = entry.load()
        except AestheticError as fault:
            rows.append(Row(entry.name, entry.name, {"name": entry.name, "note": str(fault)}))
            continue
        data = about.about
        cells = {
            "name": entry.name,
            "spaces": ", ".join(space.name for space in about.vectors),
            "images": data.get("image_count", ""),
            "created": data.created[:10],
            "note": data.note,
        }
        order = {"images": float(data.image_count)} if data.image_count is not None else {}
        rows.append(Row(entry.name, entry.name, cells, order, entry.preview))
    # What can't be used as it is has a line too, but can't be chosen.
    return [*rows, *(Row("", one.path, {"name": one.path, "note": str(one)}) for one in library.left_out())]


def _trashed(library: Library) -> dict[str, Trashed]:
    """By a key that says nothing of where folders are."""
    return {
        f"{library.folders.index(one.folder)}/{one.path.relative_to(one.folder).as_posix()}": one
        for one in library.trashed()
    }


def _trash_row(key: str, one: Trashed) -> Row:
    cells = {"name": one.name, "when": f"{one.when:%Y-%m-%d %H:%M:%S}", "folder": one.folder.name}
    return Row(key, one.name, cells)


def _in_trash(library: Library, key: str) -> Trashed:
    one = _trashed(library).get(key)
    if one is None:
        raise AestheticError("That is not in the trash any more.", do="Refresh the list and choose again.")
    return one


def _changes(host: TabHost) -> Mapping[str, Callable[..., Done]]:
    """What the buttons do that change the library, and say afterwards."""

    def refresh() -> Done:
        return Done("")

    def trash(chosen: list[str]) -> Done:
        library = host.library()
        places = [library.trash(name) for name in _some(chosen)]
        return Done(f"Moved to {places[0]}." if len(places) == 1 else f"Moved {len(places)} to the trash.", [])

    def restore(trashed: list[str], new_name: str) -> Done:
        library = host.library()
        if not trashed:
            raise AestheticError("Nothing in the trash is chosen.", do="Click it in the table of the trash.")
        before = set(library.names())
        for key in trashed:
            one = _in_trash(library, key)
            # What is written there for Rename does not count, unless there is no other way.
            renamed = new_name.strip() if one.name in before and len(trashed) == 1 else ""
            library.restore(one.path, renamed or None)
        restored = [name for name in library.names() if name not in before]
        return Done(f"Restored: {', '.join(restored)}.", restored)

    def rename(chosen: list[str], new_name: str) -> Done:
        name = _one(chosen)
        path = host.library().rename(name, new_name)
        renamed = str(PurePosixPath(name).with_name(path.stem))
        return Done(f"Renamed: {renamed}.", [renamed])

    def mixture(chosen: list[str], weights: str, new_name: str) -> Done:
        library = host.library()
        new_name = library.refuse_taken(new_name)
        embedding = mix([library.load(name) for name in chosen], messages.numbers(weights, len(chosen)), new_name)
        return Done(f"Saved: {library.save_new(embedding, new_name)}.", [new_name])

    def home(chosen: list[str]) -> Done:
        library = host.library()
        for name in _some(chosen):
            library.move_home(name)
        return Done(f"Moved to {library.folders[0]}: {', '.join(chosen)}.")

    def fetch() -> Done:
        first, *others = host.library().folders
        return Done(messages.downloaded(download(CATALOGUE, first, others=others)))

    return {
        "refresh": refresh,
        "trash": trash,
        "restore": restore,
        "rename": rename,
        "mix": mixture,
        "home": home,
        "download": fetch,
    }


def _looks(host: TabHost) -> Mapping[str, tuple[str, Callable[..., tuple[Any, Any]]]]:
    """What the buttons do that show something: where, and what is said beside it."""
    exported: deque[tempfile.TemporaryDirectory[str]] = deque()

    def inspect(chosen: list[str]) -> tuple[Any, Any]:
        library, name = host.library(), _one(chosen)
        said = messages.about(library.load(name), library)
        preview = library.preview(name)
        if preview is None:
            return None, said
        try:
            picture = decode(preview, target=_LARGEST_PICTURE)
        except UnreadableImage as fault:
            return None, html("{}<p>Its picture can't be shown: {}.</p>", said, fault.reason)
        picture.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
        return picture, said

    def export(chosen: list[str], suffix: str) -> tuple[Any, Any]:
        # gradio takes a copy, but only after this has returned.
        exported.append(tempfile.TemporaryDirectory(prefix=ID))
        while len(exported) > _EXPORTS_KEPT:
            exported.popleft().cleanup()
        files = []
        for number, name in enumerate(_some(chosen)):
            # In folders of their own, since two may have the same name in different folders.
            file = Path(exported[-1].name, str(number), f"{PurePosixPath(name).name}{suffix}")
            host.library().export(name, file)
            files.append(str(file))
        return files, messages.note(f"Exported: {', '.join(chosen)} as {suffix}.")

    def compare(chosen: list[str]) -> tuple[Any, Any]:
        if not 2 <= len(chosen) <= _MOST_COMPARED:
            raise AestheticError(
                "That can't be compared.",
                f"It takes 2 to {_MOST_COMPARED} embeddings, and {len(chosen)} are chosen.",
                "Tick as many in the table.",
            )
        embeddings = [host.library().load(name) for name in chosen]
        shared = [s for s in embeddings[0].vectors if all(s in e.vectors for e in embeddings)]
        if not shared:
            raise AestheticError(
                "These embeddings can't be compared.",
                "They have no CLIP space in common.",
                "Choose two or more of one space.",
            )
        picture = similarity_picture(chosen, similarity_matrix(embeddings, shared[0]))
        return picture, messages.note(f"Cosine similarity in {shared[0].name}.")

    def compare_text(chosen: list[str], text: str) -> tuple[Any, Any]:
        if not text.strip():
            raise AestheticError("There is no text to compare with.", do="Write one into the field beside the button.")
        return None, messages.against_text(_loaded(host.library(), chosen), text, host.text_features(text))

    return {
        "inspect": ("picture", inspect),
        "export": ("file", export),
        "compare": ("picture", compare),
        "compare_text": ("picture", compare_text),
    }


def _loaded(library: Library, names: Sequence[str]) -> list[Embedding]:
    """Those with these names, or all that can be used."""
    wanted, found = set(names), []
    for entry in library.entries():
        if entry.name in wanted or not names:
            try:
                found.append(entry.load())
            except AestheticError:
                # Of all of them, one that can't be used is no reason; the table says what is wrong with it.
                if names:
                    raise
    return found


def _some(chosen: list[str]) -> list[str]:
    if not chosen:
        raise AestheticError("No embedding is chosen.", do="Click one in the table, or tick several.")
    return chosen


def _one(chosen: list[str]) -> str:
    if len(_some(chosen)) > 1:
        raise AestheticError(
            "More than one embedding is chosen.", f"There are {len(chosen)}.", "Click the one that you mean."
        )
    return chosen[0]
