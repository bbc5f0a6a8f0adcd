"""Other extensions beside this one in a genuine WebUI: docs/compatibility.md is written by this program.

    WEBUI_DIR=~/stable-diffusion-webui python -m tests.webui.beside --extensions ~/clones [NAME ...]

``--extensions`` is a folder with clones of them; what they need has to be installed in the WebUI's environment. Each
is tried alone, then with this one loaded before it and after it, each time before and after Reload UI:

- its own effect is the one that it has alone, and without it the picture is the plain one, bit for bit;
- an aesthetic embedding changes the picture, with its effect and without, by the dropdown as by the tag;
- the embedding stands in the parameters; the text encoder's weights are the same afterwards;
- there is no error at the start or in the page that is not there without this one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..support.checkpoints import UNet, write_clip_folder, write_lora, write_sd1
from .conftest import REPOSITORY, launched
from .driver import TITLE, distance, forget
from .hosts import host_in
from .inside import model
from .webui import Generated, WebUI, copy_tracked, encode_image, open_page, page_timeout

PAGE = REPOSITORY / "docs" / "compatibility.md"
BEFORE, AFTER = "0-aesthetic-gradients", "zz-aesthetic-gradients"
"""Names of folders; the WebUI loads extensions in their order."""
LAYERS, BLOCKS = 12, UNet(mult=(1, 1, 1, 1), blocks=2, depths=(1, 1, 1, 1))


@dataclass(frozen=True)
class Effect:
    """What an extension does, and how it is seen.

    Attributes:
        title: what people call it.
        told: what it was asked to do, for the table.
        job: parts of a request, the same with its effect and without.
        scripts: arguments of its always-on scripts that give the effect; none if it changes no picture.
        off: the same where it is off, if it is not so by itself.
        prepare: what it needs in the data directory.
        typed: typed into the prompt.
        shown: a CSS selector of what it adds to the page.
    """

    title: str
    told: str
    job: Mapping[str, Any] = field(default_factory=dict)
    scripts: Callable[[], Mapping[str, list[Any]]] | None = None
    off: Callable[[], Mapping[str, list[Any]]] = dict
    prepare: Callable[[WebUI], None] = lambda webui: None
    typed: str = ""
    shown: str = ""


def _detector(webui: WebUI) -> None:
    """A random YOLO, which finds boxes where nothing is."""
    folder = webui.data_dir / "models" / "adetailer"
    folder.mkdir(parents=True, exist_ok=True)
    code = "import torch; from ultralytics import YOLO; torch.manual_seed(0); YOLO('yolov8n.yaml').save('detector.pt')"
    subprocess.run([webui.python, "-c", code], cwd=folder, check=True, capture_output=True)


def _dynamic_prompts(webui: WebUI) -> None:
    """Its options, as they stand in config.json once the settings were saved; without them it does nothing at first."""
    switches = (
        "ignore_whitespace",
        "write_prompts_to_file",
        "limit_jinja_prompts",
        "auto_purge_cache",
        "write_raw_template",
    )
    sorting = ("no_dedupe", "no_sort", "shuffle")
    signs = {"dp_parser_variant_start": "{", "dp_parser_variant_end": "}", "dp_parser_wildcard_wrap": "__"}
    path = webui.data_dir / "config.json"
    stored = json.loads(path.read_text(encoding="utf-8")) | signs | {"dp_magicprompt_batch_size": 1}
    stored |= {f"dp_{name}": False for name in switches} | {f"dp_wildcard_manager_{name}": False for name in sorting}
    path.write_text(json.dumps(stored), encoding="utf-8")


def _variants(on: bool) -> Mapping[str, list[Any]]:
    rest = (False, 1, False, False, False, 1, 1, 100, 0.7, False, False, True, False, False, 0, None, None)
    return {"Dynamic Prompts v2.17.1": [on, *rest]}


def _reference() -> Mapping[str, list[Any]]:
    picture = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    unit = {"enabled": True, "module": "reference_only", "model": "None", "image": encode_image(picture), "weight": 1}
    return {"controlnet": [unit]}


EFFECTS: dict[str, Effect] = {
    "stable-diffusion-webui-composable-lora": Effect(
        "Composable LoRA (a2569875)",
        "a LoRA for one part of an AND prompt, left out of the negative prompt",
        {"prompt": "a cat <lora:tiny-lora:1> AND a dog", "negative_prompt": "blurry"},
        lambda: {"Composable Lora": [True, False, False, False, False, False, False]},
    ),
    "adetailer": Effect(
        "ADetailer",
        "inpaints one box of a random detector",
        scripts=lambda: {
            "ADetailer": [
                True,
                False,
                {"ad_model": "detector.pt", "ad_confidence": 0.0, "ad_mask_k": 1, "ad_denoising_strength": 0.9},
            ]
        },
        prepare=_detector,
    ),
    "sd-webui-controlnet": Effect("ControlNet", "reference_only, which needs no model", scripts=_reference),
    "sd-webui-animatediff": Effect("AnimateDiff", "on the page; no motion module", shown="text=AnimateDiff"),
    "sd-webui-agent-scheduler": Effect("Agent Scheduler", "on the page", shown="#txt2img_enqueue"),
    "a1111-sd-webui-tagcomplete": Effect(
        "Tag Autocomplete", "completes what is typed", typed="a photo of 1gi", shown=".autocompleteResults li"
    ),
    "sd-webui-prompt-all-in-one": Effect("Prompt all in one", "on the page", shown=".physton-prompt"),
    "sd-webui-infinite-image-browsing": Effect(
        "Infinite Image Browsing", "its tab", shown="#tabs > .tab-nav button:has-text('Infinite image browsing')"
    ),
    "Stable-Diffusion-Webui-Civitai-Helper": Effect(
        "Civitai Helper", "its tab", shown="#tabs > .tab-nav button:has-text('Civitai Helper')"
    ),
    "sd-webui-hires-fix-tweaks": Effect(
        "Hires. fix tweaks",
        "the hires pass at another CFG scale, its prompt appended to the first one's",
        {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7, "hr_prompt": "neon"},
        lambda: {"Hires. fix tweaks": [15, False, "Append", "Default", 1, False, 0, False, 0, 0, 0, 0, False, []]},
    ),
    "sd-webui-negpip": Effect(
        "NegPiP", "a word with a negative weight", {"prompt": "a cat, (red:-1.5)"}, lambda: {"NegPiP": [True]}
    ),
    "sd-webui-cutoff": Effect(
        "Cutoff",
        "keeps a colour from another thing",
        {"prompt": "a red cat, a blue dog"},
        lambda: {"Cutoff": [True, "red, blue", 1.0, True, False, "_", "Lerp", False]},
    ),
    "sd-webui-regional-prompter": Effect(
        "Regional Prompter",
        "two columns, each with its own prompt",
        # The lowest level of the UNet has more than one pixel.
        {"prompt": "a cat BREAK a dog", "width": 128, "height": 128},
        lambda: {
            "Regional Prompter": [
                *(True, False, "Matrix", "Columns", "Mask", "Prompt", "1,1", "0.2", False, False, False),
                *("Attention", [], "0", "0", "0.4", "", "0", "0", False),
            ]
        },
    ),
    "sd-dynamic-prompts": Effect(
        "Dynamic Prompts",
        "one of several variants",
        {"prompt": "a photo of a {cat|dog|house|tree}"},
        lambda: _variants(True),
        lambda: _variants(False),
        _dynamic_prompts,
    ),
    "sd-webui-supermerger": Effect("SuperMerger", "its tab", shown="#tabs > .tab-nav button:has-text('SuperMerger')"),
}


@dataclass
class Alone:
    """The WebUI with the other extension only."""

    plain: Any
    off: Any
    on: Any
    page_errors: set[str]
    shown: bool


def scripts(effect: Effect, on: bool, embedding: str | None = None) -> dict[str, Any]:
    """The part of a request that gives always-on scripts their arguments."""
    given = effect.off() if not on else effect.scripts() if effect.scripts else {}
    asked = {name: {"args": args} for name, args in given.items()}
    if embedding is not None:
        asked[TITLE] = {"args": [{"embedding": embedding}]}
    return {"alwayson_scripts": asked}


def look(webui: WebUI, effect: Effect, chromium: Any) -> tuple[set[str], bool]:
    """Script errors of the page, without their lines, and whether the extension is to be seen."""
    errors: list[str] = []
    shown = not effect.shown
    with open_page(chromium, webui, errors) as page:
        deadline = time.monotonic() + 40
        while not shown and time.monotonic() < deadline:
            # It may listen only some seconds after the page has come to rest.
            if effect.typed:
                page.fill("#txt2img_prompt textarea", "")
                page.focus("#txt2img_prompt textarea")
                page.keyboard.type(effect.typed, delay=30)
            with contextlib.suppress(page_timeout()):
                page.wait_for_selector(effect.shown, timeout=4_000, state="attached")
                shown = True
    return {error.splitlines()[0] for error in errors}, shown


def start_errors(webui: WebUI, since: int) -> set[str]:
    said = webui.log(since).partition("Startup time: ")[0]
    return {line.strip() for line in said.splitlines() if line.startswith("*** Error")}


def alone(webui: WebUI, effect: Effect, chromium: Any) -> Alone:
    plain, off = webui.txt2img(), asked(webui, effect, False)
    on = off if effect.scripts is None else asked(webui, effect, True)
    page_errors, shown = look(webui, effect, chromium)
    return Alone(plain.image, off.image, on.image, page_errors, shown)


def asked(webui: WebUI, effect: Effect, on: bool, embedding: str | None = None, tag: str = "") -> Generated:
    """A picture with the extension's effect or without, and with an embedding or without."""
    # Its settings may not be part of what the WebUI knows a prompt's conditioning by.
    forget(webui)
    prompt = effect.job.get("prompt", "a photo of a cat") + tag
    return webui.txt2img(**{**effect.job, "prompt": prompt}, **scripts(effect, on, embedding))


def faults(webui: WebUI, effect: Effect, before: Alone, chromium: Any, since: int) -> Iterator[str]:
    """What is not as it should be with both."""
    if errors := start_errors(webui, since):
        yield f"at the start: {'; '.join(sorted(errors))}"
    webui.txt2img()
    sound = webui.call(model.text_encoder)

    if distance(webui.txt2img().image, before.plain) > 0:
        yield "the plain picture is another"
    if distance(asked(webui, effect, False).image, before.off) > 0:
        yield "its effect is another"
    ours = asked(webui, effect, False, "vitl")
    if distance(ours.image, before.off) < 0.05:
        yield "the embedding has no effect"
    if effect.scripts is not None:
        if distance(asked(webui, effect, True).image, before.on) > 0:
            yield "its effect is another"
        both = asked(webui, effect, True, "vitl")
        if distance(both.image, before.on) < 0.05 or distance(both.image, ours.image) < 0.05:
            yield "of the two effects one is missing"
        if "Aesthetic embedding: vitl" not in both.infotext:
            yield "the embedding is not in the parameters"
        if distance(asked(webui, effect, True, tag="<aesthetic:vitl>").image, both.image) > 0:
            yield "a tag does something else than the dropdown"
    if distance(asked(webui, effect, True).image, before.on) > 0 or distance(webui.txt2img().image, before.plain) > 0:
        yield "the pictures afterwards are others"
    if webui.call(model.text_encoder) != sound:
        yield "the text encoder is another"
    page_errors, shown = look(webui, effect, chromium)
    if new := page_errors - before.page_errors:
        yield f"in the page: {'; '.join(sorted(new))}"
    if before.shown and not shown:
        yield "it is not in the page"


def tried(installation: Path, clone: Path, effect: Effect, chromium: Any) -> str:
    """What was seen, in a sentence."""
    found: list[str] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        data = Path(folder)
        assets = host_in(installation).write(data)
        # All layers of a published CLIP, all blocks of a published UNet: some count by the last one.
        write_clip_folder(assets.clip_folder, LAYERS)
        write_sd1(assets.sd1_a, assets.clip_folder, 1, LAYERS, BLOCKS)
        write_lora(assets.lora, 5, layers=LAYERS)
        shelf = data / "models" / "aesthetic_embeddings"
        shelf.mkdir(parents=True)
        vector = torch.randn(768, generator=torch.Generator().manual_seed(1))
        torch.save(vector / vector.norm(), shelf / "vitl.pt")
        webui = WebUI(installation, data)
        webui.prepare(assets.open_clip_configs, assets.sd1_a.stem)
        target = data / "extensions" / clone.name
        target.mkdir(parents=True)
        copy_tracked(clone, target)
        effect.prepare(webui)
        try:
            webui.start()
            if errors := start_errors(webui, 0):
                return f"does not load here: {'; '.join(sorted(errors))}"
            before = alone(webui, effect, chromium)
            if effect.scripts is not None and distance(before.on, before.off) < 0.05:
                return "has no effect here"
            if not before.shown:
                return "is not to be seen here"
            for name in (BEFORE, AFTER):
                webui.stop()
                for other in (BEFORE, AFTER):
                    if (there := data / "extensions" / other).exists():
                        there.rename(data / f"not-{other}-{name}")
                webui.install_extension(REPOSITORY, name)
                mark = webui.mark()
                webui.start()
                webui.set_options(aesthetic_text_projection=str(assets.text_projection))
                order = "ours first" if name == BEFORE else "ours last"
                found += [f"{fault} ({order})" for fault in faults(webui, effect, before, chromium, mark)]
                mark = webui.mark()
                webui.reload_ui()
                found += [
                    f"{fault} ({order}, after Reload UI)" for fault in faults(webui, effect, before, chromium, mark)
                ]
        finally:
            webui.stop()
    return "; ".join(found) or "good"


def write(rows: Mapping[str, str]) -> None:
    """Put rows into the table of docs/compatibility.md, by the extension's name."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition("<!-- table -->\n")
    table, _, tail = rest.partition("<!-- /table -->")
    lines = {re.split(r" *\| *", line)[1]: line for line in table.splitlines()[2:]}
    lines.update(rows)
    whole = [
        "| extension | commit | asked for | with ours |",
        "|---|---|---|---|",
        *sorted(lines.values(), key=str.lower),
    ]
    PAGE.write_text(f"{head}<!-- table -->\n" + "\n".join(whole) + f"\n<!-- /table -->{tail}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extensions", type=Path, required=True)
    parser.add_argument("names", nargs="*", help="folders of some of them; all that are known if left out")
    args = parser.parse_args()
    installation = Path(os.environ["WEBUI_DIR"]).resolve()
    with launched() as chromium:
        for name in args.names or [name for name in EFFECTS if (args.extensions / name).is_dir()]:
            effect, clone = EFFECTS[name], args.extensions / name
            commit = subprocess.run(
                ["git", "-C", str(clone), "log", "-1", "--format=%h, %cs"], check=True, capture_output=True, text=True
            ).stdout.strip()
            try:
                seen = tried(installation, clone, effect, chromium)
            except Exception as error:
                seen = f"failed: {str(error)[:300]}".replace("\n", " ").replace("|", "/")
            print(f"{effect.title}: {seen}", flush=True)
            write({effect.title: f"| {effect.title} | {commit} | {effect.told} | {seen} |"})


if __name__ == "__main__":
    main()
