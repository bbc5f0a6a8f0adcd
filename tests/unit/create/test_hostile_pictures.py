"""Pictures made to hurt: in a process of their own, whatever they hold costs bounded memory and time and gets a reason."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import threading
import time
import types
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aesthetic_clip.clip.preprocess import crop
from aesthetic_clip.create import image_files
from aesthetic_clip.create.image_files import MEMORY, Memory
from aesthetic_clip.create.images import UnreadableImage, decode, decoded, thumbnail

from ...support.limits import limited, limited_each, needs_limits
from .test_images import _png, error_between, photo, saved

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
AVIF = pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow writes no AVIF")
_CLIP = 224
_SIDE = 13370


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks: bytes, after: tuple[bytes, ...] = ()) -> bytes:
    """A red picture with more in it, before and after its pixels."""
    plain = saved(Image.new("RGB", (20, 10), "red"), "PNG")
    return plain[:33] + b"".join(chunks) + plain[33:-12] + b"".join(after) + plain[-12:]


def reason(content: bytes | Path) -> str:
    try:
        with decoded(content, target=_CLIP) as image:
            return f"read {image.size}"
    except UnreadableImage as error:
        return error.reason


def as_clip_sees_it(content: bytes | Path) -> str:
    with decoded(content, target=_CLIP) as image:
        return str(tuple(crop(image, _CLIP).shape))


@cache
def _valid(format: str) -> bytes:
    frames = [photo(24, 18, seed) for seed in (0, 1)]
    several = {"save_all": True, "append_images": frames[1:]} if format in ("GIF", "WEBP", "PNG") else {}
    return saved(frames[0], format, **several)


def _mutated(format: str, seed: int) -> bytes:
    rng, content = random.Random(seed), bytearray(_valid(format))
    reach = min(len(content), rng.choice([40, 200, len(content)]))
    for _ in range(rng.randrange(1, 12)):
        place = rng.randrange(reach)
        content[place] = rng.choice([rng.randrange(256), content[place] ^ 1 << rng.randrange(8), 0, 0xFF])
    if rng.random() < 0.3:
        del content[rng.randrange(len(content)) :]
    if rng.random() < 0.2:
        content[rng.randrange(len(content) + 1) :] = rng.randbytes(rng.randrange(50))
    return bytes(content)


FUZZED = [
    name
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "TGA", "PPM")
    if name in Image.SAVE
]


@needs_limits
@pytest.mark.parametrize("format", FUZZED)
def test_whatever_is_changed_in_a_file_it_is_read_or_gets_a_reason(format: str) -> None:
    reason(_valid(format))
    works = [partial(reason, _mutated(format, seed)) for seed in range(450)]
    # A picture may grow by its header alone, up to what all pictures may take.
    outcomes = limited_each(works, seconds=10, megabytes=MEMORY / 2**20 * 1.3)
    assert [outcome for outcome in outcomes if outcome.failure or outcome.raised] == []
    assert all(outcome.said for outcome in outcomes)
    assert {outcome.said.startswith("read") for outcome in outcomes} >= {False}


# Beside the pixels


@pytest.mark.parametrize(
    "chunks",
    [
        (chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3 * 2**20))),),
        (chunk(b"zTXt", b"note\0\0" + zlib.compress(b"x" * (3 * 2**20))),),
        (chunk(b"iTXt", b"note\0\1\0\0\0" + zlib.compress(b"x" * (3 * 2**20))),),
        (chunk(b"iCCP", b"profile\0\0" + b"no zlib"),),
        (chunk(b"tEXt", b"note\0good")[:-4] + b"bad!",),
        (chunk(b"prIv", bytes(40 * 2**20)),),
    ],
    ids=["profile", "text", "international text", "broken profile", "wrong checksum", "private"],
)
def test_what_lies_beside_the_pixels_of_a_png_never_costs_the_picture(chunks: tuple[bytes, ...]) -> None:
    for content in (png_with(*chunks), png_with(after=chunks)):
        assert error_between(decode(content), Image.new("RGB", (20, 10), "red")) == 0
        assert thumbnail(content, 8).startswith(b"\xff\xd8")


def test_a_png_without_its_profile_is_still_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = png_with(chunk(b"eXIf", exif.tobytes()[6:]), chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3 * 2**20))))
    assert decode(content).size == (10, 20)


def test_damaged_pixels_stay_damaged() -> None:
    content = png_with(chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3 * 2**20))))
    assert not reason(content[:-30]).startswith("read")


# Formats that are not read


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
OTHERS = {
    "eps": EPS,
    "eps for windows": b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, len(EPS)) + bytes(18) + EPS,
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    "wmf": b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<hhhhH", 0, 0, 100, 100, 96) + bytes(40),
    "emf": b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1/x'/></svg>",
    "html": b"<!DOCTYPE html><html></html>",
    "qoi": b"qoif" + struct.pack(">IIBB", 5000, 5000, 3, 0) + b"\xfd" * 1000 + b"\0" * 7 + b"\1",
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".eps"])
def test_no_other_format_is_handed_to_pillow_and_no_program_starts(
    kind: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, started)
    monkeypatch.setattr(os, "system", started)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(OTHERS[kind])
    for read in (decode, partial(thumbnail, side=48)):
        with pytest.raises(UnreadableImage, match="not a picture"):
            read(path)


def test_an_image_that_someone_else_opened_as_eps() -> None:
    with pytest.raises(UnreadableImage, match="EPS"):
        decode(Image.open(io.BytesIO(EPS)))


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders there")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_special_files_never_block(kind: str, tmp_path: Path) -> None:
    path = {"pipe": tmp_path / "a.png", "device": Path("/dev/zero"), "folder": tmp_path}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    assert ("folder" if kind == "folder" else "pipe, a socket or a device") in reason(path)


# Size


def _empty_png(side: int, bits: int, kind: int, channels: int) -> bytes:
    packer = zlib.compressobj(9)
    row = bytes(1 + (side * bits * channels + 7) // 8)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@cache
def _largest() -> bytes:
    """179 million pixels in half a megabyte."""
    return _empty_png(_SIDE, 8, 2, 3)


@cache
def _largest_jpeg(progressive: bool) -> bytes:
    return saved(Image.new("RGB", (9000, 9000), "teal"), "JPEG", progressive=progressive)


@needs_limits
@pytest.mark.parametrize(
    ("make", "megabytes"),
    [
        (_largest, 760),
        (lambda: _empty_png(_SIDE, 1, 0, 1), 230),
        (lambda: _largest_jpeg(False), 40),
        (lambda: _largest_jpeg(True), 560),
    ],
    ids=["png", "png of one bit", "jpeg", "progressive jpeg"],
)
def test_a_very_large_picture_is_read_within_its_share(make: Callable[[], bytes], megabytes: int) -> None:
    content = make()
    as_clip_sees_it(saved(photo(32, 32), "PNG"))
    outcome = limited(partial(as_clip_sees_it, content), seconds=60, megabytes=megabytes)
    assert (outcome.failure, outcome.said) == ("", "(3, 224, 224)")


def test_a_very_large_picture_is_seen_as_a_small_one_would_be() -> None:
    small = photo(860, 840)
    large = small.resize((8600, 8400), Image.Resampling.NEAREST)
    with decoded(saved(large, "PNG", compress_level=1), target=64) as image:
        assert max(image.size) < 4000
        ours = np.asarray(crop(image, 64), np.float32)
    exact = np.asarray(crop(large, 64), np.float32)
    assert np.abs(ours - exact).mean() < 1.5


@needs_limits
@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (6, 4)], ids=["RGB", "RGBA"])
def test_threads_share_one_bound(kind: int, channels: int) -> None:
    """Each takes 400 MB."""
    content, threads = _empty_png(10_000, 8, kind, channels), 4
    as_clip_sees_it(saved(photo(32, 32), "PNG"))

    def together() -> str:
        said: list[str] = []
        workers = [threading.Thread(target=lambda: said.append(as_clip_sees_it(content))) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return str(len(said))

    # Without the bound 1,600 MB; and each thread has a heap of its own.
    outcome = limited(together, seconds=60, megabytes=MEMORY / 2**20 + 200)
    assert (outcome.failure, outcome.said) == ("", str(threads))


@needs_limits
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: _png(50_000, 50_000, 1, 0, b""), "million pixels"),
        (lambda: _tiff(16, 16, tile=20_000), "million pixels"),
        (lambda: _tiff(20, 20, numbers=4_000_000), "tags lists 4000000 numbers"),
        (
            lambda: b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"!\xfe" + (b"\xff" * 256) * 40_000 + b"\0;",
            "no picture",
        ),
        (lambda: b"\xff\xd8" + (b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65527)) * 800, "no picture"),
    ],
    ids=[
        "50,000 x 50,000",
        "a tile far larger than the picture",
        "a tag of millions of fractions",
        "a GIF of comments",
        "a JPEG of EXIF",
    ],
)
def test_what_would_take_too_much_is_refused_before_it_does(make: Callable[[], bytes], why: str) -> None:
    content = make()
    reason(saved(photo(32, 32), "TIFF"))
    outcome = limited(partial(reason, content), seconds=2, megabytes=60)
    assert outcome.failure == ""
    assert why in outcome.said


def _tiff(width: int, height: int, tile: int = 0, numbers: int = 0) -> bytes:
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 8), 262: (3, 1, 1), 277: (3, 1, 1)}
    if tile:
        entries |= {322: (4, 1, tile), 323: (4, 1, tile), 324: (4, 1, 500), 325: (4, 1, 100)}
    else:
        entries |= {273: (4, 1, 500), 278: (4, 1, height), 279: (4, 1, 100)}
    if numbers:
        entries[282] = (5, numbers, 1000)
    listed = b"".join(struct.pack("<HHII", tag, *value) for tag, value in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4)
    return head.ljust(1000, b"\0") + bytes(8 * numbers)


@needs_limits
@pytest.mark.parametrize(
    "head", [b"RIFF\xff\xff\xff\x7fWEBPVP8 ", b"\x89PNG\r\n\x1a\n", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"]
)
def test_a_file_of_many_gigabytes_that_takes_no_room_on_the_disk(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(20 * 2**30)
    outcome = limited(partial(reason, path), seconds=2, megabytes=20)
    assert (outcome.failure, outcome.said) == ("", "it is larger than 512 MB")


@needs_limits
@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_of_ten_thousand_frames_costs_its_first(format: str) -> None:
    frames = [Image.new("P" if format == "GIF" else "RGB", (64, 64), i % 7) for i in range(7)]
    few = saved(frames[0], format, save_all=True, append_images=frames[1:])
    content = few
    if format == "GIF":
        few = saved(frames[0], format)
        start = 13 + (3 << (few[10] & 7) + 1)
        content = few[:start] + few[start:-1] * 10_000 + b";"
    elif format == "WEBP":
        start = few.index(b"ANMF")
        body = few[12:start] + few[start:] * 1500
        content = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    reason(few)
    outcome = limited(partial(reason, content), seconds=3, megabytes=80)
    assert (outcome.failure, outcome.said) == ("", "read (64, 64)")


def test_memory_is_given_out_in_the_order_of_asking_and_comes_back() -> None:
    memory, order = Memory(10), list[str]()

    def take(name: str, amount: int) -> None:
        with memory.hold(amount):
            order.append(name)

    with memory.hold(6):
        large, small = (threading.Thread(target=take, args=job) for job in (("large", 9), ("small", 1)))
        for thread in (large, small):
            thread.start()
            time.sleep(0.05)
        assert order == []
    large.join(5)
    small.join(5)
    assert order == ["large", "small"]
    with pytest.raises(ValueError), memory.hold(10):
        raise ValueError
    with memory.hold(10):
        pass


# Plug-ins


HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
AVIF_HEAD = b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf" + bytes(100)


def test_a_heic_picture_names_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert reason(HEIC_HEAD) == "it is HEIC, and reading it takes the package pillow-heif (pip install pillow-heif)"


def test_an_avif_picture_names_the_package_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    assert "pip install pillow-avif-plugin" in reason(AVIF_HEAD)


def test_a_plugin_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = types.ModuleType("pillow_heif")

    def register() -> None:
        raise OSError("libheif.so.1: wrong ELF class")

    monkeypatch.setattr(broken, "register_heif_opener", register, raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", broken)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert "pillow-heif, which reads it, does not start (libheif.so.1" in reason(HEIC_HEAD)


def test_a_heic_picture_is_read_where_the_plugin_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    plugin = types.ModuleType("pillow_heif")

    class Heif(Image.Image):
        format = "HEIF"

        def __init__(self, file: io.BytesIO, name: str) -> None:
            super().__init__()
            red = Image.new("RGB", (8, 6), "red")
            self.im, self._mode, self._size = red.im, "RGB", red.size
            if "mode" in vars(Image.Image()):  # older releases
                self.mode = "RGB"  # type: ignore[misc]

    def register() -> None:
        monkeypatch.setitem(Image.OPEN, "HEIF", (Heif, lambda head: head[4:8] == b"ftyp"))

    monkeypatch.setattr(plugin, "register_heif_opener", register, raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", plugin)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    assert decode(HEIC_HEAD).getpixel((0, 0)) == (255, 0, 0)


def test_a_damaged_heic_picture_is_no_other_kind_of_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: io.BytesIO, name: str) -> Image.Image:
        raise SyntaxError

    monkeypatch.setitem(Image.OPEN, "HEIF", (refuse, lambda head: True))
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=lambda: None))
    assert reason(HEIC_HEAD) == "it is HEIC, but cut off or damaged"


@AVIF
def test_avif() -> None:
    assert error_between(decode(saved(photo(64, 48), "AVIF", quality=95)), photo(64, 48)) < 8


def test_bounds_fit_each_other() -> None:
    """The largest picture that Pillow opens may be decoded by itself, and made smaller."""
    assert 4 * image_files.MAX_PIXELS < MEMORY
    assert 12 * image_files.EXACT_PIXELS < MEMORY
