"""A WebUI whose embedding folders hold every kind of name and trouble: it starts, and each way to an embedding works."""

from __future__ import annotations

import json
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ..support.checkpoints import Assets
from .conftest import EXTENSION, REPOSITORY
from .driver import optimised, personalised, refusal
from .inside import extension
from .webui import WebUI

EMBEDDINGS = "/aesthetic-gradients/v1/embeddings"
# How the file is called without its suffix, and how it is listed where that differs.
NAMES = {
    "plain": "plain",
    "a>b": "a>b",
    "a:b, c": "a:b, c",
    "style #1": "style #1",
    "[x](y){z}|": "[x](y){z}|",
    'say "hi"': 'say "hi"',
    "it's 100%": "it's 100%",
    "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
    "&lt;": "&lt;",
    "back\\slash": "back\\slash",
    "😀 私": "😀 私",
    " spaced ": "%20;spaced%20;",
    "two\nlines": "two%A;lines",
    "None": "%4E;one",
    "512x512": "%35;12x512",
    "<aesthetic:plain:1>": "<aesthetic:plain:1>",
    "<b>/in \"a' folder": "<b>/in \"a' folder",
}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, webui_dir: Path, assets: Assets) -> Iterator[WebUI]:
    data = tmp_path_factory.mktemp("names")
    shelf = data / "models" / "aesthetic_embeddings"
    (shelf / "<b>").mkdir(parents=True)
    (data / "models" / "Stable-diffusion").symlink_to(assets.sd1_a.parent)
    for seed, name in enumerate(NAMES):
        vector = torch.randn(768, generator=torch.Generator().manual_seed(seed))
        safetensors.torch.save_file({"ViT-L/14": vector}, shelf / f"{name}.safetensors")
    torch.save(torch.ones(1, 768), shelf / "UPPER.PT")
    content = (shelf / "plain.safetensors").read_bytes()
    Path(os.fsdecode(os.fsencode(shelf) + b"/caf\xe9.safetensors")).write_bytes(content)
    bad = os.fsencode(shelf) + b"/d\xe9j\xe0"
    os.mkdir(bad)
    Path(os.fsdecode(bad + b"/vu.safetensors")).write_bytes(content)
    os.mkfifo(shelf / "pipe.pt")
    (shelf / "around").symlink_to(shelf)
    (shelf / "loop.pt").symlink_to(shelf / "loop.pt")
    old_trash = shelf / ".trash" / "20260101-120000-000000"
    old_trash.mkdir(parents=True)
    (old_trash / "thrown away.safetensors").write_bytes(content)
    webui = WebUI(webui_dir, data)
    webui.prepare(assets.open_clip_configs, assets.sd1_a.stem)
    config = json.loads((data / "config.json").read_text())
    config |= {"aesthetic_embeddings_dir": "~nosuchuser/x", "aesthetic_text_projection": str(assets.text_projection)}
    (data / "config.json").write_text(json.dumps(config))
    webui.install_extension(REPOSITORY, EXTENSION)
    with webui.running():
        yield webui


def listed(host: WebUI) -> list[str]:
    return [found["name"] for found in host.get(EMBEDDINGS)]


def cards(host: WebUI, style: str = "Dirs") -> dict[str, Any]:
    """The cards' page: what each card writes, by name, and the HTML."""
    return host.run(
        "import json\nfrom modules import ui_extra_networks\n"
        f"shared.opts.extra_networks_tree_view_style = {style!r}\n"
        "page = next(page for page in ui_extra_networks.extra_pages if page.name == 'aesthetic')\n"
        "html = page.create_html('txt2img')\n"
        "result = {'html': html, 'tags': {k: json.loads(v['prompt']) for k, v in page.items.items()}}"
    )


def test_it_starts_and_tells_once_what_it_leaves_out(host: WebUI) -> None:
    host.get(EMBEDDINGS)
    log = host.log()
    for part in ("caf\\xe9", "d\\xe9j", "nosuchuser", "around", "loop.pt"):
        assert len([line for line in log.splitlines() if "is left out" in line and part in line]) == 1, part
    assert "Traceback" not in log


def test_every_name_is_listed_and_found_over_rest(host: WebUI) -> None:
    names = listed(host)
    assert sorted(names) == sorted([*NAMES.values(), "UPPER"])
    for name in names:
        found = host.get(f"{EMBEDDINGS}/{urllib.parse.quote(name)}")
        assert found["name"] == name
        assert found["spaces"] == ["ViT-L/14"]


def test_the_page_offers_them(host: WebUI) -> None:
    config = host.get("/config")
    [dropdown] = [
        component["props"]["choices"]
        for component in config["components"]
        if component["props"].get("elem_id") == "script_txt2img_aesthetic_embeddings_embedding"
    ]
    offered = [choice[1] if isinstance(choice, list) else choice for choice in dropdown]
    assert set(offered) == {"None", *NAMES.values(), "UPPER"}


def test_a_card_writes_a_tag_that_names_its_embedding(host: WebUI) -> None:
    tags = cards(host)["tags"]
    assert set(tags) == {*NAMES.values(), "UPPER"}
    for name, tag in tags.items():
        mark = host.mark()
        generated = host.txt2img(prompt=f"a cat {tag}, a dog", steps=1)
        assert [found for found, _, _ in optimised(host, mark)] == [name]
        # Nothing of the tag is left in what the picture was made from.
        assert tag in generated.infotext


@pytest.mark.parametrize("name", NAMES.values())
def test_pasted_parameters_choose_the_same_again(host: WebUI, name: str) -> None:
    infotext = personalised(host, name, steps=1).infotext
    read = host.run(
        "from modules import infotext_utils\n"
        f"result = infotext_utils.parse_generation_parameters({infotext!r}).get('Aesthetic embedding')"
    )
    assert read == name


@pytest.mark.parametrize("style", ["Dirs", "Tree"])
def test_the_cards_page_shows_folders_of_embeddings_only(host: WebUI, style: str) -> None:
    html = cards(host, style)["html"]
    assert "&lt;b&gt;" in html
    for part in (".trash", "<img src=x", "<b>", "thrown away", "around"):
        assert part not in html
    assert 'data-clipboard-text="' in html and 'say "hi"' not in html


def test_trashing_adds_no_folder_to_the_cards(host: WebUI) -> None:
    before = cards(host)["html"].count("custom-button")
    host.request("DELETE", f"{EMBEDDINGS}/{urllib.parse.quote('UPPER')}")
    try:
        assert "UPPER" not in listed(host)
        assert cards(host)["html"].count("custom-button") == before
    finally:
        host.call(extension.restore_from_trash)
    assert "UPPER" in listed(host)


@pytest.mark.parametrize("prompt", ["[{}:0.5]", "a cat [dog:{}:3]", "[{}|cat]"])
def test_a_tag_inside_prompt_editing_is_refused(host: WebUI, prompt: str) -> None:
    said = refusal(host, "None", prompt=prompt.format("<aesthetic:plain:0.9>"))
    assert "some of the steps only" in said


def test_a_weight_around_a_tag_is_refused(host: WebUI) -> None:
    assert "Write the weight into the tag" in refusal(host, "None", prompt="a cat (<aesthetic:plain:0.9>:1.2)")


def troubles(folder: Path) -> dict[str, str]:
    (folder / "file").write_bytes(b"")
    (folder / "circle").symlink_to(folder / "circle")
    return {
        "too long": str(folder / ("x" * 300)),
        "path too long": "/".join([str(folder), *["y" * 200] * 30]),
        "a file": str(folder / "file"),
        "a link to itself": str(folder / "circle"),
        "NUL": f"{folder}/a\0b",
        "nobody's home": "~nosuchuser/x",
        "a device": "/dev/null",
        "markup": f"{folder}/<script>alert(1)</script>",
    }


def test_a_folder_in_the_settings_that_cannot_be_looked_at(host: WebUI, tmp_path: Path) -> None:
    for what, folder in troubles(tmp_path).items():
        mark = host.mark()
        host.set_options(aesthetic_embeddings_dir=folder)
        try:
            assert set(listed(host)) == {*NAMES.values(), "UPPER"}, what
            assert len(cards(host)["tags"]) == len(NAMES) + 1, what
        finally:
            host.set_options(aesthetic_embeddings_dir="")
        assert "Traceback" not in host.log(mark), what
