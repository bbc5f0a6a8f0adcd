"""The form that makes an embedding from pictures."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ...errors import AestheticError, Interrupted
from ...spaces import PUBLISHED, space_named
from .. import messages as report
from .host import ID, TabHost, fresh_lists

if TYPE_CHECKING:
    from ...create.pictures import Source


@dataclass(frozen=True)
class CreateForm:
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


def build(host: TabHost) -> CreateForm:
    with gr.Row():
        with gr.Column():
            name = gr.Textbox(label="Name", elem_id=f"{ID}_name", max_lines=1, placeholder="my taste")
            folders = gr.Textbox(
                label="Folders, one per line", lines=2, elem_id=f"{ID}_folders", visible=host.folders_allowed
            )
            recursive = gr.Checkbox(label="With subfolders", elem_id=f"{ID}_recursive", visible=host.folders_allowed)
            uploads = gr.File(label="Or drop pictures here", file_count="multiple", elem_id=f"{ID}_uploads")
            with gr.Accordion(
                "Pictures sent from a gallery",
                open=False,
                elem_id=f"{ID}_sent_accordion",
                visible=host.picture is not None,
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
    return CreateForm(
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


def connect(host: TabHost, form: CreateForm, lists: list[Any]) -> None:
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
        # Here, so that a host starts without them.
        from ...create.pictures import Skipped, create, keep

        library = host.library()
        name = library.reserve(name, overwrite)
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
        return [*fresh_lists(host, own), sheet, report.created(embedding, result, library)]

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
    form.stop.click(fn=host.interrupt, inputs=[], outputs=[], queue=False)


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
    from ...create.images import find_images

    return list(find_images([Path(folder).expanduser() for folder in named], recursive))


def _from_uploads(uploads: Any) -> list[Path]:
    # Temporary files in gradio 3, paths later.
    return [Path(getattr(upload, "name", upload)) for upload in uploads or []]


def _from_gallery(host: TabHost, sent: Any) -> list[Source]:
    if host.picture is None:
        return []
    return [(f"sent {number}", host.picture(item)) for number, item in enumerate(sent or [], 1)]
