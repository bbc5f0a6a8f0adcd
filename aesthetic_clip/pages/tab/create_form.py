"""The form that makes an embedding from pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
from PIL import Image

from ...create.limits import MAX_BATCH_SIZE, MAX_SENT, MAX_UPLOADS
from ...errors import AestheticError
from ...spaces import PUBLISHED, space_named
from .. import forms, messages
from ..forms import Field, Form, Updates
from ..markup import PRIMARY
from ..picker import Lists
from .host import ID, TabHost

if TYPE_CHECKING:
    from ...create.sources import Skipped, Source

# Kinds that Pillow knows with a plug-in only; that one is missing is worth a line.
_MORE_PICTURES = {".heic", ".heif", ".avif", ".jxl"}


class CreateForm(NamedTuple):
    """The form's fields and what else there is of it on the page.

    Attributes:
        host: what only it can do.
        fields: what can be filled in, by name.
        sent, sent_accordion: the gallery of pictures that were sent here, and what it is folded away in.
        start, stop: buttons.
        preview, result: what is shown in the end.
    """

    host: TabHost
    fields: dict[str, Field[Any]]
    sent: Any
    sent_accordion: Any
    start: Any
    stop: Any
    preview: Any
    result: Any

    def connect(self, lists: Lists) -> Any:
        """Make the buttons work.

        Args:
            lists: of embeddings, which follow.

        Returns:
            The event of an embedding's making, for what comes after it.
        """
        host = self.host

        def create_embedding(
            name: str,
            folders: str,
            recursive: bool,
            uploads: list[Path],
            sent: list[object],
            spaces: list[str],
            batch_size: int,
            note: str,
            overwrite: bool,
            raw: bool,
            keep_partial: bool,
            allow_download: bool,
        ) -> Updates:
            # Here, so that a program with this page starts without it.
            from ...create.pictures import create, save_result
            from ...create.sources import Sources

            library = host.library()
            # Before anything long.
            name = library.reserve(name, overwrite)
            named = _folders(host, folders)
            # People know a file that they uploaded by its name, not where the server put it.
            at_hand: list[Source] = [*((file.name, file) for file in uploads), *_pictures(host, sent)]
            if not named and not at_hand:
                raise AestheticError(
                    "There are no pictures to make an embedding of.",
                    "No source is filled in.",
                    "Name a folder, drop some files, or send pictures from a gallery.",
                )
            sources = Sources(named, at_hand, recursive, host.progress)
            wanted = [space for text in spaces if (space := space_named(text))] or list(host.spaces())
            with contextlib.ExitStack() as stack:
                encoders = []
                for space in wanted:
                    host.progress(0, len(sources), f"Loading the image encoder for {space.name}")
                    encoders.append(stack.enter_context(host.encoder(space, allow_download)))
                result = create(
                    sources,
                    encoders,
                    batch_size=batch_size,
                    raw=raw,
                    progress=host.progress,
                    keep_partial=keep_partial,
                )
            embedding, sheet = save_result(result, library, name, note, overwrite)
            said = messages.created(embedding, result, library, _within(named, result.skipped))
            return {**lists.fresh(), "preview": sheet, "result": said}

        form = Form(self.fields, "result", host.remedies, "Interrupted: nothing was saved.")
        outputs = {**lists.outputs, "preview": self.preview, "result": self.result}
        made = form.on(
            self.start.click,
            create_embedding,
            outputs,
            job=host.job,
            js=host.submit_js,
            # The program's own bar shows it, where there is one.
            show_progress="hidden" if host.submit_js else "full",
        )
        self.stop.click(fn=host.interrupt, inputs=[], outputs=[], queue=False)
        return made


def build(host: TabHost) -> CreateForm:
    """The form inside the current ``gr.Blocks``."""
    fields: dict[str, Field[Any]] = {}
    with gr.Row():
        with gr.Column():
            fields["name"] = forms.text("Name", 200, elem_id=f"{ID}_name", max_lines=1, placeholder="my taste")
            fields["folders"] = forms.text(
                "Folders, one per line", 20_000, lines=2, elem_id=f"{ID}_folders", visible=host.folders_allowed
            )
            fields["recursive"] = forms.switch(
                "With subfolders", elem_id=f"{ID}_recursive", visible=host.folders_allowed
            )
            fields["uploads"] = forms.uploads("Or drop pictures here", MAX_UPLOADS, elem_id=f"{ID}_uploads")
            with gr.Accordion(
                "Pictures sent from a gallery",
                open=False,
                elem_id=f"{ID}_sent_accordion",
                visible=host.picture is not None,
            ) as sent_accordion:
                fields["sent"] = forms.gallery(
                    "Sent", MAX_SENT, columns=6, height=220, elem_id=f"{ID}_sent", show_label=False
                )
                sent = fields["sent"].control
                clear = gr.Button("Take them out", elem_id=f"{ID}_clear")
                clear.click(fn=lambda: [], inputs=[], outputs=[sent])
            fields["spaces"] = forms.ticks(
                "CLIP spaces (none ticked: those of the loaded checkpoint)",
                [space.name for space in PUBLISHED],
                elem_id=f"{ID}_spaces",
            )
            with gr.Row():
                fields["batch_size"] = forms.slider("Batch size", 1, MAX_BATCH_SIZE, 1, 16, elem_id=f"{ID}_batch_size")
                fields["note"] = forms.text("Note", 1000, elem_id=f"{ID}_note", max_lines=1)
            with gr.Row():
                fields["overwrite"] = forms.switch("Overwrite", elem_id=f"{ID}_overwrite")
                fields["raw"] = forms.switch("Plain mean, as in the paper's code", elem_id=f"{ID}_raw")
            with gr.Row():
                fields["keep_partial"] = forms.switch(
                    "Keep what is done when interrupted", elem_id=f"{ID}_keep_partial"
                )
                fields["allow_download"] = forms.switch(
                    "Allow to download a missing image encoder", elem_id=f"{ID}_allow_download"
                )
            with gr.Row():
                start = gr.Button("Create embedding", elem_id=f"{ID}_start", **PRIMARY)
                stop = gr.Button("Interrupt", elem_id=f"{ID}_stop")
        with gr.Column(elem_id=f"{ID}_output"):
            gr.HTML(elem_id=f"{ID}_progress")
            preview = gr.Image(label="Nearest to the mean", interactive=False, elem_id=f"{ID}_preview")
            result = gr.HTML(elem_id=f"{ID}_result")
    return CreateForm(host, fields, sent, sent_accordion, start, stop, preview, result)


def _folders(host: TabHost, text: str) -> list[Path]:
    named = [line.strip().strip('"') for line in text.splitlines() if line.strip()]
    if named and not host.folders_allowed:
        # Nothing is looked at, so that the answer says nothing about what there is.
        raise AestheticError(
            "Folders can't be read from this page.",
            "The server's owner has hidden them.",
            "Drop the pictures into the page instead.",
        )
    try:
        return [Path(folder).expanduser() for folder in named]
    except RuntimeError as error:
        raise AestheticError("That folder can't be used.", f"{error}.", "Write its whole path.") from error


def _pictures(host: TabHost, sent: Sequence[object]) -> list[Source]:
    if host.picture is None:
        return []
    return [(f"sent {number}", host.picture(item)) for number, item in enumerate(sent, 1)]


def _within(folders: Sequence[Path], skipped: Sequence[Skipped]) -> list[Skipped]:
    """What was skipped, named as seen from the folder that it lies in.

    What else lies in a folder is nobody's business: files that are no pictures by their names are counted.
    """
    from ...create.sources import Skipped

    told, others = [], 0
    for item in skipped:
        path = Path(item.name)
        inside = next((folder for folder in folders if path.is_relative_to(folder)), None)
        if inside is None:
            told.append(item)
        elif path.is_dir() or path.suffix.lower() in _MORE_PICTURES | Image.registered_extensions().keys():
            told.append(item._replace(name=str(path.relative_to(inside))))
        else:
            others += 1
    if others:
        told.append(Skipped(f"{others} of other kinds", "not called as pictures are"))
    return told
