"""The REST routes of the real WebUI: list, inspect, create and delete embeddings."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aesthetic_clip.embeddings.embedding import load
from aesthetic_clip.spaces import VIT_L

from ..support.checkpoints import Assets
from ..support.vision_towers import picture, write_encoder
from . import hosts
from .conftest import EXTENSION, REPOSITORY
from .driver import asking
from .driver import refusal as refusal_of
from .inside import extension
from .webui import RequestFailed, WebUI, encode_image

EMBEDDINGS = "/aesthetic-gradients/v1/embeddings"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder") / "tiny-768", 768)


@pytest.fixture(scope="module")
def host(webui: WebUI, encoder: Path) -> Iterator[WebUI]:
    webui.use("sd1-a")
    webui.set_options(aesthetic_image_encoder_768=str(encoder))
    yield webui
    webui.set_options(aesthetic_image_encoder_768="")


@pytest.fixture(scope="module")
def shelf(webui: WebUI) -> Path:
    return webui.data_dir / "models" / "aesthetic_embeddings"


@pytest.fixture(scope="module")
def images() -> list[str]:
    return [encode_image(picture(seed)) for seed in range(4)]


def refusal(host: WebUI, body: dict[str, Any], status: int = 422) -> str:
    with pytest.raises(RequestFailed) as refused:
        host.post(EMBEDDINGS, body)
    assert refused.value.status == status, refused.value.body[:500]
    return str(json.loads(refused.value.body)["detail"])


@pytest.fixture
def rest(host: WebUI, images: list[str]) -> Iterator[dict[str, Any]]:
    """The answer to a request that makes the embedding "rest" of pictures in several writings, one of them none."""
    jpeg = io.BytesIO()
    picture(9).save(jpeg, "JPEG")
    data_url = "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
    junk = base64.b64encode(b"no picture").decode()
    wrapped = base64.encodebytes(jpeg.getvalue()).decode()

    yield host.post(EMBEDDINGS, {"name": "rest", "images": [*images, data_url, junk, wrapped], "note": "by REST"})
    if "rest" in {entry["name"] for entry in host.get(EMBEDDINGS)}:
        host.request("DELETE", f"{EMBEDDINGS}/rest")


def test_making_an_embedding_says_what_became_of_each_picture(rest: dict[str, Any], shelf: Path) -> None:
    made = rest
    assert made["name"] == "rest"
    assert made["spaces"] == ["ViT-L/14"]
    assert made["used"] == 6
    assert [skipped["name"] for skipped in made["skipped"]] == ["image 6"]
    assert "not a picture" in made["skipped"][0]["reason"]
    assert made["metadata"]["note"] == "by REST"
    assert load(shelf / "rest.safetensors").digest == made["digest"]
    assert (shelf / "rest.preview.png").is_file()


def test_embeddings_are_listed_and_shown_by_name(host: WebUI, rest: dict[str, Any]) -> None:
    listed = {entry["name"]: entry for entry in host.get(EMBEDDINGS)}
    assert listed["rest"]["metadata"]["image_count"] == "6"
    assert {"vitl", "sub/vitl-2", "xl"} <= set(listed)
    assert listed["xl"]["spaces"] == ["ViT-L/14", "ViT-bigG/14"]
    assert host.get(f"{EMBEDDINGS}/rest") == listed["rest"]
    assert host.get(f"{EMBEDDINGS}/sub/vitl-2")["name"] == "sub/vitl-2"


def test_deleting_an_embedding_puts_its_files_into_the_trash(host: WebUI, rest: dict[str, Any], shelf: Path) -> None:
    before = len(list((shelf / ".trash").glob("*/rest.*")))
    assert host.request("DELETE", f"{EMBEDDINGS}/rest") == {"name": "rest", "trashed": True}
    assert "rest" not in {entry["name"] for entry in host.get(EMBEDDINGS)}
    assert len(list((shelf / ".trash").glob("*/rest.*"))) == before + 2


def test_overwriting_and_spaces(host: WebUI, images: list[str], shelf: Path) -> None:
    host.post(EMBEDDINGS, {"name": "again", "images": images[:2], "spaces": ["vit-l-14"]})
    assert "There is already an aesthetic embedding 'again'." in refusal(host, {"name": "again", "images": images})
    assert host.post(EMBEDDINGS, {"name": "again", "images": images, "overwrite": True})["used"] == 4
    assert "There is no CLIP space 'ViT-Q'." in refusal(host, {"name": "other", "images": images, "spaces": ["ViT-Q"]})
    assert "no image encoder for ViT-H/14" in refusal(
        host, {"name": "other", "images": images, "spaces": ["ViT-L/14", "ViT-H/14"]}
    )
    assert list(load(shelf / "again.safetensors").vectors) == [VIT_L]
    host.request("DELETE", f"{EMBEDDINGS}/again")


@pytest.mark.parametrize("name", ["", "../../x", "sub/x", "CON", "..", "a\\b"])
def test_names_that_are_refused(host: WebUI, images: list[str], name: str) -> None:
    before = sorted(path for path in host.data_dir.rglob("*") if path.suffix in (".safetensors", ".pt"))
    assert "can't be called" in refusal(host, {"name": name, "images": images})
    assert sorted(path for path in host.data_dir.rglob("*") if path.suffix in (".safetensors", ".pt")) == before


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "name", ["nope", "..%2F..%2Fconfig", "%2Fetc%2Fpasswd", ".trash%2Fx", "vitl.pt", "..%5Cvitl", "sub%2F..%2Fvitl"]
)
def test_only_listed_names_are_found(host: WebUI, method: str, name: str) -> None:
    with pytest.raises(RequestFailed) as refused:
        host.request(method, f"{EMBEDDINGS}/{name}")
    assert refused.value.status == 404
    assert "There is no aesthetic embedding" in refused.value.body


def test_images_that_are_refused(host: WebUI, images: list[str]) -> None:
    assert "There are no images." in refusal(host, {"name": "limits", "images": []})
    assert "There are 1,001 pictures in one request." in refusal(host, {"name": "limits", "images": ["AAAA"] * 1001})
    for text in ("not base64!", "ünlesbar", "AAA"):
        assert "Image 2 is not base64." in refusal(host, {"name": "limits", "images": [images[0], text]})
    junk = [base64.b64encode(b"no picture").decode()] * 2
    assert "None of 2 files could be used" in refusal(host, {"name": "limits", "images": junk})
    assert "The batch size is 0." in refusal(host, {"name": "limits", "images": images, "batch_size": 0})
    assert "limits" not in {entry["name"] for entry in host.get(EMBEDDINGS)}


TASTES = "/aesthetic-gradients/v1/tastes"


def test_a_taste_grows_and_can_be_looked_after(host: WebUI, images: list[str], shelf: Path) -> None:
    taste = f"{TASTES}/rest%20taste"
    liked = host.post(f"{taste}/like", {"image": images[0], "name": "first.png"})
    assert liked == {
        "name": "rest taste", "liked": 1, "disliked": 0, "picture": "first.png", "before": None, "after": "liked",
    }  # fmt: skip
    first = load(shelf / "rest taste.safetensors")
    assert host.post(f"{taste}/like", {"image": f"data:image/png;base64,{images[0]}"})["before"] == "liked"
    host.post(f"{taste}/like", {"image": images[1]})
    assert host.post(f"{taste}/dislike", {"image": images[2]})["disliked"] == 1
    assert {"name": "rest taste", "liked": 2, "disliked": 1} in host.get(TASTES)

    listed = host.get(f"{taste}/pictures")
    assert [(one["name"], one["opinion"]) for one in listed] == [("sent", "disliked"), ("sent", "liked"), ("first.png", "liked")]  # fmt: skip
    assert host.get(f"{taste}/pictures?start=1&count=1") == listed[1:2]
    with urllib.request.urlopen(f"{host.url}{taste}/pictures/{listed[0]['picture']}") as answer:
        assert answer.headers["Content-Type"] == "image/jpeg" and answer.read(2) == b"\xff\xd8"

    assert host.post(f"{taste}/undo", None)["after"] is None
    assert host.request("DELETE", f"{taste}/pictures/{listed[1]['picture']}")["liked"] == 1
    assert load(shelf / "rest taste.safetensors").digest == first.digest
    image = host.txt2img(**asking({"embedding": "rest taste"}))
    assert "Aesthetic embedding: rest taste" in image.infotext


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("POST", "nothing/undo", None, 404, "There is no aesthetic embedding"),
        ("GET", "nothing/pictures", None, 404, "There is no aesthetic embedding"),
        ("GET", "vitl/pictures", None, 422, "made in another way"),
        ("POST", "vitl/like", "picture", 422, "made in another way"),
        ("POST", "..%2Fup/like", "picture", 422, "can't be called"),
        ("POST", "new/like", {"image": "no base64!"}, 422, "not base64"),
        ("POST", "new/like", {"image": "bm8gcGljdHVyZQ=="}, 422, "sent can't be used"),
        ("POST", "new/like", {}, 422, "image: field required"),
        ("POST", "new/like", {"image": "", "name": "n" * 201}, 422, "at most 200"),
    ],
)
def test_what_can_be_no_thumb_is_refused(
    host: WebUI, images: list[str], shelf: Path, method: str, path: str, body: object, status: int, said: str
) -> None:
    with pytest.raises(RequestFailed) as refused:
        host.request(method, f"{TASTES}/{path}", {"image": images[0]} if body == "picture" else body)
    assert refused.value.status == status
    # Newer releases of pydantic begin with a capital.
    assert said.lower() in json.loads(refused.value.body)["detail"].lower()
    assert not (shelf / "new.safetensors").exists()


def test_a_single_pictures_taste_lasts_as_long_as_the_webui(host: WebUI, images: list[str], shelf: Path) -> None:
    files = sorted(shelf.rglob("*"))
    name = host.post("/aesthetic-gradients/v1/pictures", {"image": images[3]})["name"]
    assert name.startswith("this picture ")
    made = [host.txt2img(**asking({"embedding": name})) for _ in range(2)]
    assert made[0].image.tobytes() == made[1].image.tobytes() != host.txt2img().image.tobytes()
    assert f"Aesthetic embedding: {name}" in made[0].infotext
    assert sorted(shelf.rglob("*")) == files
    said = refusal_of(host, "this picture 00000000")
    assert "for one run of the WebUI" in said and "like it, which keeps it" in said


def test_size_limits(host: WebUI, images: list[str]) -> None:
    default = host.call(extension.set_largest_request, 10_000)
    try:
        assert "The images are too large." in refusal(host, {"name": "limits", "images": ["A" * 20_000]})
        too_large = refusal(host, {"name": "limits", "images": ["A" * 2**21]}, 413)
        assert "The request is too large." in too_large
    finally:
        host.call(extension.set_largest_request, default)
    assert host.post(EMBEDDINGS, {"name": "limits", "images": images})["used"] == 4
    host.request("DELETE", f"{EMBEDDINGS}/limits")


def test_it_waits_for_its_turn(host: WebUI, images: list[str], shelf: Path) -> None:
    answers: list[Any] = []

    def ask() -> None:
        answers.append(host.post(EMBEDDINGS, {"name": "in turn", "images": images}))

    host.run("from modules.call_queue import queue_lock\nqueue_lock.acquire()\nshared.state.interrupted = True")
    thread = threading.Thread(target=ask)
    thread.start()
    try:
        time.sleep(1.5)
        assert not answers and not (shelf / "in turn.safetensors").exists()
    finally:
        host.run("from modules.call_queue import queue_lock\nqueue_lock.release()")
    thread.join(60)
    assert answers[0]["used"] == 4, "an interruption from before it began is not meant for it"
    assert host.run("result = [shared.state.job, shared.state.job_count]") == ["", 0]
    host.request("DELETE", f"{EMBEDDINGS}/in%20turn")


# --- other flags of the WebUI ---


def start(data_dir: Path, webui_dir: Path, assets: Assets, flags: tuple[str, ...] = ()) -> WebUI:
    """A second WebUI that shares the first one's checkpoints."""
    models = data_dir / "models"
    models.mkdir()
    (models / "Stable-diffusion").symlink_to(assets.sd1_a.parent)
    host = WebUI(webui_dir, data_dir, flags)
    host.prepare(assets.open_clip_configs, assets.sd1_a.stem)
    host.install_extension(REPOSITORY, EXTENSION)
    host.start()
    return host


def ask(host: WebUI, method: str, path: str, user: str | None = None, body: Any = None) -> tuple[int, Any]:
    """Status and answer; ``user`` is name:password."""
    request = urllib.request.Request(
        host.url + path, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    request.method = method
    if user is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_api_auth(tmp_path: Path, webui_dir: Path, assets: Assets, encoder: Path, images: list[str]) -> None:
    host = start(tmp_path, webui_dir, assets, ("--api-auth", "someone:secret,another:password"))
    try:
        host.run(f"shared.opts.set('aesthetic_image_encoder_768', {str(encoder)!r})")
        body = {"name": "mine", "images": images}
        for wrong in (None, "someone:wrong", "nobody:secret", "someone:", "another:secret", "sömeone:sécret"):
            for method, path, sent in (
                ("GET", EMBEDDINGS, None),
                ("GET", f"{EMBEDDINGS}/mine", None),
                ("POST", EMBEDDINGS, body),
                ("DELETE", f"{EMBEDDINGS}/mine", None),
            ):
                assert ask(host, method, path, wrong, sent)[0] == 401, (wrong, method)
        assert ask(host, "GET", EMBEDDINGS, "someone:secret") == (200, [])
        status, made = ask(host, "POST", EMBEDDINGS, "someone:secret", body)
        assert (status, made["used"]) == (200, 4)
        assert ask(host, "DELETE", f"{EMBEDDINGS}/mine", "another:password")[0] == 200
    finally:
        host.stop()


def test_no_routes_without_the_api(
    tmp_path: Path, webui_dir: Path, assets: Assets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "ALWAYS", tuple(flag for flag in hosts.ALWAYS if flag != "--api"))
    host = start(tmp_path, webui_dir, assets)
    try:
        assert host.run("result = 'aesthetic_create' in str(shared.demo.config)"), "the tab is there all the same"
        assert ask(host, "GET", EMBEDDINGS)[0] == 404
        assert ask(host, "DELETE", f"{EMBEDDINGS}/x")[0] in (404, 405)
        assert ask(host, "POST", EMBEDDINGS, body={"name": "x", "images": []})[0] in (404, 405)
    finally:
        host.stop()
