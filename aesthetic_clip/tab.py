"""The tab "Create aesthetic embedding": make embeddings, and look after them.

Knows gradio (3.41 to current) and the core; what only a host can do is handed in as :class:`TabHost`.
"""

from __future__ import annotations

import contextlib
import html
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from . import report
from .catalogue import CATALOGUE, REPOSITORY, download
from .create import Skipped, Source, create, keep
from .embeddings import SUFFIXES
from .errors import AestheticError, Interrupted
from .images import find_images
from .library import Library
from .mixing import mix, similarity_matrix, similarity_picture
from .spaces import PUBLISHED, Space, space_named
from .ui import choices
from .vision import ImageEncoder

TITLE = "Create aesthetic embedding"
ID = "aesthetic_create"

Job = Callable[..., Any]


@dataclass(frozen=True)
class TabHost:
    """What the tab needs of its host.

    Attributes:
        library: the embedding folders.
        spaces: CLIP spaces of the loaded model.
        encoder: image encoder of a space, ready to compute; the second argument says whether it may be downloaded.
        text_features: CLIP features of a text by the loaded model, by space.
        picture: an item of a gallery as an image.
        job: makes a long function one of the host's jobs; it gets a job id before its
            own arguments and returns values for the outputs, the last of which is HTML.
        progress: shows how far a job is: done, in all, a line of text; and the time left, counted from the last 0 done.
        stopped: whether the user interrupted the job.
        interrupt: interrupts it.
        submit_js: name of the page's function that starts a job, if it has one.
        folders_allowed: whether people at the page may name folders of this machine.
        dropdowns: embedding dropdowns elsewhere, which follow every change.
    """

    library: Callable[[], Library]
    spaces: Callable[[], Sequence[Space]]
    encoder: Callable[[Space, bool], ImageEncoder]
    text_features: Callable[[str], dict[Space, Tensor]]
    picture: Callable[[Any], Image.Image]
    job: Callable[[Job, list[Any]], Job]
    progress: Callable[[int, int, str], None]
    stopped: Callable[[], bool]
    interrupt: Callable[[], object]
    submit_js: str | None = None
    folders_allowed: bool = True
    dropdowns: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Tab:
    """Components of the tab that others connect to.

    Attributes:
        sent: gallery of pictures that were sent here.
        sent_accordion: what it is folded away in.
        lists: every list of embeddings, here and elsewhere.
        fresh_lists: their values now, for a page that is opened later than this was built.
    """

    sent: Any
    sent_accordion: Any
    lists: list[Any]
    fresh_lists: Callable[[], list[Any]]


def build(host: TabHost) -> Tab:
    """Build the tab inside the current ``gr.Blocks``."""
    with gr.Tabs(elem_id=f"{ID}_tabs"):
        with gr.TabItem("Create", id="create"):
            form = _create_form(host)
        with gr.TabItem("Library", id="library"):
            shelf = _library_form(host)
    lists = [*host.dropdowns, *shelf.dropdowns, shelf.table]
    _connect_create(host, form, lists)
    _connect_library(host, shelf, lists)
    return Tab(form.sent, form.sent_accordion, lists, lambda: _lists(host, len(shelf.dropdowns)))


def _lists(host: TabHost, own: int) -> list[Any]:
    """Fresh values for every list of embeddings: the host's dropdowns, ``own`` ones of the tab, the table."""
    library = host.library()
    names = library.names()
    return [
        *(gr.update(choices=choices(names)) for _ in host.dropdowns),
        *(gr.update(choices=names) for _ in range(own)),
        report.table(library),
    ]


def reserve(library: Library, name: str, overwrite: bool = False) -> str:
    """The checked name, free and in a folder that can be written: to be asked before long work.

    Raises:
        AestheticError: it is not.
    """
    name = library.refuse_taken(name, overwrite)
    folder = library.folders[0]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise AestheticError(
            f"{name!r} could not be saved.",
            f"{folder} can't be written: {error.strerror or error}.",
            "Make it a folder that this program may write to, and try again.",
        ) from error
    return name


# Create


@dataclass(frozen=True)
class _CreateForm:
    name: Any
    folders: Any
    recursive: Any
    uploads: Any
    sent: Any
    sent_accordion: Any
    spaces: Any
    batch_size: Any
    note: Any
    overwrite: Any
    raw: Any
    keep_partial: Any
    allow_download: Any
    start: Any
    stop: Any
    preview: Any
    result: Any

    @property
    def inputs(self) -> list[Any]:
        return [
            self.name,
            self.folders,
            self.recursive,
            self.uploads,
            self.sent,
            self.spaces,
            self.batch_size,
            self.note,
            self.overwrite,
            self.raw,
            self.keep_partial,
            self.allow_download,
        ]


def _create_form(host: TabHost) -> _CreateForm:
    with gr.Row():
        with gr.Column():
            name = gr.Textbox(label="Name", elem_id=f"{ID}_name", max_lines=1, placeholder="my taste")
            folders = gr.Textbox(
                label="Folders, one per line", lines=2, elem_id=f"{ID}_folders", visible=host.folders_allowed
            )
            recursive = gr.Checkbox(label="With subfolders", elem_id=f"{ID}_recursive", visible=host.folders_allowed)
            uploads = gr.File(label="Or drop pictures here", file_count="multiple", elem_id=f"{ID}_uploads")
            with gr.Accordion(
                "Pictures sent from a gallery", open=False, elem_id=f"{ID}_sent_accordion"
            ) as sent_accordion:
                sent = gr.Gallery(label="Sent", columns=6, height=220, elem_id=f"{ID}_sent", show_label=False)
                clear = gr.Button("Take them out", elem_id=f"{ID}_clear")
                clear.click(fn=lambda: [], inputs=[], outputs=[sent])
            spaces = gr.CheckboxGroup(
                choices=[space.name for space in PUBLISHED],
                label="CLIP spaces (none ticked: those of the loaded checkpoint)",
                elem_id=f"{ID}_spaces",
            )
            with gr.Row():
                batch_size = gr.Slider(
                    label="Batch size", minimum=1, maximum=256, step=1, value=16, elem_id=f"{ID}_batch_size"
                )
                note = gr.Textbox(label="Note", elem_id=f"{ID}_note", max_lines=1)
            with gr.Row():
                overwrite = gr.Checkbox(label="Overwrite", elem_id=f"{ID}_overwrite")
                raw = gr.Checkbox(label="Plain mean, as in the paper's code", elem_id=f"{ID}_raw")
            with gr.Row():
                keep_partial = gr.Checkbox(label="Keep what is done when interrupted", elem_id=f"{ID}_keep_partial")
                allow_download = gr.Checkbox(
                    label="Allow to download a missing image encoder", elem_id=f"{ID}_allow_download"
                )
            with gr.Row():
                start = gr.Button("Create embedding", variant="primary", elem_id=f"{ID}_start")
                stop = gr.Button("Interrupt", elem_id=f"{ID}_stop")
        with gr.Column(elem_id=f"{ID}_output"):
            gr.HTML(elem_id=f"{ID}_progress")
            preview = gr.Image(label="Nearest to the mean", interactive=False, elem_id=f"{ID}_preview")
            result = gr.HTML(elem_id=f"{ID}_result")
    return _CreateForm(
        name,
        folders,
        recursive,
        uploads,
        sent,
        sent_accordion,
        spaces,
        batch_size,
        note,
        overwrite,
        raw,
        keep_partial,
        allow_download,
        start,
        stop,
        preview,
        result,
    )


def _connect_create(host: TabHost, form: _CreateForm, lists: list[Any]) -> None:
    own = len(lists) - len(host.dropdowns) - 1

    def make(
        name: str,
        folders: str,
        recursive: bool,
        uploads: Any,
        sent: Any,
        spaces: list[str],
        batch_size: float,
        note: str,
        overwrite: bool,
        raw: bool,
        keep_partial: bool,
        allow_download: bool,
    ) -> list[Any]:
        library = host.library()
        name = reserve(library, name, overwrite)
        files = _from_uploads(uploads)
        sources = [*_from_folders(host, folders, recursive), *files, *_from_gallery(host, sent)]
        if not sources:
            raise AestheticError(
                "There are no pictures to make an embedding of.",
                "No source is filled in.",
                "Name a folder, drop some files, or send pictures from a gallery.",
            )
        wanted = [space for text in spaces if (space := space_named(text))] or list(host.spaces())
        with contextlib.ExitStack() as stack:
            encoders = []
            for space in wanted:
                if host.stopped():
                    raise Interrupted
                host.progress(0, len(sources), f"Loading the image encoder for {space.name}")
                encoders.append(stack.enter_context(host.encoder(space, allow_download)))
            host.progress(0, len(sources), "Reading the first pictures")
            result = create(
                sources,
                encoders,
                batch_size=int(batch_size),
                raw=raw,
                stopped=host.stopped,
                progress=lambda done, total, rate, _: host.progress(done, total, report.pace(done, total, rate)),
                keep_partial=keep_partial,
            )
        # People know the file that they uploaded, not where the server put it.
        own_names = {str(file): file.name for file in files}
        result.skipped = [Skipped(own_names.get(name, name), reason) for name, reason in result.skipped]
        embedding, sheet = keep(result, library, name, note, overwrite)
        return [*_lists(host, own), sheet, report.created(embedding, result, library)]

    nothing = [gr.update() for _ in range(len(lists) + 1)]

    def run(_id: str, *values: Any) -> list[Any]:
        # The host would print a traceback and show the exception's type.
        try:
            return make(*values)
        except Interrupted:
            return [*nothing, "<p>Interrupted: nothing was saved.</p>"]
        except AestheticError as error:
            return [*nothing, report.error(error)]

    start: dict[str, Any] = {"_js": host.submit_js} if host.submit_js else {}
    # The page's function puts a job id in place of the first input.
    form.start.click(
        fn=host.job(run, nothing),
        inputs=[form.name, *form.inputs],
        outputs=[*lists, form.preview, form.result],
        show_progress=not host.submit_js,
        **start,
    )
    form.stop.click(fn=host.interrupt, inputs=[], outputs=[])


def _from_folders(host: TabHost, folders: str, recursive: bool) -> list[Source]:
    named = [line.strip().strip('"') for line in (folders or "").splitlines() if line.strip()]
    if not named:
        return []
    if not host.folders_allowed:
        raise AestheticError(
            "Folders can't be read from this page.",
            "The server's owner has hidden them.",
            "Drop the pictures into the page instead.",
        )
    return list(find_images([Path(folder).expanduser() for folder in named], recursive))


def _from_uploads(uploads: Any) -> list[Path]:
    # Temporary files in gradio 3, paths later.
    return [Path(getattr(upload, "name", upload)) for upload in uploads or []]


def _from_gallery(host: TabHost, sent: Any) -> list[Source]:
    return [(f"sent {number}", host.picture(item)) for number, item in enumerate(sent or [], 1)]


# Library


@dataclass(frozen=True)
class _LibraryForm:
    table: Any
    one: Any
    several: Any
    new_name: Any
    weights: Any
    text: Any
    format: Any
    buttons: dict[str, Any]
    message: Any
    picture: Any
    file: Any

    @property
    def dropdowns(self) -> list[Any]:
        return [self.one, self.several]


def _library_form(host: TabHost) -> _LibraryForm:
    names = host.library().names()
    buttons: dict[str, Any] = {}

    def button(key: str, label: str) -> None:
        buttons[key] = gr.Button(label, elem_id=f"{ID}_{key}")

    with gr.Row():
        with gr.Column(scale=3):
            with gr.Row():
                button("refresh", "Refresh")
                button("download", "Download the paper's embeddings")
            provenance = "".join(f"<li><b>{e.name}</b>: {html.escape(e.provenance)}</li>" for e in CATALOGUE)
            with gr.Accordion("Where the paper's embeddings come from", open=False):
                gr.HTML(f"<p>{REPOSITORY}</p><ul>{provenance}</ul>")
            # What a button answers stands above the table, which may be longer than the screen.
            message = gr.HTML(elem_id=f"{ID}_message")
            picture = gr.Image(label="Picture", interactive=False, height=480, elem_id=f"{ID}_picture", visible=False)
            table = gr.HTML(report.table(host.library()), elem_id=f"{ID}_table")
        with gr.Column(scale=2):
            one = gr.Dropdown(choices=names, label="Embedding", elem_id=f"{ID}_one")
            with gr.Row():
                button("inspect", "Inspect")
                button("trash", "Move to trash")
            with gr.Row():
                format_ = gr.Radio(choices=list(SUFFIXES), value=SUFFIXES[0], label="Format", elem_id=f"{ID}_format")
                button("export", "Export")
            file = gr.File(label="Exported", interactive=False, elem_id=f"{ID}_file", visible=False)
            several = gr.Dropdown(choices=names, label="Several embeddings", multiselect=True, elem_id=f"{ID}_several")
            weights = gr.Textbox(
                label="Weights",
                elem_id=f"{ID}_weights",
                max_lines=1,
                placeholder="0.7, 0.3 for a mixture; 1, -1 for a direction",
            )
            text = gr.Textbox(
                label="Text", elem_id=f"{ID}_text", max_lines=1, placeholder="to compare the embeddings with"
            )
            with gr.Row():
                button("compare", "Compare")
                button("compare_text", "Compare with the text")
            new_name = gr.Textbox(
                label="New name", elem_id=f"{ID}_new_name", max_lines=1, placeholder="for Mix and Rename"
            )
            with gr.Row():
                button("mix", "Mix the several")
                button("rename", "Rename the one")
    return _LibraryForm(table, one, several, new_name, weights, text, format_, buttons, message, picture, file)


def _connect_library(host: TabHost, form: _LibraryForm, lists: list[Any]) -> None:
    own = len(form.dropdowns)

    def changing(key: str, inputs: list[Any], action: Callable[..., str]) -> None:
        """A button that changes the library: its lists follow, and a message says what happened."""

        def run(one: str | None, several: list[str] | None, *values: Any) -> list[Any]:
            before = host.library().names()
            try:
                said = f"<p>{html.escape(action(*values))}</p>"
            except AestheticError as error:
                said = report.error(error)
            fresh = _lists(host, own)
            names = host.library().names()
            # Choices change only where they have to, since people may go on choosing meanwhile.
            at = len(host.dropdowns)
            if one and one not in names:
                # After renaming, the new name is the one that has come.
                new = [name for name in names if name not in before]
                fresh[at] = gr.update(choices=names, value=new[0] if key == "rename" and new else None)
            still = [name for name in several or [] if name in names]
            if still != (several or []):
                fresh[at + 1] = gr.update(choices=names, value=still)
            return [*fresh, said]

        form.buttons[key].click(fn=run, inputs=[*form.dropdowns, *inputs], outputs=[*lists, form.message])

    def showing(key: str, inputs: list[Any], output: Any, action: Callable[..., tuple[Any, str]]) -> None:
        """A button that shows something in ``output``, which is there only while it holds something."""

        def run(*values: Any) -> tuple[Any, str]:
            try:
                value, said = action(*values)
            except AestheticError as error:
                value, said = None, report.error(error)
            return gr.update(value=value, visible=value is not None), said

        form.buttons[key].click(fn=run, inputs=inputs, outputs=[output, form.message])

    def chosen(name: str | None) -> str:
        if not name:
            raise AestheticError("No embedding is chosen.", do="Choose one in the list above the buttons.")
        return name

    def inspect(name: str) -> tuple[Any, str]:
        library = host.library()
        embedding = library.load(chosen(name))
        preview = library.preview(name)
        return (str(preview) if preview else None), report.about(embedding, library)

    def trash(name: str) -> str:
        return f"Moved to {host.library().trash(chosen(name))}."

    def rename(name: str, new_name: str) -> str:
        path = host.library().rename(chosen(name), new_name)
        return f"Renamed: {PurePosixPath(name).with_name(path.stem)}."

    def export(name: str, suffix: str) -> tuple[Any, str]:
        folder = Path(tempfile.mkdtemp())
        file = folder / f"{Path(chosen(name)).name}{suffix}"
        host.library().export(name, file)
        return str(file), f"Exported: {html.escape(name)} as {suffix}."

    def mixed(names: list[str], weights: str, new_name: str) -> str:
        library = host.library()
        new_name = library.refuse_taken(new_name)
        embedding = mix(
            [library.load(name) for name in names or []], report.numbers(weights, len(names or [])), new_name
        )
        return f"Saved: {library.save_new(embedding, new_name)}."

    def compare(names: list[str]) -> tuple[Any, str]:
        embeddings = [host.library().load(name) for name in names or []]
        if len(embeddings) < 2:
            raise AestheticError(
                "There is nothing to compare.",
                "It takes two or more embeddings.",
                "Choose them in the list of several.",
            )
        shared = [s for s in PUBLISHED if all(s in e.vectors for e in embeddings)]
        if not shared:
            raise AestheticError(
                "These embeddings can't be compared.",
                "They have no CLIP space in common.",
                "Choose two or more of one space.",
            )
        picture = similarity_picture(names, similarity_matrix(embeddings, shared[0]))
        return picture, f"Cosine similarity in {shared[0].name}."

    def compare_text(names: list[str], text: str) -> tuple[Any, str]:
        if not (text or "").strip():
            raise AestheticError("There is no text to compare with.", do="Write one into the field above the button.")
        embeddings = [host.library().load(name) for name in names or host.library().names()]
        return None, report.against_text(embeddings, text, host.text_features(text))

    def fetch() -> str:
        done = download(CATALOGUE, host.library().folders[0])
        return report.downloaded(done)

    changing("refresh", [], lambda: "")
    changing("trash", [form.one], trash)
    changing("rename", [form.one, form.new_name], rename)
    changing("mix", [form.several, form.weights, form.new_name], mixed)
    changing("download", [], fetch)
    showing("inspect", [form.one], form.picture, inspect)
    showing("export", [form.one, form.format], form.file, export)
    showing("compare", [form.several], form.picture, compare)
    showing("compare_text", [form.several, form.text], form.picture, compare_text)
