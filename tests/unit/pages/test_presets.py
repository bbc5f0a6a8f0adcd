"""What a page begins with."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from aesthetic_clip.pages.accordion import settings_accordion
from aesthetic_clip.pages.presets import begin_with
from aesthetic_clip.settings import KNOBS, PRESETS, Settings


def opened(first: str, **stored: object) -> tuple[dict[str, Any], list[Any]]:
    """What a page that is opened sets, by knob; and its controls, of which some were given other values before."""
    with gr.Blocks() as page:
        controls = settings_accordion(["one"], lambda name: f"id_{name}")
        for knob, control in zip(KNOBS, controls):
            control.value = stored.get(knob.name, control.value)
        begin_with(page, controls, lambda: first, queue=False)
    (index, load) = next(
        (i, found)
        for i, found in enumerate(page.config["dependencies"])
        if "load" in f"{found['targets']} {found.get('trigger')}"
    )
    names = {control._id: knob.name for knob, control in zip(KNOBS, controls)}
    values = page.fns[load.get("id", index)].fn()
    return {names[output]: update for output, update in zip(load["outputs"], values)}, controls


def test_a_page_begins_with_the_preset() -> None:
    updates, controls = opened("Clear")
    values = [updates.get(k.name, {}).get("value", control.value) for k, control in zip(KNOBS, controls)]
    assert Settings.from_values(values) == Settings.from_mapping({"preset": "clear"})
    assert updates["preset"]["choices"] == list(PRESETS)


def test_the_controls_themselves_keep_the_defaults_for_programs() -> None:
    assert Settings.from_values([control.value for control in opened("Clear")[1]]) == Settings()


@pytest.mark.parametrize("stored", [{"steps": 8}, {"preset": "Strong"}, {"embedding": "one"}, {"strength": "0.2"}])
def test_a_page_whose_defaults_a_user_stored_begins_with_those(stored: dict[str, object]) -> None:
    updates, _ = opened("Clear", **stored)
    assert not any("value" in update for update in updates.values())
    assert updates["preset"]["choices"] == list(PRESETS)


def test_custom_leaves_the_defaults() -> None:
    updates, _ = opened("Custom")
    assert [name for name, update in updates.items() if "value" in update] == ["preset"]
