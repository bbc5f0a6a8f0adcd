"""Makes the README's pictures anew, from the programs themselves: ``python -m tests.pictures [NAME ...]``.

``accordion``, ``create`` and ``library`` are taken in the WebUI that the environment's WEBUI_DIR names, with the
demonstration model as its checkpoint; ``page`` in the local page, ``demo`` from the command, ``curve`` and ``strength`` from
the tables in docs/experiment.md, ``presets`` by the lab. It takes Chromium, playwright, diffusers and matplotlib.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from aesthetic_clip.create.pictures import save_result
from aesthetic_clip.demo import DEMO, GUIDANCE_SCALE, MODEL, SAMPLING_STEPS, export, loading, world
from aesthetic_clip.demo.lab import measure, ways, ways_report
from aesthetic_clip.demo.lab.bench import Bench
from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.pages.heatmap import font
from aesthetic_clip.pages.local_page import ID as PAGE
from aesthetic_clip.pages.tab import TITLE

from .webui.conftest import CHROMIUM_FLAGS, CHROMIUM_NAMES, EXTENSION, REPOSITORY
from .webui.webui import WebUI, free_port, generate_on_page, visit

DOCS = REPOSITORY / "docs"
PROMPT = world.HELD_OUT[0].prompt
EMBEDDINGS = ("warm", "pastel", "neon", "night")
SCRIPT = "#script_txt2img_aesthetic_embeddings"
TAB = "#aesthetic_create"
MADE = "my pastels"

DEFAULTS = {
    f"{place}/value": value
    for place, value in {
        "txt2img/Width": world.SIZE,
        "txt2img/Height": world.SIZE,
        "txt2img/CFG Scale": GUIDANCE_SCALE,
        "customscript/sampler.py/txt2img/Sampling steps": SAMPLING_STEPS,
        "customscript/sampler.py/txt2img/Sampling method": "DDIM",
    }.items()
}


def save(picture: bytes, name: str, box: tuple[int, int, int, int] | None = None) -> None:
    """As ``docs/NAME.png`` with 256 colours, of which interfaces have fewer."""
    with Image.open(io.BytesIO(picture)) as image:
        cut = image.convert("RGB").crop(box) if box else image.convert("RGB")
        cut.quantize(256, dither=Image.Dither.NONE).save(DOCS / f"{name}.png", optimize=True)
    print(DOCS / f"{name}.png")


@contextlib.contextmanager
def chromium(width: int, height: int) -> Iterator[Any]:
    """An empty page, two pixels for each of CSS."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=2)
        try:
            page = context.new_page()
            page.route(lambda url: not url.startswith(("http://127.0.0.1:", "data:", "blob:")), _elsewhere)
            yield page
        finally:
            browser.close()


def _elsewhere(route: Any) -> None:
    """Nothing is asked of other machines; the pages' letters, which come from there, are here as well."""
    if route.request.url.startswith("https://fonts.googleapis.com/"):
        route.fulfill(body=letters(), content_type="text/css")
    else:
        route.abort()


@functools.cache
def letters() -> str:
    """Source Sans as gradio brings it along, as a style sheet."""
    import gradio

    folder = Path(gradio.__file__).parent / "templates" / "frontend" / "static" / "fonts" / "SourceSansPro"
    faces = []
    for weight, name in ((400, "Regular"), (600, "SemiBold"), (700, "Bold")):
        data = base64.b64encode((folder / f"SourceSansPro-{name}.woff2").read_bytes()).decode()
        faces.append(
            "@font-face { font-family: 'Source Sans Pro'; "
            f"font-weight: {weight}; src: url(data:font/woff2;base64,{data}) format('woff2'); }}"
        )
    return "\n".join(faces)


def shot(page: Any, name: str, first: str, last: str, margin: int = 2) -> None:
    """From the top of one element to the end of another, over the whole width."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    top, bottom = page.locator(first).first.bounding_box(), page.locator(last).first.bounding_box()
    low = max(0, top["y"])
    clip = {
        "x": 0,
        "y": low,
        "width": page.viewport_size["width"],
        "height": bottom["y"] + bottom["height"] + margin - low,
    }
    save(page.screenshot(full_page=True, clip=clip), name)


# --- the WebUI ---


@contextlib.contextmanager
def webui() -> Iterator[WebUI]:
    """The installed WebUI with the demonstration model and embeddings of its styles, on a folder of its own."""
    installation = Path(os.environ["WEBUI_DIR"]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        checkpoint = export.export(data / "models" / "Stable-diffusion")
        shutil.copytree(MODEL / "image_encoder", data / "models" / "aesthetic_clip" / loading.SPACE.name)
        shelf = open_library([data / "models" / "aesthetic_embeddings"])
        encoder = loading.load_image_encoder()
        for style in EMBEDDINGS:
            save_result(loading.drawn_result(encoder, [style]), shelf, style, "drawn")
        save_result(loading.drawn_result(encoder, world.LOOKS), shelf, "everything", "a centre")
        (data / "none").mkdir()
        host = WebUI(installation, data)
        host.prepare(data / "none", checkpoint.stem)
        (data / "ui-config.json").write_text(json.dumps(DEFAULTS), encoding="utf-8")
        host.install_extension(REPOSITORY, EXTENSION)
        with host.running():
            yield host


def pick(page: Any, dropdown: str, *names: str) -> None:
    for name in names:
        page.click(f"{dropdown} input")
        page.click(f"{dropdown} ul.options li[aria-label='{name}']")
    page.locator(f"{dropdown} input").first.evaluate("input => input.blur()")


def write(page: Any, field: str, text: object) -> None:
    page.locator(f"{field} input, {field} textarea").first.fill(str(text))
    page.keyboard.press("Tab")


def show(page: Any, *tabs: str) -> None:
    for tab in tabs:
        page.locator(".tab-nav button:visible, button[role=tab]:visible").filter(
            has_text=re.compile(rf"^\s*{tab}\s*$")
        ).first.click()


def accordion(host: WebUI) -> None:
    with chromium(1200, 1400) as page:
        visit(page, host)
        write(page, "#txt2img_seed", 0)
        page.click(f"{SCRIPT}_accordion > .label-wrap")
        page.wait_for_selector(f"{SCRIPT}_embedding input", state="visible")
        pick(page, f"{SCRIPT}_embedding", "warm")
        said = generate_on_page(page, PROMPT)
        assert "Aesthetic embedding: warm" in said and "Aesthetic preset: Clear" in said, said
        shot(page, "accordion", "#tabs > .tab-nav", f"{SCRIPT}_accordion")


def create(host: WebUI) -> None:
    with tempfile.TemporaryDirectory() as home, chromium(1200, 1200) as page:
        folder = Path(home) / "liked"
        world.write_style_images(folder, "pastel", 24, seed=3)
        visit(page, host)
        show(page, TITLE)
        write(page, f"{TAB}_name", MADE)
        write(page, f"{TAB}_folders", folder)
        write(page, f"{TAB}_note", "drawn")
        page.locator(f"{TAB}_start").first.click()
        page.get_by_text("Time taken").first.wait_for()
        page.wait_for_selector("#tab_aesthetic_create .progressDiv", state="detached")
        page.locator(f"{TAB}_preview img").wait_for()
        # Where the pictures lay for this picture is nobody's matter.
        page.locator(f"{TAB}_folders textarea").evaluate("field => { field.value = '~/pictures/liked' }")
        shot(page, "create", "#tabs > .tab-nav", f"{TAB}_start")


def shelf(host: WebUI) -> None:
    with chromium(1200, 1200) as page:
        visit(page, host)
        show(page, TITLE, "Library")
        for name in (*EMBEDDINGS[:3], "everything"):
            page.locator(f"{TAB}_table tr[data-aesthetic-row='{name}'] [role=checkbox]").first.click()
        page.locator(f"{TAB}_compare").first.click()
        page.locator(f"{TAB}_picture img").wait_for()
        shot(page, "library", "#tabs > .tab-nav", f"{TAB}_table")


# --- without one ---


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "NO_PROXY": "127.0.0.1,localhost"}


def local_page() -> None:
    port = free_port()
    command = [sys.executable, "-m", "aesthetic_clip", "ui", "--model", DEMO, "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen([*command, "--library", folder], cwd=REPOSITORY, env=environment())
        try:
            _local_page(f"http://127.0.0.1:{port}/")
        finally:
            process.terminate()
            process.wait(30)


def _local_page(address: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "it never answered"
            time.sleep(0.5)
    with chromium(1200, 1200) as page:
        page.goto(address)
        page.wait_for_selector(f"#{PAGE}_start", timeout=60_000)
        write(page, f"#{PAGE}_prompt", PROMPT)
        field = page.locator(f"#{PAGE}_embedding input").first
        field.click()
        field.fill("demo warm")
        page.locator(f"#{PAGE}_embedding li").filter(has_text="demo warm").first.wait_for()
        page.wait_for_timeout(1000)
        field.press("Enter")
        field.blur()
        page.wait_for_function(f"!document.querySelector('#{PAGE}_embedding li')")
        page.click(f"#{PAGE}_start")
        page.locator(f"#{PAGE}_message").get_by_text(re.compile(r"after \d+ steps")).first.wait_for(timeout=90_000)
        page.locator(f"#{PAGE}_after img").wait_for()
        page.evaluate("scrollTo(0, 0)")
        shot(page, "page", "strong", f"#{PAGE}_sampling")


def demo() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "aesthetic_clip", "demo", "--outdir", folder]
        subprocess.run(command, cwd=REPOSITORY, env=environment(), check=True)
        shutil.copy(Path(folder, "grid.png"), DOCS / "demo.png")
    print(DOCS / "demo.png")


def curve() -> None:
    """From the published table, since the measurement itself takes hours."""
    entries = measure.entries((DOCS / "experiment.md").read_text(encoding="utf-8"))
    measure.plot(entries, DOCS / "curve.png")
    print(DOCS / "curve.png")


def strengths() -> None:
    """What each way to ask for a style costs, from the published table as well."""
    found = ways_report.entries((DOCS / "experiment.md").read_text(encoding="utf-8"))
    ways_report.plot(found, DOCS / "strength.png")
    print(DOCS / "strength.png")


def presets() -> None:
    """Each preset over the styles, all pictures of one prompt and seed; without and with the style's name above."""
    lab = ways.Lab(Bench())
    rows = {"plain": ways.WAYS[0], **{way.point: way for way in ways.PRESET_WAYS}, "named": ways.WAYS[1]}
    content, styles = world.HELD_OUT[0], list(world.STYLES)
    tile, left, top = 128, 80, 26
    sheet = Image.new("RGB", (left + tile * len(styles), top + tile * len(rows)), "white")
    draw, letters = ImageDraw.Draw(sheet), font(16)
    for column, style in enumerate(styles):
        draw.text((left + tile * (column + 0.5), top / 2), style, "black", letters, anchor="mm")
    for row, (name, way) in enumerate(rows.items()):
        draw.text((left - 8, top + tile * (row + 0.5)), name, "black", letters, anchor="rm")
        prompts = [lab.prompt(content, style, way)[0] for style in styles]
        for column, picture in enumerate(lab.pictures(prompts, [0] * len(styles))):
            pixels = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
            large = Image.fromarray(pixels).resize((tile, tile), Image.Resampling.BICUBIC)
            sheet.paste(large, (left + tile * column, top + tile * row))
    sheet.save(DOCS / "presets.png", optimize=True)
    print(DOCS / "presets.png")


IN_WEBUI: dict[str, Callable[[WebUI], None]] = {"accordion": accordion, "create": create, "library": shelf}
ELSEWHERE: dict[str, Callable[[], None]] = {
    "page": local_page,
    "demo": demo,
    "curve": curve,
    "strength": strengths,
    "presets": presets,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join([*IN_WEBUI, *ELSEWHERE])}; all")
    names = parser.parse_args().names or [*IN_WEBUI, *ELSEWHERE]
    if unknown := set(names) - {*IN_WEBUI, *ELSEWHERE}:
        parser.error(f"there is no picture {', '.join(sorted(unknown))}")
    for name, make in ELSEWHERE.items():
        if name in names:
            make()
    if wanted := [make for name, make in IN_WEBUI.items() if name in names]:
        with webui() as host:
            for make_in in wanted:
                make_in(host)


if __name__ == "__main__":
    main()
