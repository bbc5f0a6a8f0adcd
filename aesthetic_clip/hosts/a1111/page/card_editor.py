"""What people write on a card: the WebUI's own editor, with what is preferred for an embedding."""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import ui_extra_networks_user_metadata

from ....embeddings.preferences import notes_path, preferred, preferring
from ....errors import AestheticError
from ....printable import printable
from ....settings import BY_NAME, CUSTOM, PRESETS
from .. import options
from ..remedies import REMEDIES


class CardEditor(ui_extra_networks_user_metadata.UserMetadataEditor):  # type: ignore[misc]
    """Description, notes, and the preset and strength that the card's tag and the accordion take for this embedding."""

    def create_editor(self) -> None:
        self.create_default_editor_elems()
        with gr.Row():
            self.preset = gr.Dropdown(list(PRESETS), value=CUSTOM, label="Preferred preset", info="Custom means none")
            self.strength = gr.Slider(
                label="Preferred strength",
                info="Set to 0 to leave it to the preset",
                minimum=0,
                maximum=BY_NAME["strength"].maximum,
                step=0.01,
            )
        self.edit_notes = gr.TextArea(label="Notes", lines=4)
        self.create_default_buttons()
        shown = [self.edit_name, self.edit_description, self.html_filedata, self.html_preview, self.edit_notes]
        self.button_edit.click(
            fn=self.put_values_into_components,
            inputs=[self.edit_name_input],
            outputs=[*shown, self.preset, self.strength],
        ).then(fn=lambda: gr.update(visible=True), inputs=[], outputs=[self.box])
        edited = [self.edit_description, self.edit_notes, self.preset, self.strength]
        self.setup_save_handler(self.button_save, self.save, edited)

    def put_values_into_components(self, name: str) -> list[Any]:
        values = preferred(self.get_user_metadata(name))
        return [
            *super().put_values_into_components(name),
            gr.update(choices=list(PRESETS), value=values.get("preset", CUSTOM)),
            values.get("strength", 0),
        ]

    def save(self, name: str, description: str, notes: str, preset: str, strength: float) -> None:
        """Write what was edited beside the embedding; the WebUI shows what goes wrong."""
        try:
            entry = options.embeddings().entry(name)
            if notes_path(entry) is None:
                raise AestheticError(
                    f"The notes of {name!r} were not saved.",
                    "Their file would have the name of that of the presets.",
                    "Give the embedding another name.",
                )
            changed = preferring(self.get_user_metadata(name), {"preset": preset, "strength": strength})
            self.write_user_metadata(name, {**changed, "description": description, "notes": notes})
        except AestheticError as error:
            raise gr.Error(printable(error.told(REMEDIES))) from error
