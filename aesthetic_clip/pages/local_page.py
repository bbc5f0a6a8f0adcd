"""The local page: a prompt before and after, and the tab that makes embeddings; knows gradio (3.41 to current)."""

from __future__ import annotations

import inspect
import itertools
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..embeddings.preferences import brought_by
from ..embeddings.presets import PresetFile, offer
from ..errors import AestheticError
from ..settings import KNOBS, Settings
from . import forms, messages, picker, presets, tab, thumbs
from .accordion import settings_accordion
from .forms import Field, Form, Updates
from .index import Index
from .jobs import Jobs as Jobs
from .markup import PRIMARY
from .thumbs import ThumbsHost

TITLE = "Aesthetic Gradients"
ID = "aesthetic_page"
LARGEST_SEED = 2**32
_LONGEST_PROMPT = 20_000
# A picture of 64 pixels is shown as large as one of 512. What explains is as readable as WCAG AA asks (4.5 to 1).
_STYLE = """<style>
.aesthetic-large img {width: 100% !important; height: 100% !important; object-fit: contain !important}
.gradio-container {--block-info-text-color: #4b5563; --body-text-color-subdued: #4b5563; --block-label-text-color: #374151;
    --block-title-text-color: #374151; --color-accent: #c2410c}
.dark .gradio-container, .gradio-container.dark {--block-info-text-color: #d1d5db; --body-text-color-subdued: #d1d5db;
    --block-label-text-color: #e5e7eb; --block-title-text-color: #e5e7eb; --color-accent: #f97316}
/* With the pair and the thumbs below it, all is in the first screenful of 1500 x 900. */
.aesthetic-compare {max-width: 280px !important}
</style>"""


@dataclass(frozen=True)
class Order:
    """What is to be generated.

    Attributes:
        seed: -1 draws one.
        sampling_steps, guidance_scale, width, height: as in every diffusers pipeline.
    """

    prompt: str
    negative_prompt: str
    seed: int
    sampling_steps: int
    guidance_scale: float
    width: int
    height: int
    settings: Settings


@dataclass(frozen=True)
class Pair:
    """A picture without and with the taste, by the same seed.

    Attributes:
        before, after: PNG files, with their generation parameters.
        similarities: by CLIP space, before each step and after the last.
        parameters: generation parameters of the second.
    """

    before: bytes
    after: bytes
    similarities: Mapping[str, Sequence[float]]
    parameters: str


def build(
    host: tab.TabHost,
    jobs: Jobs,
    generate: Callable[[Order], Pair],
    model: str,
    size: tuple[int, int],
    guidance_scale: float,
    initial: Settings,
    thumbs_host: ThumbsHost | None = None,
    example: str = "",
) -> Any:
    """The page as ``gr.Blocks``.

    Args:
        host: what the tab for embeddings needs.
        jobs: those of ``host``.
        generate: makes the two pictures; tells ``jobs`` how far it is.
        model: name to show.
        size: width and height in pixels that the model was made for.
        guidance_scale, initial: what the controls say at first.
        thumbs_host: what thumbs under the pictures need, if there are to be any.
        example: a prompt to begin with.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.HTML(_STYLE)
        gr.Markdown(f"**{TITLE}** · model: {model}")
        with gr.Tabs():
            with gr.TabItem("Generate", id="generate"):
                knobs, pictures, row = _generate_form(
                    host, jobs, generate, size, guidance_scale, initial, thumbs_host, example
                )
                chosen = [(c, knob) for c, knob in zip(knobs, KNOBS) if knob.names_embedding]
                lists = picker.lists(Index(host.library, host.spaces), chosen)
            with gr.TabItem(tab.TITLE, id="create"):
                built = tab.build(host, lists)
        built.follow(page)
        if row and thumbs_host:
            embedding = next(control for control, knob in zip(knobs, KNOBS) if knob.name == "embedding")
            shown = [forms.picture(name, component) for name, component in pictures.items()]
            row.connect(thumbs_host, shown, built.lists, embedding)
            thumbs.follow(page, host.library, [row])
        presets.begin_with(page, knobs, lambda: initial.preset)
    return page


def _generate_form(
    host: tab.TabHost,
    jobs: Jobs,
    generate: Callable[[Order], Pair],
    size: tuple[int, int],
    guidance_scale: float,
    initial: Settings,
    thumbs_host: ThumbsHost | None,
    example: str,
) -> tuple[list[Any], dict[str, Any], thumbs.Thumbs | None]:
    """The form, connected; its controls of knobs, the pictures by what they are called, and the thumbs under them."""
    fields: dict[str, Field[Any]] = {}
    own = PresetFile(lambda: host.library().folders[0])
    offer(own)

    def slider(name: str, label: str, minimum: float, maximum: float, step: float, value: float) -> None:
        fields[name] = forms.slider(label, minimum, maximum, step, value, elem_id=f"{ID}_{name}")

    with gr.Row():
        with gr.Column():
            fields["prompt"] = forms.text("Prompt", _LONGEST_PROMPT, value=example, lines=2, elem_id=f"{ID}_prompt")
            with gr.Row():
                start = gr.Button("Generate", elem_id=f"{ID}_start", **PRIMARY)
                stop = gr.Button("Interrupt", elem_id=f"{ID}_stop")
            knobs = settings_accordion(
                host.library().names(),
                _elem_id,
                explained=True,
                opened=True,
                initial=initial,
                preferred=lambda name: brought_by(host.library(), name),
                more=lambda controls: presets.preset_form(controls, _elem_id, own, host.remedies),
                below=lambda controls: (
                    thumbs.drop_form(controls["embedding"], _elem_id, thumbs_host) if thumbs_host else None
                ),
            )
            fields["settings"] = presets.settings_field(knobs)
            with gr.Accordion("Sampling", open=True, elem_id=f"{ID}_sampling"):
                # Its id is not that of the knob with this name.
                fields["negative_prompt"] = forms.text(
                    "Negative prompt", _LONGEST_PROMPT, lines=1, elem_id=f"{ID}_negative"
                )
                with gr.Row():
                    fields["seed"] = forms.number("Seed", -1, LARGEST_SEED, 0, elem_id=f"{ID}_seed")
                    slider("sampling_steps", "Sampling steps", 1, 150, 1, 20)
                    slider("guidance_scale", "Guidance scale", 1, 30, 0.5, guidance_scale)
                with gr.Row():
                    slider("width", "Width", 64, 2048, 8, size[0])
                    slider("height", "Height", 64, 2048, 8, size[1])
        with gr.Column():
            message = gr.HTML(elem_id=f"{ID}_message")
            compare = gr.HTML(elem_id=f"{ID}_compare")
            large = {"elem_classes": ["aesthetic-large"]}
            with gr.Row():
                before = gr.Image(label="Before", interactive=False, height=180, elem_id=f"{ID}_before", **large)
                after = gr.Image(label="After", interactive=False, height=180, elem_id=f"{ID}_after", **large)
            pictures = {"Before": before, "After": after}
            row = thumbs.build(_small_button, ID, this=True, pictures=list(pictures)) if thumbs_host else None
            parameters = gr.HTML(elem_id=f"{ID}_parameters")

    folder, numbers = tempfile.TemporaryDirectory(prefix=ID), itertools.count()

    def make_pair(
        prompt: str,
        negative_prompt: str,
        seed: int,
        sampling_steps: int,
        guidance_scale: float,
        width: int,
        height: int,
        settings: Settings,
    ) -> Updates:
        if width % 8 or height % 8:
            raise AestheticError(
                f"A picture can't have {width} x {height} pixels.",
                "Both have to be multiples of 8.",
                "Change the width or the height.",
            )
        pair = generate(
            Order(
                prompt=prompt,
                negative_prompt=negative_prompt,
                seed=seed,
                sampling_steps=sampling_steps,
                guidance_scale=guidance_scale,
                width=width,
                height=height,
                settings=settings,
            )
        )
        # As files, since gradio would write pictures anew: other pixels, and no parameters.
        number = next(numbers)
        shown = {}
        for name, content in (("before", pair.before), ("after", pair.after)):
            path = Path(folder.name, f"{number:04}-{name}.png")
            path.write_bytes(content)
            shown[name] = str(path)
        return {
            **shown,
            "compare": messages.slider(pair.before, pair.after),
            "parameters": messages.parameters(pair.parameters),
            "message": messages.curve(pair.similarities),
        }

    form = Form(fields, "message", host.remedies)
    outputs = {"before": before, "after": after, "compare": compare, "parameters": parameters, "message": message}
    for event in (start.click, fields["prompt"].control.submit):
        form.on(event, make_pair, outputs, job=jobs.make)
    stop.click(fn=jobs.interrupt, inputs=[], outputs=[], queue=False)
    return knobs, pictures, row


def _elem_id(name: str) -> str:
    return f"{ID}_{name}"


def _small_button(text: str, elem_id: str, _hint: str) -> Any:
    return gr.Button(text, elem_id=elem_id, size="sm", min_width=90)


def launch(page: Any, jobs: Jobs, address: str, port: int, folders: Sequence[str], browser: bool) -> None:
    """Serve the page until it is stopped, and then stop its running job as well.

    Args:
        folders: where pictures that the page shows may lie.
        browser: open it in one.

    Raises:
        AestheticError: the port is taken.
    """
    # As an interrupt: otherwise a service manager's stop would leave temporary folders behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # gradio 3 has one number for all; later ones let each button run beside the others by default.
    more = {"concurrency_count": 4} if "concurrency_count" in inspect.signature(page.queue).parameters else {}
    try:
        page.queue(**more).launch(server_name=address, server_port=port, allowed_paths=list(folders), inbrowser=browser)
    except OSError as error:
        raise AestheticError(
            f"The page can't be served at {address}, port {port}.", f"{error}.", "Choose another --port."
        ) from error
    finally:
        jobs.interrupt()
