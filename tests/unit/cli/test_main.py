"""The command line, in this process and as users start it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from aesthetic_clip.cli.arguments import default_folder
from aesthetic_clip.cli.main import COMMANDS, _parser, main
from aesthetic_clip.download import DownloadFailed
from aesthetic_clip.embeddings import published as catalogue
from aesthetic_clip.embeddings.embedding import Embedding, load, save
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_BIGG, VIT_L


@pytest.fixture
def lib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "library"
    monkeypatch.setenv("AESTHETIC_EMBEDDINGS_DIR", str(folder))
    for seed, name in enumerate(("one", "two")):
        vector = unit(torch.randn(768, generator=torch.Generator().manual_seed(seed)))
        save(
            Embedding(name, {VIT_L: vector}, {"note": f"note {name}", "image_count": "3"}),
            folder / f"{name}.safetensors",
        )
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    random = numpy.random.default_rng(0)
    for i in range(7):
        path = folder / ("sub" if i > 4 else ".") / f"{i}.png"
        Image.fromarray(random.integers(0, 256, (40, 50, 3), numpy.uint8)).save(path)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "Traceback" not in captured.err
    return captured.err


def works(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


# As users start it


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aesthetic_clip", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        cwd=Path(__file__).parents[3],
        timeout=120,
    )


def test_a_fault_as_a_program(lib: Path) -> None:
    missing = run("inspect", "nothing")
    assert missing.returncode == 2
    assert missing.stdout == ""
    assert missing.stderr.strip().count("\n") == 0
    assert "There is no aesthetic embedding 'nothing'." in missing.stderr


def test_create_as_a_program(lib: Path, vision_tower: Path, pictures: Path) -> None:
    done = run(
        "create",
        "my taste",
        pictures,
        "--recursive",
        "--encoder",
        vision_tower,
        "--device",
        "cpu",
        "--note",
        "hello",
        "--batch-size",
        3,
    )
    assert done.returncode == 0, done.stderr
    embedding = load(lib / "my taste.safetensors")
    assert embedding.metadata["image_count"] == "7"
    assert embedding.metadata["note"] == "hello"
    assert list(embedding.vectors) == [VIT_L]
    assert "broken.jpg" in done.stderr
    assert "similar: " in done.stdout
    with Image.open(lib / "my taste.preview.png") as preview:
        assert preview.width > 100


# create


def test_shards_of_pictures_merge_exactly(
    lib: Path, vision_tower: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = [pictures, "--recursive", "--encoder", vision_tower, "--device", "cpu"]
    works(capsys, "create", "whole", *common)
    parts = [works(capsys, "create", "split", *common, "--shard", f"{i}/3").strip() for i in (1, 2, 3)]
    assert all(Path(part).parent == lib / ".parts" for part in parts)
    assert "split" not in works(capsys, "list")
    assert "missing" in fails(capsys, "merge", "split", *parts[:2])
    assert "twice" in fails(capsys, "merge", "split", *parts, parts[0])
    works(capsys, "merge", "split", "--note", "merged")
    works(capsys, "merge", "again", *reversed(parts))
    whole = load(lib / "whole.safetensors")
    for name in ("split", "again"):
        merged = load(lib / f"{name}.safetensors")
        assert torch.allclose(merged.vectors[VIT_L], whole.vectors[VIT_L], atol=1e-6)
        for key in ("image_count", "model_id", "mean_cosine", "raw"):
            assert merged.metadata[key] == whole.metadata[key]
    assert load(lib / "split.safetensors").metadata["note"] == "merged"


def test_merge_takes_the_parts_of_this_very_name(lib: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{i}.npy" for i in (1, 2)]
    for file in files:
        numpy.save(file, numpy.random.default_rng(1).normal(0.2, 1, (20, 768)).astype(numpy.float16))
    for name in ("taste.v2", "taste v2", "taste.1-of-2"):
        for i in (1, 2):
            works(capsys, "create", name, "--shard", f"{i}/2", "--from-npy", *files)
    assert "no parts of 'taste'" in fails(capsys, "merge", "taste")
    assert "no parts of 'nothing'" in fails(capsys, "merge", "nothing", "--library", tmp_path / "none")
    assert not (lib / "taste.safetensors").exists()
    works(capsys, "merge", "taste.v2")


def test_from_npy(lib: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for i in range(3):
        files.append(tmp_path / f"img_emb_{i}.npy")
        numpy.save(files[-1], numpy.random.default_rng(i).normal(0.2, 1, (20, 1280)).astype(numpy.float16))
    out = works(capsys, "create", "big", "--from-npy", *files)
    assert "image_count: 60" in out
    assert list(load(lib / "big.safetensors").vectors) == [VIT_BIGG]
    for i in (1, 2):
        works(capsys, "create", "big2", "--shard", f"{i}/2", "--from-npy", *files)
    works(capsys, "merge", "big2")
    assert torch.allclose(
        load(lib / "big.safetensors").vectors[VIT_BIGG], load(lib / "big2.safetensors").vectors[VIT_BIGG], atol=1e-6
    )
    works(capsys, "create", "big", "--raw", "--overwrite", "--from-npy", *files)
    assert load(lib / "big.safetensors").metadata["raw"] == "true"


def test_create_refuses_before_it_works(
    lib: Path, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, reason in (
        (["../../x", pictures], "path parts"),
        (["", pictures], "empty"),
        (["one", pictures], "already"),
        (["new", tmp_path / "missing"], "no such folder"),
        (["new", tmp_path / "empty"], "no file in it"),
        (["new", pictures / "broken.jpg"], "a file, not a folder"),
        (["new"], "No folder"),
        (["new", pictures, "--space", "ViT-X"], "There are: ViT-L/14"),
        (["new", pictures, "--encoder", "a", "--encoder", "b"], "2 encoders for 1"),
        (["new", pictures, "--encoder", tmp_path / "missing"], "no such file or folder"),
        (["new", pictures, "--filter", "a>1"], "with --from-npy"),
        (["new", pictures, "--from-npy", tmp_path / "x.npy"], "can't be combined"),
        (["new", "--from-npy", tmp_path / "x.npy"], "No such file"),
    ):
        assert reason in fails(capsys, "create", *arguments)
    assert sorted(p.name for p in lib.iterdir()) == ["one.safetensors", "two.safetensors"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["unknown"],
        ["create"],
        ["create", "x", "--shard", "5/4"],
        ["create", "x", "--filter", "?"],
        ["mix", "x"],
        ["export", "x"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert COMMANDS[command].help[1:] in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 80
    assert 1 <= said.partition("examples:")[2].count(f"aesthetic_clip {command}") <= 3


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_are_understood(command: str) -> None:
    for example in COMMANDS[command].examples:
        assert _parser().parse_args(shlex.split(example)).command is COMMANDS[command]


def test_interrupt(
    lib: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aesthetic_clip.create.sources.find_images", interrupt)
    assert main(["create", "x", str(pictures)]) == 130
    assert "nothing was saved" in capsys.readouterr().err


def test_debug(lib: Path) -> None:
    with pytest.raises(AestheticError):
        main(["inspect", "nothing", "--debug"])


# The others


def test_list_shows_what_is_unusable(lib: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lib / "bad.pt").write_bytes(b"damaged")
    lines = works(capsys, "list").splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "bad", "one", "two"]
    assert "unusable" in lines[1]
    assert lines[2].split()[1:3] == ["ViT-L/14", "3"]
    assert "bad" not in works(capsys, "inspect", "one")


def test_list_of_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--library", str(tmp_path / "none")]) == 0
    captured = capsys.readouterr()
    assert not captured.out
    assert str(tmp_path / "none") in captured.err
    assert "create" in captured.err
    assert "download" in captured.err


def test_inspect(lib: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = works(capsys, "inspect", "one")
    for line in (str(lib / "one.safetensors"), "name: one", "space: ViT-L/14 (768", "note: note one", "similar: two ("):
        assert line in out


def test_mix(lib: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (load(lib / f"{name}.safetensors").vectors[VIT_L] for name in ("one", "two"))
    works(capsys, "mix", "both", "one:0.7", "two:0.3", "--note", "hello")
    both = load(lib / "both.safetensors")
    assert torch.allclose(both.vectors[VIT_L], unit(0.7 * one + 0.3 * two), atol=1e-6)
    assert both.metadata["mixed_from"] == "one:0.7 two:0.3"
    assert both.metadata["note"] == "hello"
    works(capsys, "mix", "direction", "one", "two:-1")
    assert torch.allclose(load(lib / "direction.safetensors").vectors[VIT_L], unit(one - two), atol=1e-6)
    assert "not a number" in fails(capsys, "mix", "x", "one:much")
    assert "cancel out" in fails(capsys, "mix", "x", "one", "one:-1")
    assert "Did you mean 'one'?" in fails(capsys, "mix", "x", "onne")
    assert "already" in fails(capsys, "mix", "both", "one")


def test_export(lib: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.pt"
    works(capsys, "export", "one", target)
    assert torch.load(target, weights_only=True).shape == (1, 768)
    assert "already something" in fails(capsys, "export", "one", target)
    works(capsys, "export", "one", target, "--overwrite")
    assert "can't be written as '.zip'" in fails(capsys, "export", "one", tmp_path / "out.zip")


def test_download(lib: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fetch(url: str, *_: object, **__: object) -> bytes:
        assert url.startswith(catalogue.BASE_URL)
        if "cloudcore" in url:
            raise DownloadFailed("The server is asleep.", "Try again later.")
        return b"content"

    monkeypatch.setattr(catalogue, "fetch_bytes", fetch)
    out = works(capsys, "download", "fantasy")
    assert f"downloaded: {lib / 'fantasy.pt'}" in out
    assert "author's repository" in out
    assert main(["download", "sac_8plus", "cloudcore"]) == 2
    captured = capsys.readouterr()
    assert "sac_8plus.pt" in captured.out
    assert "cloudcore was not downloaded" in captured.err
    assert "no published embedding" in fails(capsys, "download", "nothing")


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AESTHETIC_EMBEDDINGS_DIR", raising=False)
    assert default_folder() == Path(os.path.realpath(__file__)).parents[3] / "aesthetic_embeddings"
