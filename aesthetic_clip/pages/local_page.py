"""The local page: a prompt before and after, and the tab that makes embeddings; knows gradio (3.41 to current)."""

from __future__ import annotations

import html
import inspect
import itertools
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import AestheticError, Interrupted
from ..settings import KNOBS, Settings
from . import accordion as ui
from . import messages as report
from . import tab

TITLE = "Aesthetic Gradients"
ID = "aesthetic_page"
_SECONDS_BETWEEN_NEWS = 0.3


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


class Jobs:
    """Long functions, one at a time, with news for the page and a way to stop them."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._stop = threading.Event()
        self._news = ""

    def progress(self, done: int, total: int, line: str) -> None:
        """Say how far the running job is."""
        self._news = f"<p>{html.escape(line)}</p><progress value='{done}' max='{max(total, 1)}' style='width:100%'>"

    def alone(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` so that it waits for the running job: two at once would see each other's weights."""

        def waiting(*values: Any) -> Any:
            with self._one:
                return function(*values)

        return waiting

    def stopped(self) -> bool:
        return self._stop.is_set()

    def interrupt(self) -> None:
        self._stop.set()

    def make(self, run: tab.Job, nothing: list[Any]) -> tab.Job:
        """A generator for gradio: ``nothing`` and the news until ``run`` is done, then what it returns."""

        def job(*values: Any) -> Iterator[Any]:
            with self._one, ThreadPoolExecutor(1) as pool:
                self._stop.clear()
                self._news = ""
                future = pool.submit(run, *values)
                told = None
                try:
                    while not future.done():
                        if self._news != told:
                            told = self._news
                            yield [*nothing, told]
                        threading.Event().wait(_SECONDS_BETWEEN_NEWS)
                finally:
                    # A page that was closed wants nothing any more.
                    if not future.done():
                        self._stop.set()
                yield future.result()

        return job


def build(
    host: tab.TabHost,
    jobs: Jobs,
    generate: Callable[[Order], Pair],
    model: str,
    size: tuple[int, int],
    guidance_scale: float,
    initial: Settings,
) -> Any:
    """The page as ``gr.Blocks``.

    Args:
        host: what the tab for embeddings needs; its list of dropdowns is filled in here.
        jobs: those of ``host``.
        generate: makes the two pictures; tells ``jobs`` how far it is.
        model: name to show.
        size: width and height in pixels that the model was made for.
        guidance_scale, initial: what the controls say at first.
    """
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"## {TITLE}\nModel: {model}")
        with gr.Tabs():
            with gr.TabItem("Generate", id="generate"):
                controls = _generate_form(host, jobs, generate, size, guidance_scale, initial)
            host.dropdowns.extend(c for c, knob in zip(controls, KNOBS) if knob.names_embedding)
            with gr.TabItem(tab.TITLE, id="create"):
                built = tab.build(host)
        page.load(fn=built.fresh_lists, inputs=[], outputs=built.lists)
    return page


def _generate_form(
    host: tab.TabHost,
    jobs: Jobs,
    generate: Callable[[Order], Pair],
    size: tuple[int, int],
    guidance_scale: float,
    initial: Settings,
) -> list[Any]:
    """The form, connected; the controls of the knobs."""

    def number(name: str, label: str, minimum: float, maximum: float, step: float, value: float) -> Any:
        return gr.Slider(label=label, minimum=minimum, maximum=maximum, step=step, value=value, elem_id=f"{ID}_{name}")

    with gr.Row():
        with gr.Column():
            prompt = gr.Textbox(label="Prompt", lines=2, elem_id=f"{ID}_prompt")
            negative = gr.Textbox(label="Negative prompt", lines=1, elem_id=f"{ID}_negative_prompt")
            with gr.Row():
                seed = gr.Number(label="Seed", value=0, precision=0, elem_id=f"{ID}_seed")
                sampling_steps = number("sampling_steps", "Sampling steps", 1, 150, 1, 20)
                scale = number("guidance_scale", "Guidance scale", 1, 30, 0.5, guidance_scale)
            with gr.Row():
                width = number("width", "Width", 64, 2048, 8, size[0])
                height = number("height", "Height", 64, 2048, 8, size[1])
            controls = ui.settings_accordion(
                host.library().names(), lambda name: f"{ID}_{name}", explained=True, opened=True, initial=initial
            )
            with gr.Row():
                start = gr.Button("Generate", variant="primary", elem_id=f"{ID}_start")
                stop = gr.Button("Interrupt", elem_id=f"{ID}_stop")
        with gr.Column():
            with gr.Row():
                before = gr.Image(label="Before", interactive=False, height=360, elem_id=f"{ID}_before")
                after = gr.Image(label="After", interactive=False, height=360, elem_id=f"{ID}_after")
            # A picture of 64 pixels is shown as large as one of 512.
            gr.HTML(
                f"<style>#{ID}_before img, #{ID}_after img "
                "{width: 100% !important; height: 100% !important; object-fit: contain}</style>"
            )
            message = gr.HTML(elem_id=f"{ID}_message")

    folder, numbers = tempfile.TemporaryDirectory(prefix=ID), itertools.count()

    def run(
        prompt: str,
        negative: str,
        seed: float,
        sampling_steps: float,
        scale: float,
        width: float,
        height: float,
        *knobs: Any,
    ) -> list[Any]:
        try:
            order = Order(
                prompt,
                negative,
                int(seed or 0),
                int(sampling_steps),
                float(scale),
                int(width),
                int(height),
                Settings.from_values(knobs),
            )
            if order.width % 8 or order.height % 8:
                raise AestheticError(
                    f"A picture can't have {order.width} x {order.height} pixels.",
                    "Both have to be multiples of 8.",
                    "Change the width or the height.",
                )
            pair = generate(order)
        except Interrupted:
            return [gr.update(), gr.update(), "<p>Interrupted.</p>"]
        except AestheticError as error:
            return [gr.update(), gr.update(), report.error(error)]
        said = (
            f"{report.curve(pair.similarities)}<pre style='white-space:pre-wrap'>{html.escape(pair.parameters)}</pre>"
        )
        # As files, since gradio would write pictures anew: other pixels, and no parameters.
        number = next(numbers)
        paths = [Path(folder.name, f"{number:04}-{name}.png") for name in ("before", "after")]
        for path, content in zip(paths, (pair.before, pair.after)):
            path.write_bytes(content)
        return [*map(str, paths), said]

    inputs = [prompt, negative, seed, sampling_steps, scale, width, height, *controls]
    job = jobs.make(run, [gr.update(), gr.update()])
    start.click(fn=job, inputs=inputs, outputs=[before, after, message])
    prompt.submit(fn=job, inputs=inputs, outputs=[before, after, message])
    stop.click(fn=jobs.interrupt, inputs=[], outputs=[], queue=False)
    return controls


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
