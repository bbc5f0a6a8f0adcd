"""The form that looks after the embeddings there are."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from ...create.images import UnreadableImage, decode
from ...embeddings.embedding import SUFFIXES
from ...embeddings.mixing import mix, similarity_matrix
from ...embeddings.published import CATALOGUE, REPOSITORY, download
from ...errors import AestheticError
from .. import forms, messages, picker
from ..forms import Field, Form, Updates, parameters
from ..heatmap import similarity_picture
from ..markup import html
from ..picker import Lists
from .host import ID, TabHost

# A file is read by gradio right after it was made; some more, for pages that ask at the same time.
_EXPORTS_KEPT = 8
_LARGEST_PICTURE = 1024


@dataclass(frozen=True)
class LibraryForm:
    """The form's fields and what else there is of it on the page.

    Attributes:
        host: what only it can do.
        fields: what can be chosen and filled in, by name.
        buttons: by name.
        table, message, picture, file: what is shown.
    """

    host: TabHost
    fields: dict[str, Field[Any]]
    buttons: dict[str, Any]
    table: Any
    message: Any
    picture: Any
    file: Any

    @property
    def pickers(self) -> dict[str, Any]:
        """Its lists of embeddings."""
        return {name: self.fields[name].control for name in ("one", "several")}

    def connect(self, lists: Lists) -> None:
        """Make the buttons work.

        Args:
            lists: of embeddings, which follow.
        """
        for name, action in _changes(self.host).items():
            self._changing(name, action, lists)
        shown = {"picture": self.picture, "file": self.file}
        for name, (output, look) in _looks(self.host).items():
            self._showing(name, look, output, shown[output])

    def _changing(self, button: str, action: Callable[..., str], lists: Lists) -> None:
        """A button that changes the library: its lists follow, and a message says what happened."""
        host = self.host
        # What was chosen as the page knows it, since it may be gone by now or afterwards.
        chosen = {f"chosen_{name}": Field([control], _names) for name, control in self.pickers.items()}

        def change(chosen_one: list[str], chosen_several: list[str], **values: Any) -> Updates:
            before = host.library().names()
            updates = {"message": messages.note(action(**values)), **lists.fresh()}
            names = host.library().names()
            # Choices change only where they have to, since people may go on choosing meanwhile.
            if chosen_one and chosen_one[0] not in names:
                # After renaming, the new name is the one that has come.
                new = [name for name in names if name not in before]
                updates["one"] = gr.update(choices=names, value=new[0] if button == "rename" and new else None)
            still = [name for name in chosen_several if name in names]
            if still != chosen_several:
                updates["several"] = gr.update(choices=names, value=still)
            return updates

        form = Form({**self.fields, **chosen}, "message", host.remedies)
        form.on(
            self.buttons[button].click,
            change,
            {**lists.outputs, "message": self.message},
            takes=[*chosen, *parameters(action)],
            failed=lists.fresh,
        )

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

    with gr.Row():
        with gr.Column(scale=3):
            with gr.Row():
                button("refresh", "Refresh")
                button("download", "Download the paper's embeddings")
            with gr.Accordion("Where the paper's embeddings come from", open=False):
                gr.HTML(messages.origins(REPOSITORY, CATALOGUE))
            # What a button answers stands above the table, which may be longer than the screen.
            message = gr.HTML(elem_id=f"{ID}_message")
            picture = gr.Image(label="Picture", interactive=False, height=480, elem_id=f"{ID}_picture", visible=False)
            table = gr.HTML(messages.table(host.library()), elem_id=f"{ID}_table")
        with gr.Column(scale=2):
            fields["one"] = picker.one("Embedding", host.library, elem_id=f"{ID}_one")
            with gr.Row():
                button("inspect", "Inspect")
                button("trash", "Move to trash")
            with gr.Row():
                fields["suffix"] = forms.choice("Format", SUFFIXES, elem_id=f"{ID}_format")
                button("export", "Export")
            file = gr.File(label="Exported", interactive=False, elem_id=f"{ID}_file", visible=False)
            fields["several"] = picker.several("Several embeddings", host.library, elem_id=f"{ID}_several")
            fields["weights"] = forms.text(
                "Weights",
                10_000,
                elem_id=f"{ID}_weights",
                max_lines=1,
                placeholder="0.7, 0.3 for a mixture; 1, -1 for a direction",
            )
            fields["text"] = forms.text(
                "Text", elem_id=f"{ID}_text", max_lines=1, placeholder="to compare the embeddings with"
            )
            with gr.Row():
                button("compare", "Compare")
                button("compare_text", "Compare with the text")
            fields["new_name"] = forms.text(
                "New name", 200, elem_id=f"{ID}_new_name", max_lines=1, placeholder="for Mix and Rename"
            )
            with gr.Row():
                button("mix", "Mix several")
                button("rename", "Rename")
    return LibraryForm(host, fields, buttons, table, message, picture, file)


def _changes(host: TabHost) -> Mapping[str, Callable[..., str]]:
    """What the buttons do that change the library, and say afterwards."""

    def refresh() -> str:
        return ""

    def trash(one: str | None) -> str:
        return f"Moved to {host.library().trash(_chosen(one))}."

    def rename(one: str | None, new_name: str) -> str:
        path = host.library().rename(_chosen(one), new_name)
        return f"Renamed: {PurePosixPath(_chosen(one)).with_name(path.stem)}."

    def mixture(several: list[str], weights: str, new_name: str) -> str:
        library = host.library()
        new_name = library.refuse_taken(new_name)
        embedding = mix([library.load(name) for name in several], messages.numbers(weights, len(several)), new_name)
        return f"Saved: {library.save_new(embedding, new_name)}."

    def fetch() -> str:
        return messages.downloaded(download(CATALOGUE, host.library().folders[0]))

    return {"refresh": refresh, "trash": trash, "rename": rename, "mix": mixture, "download": fetch}


def _looks(host: TabHost) -> Mapping[str, tuple[str, Callable[..., tuple[Any, Any]]]]:
    """What the buttons do that show something: where, and what is said beside it."""
    exported: deque[tempfile.TemporaryDirectory[str]] = deque()

    def inspect(one: str | None) -> tuple[Any, Any]:
        library = host.library()
        embedding = library.load(_chosen(one))
        said = messages.about(embedding, library)
        preview = library.preview(_chosen(one))
        if preview is None:
            return None, said
        try:
            picture = decode(preview, target=_LARGEST_PICTURE)
        except UnreadableImage as fault:
            return None, html("{}<p>Its picture can't be shown: {}.</p>", said, fault.reason)
        picture.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
        return picture, said

    def export(one: str | None, suffix: str) -> tuple[Any, Any]:
        name = _chosen(one)
        # gradio takes a copy, but only after this has returned.
        exported.append(tempfile.TemporaryDirectory(prefix=ID))
        while len(exported) > _EXPORTS_KEPT:
            exported.popleft().cleanup()
        file = Path(exported[-1].name, f"{PurePosixPath(name).name}{suffix}")
        host.library().export(name, file)
        return str(file), messages.note(f"Exported: {name} as {suffix}.")

    def compare(several: list[str]) -> tuple[Any, Any]:
        embeddings = [host.library().load(name) for name in several]
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
        picture = similarity_picture(several, similarity_matrix(embeddings, shared[0]))
        return picture, messages.note(f"Cosine similarity in {shared[0].name}.")

    def compare_text(several: list[str], text: str) -> tuple[Any, Any]:
        if not text.strip():
            raise AestheticError("There is no text to compare with.", do="Write one into the field above the button.")
        embeddings = [host.library().load(name) for name in several or host.library().names()]
        return None, messages.against_text(embeddings, text, host.text_features(text))

    return {
        "inspect": ("picture", inspect),
        "export": ("file", export),
        "compare": ("picture", compare),
        "compare_text": ("picture", compare_text),
    }


def _chosen(name: str | None) -> str:
    if not name:
        raise AestheticError("No embedding is chosen.", do="Choose one in the list above the buttons.")
    return name


def _names(value: object) -> list[str]:
    """Names as a page sends them, whether or not they are in the library."""
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str) and name]
