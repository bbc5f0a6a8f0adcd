"""What the tab's controls do, in a sentence each: their tooltips."""

from __future__ import annotations

import json
from collections.abc import Mapping

import gradio as gr

from ..markup import html
from .host import ID

HINTS: Mapping[str, str] = {
    # Create
    "name": "What the new embedding is called in the lists.",
    "folders": "Folders of pictures on the computer that runs this program. Every picture in them counts the same.",
    "recursive": "Take the pictures of the folders inside these folders as well.",
    "uploads": "Pictures from your own computer; the folder above may stay empty.",
    "clear": "Empty the list of pictures that were sent here from a gallery.",
    "spaces": "Which models it is for: ViT-L/14 for SD 1.x and SDXL, ViT-H/14 for SD 2.x, ViT-bigG/14 for SDXL. "
    "None ticked: those of the loaded checkpoint.",
    "batch_size": "How many pictures are looked at together. More is faster as long as the memory lasts.",
    "note": "Some words of your own, kept in the embedding's file.",
    "overwrite": "Replace an embedding that has this name already.",
    "raw": "Add the pictures up as the paper's code does, where those with a longer vector count more. "
    "Otherwise every picture counts the same.",
    "keep_partial": "When you press Interrupt, make the embedding of the pictures so far instead of nothing.",
    "allow_download": "What looks at the pictures is a file of 1 to 4 GB; fetch it once if it is not there yet.",
    "start": "Look at all pictures and save the embedding.",
    "stop": "Stop looking at pictures.",
    # Library
    "inspect": "Say what is known of the chosen embedding, and show its picture.",
    "trash": "Move the chosen embeddings to the trash, from which Restore brings them back.",
    "refresh": "Read the folders again.",
    "new_name": "The new name for Rename and Mix, and for Restore if the old one is taken.",
    "rename": "Give the chosen embedding the new name.",
    "weights": "How much each chosen embedding counts, in their order: 0.7, 0.3 is a mixture, 1, -1 what sets the first apart "
    "from the second. Empty: all the same.",
    "mix": "Make a new embedding of the chosen ones, with these weights and the new name.",
    "text": "Some words to compare the embeddings with, as the loaded checkpoint understands them.",
    "compare_text": "Say how near the chosen embeddings, or all of them, are to the text.",
    "compare": "Show how near the chosen embeddings are to each other.",
    "home": "Move the chosen embeddings from another folder into the first one.",
    "format": "The file's kind: .safetensors holds everything, .pt is what the first extension reads.",
    "export": "Offer the chosen embeddings as files to download.",
    "restore": "Bring back what is chosen in the trash.",
    "table_filter": "Show only rows with these words.",
    "trashed_filter": "Show only rows with these words.",
    "pictures": "Make a picture for the cards of embeddings that have none, with the loaded checkpoint.",
    "pictures_stop": "Stop making pictures; those that are ready stay.",
    "download": "Fetch the embeddings that the paper's author published, a few kilobytes each.",
    # Tastes
    "taste_profile": "A taste that grows with every picture you like.",
    "taste_page": "Which of its pictures are shown, sixty at a time.",
    "taste_show": "Show the pictures that you liked and disliked.",
    "taste_chosen": "Pictures that Take them out removes from the taste.",
    "taste_take_out": "Make the taste forget the chosen pictures.",
    "taste_undo": "Take back the last thing that was done to this taste.",
}
"""By the controls' names on the page, which begin with :data:`.host.ID`."""


def build() -> None:
    """Give them to the page, inside the current ``gr.Blocks``."""
    hints = {f"{ID}_{name}": text for name, text in HINTS.items()}
    gr.HTML(html("<span hidden data-aesthetic-hints='{}'></span>", json.dumps(hints)))
