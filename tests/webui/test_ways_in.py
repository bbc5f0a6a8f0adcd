"""Requests made by hand to a WebUI that others can reach: gradio's own route, and the API."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L

from ..support.checkpoints import Assets
from .driver import asking
from .inside import extension
from .test_rest import EMBEDDINGS, ask, start
from .webui import PAYLOAD, RequestFailed, WebUI

USER = "someone:secret"
TAB = "aesthetic_create_"
CHOSEN = '["taste"]'


class Gradio:
    """The page's buttons, without a page."""

    def __init__(self, host: WebUI) -> None:
        self.host = host
        config = host.get("/config")
        self.components = {component["id"]: component["props"] for component in config["components"]}
        # gradio 4 gives them numbers, and says of a target which event it is.
        self.dependencies = {one.get("id", place): one for place, one in enumerate(config["dependencies"])}

    def _index(self, elem_id: str) -> int:
        return next(
            number
            for number, dependency in self.dependencies.items()
            if any(self._elem_id(target) == elem_id for target in dependency["targets"])
        )

    def _elem_id(self, number: Any) -> str:
        return str(self.components.get(number[0] if isinstance(number, list) else number, {}).get("elem_id"))

    def press(self, button: str, **values: Any) -> dict[str, Any]:
        """What a button answers, by output; inputs that are not given are as on a new page."""
        return self._call(self._index(TAB + button), button, values)

    def shown(self, output: str) -> Any:
        """What the page shows somewhere when it asks for that anew."""
        places = [
            number
            for number, dependency in self.dependencies.items()
            if any(self._elem_id(shown) == TAB + output for shown in dependency["outputs"])
        ]
        return self._call(places[0], "", {})[output]

    def _call(self, index: int, button: str, values: dict[str, Any]) -> dict[str, Any]:
        dependency = self.dependencies[index]
        data = [
            values.get(self._elem_id(number).removeprefix(TAB), self.components[number].get("value"))
            for number in dependency["inputs"]
        ]
        if button == "start":
            data[0] = "task(by-hand)"
        body = {"fn_index": index, "data": data, "session_hash": "by hand"}
        answer = self.host.post("/run/predict", body, timeout=300)["data"]
        return {self._elem_id(number).removeprefix(TAB): value for number, value in zip(dependency["outputs"], answer)}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, webui_dir: Path, assets: Assets) -> Iterator[WebUI]:
    """One that the WebUI takes for reachable from elsewhere, though it is not; its API has a password, its page none."""
    data_dir = tmp_path_factory.mktemp("ways-in")
    host = start(data_dir, webui_dir, assets, ("--server-name", "127.0.0.1", "--api-auth", USER))
    shelf = data_dir / "models" / "aesthetic_embeddings"
    shelf.mkdir(parents=True, exist_ok=True)
    save(Embedding("taste", {VIT_L: unit(torch.ones(768))}, {}), shelf / "taste.safetensors")
    try:
        yield host
    finally:
        host.stop()


@pytest.fixture(scope="module")
def gradio(host: WebUI) -> Gradio:
    return Gradio(host)


def files(host: WebUI) -> set[Path]:
    return {path for path in host.data_dir.rglob("*") if path.suffix in (".pt", ".safetensors", ".png", ".jpg")}


@pytest.mark.parametrize("suffix", ["/../../../evil.pt", "<img src=x onerror=alert(1)>", None, {"a": 1}])
def test_export_by_hand(gradio: Gradio, suffix: object) -> None:
    before = files(gradio.host)
    answers = gradio.press("export", table_chosen=CHOSEN, format=suffix)
    assert "It has to be one of .safetensors, .pt." in answers["message"]
    assert "<img" not in answers["message"]
    assert files(gradio.host) == before


def test_export_as_the_page_does_it(gradio: Gradio) -> None:
    answers = gradio.press("export", table_chosen=CHOSEN, format=".pt")
    assert "Exported: taste as .pt." in answers["message"]
    files = [file.get("name") or file["path"] for file in answers["file"]["value"]]
    assert [file.endswith("taste.pt") for file in files] == [True]


@pytest.mark.parametrize("folder", ["/etc", "/nowhere", "/root", "~nobody/x"])
def test_folders_of_the_server_are_not_looked_at(gradio: Gradio, folder: str) -> None:
    said = gradio.press("start", name="mine", folders=folder, recursive=True)["result"]
    assert "Folders can&#39;t be read from this page." in said
    assert folder not in said


def test_files_of_the_server_are_no_uploads(gradio: Gradio) -> None:
    secret = gradio.host.data_dir / "secret.jpg"
    secret.write_bytes(b"secret")
    item = {"name": str(secret), "orig_name": "x.jpg", "is_file": True, "data": None, "size": 6}
    in_gradio_4 = {"path": str(secret), "orig_name": "x.jpg", "meta": {"_type": "gradio.FileData"}}
    for field, one, said in (
        ("uploads", item, "Only files that were just uploaded are read."),
        ("sent", item, "A picture of the gallery can&#39;t be read."),
        ("uploads", in_gradio_4, "Only files that were just uploaded are read."),
        ("sent", {"image": in_gradio_4, "caption": None}, "A picture of the gallery can&#39;t be read."),
    ):
        try:
            assert said in gradio.press("start", name="mine", **{field: [one]})["result"]
        except RequestFailed as refused:  # gradio 4 looks itself
            assert refused.status == 500
    # gradio would have copied it to where the page can fetch it.
    assert list((gradio.host.data_dir / "tmp").rglob("*.jpg")) == []


@pytest.mark.parametrize(
    ("field", "value"), [("batch_size", "x"), ("batch_size", 1e9), ("note", "x" * 10_000_000), ("spaces", {"a": [1]})]
)
def test_values_that_the_form_does_not_offer(gradio: Gradio, field: str, value: object) -> None:
    said = gradio.press("start", name="mine", **{field: value})["result"]
    assert "class='error'" in said
    assert "Error:" not in said and len(said) < 2000


def test_paths_are_not_set_from_outside(host: WebUI) -> None:
    names = ["aesthetic_text_projection", "aesthetic_embeddings_dir", "aesthetic_image_encoder_768"]
    for name in names:
        ask(host, "POST", "/sdapi/v1/options", USER, {name: "/etc"})
        job = {"prompt": "x", "steps": 1, "width": 64, "height": 64, "override_settings": {name: "/etc"}}
        ask(host, "POST", "/sdapi/v1/txt2img", USER, {**job, "override_settings_restore_afterwards": False})
        # What the settings page does.
        assert not host.run(f"result = shared.opts.set({name!r}, '/etc')")
    assert host.run(f"result = [getattr(shared.opts, name) for name in {names!r}]") == ["", "", ""]
    assert host.run("result = shared.opts.set('aesthetic_similarity_infotext', True)"), "what names no file is free"


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        ({}, False),
        ({"gradio_auth": "someone:secret"}, True),
        ({"disable_extension_access": False}, True),
        ({"disable_extension_access": False, "hide_ui_dir_config": True}, False),
        ({"gradio_auth": "someone:secret", "hide_ui_dir_config": True}, False),
    ],
)
def test_who_may_name_folders(host: WebUI, flags: dict[str, Any], allowed: bool) -> None:
    assert host.call(extension.paths_allowed, flags) is allowed


BODIES: list[Any] = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"name": "\\ud800", "images": ["AAAA"]}',
    [],
    1,
    {},
    {"name": 1, "images": 2},
    {"name": "x", "images": [1]},
    {"name": "x", "images": ["AAAA"], "batch_size": "x"},
    {"name": "x", "images": ["AAAA"], "batch_size": 10**9},
    {"name": "x", "images": ["AAAA"], "note": "x" * 10_000_000},
    {"name": "x" * 1_000_000, "images": ["AAAA"]},
    {"name": "../x", "images": ["AAAA"]},
    {"name": "x", "images": ["AAAA"], "spaces": ["x" * 1_000_000]},
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_any_request_gets_a_status_and_a_sentence(host: WebUI, body: Any) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    # A stranger is refused while a large body is still being sent, which ends this client in another way.
    strangers = [(None, {401})] if len(data) < 2**16 else []
    for user, wanted in (*strangers, (USER, {400, 422})):
        request = urllib.request.Request(host.url + EMBEDDINGS, data, {"Content-Type": "application/json"})
        if user:
            request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)
        assert refused.value.code in wanted
        detail = json.loads(refused.value.read())["detail"]
        assert isinstance(detail, str) and len(detail) < 2000


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_that_is_no_text_takes_nothing_away(host: WebUI, gradio: Gradio) -> None:
    folder = host.data_dir / "models" / "aesthetic_embeddings"
    odd = os.path.join(os.fsencode(folder), b"caf\xe9.safetensors")
    with open(odd, "wb") as file:
        file.write((folder / "taste.safetensors").read_bytes())
    try:
        status, listed = ask(host, "GET", EMBEDDINGS, USER)
        assert status == 200 and "taste" in [entry["name"] for entry in listed]
        assert "error" not in gradio.press("refresh")["message"]
        assert "taste" in gradio.shown("table")
    finally:
        os.unlink(odd)


# Here, since the WebUI goes on with rounded weights after it.
def test_weights_stored_in_fp8(host: WebUI, assets: Assets) -> None:
    def job(**more: Any) -> tuple[str, dict[str, Any]]:
        status, answer = ask(host, "POST", "/sdapi/v1/txt2img", USER, {**PAYLOAD, **more})
        assert status == 200, answer
        info = json.loads(answer["info"])
        return info["infotexts"][0], info["extra_generation_params"]

    def similarity(knobs: dict[str, object]) -> float:
        infotext, parameters = job(**asking({"embedding": "taste", "lr": 0.001, **knobs}))
        assert "FP8 weight: Enable" in infotext
        before, after = map(float, parameters["Aesthetic similarity"].partition(" ")[2].split(" -> "))
        return after - before

    projection = {"aesthetic_text_projection": str(assets.text_projection), "aesthetic_similarity_infotext": True}
    code = f"import json\nshared.opts.data.update(json.loads({json.dumps(projection)!r}))"
    host.run(code)
    try:
        ask(host, "POST", "/sdapi/v1/options", USER, {"fp8_storage": "Enable"})
        assert similarity({"steps": 5}) > similarity({"steps": 1}) > 0
    finally:
        ask(host, "POST", "/sdapi/v1/options", USER, {"fp8_storage": "Disable"})
        host.run("shared.opts.data.update(aesthetic_text_projection='', aesthetic_similarity_infotext=False)")
