"""Every control of the tab has a tooltip, and every tooltip a control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.pages import picker, tab
from aesthetic_clip.pages.index import Index
from aesthetic_clip.pages.local_page import Jobs
from aesthetic_clip.pages.tab.hints import HINTS

USED = (
    *(gr.Button, gr.Textbox, gr.Checkbox, gr.CheckboxGroup, gr.Radio, gr.Slider, gr.Number),
    *(gr.Dropdown, gr.File),
)
OTHERS = ("try_", "sent", "file")
"""The demonstration's, which say it themselves, and what only shows something."""


def controls(folder: Path) -> set[str]:
    library, jobs = open_library([folder]), Jobs()
    host = tab.TabHost(
        library=lambda: library,
        spaces=list,
        encoder=lambda space, download: None,  # type: ignore[arg-type, return-value]
        text_features=lambda text: {},
        picture=lambda item: folder,
        job=jobs.make,
        progress=jobs.progress,
        interrupt=jobs.interrupt,
        demonstration=True,
        has_cards=True,
    )
    with gr.Blocks() as page:
        tab.build(host, picker.lists(Index(host.library, list), []))
    blocks: list[Any] = list(page.blocks.values())
    ids = {
        block.elem_id.removeprefix(f"{tab.ID}_")
        for block in blocks
        if isinstance(block, USED) and str(block.elem_id).startswith(f"{tab.ID}_")
        if picker.HIDDEN not in (block.elem_classes or [])
    }
    return {name for name in ids if not name.startswith(OTHERS)}


def test_each_control_has_a_hint_and_each_hint_a_control(tmp_path: Path) -> None:
    assert controls(tmp_path) == set(HINTS)


def test_hints_are_sentences() -> None:
    for name, text in HINTS.items():
        assert 20 < len(text) < 200 and text.endswith("."), name
