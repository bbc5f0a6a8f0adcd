"""What reaches the terminal: nothing that it would obey, and nothing that a pipe or an encoding makes of it a crash."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from aesthetic_clip.cli import terminal
from aesthetic_clip.cli.main import COMMANDS, main
from aesthetic_clip.cli.terminal import shown
from aesthetic_clip.embeddings.embedding import Embedding, save
from aesthetic_clip.errors import AestheticError, Remedy
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L

ROOT = Path(__file__).parents[3]
EVIL = "\x1b]0;title\x07 \x1b[31mred \x9b2J \u202egnp.exe \u2066x \udce9 a\rb\nc\u2028d\x7f\U000e0041"


def write(folder: Path, name: str = "one", **metadata: str) -> Path:
    path = folder / f"{name}.safetensors"
    vector = unit(torch.randn(768, generator=torch.Generator().manual_seed(1)))
    save(Embedding(name, {VIT_L: vector}, metadata), path)
    return path


def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.Popen(
        [sys.executable, "-m", "aesthetic_clip", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},  # type: ignore[call-overload]
    )


def obeyed(text: str) -> list[str]:
    """What a terminal would not only show."""
    return [c for c in text if c != "\n" and (not c.isprintable() or c in "\u202e\u2066") and c not in "\u200d\u200c"]


def test_only_what_is_to_be_seen_is_shown() -> None:
    assert shown("Größe 漢字 ❤️ 👩‍👩‍👧 مرحبا -_'\"") == "Größe 漢字 ❤️ 👩‍👩‍👧 مرحبا -_'\""
    assert shown("\x1b[31m\u202e\udce9\n") == r"\x1b[31m\u202e\udce9\n"
    assert not obeyed(shown(EVIL))
    assert "\n" not in shown(EVIL)


def test_names_and_metadata(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, note=EVIL.replace("\udce9", ""), **{"\x1b[2Jkey": "x"})
    (tmp_path / "\x1b[31mred.safetensors").write_bytes(b"damaged")
    (tmp_path / os.fsdecode(b"caf\xe9.pt")).write_bytes(b"damaged")
    for command in (["list"], ["inspect", "one"], ["inspect", EVIL], ["mix", "x", EVIL], ["export", "one", EVIL]):
        main([*command, "--library", str(tmp_path)])
    with contextlib.suppress(SystemExit):
        main([EVIL])
    captured = capsys.readouterr()
    assert "gnp.exe" in captured.out
    assert "There is no aesthetic embedding" in captured.err
    assert not obeyed(captured.out + captured.err)


def test_a_note_does_not_make_lines_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, note="x\nfake  ViT-L/14", created="2026-01-01T00:00:00")
    write(tmp_path, "two", note="y" * 100_000)
    assert main(["list", "--library", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) < 200


def test_a_console_that_knows_few_letters(tmp_path: Path) -> None:
    write(tmp_path, "漢字", note="naïve ❤")
    done = start("inspect", "漢字", "--library", tmp_path, env={"PYTHONIOENCODING": "ascii"})
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert rb"name: \u6f22\u5b57" in out


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path, f"n{number}", note="x" * 70)
    program = start("list", "--library", tmp_path)
    assert program.stdout is not None
    program.stdout.close()
    assert program.stderr is not None
    assert program.stderr.read() == b""
    assert program.wait(60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_an_output_that_is_full(tmp_path: Path) -> None:
    write(tmp_path)
    with Path("/dev/full").open("wb") as full:
        program = start("list", "--library", tmp_path, stdout=full)
        _, err = program.communicate(timeout=120)
    assert program.returncode == 2
    assert b"No space left on device" in err
    assert b"Traceback" not in err


@pytest.mark.skipif(os.name == "nt", reason="signals as on Unix")
@pytest.mark.parametrize("seconds", [0.3, 1.0])
def test_an_interrupt_while_it_starts(tmp_path: Path, seconds: float) -> None:
    write(tmp_path)
    # Under a shell's background job interrupts are ignored, and that is passed on.
    program = start("list", "--library", tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    time.sleep(seconds)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert b"Traceback" not in err
    assert program.returncode in (0, 130)


@pytest.mark.parametrize(
    "unexpected", [ValueError("strange\x1b[31m"), MemoryError(), RecursionError(), OSError(5, "I/O")]
)
def test_what_nobody_thought_of_is_one_line(
    unexpected: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise unexpected

    monkeypatch.setattr(type(COMMANDS["list"]), "run", fail)
    assert main(["list", "--library", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert type(unexpected).__name__ in said
    assert "--debug" in said
    assert not obeyed(said)
    with pytest.raises(type(unexpected)):
        main(["list", "--library", str(tmp_path), "--debug"])


@pytest.mark.parametrize(
    ("command", "remedy", "flag"),
    [
        (["export", "one", "x.pt"], Remedy.OVERWRITE, "--overwrite"),
        (["list"], Remedy.TEXT_PROJECTION, "--text_tower"),
        (["list"], Remedy.DOWNLOAD, "--yes"),
        (["list"], Remedy.IMAGE_ENCODER, "--encoder"),
        (["create", "x"], Remedy.MEMORY, "--batch-size"),
        (["txt2img"], Remedy.MEMORY, "--n_samples"),
        (["ui"], Remedy.IMAGE_ENCODER, "Tick"),
    ],
)
def test_ways_out_are_named_as_flags(
    command: Sequence[str],
    remedy: Remedy,
    flag: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise AestheticError("It failed.", "Nobody knows why.", "Do this in Python.", remedy)

    monkeypatch.setattr(type(COMMANDS[command[0]]), "run", fail)
    assert main(list(command)) == 2
    said = capsys.readouterr().err
    assert flag in said
    assert "Python" not in said


def test_log_lines_are_for_people_and_not_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["list", "--library", str(tmp_path)])
    main(["list", "--library", str(tmp_path)])
    capsys.readouterr()
    logging.getLogger("aesthetic_clip.some.room").info("fetching \x1b[31m%s", "x")
    captured = capsys.readouterr()
    assert captured.err == "fetching \\x1b[31mx\n"
    assert not captured.out


def test_without_a_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    write(tmp_path)
    assert main(["list", "--library", str(tmp_path)]) == 0
    assert main(["inspect", "nothing", "--library", str(tmp_path)]) == 2


def test_a_question_that_nobody_answers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert terminal.agreed(1, "x", yes=True)
    for stdin, answer in ((io.StringIO("y\n"), False), (Terminal(""), False), (Terminal("y\n"), True), (None, False)):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert terminal.agreed(10**9, "x", yes=False) is answer
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ui", "--port", "99999999"], "not from 1 to 65535"),
        (["ui", "--port", "0"], "above 0"),
        (["ui", "--device", "nonsense"], "nothing can be put on"),
        (["create", "x", "y", "--device", "cuda:99"], "nothing can be put on"),
        (["create", "x", "y", "--device", "meta"], "nothing can be put on"),
        (["create", "x", "y", "--batch-size", "0"], "above 0"),
        (["create", "x", "y", "--batch-size", "9" * 5000], "above 0"),
        (["create", "x", "y", "--shard", "1/" + "9" * 5000], "no shard"),
        (["demo", "--scale", "x"], "not a number"),
        (["txt2img", "--seed", "9" * 5000], "whole number"),
        (["txt2img", "--aesthetic_lr", "nan"], "a number"),
    ],
)
def test_wrong_values_are_wrong_usage(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("address", ["192.0.2.1", "a" * 70 + ".b\x1b[31m"])
def test_an_address_where_nothing_can_be_served(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio")
    from aesthetic_clip.cli import ui

    def load(args: object) -> None:
        raise AssertionError("the model is loaded first, which takes long")

    monkeypatch.setattr(ui, "load_model", load)
    assert main(["ui", "--host", address]) == 2
    said = capsys.readouterr().err
    assert "can't be served at" in said and "--host" in said and "\x1b" not in said


def test_a_port_that_is_taken_is_told_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio")
    from aesthetic_clip.cli import ui

    monkeypatch.setattr(ui, "load_model", lambda args: pytest.fail("the model is loaded first"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["ui", "--port", str(taken.getsockname()[1])]) == 2
    assert "can't be served" in capsys.readouterr().err


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="this system has no IPv6")
def test_the_page_at_an_ipv6_address(monkeypatch: pytest.MonkeyPatch) -> None:
    gradio = pytest.importorskip("gradio")
    from aesthetic_clip.cli.ui import _bracketed

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    with gradio.Blocks() as page:
        gradio.HTML("hello")
    try:
        page.launch(server_name=_bracketed("::1"), server_port=_free_port(), prevent_thread_lock=True, quiet=True)
        assert "[::1]" in page.local_url
        assert b"gradio" in urllib.request.urlopen(page.local_url, timeout=20).read().lower()
    finally:
        page.close()
    assert [_bracketed(address) for address in ("127.0.0.1", "localhost", "[::1]", "fe80::1")] == [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[fe80::1]",
    ]


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])
