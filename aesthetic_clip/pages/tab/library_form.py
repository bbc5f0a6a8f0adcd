"""The form that looks after the embeddings there are."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from ...embeddings.embedding import SUFFIXES
from ...embeddings.mixing import mix, similarity_matrix, similarity_picture
from ...embeddings.published import CATALOGUE, REPOSITORY, download
from ...errors import AestheticError
from .. import messages as report
from .host import ID, TabHost, fresh_lists


@dataclass(frozen=True)
class LibraryForm:
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


def build(host: TabHost) -> LibraryForm:
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
                button("mix", "Mix several")
                button("rename", "Rename")
    return LibraryForm(table, one, several, new_name, weights, text, format_, buttons, message, picture, file)


def connect(host: TabHost, form: LibraryForm, lists: list[Any]) -> None:
    own = len(form.dropdowns)
    exported: list[tempfile.TemporaryDirectory[str]] = []

    def changing(key: str, inputs: list[Any], action: Callable[..., str]) -> None:
        """A button that changes the library: its lists follow, and a message says what happened."""

        def run(one: str | None, several: list[str] | None, *values: Any) -> list[Any]:
            before = host.library().names()
            try:
                said = f"<p>{html.escape(action(*values))}</p>"
            except AestheticError as error:
                said = report.error(error)
            fresh = fresh_lists(host, own)
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
        file_name = f"{Path(chosen(name)).name}{suffix}"
        # gradio takes a copy, but only after this has returned.
        exported.append(tempfile.TemporaryDirectory())
        file = Path(exported[-1].name, file_name)
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
        shared = [s for s in embeddings[0].vectors if all(s in e.vectors for e in embeddings)]
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
