"""Image encoders: the same features as the libraries' whole models, found where people keep them, fetched safely."""

from __future__ import annotations

import gc
import hashlib
import http.server
import json
import shutil
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn

from aesthetic_clip import download as downloading
from aesthetic_clip.clip import image_encoder as vision
from aesthetic_clip.clip import image_encoder_files as encoder_files
from aesthetic_clip.clip.image_encoder import load, load_encoder
from aesthetic_clip.clip.image_encoder_files import Checkpoint, download, find_checkpoint
from aesthetic_clip.errors import AestheticError, Interrupted, Remedy
from aesthetic_clip.spaces import VIT_L, Space

SIDE = 32
ARCH = "aesthetic-test-vit"
SPACE = Space("CLIP-24", 24, hub_id="someone/tiny-clip", open_clip=(ARCH, "none"))
OPENAI = Space("CLIP-24", 24, hub_id="someone/tiny-clip", open_clip=(ARCH, "openai"))


@pytest.fixture(autouse=True)
def no_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither this machine's caches nor its network."""
    for module in (vision, encoder_files):
        monkeypatch.setattr(module, "DOWNLOADS", tmp_path / "downloads")
    monkeypatch.setattr(encoder_files, "_OPENAI_CACHE", tmp_path / "openai")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    set_hub(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def set_hub(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    for module in (huggingface_hub.constants, huggingface_hub.file_download):  # by version
        monkeypatch.setattr(
            module, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}", raising=False
        )


@pytest.fixture(scope="module")
def hf_model() -> transformers.CLIPModel:
    torch.manual_seed(0)
    config = transformers.CLIPConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "vocab_size": 50,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": SIDE,
            "patch_size": 8,
        },
        projection_dim=24,
    )
    return transformers.CLIPModel(config).eval()


@pytest.fixture(scope="module")
def open_clip_arch(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("config") / f"{ARCH}.json"
    path.write_text(
        json.dumps(
            {
                "embed_dim": 24,
                "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8},
                "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
            }
        )
    )
    open_clip.add_model_config(path)
    return ARCH


@pytest.fixture(scope="module")
def batch() -> Tensor:
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def hf_features(model: transformers.CLIPModel, batch: Tensor) -> Tensor:
    with torch.no_grad():
        return model.visual_projection(model.vision_model(pixel_values=batch).pooler_output)


def parameters(encoder: vision.ImageEncoder) -> int:
    return sum(p.numel() for p in encoder._live().parameters())


def openclip_model(quick: bool = False) -> Any:
    torch.manual_seed(0)
    return open_clip.create_model(ARCH, force_quick_gelu=quick).eval()


@pytest.mark.parametrize("safe", [True, False])
def test_transformers_folder(hf_model: transformers.CLIPModel, batch: Tensor, tmp_path: Path, safe: bool) -> None:
    hf_model.save_pretrained(tmp_path / "m", **({"safe_serialization": safe} if safe else {}))
    if not safe:
        (tmp_path / "m" / "model.safetensors").unlink(missing_ok=True)
        torch.save(hf_model.state_dict(), tmp_path / "m" / "pytorch_model.bin")
    encoder = load_encoder(SPACE, tmp_path / "m")
    torch.testing.assert_close(encoder.encode(batch), hf_features(hf_model, batch))
    assert (encoder.size, encoder.space, encoder.model_id) == (SIDE, SPACE, "m")
    assert parameters(encoder) == sum(
        p.numel() for part in (hf_model.vision_model, hf_model.visual_projection) for p in part.parameters()
    )


def test_vision_config_with_the_wrong_width(hf_model: transformers.CLIPModel, batch: Tensor, tmp_path: Path) -> None:
    """LAION's config.json says 512 in its vision part, and the truth beside it."""
    hf_model.save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["vision_config"]["projection_dim"] = 512
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    torch.testing.assert_close(load_encoder(SPACE, tmp_path / "m").encode(batch), hf_features(hf_model, batch))


def test_own_mean_and_deviation(hf_model: transformers.CLIPModel, tmp_path: Path) -> None:
    hf_model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1]}')
    encoder = load_encoder(SPACE, tmp_path / "m")
    assert (encoder.mean, encoder.std) == ((0.5, 0.5, 0.5), (1, 1, 1))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("kind", ["safetensors", "bin", "trainer"])
def test_open_clip_file(open_clip_arch: str, batch: Tensor, tmp_path: Path, kind: str, quick: bool) -> None:
    """Also a training checkpoint; with OpenAI's GELU where the weights are OpenAI's."""
    model = openclip_model(quick)
    path = tmp_path / f"open_clip_model.{'safetensors' if kind == 'safetensors' else 'bin'}"
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    elif kind == "bin":
        torch.save(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, path)
    encoder = load_encoder(OPENAI if quick else SPACE, path)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(batch), model.encode_image(batch))
    assert parameters(encoder) == sum(p.numel() for p in model.visual.parameters())
    assert not any(p.is_meta for p in encoder._live().parameters())


class _VisualOnly(nn.Module):
    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, pixels: Tensor) -> Tensor:
        return self.visual(pixels)


@pytest.mark.filterwarnings("ignore")
def test_openai_file(open_clip_arch: str, batch: Tensor, no_other_places: Path) -> None:
    """OpenAI published TorchScript in half precision; the code in it is not run."""
    model = openclip_model(quick=True)
    script = torch.jit.trace(_VisualOnly(model.visual), batch)
    file = no_other_places / "openai" / f"{ARCH}.pt"
    file.parent.mkdir()
    script.half().save(str(file))
    assert find_checkpoint(SPACE) is None
    checkpoint = find_checkpoint(OPENAI)
    assert checkpoint == Checkpoint("open_clip", file, f"openai {ARCH}")
    with torch.no_grad():
        expected = model.float().encode_image(batch)  # half() above rounded this model's own weights
    torch.testing.assert_close(load_encoder(OPENAI).encode(batch), expected)


def put_in_cache(cache: Path, repo: str, folder: Path) -> Path:
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    for file in folder.iterdir():
        file.rename(snapshot / file.name)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("0123abc")
    return snapshot


def test_found_in_the_hub_cache(hf_model: transformers.CLIPModel, batch: Tensor, no_other_places: Path) -> None:
    hf_model.save_pretrained(no_other_places / "m")
    snapshot = put_in_cache(no_other_places / "hub", "someone/tiny-clip", no_other_places / "m")
    assert find_checkpoint(SPACE) == Checkpoint("transformers", snapshot, "someone/tiny-clip")
    encoder = load_encoder(SPACE)
    assert encoder.model_id == "someone/tiny-clip"
    torch.testing.assert_close(encoder.encode(batch), hf_features(hf_model, batch))
    # Weights without a configuration, as hosts leave them there, are of no use.
    (snapshot / "config.json").unlink()
    assert find_checkpoint(SPACE) is None


def test_a_space_without_a_name_has_a_folder_too(hf_model: transformers.CLIPModel, no_other_places: Path) -> None:
    space = Space("CLIP-48", 48)
    assert find_checkpoint(space, folders=[no_other_places]) is None
    hf_model.save_pretrained(no_other_places / "CLIP-48")
    found = find_checkpoint(space, folders=[no_other_places])
    assert found == Checkpoint("transformers", no_other_places / "CLIP-48", "CLIP-48")


def test_incomplete_shards_are_not_taken(
    hf_model: transformers.CLIPModel, batch: Tensor, no_other_places: Path
) -> None:
    folder = no_other_places / "models" / "tiny-clip"
    hf_model.save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) + len(list(folder.glob("*.bin"))) > 1
    encoder = load_encoder(SPACE, folders=[no_other_places / "models"])
    torch.testing.assert_close(encoder.encode(batch), hf_features(hf_model, batch))
    sorted(folder.glob("*-of-*"))[0].unlink()
    assert find_checkpoint(SPACE, folders=[no_other_places / "models"]) is None


def test_the_users_path_comes_first(
    hf_model: transformers.CLIPModel, open_clip_arch: str, no_other_places: Path
) -> None:
    hf_model.save_pretrained(no_other_places / "models" / "tiny-clip")
    other = no_other_places / "mine.pt"
    torch.save(openclip_model().state_dict(), other)
    found = find_checkpoint(SPACE, other, [no_other_places / "models"])
    assert found is not None
    assert found.path == other
    with pytest.raises(AestheticError, match="no such file"):
        find_checkpoint(SPACE, no_other_places / "gone", [no_other_places / "models"])


def test_bad_weights(hf_model: transformers.CLIPModel, open_clip_arch: str, tmp_path: Path) -> None:
    for content in (b"", b"not weights", b"PK\x03\x04 broken"):
        for name in ("a.pt", "a.safetensors", "model.safetensors"):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(AestheticError, match="can't be loaded") as caught:
                load_encoder(SPACE, tmp_path / name)
            assert caught.value.do
    # A model with some tensors missing must not be filled up with random ones.
    hf_model.save_pretrained(tmp_path / "m")
    state = {key: value for key, value in hf_model.state_dict().items() if "layers.1.self_attn.q_proj" not in key}
    (tmp_path / "m" / "model.safetensors").unlink(missing_ok=True)
    torch.save(state, tmp_path / "m" / "pytorch_model.bin")
    with pytest.raises(AestheticError, match="missing"):
        load_encoder(SPACE, tmp_path / "m")
    with pytest.raises(AestheticError, match="holds neither"):
        load_encoder(SPACE, tmp_path)


def test_another_models_weights(hf_model: transformers.CLIPModel, tmp_path: Path) -> None:
    hf_model.save_pretrained(tmp_path / "m")
    with pytest.raises(AestheticError, match="width 24"):
        load(VIT_L, Checkpoint("transformers", tmp_path / "m", "m"))


def test_a_pickle_that_would_run_code_is_refused(open_clip_arch: str, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"visual.proj": Evil()}, tmp_path / "a.pt")
    with pytest.raises(AestheticError):
        load_encoder(SPACE, tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_close_gives_the_memory_back(hf_model: transformers.CLIPModel, batch: Tensor, tmp_path: Path) -> None:
    hf_model.save_pretrained(tmp_path / "m")
    with load_encoder(SPACE, tmp_path / "m") as encoder:
        weight = weakref.ref(next(encoder._live().parameters()))
    gc.collect()
    assert weight() is None
    encoder.close()
    with pytest.raises(RuntimeError):
        encoder.encode(batch)


@pytest.mark.parametrize("space", [SPACE, OPENAI, VIT_L])
def test_nothing_there(space: Space, no_other_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AestheticError, match="no image encoder") as caught:
        load_encoder(space, folders=[no_other_places / "models"])
    assert str(no_other_places / "models") in caught.value.why
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AestheticError, match="HF_HUB_OFFLINE"):
        load_encoder(space, allow_download=lambda size, what: True)


class Hub:
    """As much of the Hugging Face hub as a download sees; it can break off, refuse and lie."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.ranges = files, list[str]()
        self.break_after: int | None = None
        self.lie = False
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.reply(False)

            def do_GET(self) -> None:
                self.reply(True)

            def reply(self, body: bool) -> None:
                name = self.path.rpartition("/")[2]
                content = hub.files.get(name)
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                small = name.endswith(".json")
                tag = (
                    hashlib.sha1(b"blob %d\0" % len(content) + content) if small else hashlib.sha256(content)
                ).hexdigest()
                wanted = self.headers.get("Range", "")
                start = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if body else 0
                self.send_response(206 if start else 200)
                self.send_header("ETag", f'"{tag}"')
                self.send_header("X-Repo-Commit", "0123abc")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                if body:
                    hub.ranges.append(f"{name} {start}")
                    rest = content[start:]
                    if hub.lie:
                        rest = bytes(len(rest))
                    if hub.break_after is not None and not small:
                        rest, hub.break_after = rest[: hub.break_after], None
                        self.close_connection = True
                    self.wfile.write(rest)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub(hf_model: transformers.CLIPModel, no_other_places: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hf_model.save_pretrained(no_other_places / "published")
    config = (no_other_places / "published" / "config.json").read_bytes()
    weights = safetensors.torch.save(
        {key: value.contiguous() for key, value in hf_model.state_dict().items()}, {"format": "pt"}
    )
    hub = Hub({"config.json": config, "model.safetensors": weights})
    set_hub(monkeypatch, hub.url)
    monkeypatch.setattr(downloading, "LIMITS", downloading.Limits(chunk=4096))
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def test_download(hub: Hub, hf_model: transformers.CLIPModel, batch: Tensor, no_other_places: Path) -> None:
    asked: list[tuple[int, str]] = []
    told: list[tuple[int, int]] = []
    lines: set[str] = set()

    def progress(done: int, total: int, line: str) -> None:
        told.append((done, total))
        lines.add(line)

    models = no_other_places / "models"
    total = sum(map(len, hub.files.values()))

    def allow(size: int, what: str) -> bool:
        asked.append((size, what))
        return True

    encoder = load_encoder(OPENAI, folders=[models], allow_download=allow, progress=progress)
    torch.testing.assert_close(encoder.encode(batch), hf_features(hf_model, batch))
    assert asked[0][0] == total
    assert "someone/tiny-clip" in asked[0][1]
    assert told[-1] == (total, total)
    assert told == sorted(told)
    assert all("Downloading the image encoder" in line for line in lines)
    assert {file.name for file in (models / "tiny-clip").iterdir()} == set(hub.files)
    load_encoder(OPENAI, folders=[models], allow_download=allow)
    assert len(asked) == 1


def test_download_of_an_open_clip_model(hub: Hub, open_clip_arch: str, batch: Tensor, no_other_places: Path) -> None:
    """The first of the names it may have."""
    model = openclip_model()
    torch.save(model.state_dict(), no_other_places / "weights")
    hub.files = {"open_clip_pytorch_model.bin": (no_other_places / "weights").read_bytes()}
    with torch.no_grad():
        torch.testing.assert_close(
            load_encoder(SPACE, allow_download=lambda *_: True).encode(batch), model.encode_image(batch)
        )


def test_download_refused(hub: Hub, no_other_places: Path) -> None:
    with pytest.raises(AestheticError, match="would have to be downloaded"):
        load_encoder(OPENAI, allow_download=lambda size, what: False)
    assert not hub.ranges
    assert not (no_other_places / "downloads").exists()


def test_a_broken_download_goes_on_where_it_ended(hub: Hub, no_other_places: Path) -> None:
    hub.break_after = 20_000
    download(OPENAI, no_other_places, lambda *_: True)
    assert hub.ranges == ["config.json 0", "model.safetensors 0", "model.safetensors 20000"]
    assert (no_other_places / "tiny-clip" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


def test_a_stopped_download_goes_on_later(hub: Hub, no_other_places: Path) -> None:
    def stop(done: int, _total: int, _line: str) -> None:
        if done > 20_000:
            raise Interrupted

    with pytest.raises(Interrupted):
        download(OPENAI, no_other_places, lambda *_: True, stop)
    assert find_checkpoint(OPENAI, folders=[no_other_places]) is None
    hub.ranges.clear()
    download(OPENAI, no_other_places, lambda *_: True)
    assert int(hub.ranges[-1].split()[1]) > 0


def test_wrong_content(hub: Hub, no_other_places: Path) -> None:
    hub.lie = True
    with pytest.raises(AestheticError, match="wrong hash"):
        download(OPENAI, no_other_places, lambda *_: True)
    assert not list((no_other_places / "tiny-clip").iterdir())


def test_download_fails(hub: Hub, no_other_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(AestheticError, match=r"model.safetensors of someone/tiny-clip can't be reached") as caught:
        download(OPENAI, no_other_places, lambda *_: True)
    assert caught.value.remedy is Remedy.IMAGE_ENCODER
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's own attempts
    set_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(AestheticError, match="can't be reached"):
        download(OPENAI, no_other_places, lambda *_: True)


def test_no_room(hub: Hub, no_other_places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(AestheticError, match="no room"):
        download(OPENAI, no_other_places, lambda *_: True)


# A folder from a stranger


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_hidden_layers": 1_000_000}, "num_hidden_layers"),
        ({"num_hidden_layers": 100}, "98 are missing"),
        ({"hidden_size": 96}, "shape"),
        ({"hidden_size": 8192}, "attention heads"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"hidden_size": 1e30}, "hidden_size"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"image_size": 1024, "patch_size": 1}, "more patches"),
        ({"image_size": 64}, "shape"),
        ({"hidden_act": "os.system"}, "activation"),
        ({"layer_norm_eps": float("nan")}, "damaged"),
        ({"layer_norm_eps": None}, "layer_norm_eps"),
    ],
)
def test_a_configuration_is_believed_as_far_as_the_weights_bear_it_out(
    hf_model: transformers.CLIPModel, tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    hf_model.save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["vision_config"].update(change)
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(AestheticError, match=reason):
        load_encoder(SPACE, tmp_path / "m")


@pytest.mark.parametrize("text", ["[" * 10**5, "{" + " " * 2**20 + "}", "[]", "", "<html>", '{"vision_config": 3}'])
def test_a_configuration_that_is_none(hf_model: transformers.CLIPModel, tmp_path: Path, text: str) -> None:
    hf_model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(text)
    with pytest.raises(AestheticError, match=r"config\.json|vision_config"):
        load_encoder(SPACE, tmp_path / "m")


@pytest.mark.parametrize("std", [[0, 1, 1], [1], "x", [1, 1, float("nan")], [1, 1, "1"]])
def test_impossible_means_are_refused(hf_model: transformers.CLIPModel, tmp_path: Path, std: object) -> None:
    hf_model.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps({"image_std": std}))
    with pytest.raises(AestheticError, match="preprocessor_config"):
        load_encoder(SPACE, tmp_path / "m")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "a shard"])
def test_no_pickle_in_a_folder_is_run(hf_model: transformers.CLIPModel, tmp_path: Path, name: str) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    folder = tmp_path / "m"
    hf_model.save_pretrained(folder)
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "pytorch_model.bin").unlink(missing_ok=True)
    if name == "a shard":
        _indexed(folder, "evil.bin")
        name = "evil.bin"
    torch.save({**hf_model.state_dict(), "x": Evil()}, folder / name)
    with pytest.raises(AestheticError, match="not executed"):
        load_encoder(SPACE, folder)
    assert not (tmp_path / "ran").exists()


def test_code_beside_the_weights_is_of_no_interest(
    hf_model: transformers.CLIPModel, batch: Tensor, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    hf_model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    torch.testing.assert_close(load_encoder(SPACE, folder).encode(batch), hf_features(hf_model, batch))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", "", 3, None, ["a"]])
def test_shards_lie_in_the_folder(hf_model: transformers.CLIPModel, tmp_path: Path, shard: object) -> None:
    folder = tmp_path / "m"
    hf_model.save_pretrained(folder)
    for name in ("model.safetensors", "pytorch_model.bin"):
        (folder / name).unlink(missing_ok=True)
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(AestheticError, match=r"index\.json is damaged"):
        vision.load(SPACE, Checkpoint("transformers", _indexed(folder, shard), "m"))
    with pytest.raises(AestheticError, match="holds neither"):
        find_checkpoint(SPACE, folder)


def _indexed(folder: Path, shard: object) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    return folder


def test_safetensors_are_preferred_to_a_pickle(hf_model: transformers.CLIPModel, batch: Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    hf_model.save_pretrained(folder)
    state = {k: v.contiguous() for k, v in hf_model.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    torch.testing.assert_close(load_encoder(SPACE, folder).encode(batch), hf_features(hf_model, batch))
