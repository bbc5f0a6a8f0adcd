"""Pictures as people have them: every format, and damaged ones."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from aesthetic_clip.create.images import UnreadableImage, decode, whole_files_only

Image.init()
AVIF = pytest.mark.skipif("AVIF" not in Image.SAVE, reason="this Pillow writes no AVIF")


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise at all scales, stronger the coarser, as in photographs."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    cells = 2
    while cells <= max(width, height):
        noise = rng.normal(size=(min(cells, height), min(cells, width), 3)).astype(np.float32)
        grown = [Image.fromarray(noise[..., c]).resize((width, height), Image.Resampling.BICUBIC) for c in range(3)]
        total += np.stack([np.asarray(channel) for channel in grown], -1) * cells**-0.7
        cells *= 3
    total = (total - total.min()) / np.ptp(total)
    return Image.fromarray((total * 255).astype(np.uint8))


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def error_between(a: Image.Image, b: Image.Image) -> float:
    """Mean difference in grey levels."""
    assert a.mode == b.mode == "RGB"
    assert a.size == b.size
    return float(np.abs(np.asarray(a, np.float32) - np.asarray(b, np.float32)).mean())


@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", pytest.param("AVIF", marks=AVIF)]
)
def test_formats(format: str) -> None:
    picture = photo(64, 48)
    options = {} if format == "JPEG2000" else {"quality": 95}
    # Chroma at half resolution costs a few grey levels.
    assert error_between(decode(saved(picture, format, **options)), picture) < 8


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", pytest.param("AVIF", marks=AVIF)])
def test_first_frame_of_several(format: str) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "lime", "blue")]
    content = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert error_between(decode(content), frames[0]) < 3


@pytest.mark.parametrize("order", ["<u2", ">u2"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(format: str, order: str, tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256 * 4).astype(order).reshape(4, 256)
    path = tmp_path / f"ramp.{format}"
    mode = "I;16" if order == "<u2" else "I;16B"
    image = Image.frombytes(mode, (256, 4), ramp.tobytes())
    try:
        image.save(path, format)
    except (OSError, KeyError):
        pytest.skip(f"this Pillow writes no {mode} as {format}")
    grey = np.asarray(decode(path))[..., 0].astype(int)
    assert np.abs(grey - np.round(ramp.astype(np.float64) / 257)).max() <= 1
    assert grey.min() == 0
    assert grey.max() == 255


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_float_grey(white: float) -> None:
    ramp = np.linspace(0, white, 256, dtype=np.float32).reshape(1, 256)
    ramp[0, 10] = np.nan
    grey = np.asarray(decode(saved(Image.fromarray(ramp), "TIFF")))[0, :, 0]
    assert grey[0] == grey[10] == 0
    assert abs(int(grey[128]) - 128) <= 1
    assert grey[255] == 255


def test_16_bit_colour() -> None:
    rows = b"".join(b"\0" + struct.pack(">3H", 65535, 32768, 0) * 4 for _ in range(4))
    assert decode(_png(4, 4, 16, 2, rows)).getpixel((0, 0)) in {(255, 128, 0), (255, 127, 0)}


def test_cmyk() -> None:
    picture = photo(64, 48)
    assert error_between(decode(saved(picture.convert("CMYK"), "JPEG", quality=95)), picture) < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L"])
def test_transparent_parts_become_white(mode: str) -> None:
    """Also where one colour of a palette or of the picture is declared to be transparent."""
    black = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    black.paste((0, 0, 0, 0), (0, 0, 2, 4))
    options: dict[str, object] = {}
    if mode in ("RGBA", "LA"):
        picture = black.convert(mode)
    elif mode in ("RGB", "L"):
        picture = Image.new(mode, (4, 4), 0)
        picture.paste("white", (0, 0, 2, 4))
        picture = ImageOps.invert(picture)  # transparent is white here, which would come out right by itself
        picture.paste(7 if mode == "L" else (7, 7, 7), (0, 0, 2, 4))
        picture.paste("black", (2, 0, 4, 4))
        options = {"transparency": 7 if mode == "L" else (7, 7, 7)}
    else:
        picture = black.quantize(4)
        if mode == "PA":
            picture = picture.convert("PA")
            decoded = decode(picture)  # no file format holds it
            assert (decoded.getpixel((0, 0)), decoded.getpixel((3, 0))) == ((255, 255, 255), (0, 0, 0))
            return
    decoded = decode(saved(picture, "PNG", **options))
    assert (decoded.getpixel((0, 0)), decoded.getpixel((3, 0))) == ((255, 255, 255), (0, 0, 0))


def test_half_transparent() -> None:
    assert decode(saved(Image.new("RGBA", (2, 2), (0, 0, 0, 128)), "PNG")).getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(format: str, orientation: int) -> None:
    picture = photo(64, 48)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(picture, format, exif=exif)
    assert error_between(decode(content), ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")) == 0


def test_orientation_of_a_phone_held_upright() -> None:
    picture = Image.new("RGB", (60, 40), "black")
    picture.paste("white", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: its left upper corner is the right upper one
    turned = decode(saved(picture, "PNG", exif=exif))
    assert turned.size == (40, 60)
    assert (turned.getpixel((35, 5)), turned.getpixel((5, 5))) == ((255, 255, 255), (0, 0, 0))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_exif_does_not_matter() -> None:
    content = saved(photo(64, 48), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert decode(content).size == (64, 48)


def test_sources(tmp_path: Path) -> None:
    picture = photo(20, 20)
    path = tmp_path / "a.png"
    picture.save(path)
    with path.open("rb") as file:
        file.read(5)
        for source in (path, str(path), path.read_bytes(), file, file, picture):
            assert error_between(decode(source), picture) == 0


def test_reduced_decoding_is_for_huge_jpegs_only() -> None:
    for size, expected in {
        (3584, 1792): (1792, 896),
        (3583, 1792): (3583, 1792),
        (1790, 1790): (1790, 1790),
        (7168, 3584): (1792, 896),
    }.items():
        picture = Image.new("RGB", size, "teal")
        assert decode(saved(picture, "JPEG"), target=224).size == expected
        assert decode(saved(picture, "JPEG")).size == size
    assert decode(saved(Image.new("RGB", (3584, 1792)), "PNG"), target=224).size == (3584, 1792)


def _png(width: int, height: int, bits: int, kind: int, rows: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a picture"),
        (b"A note about my holiday.\n", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not a picture"),
        (_png(20000, 20000, 1, 0, b""), "million pixels"),
        (_png(16, 16, 8, 2, b"\0" * 20), "cut off"),
    ],
)
def test_reasons(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode(path)
    assert caught.value.path == str(path)


def test_a_bomb_stays_one_where_the_host_has_lifted_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImage, match="million pixels"):
        decode(_png(20000, 20000, 1, 0, b""))


def test_missing_and_forbidden(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="not there"):
        decode(tmp_path / "gone.png")
    with pytest.raises(UnreadableImage):
        decode(tmp_path)
    path = tmp_path / "a.png"
    photo(8, 8).save(path)
    path.chmod(0)
    if not os.access(path, os.R_OK):
        with pytest.raises(UnreadableImage, match="permission"):
            decode(path)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF"])
def test_truncated(format: str) -> None:
    content = saved(photo(200, 150), format)
    with pytest.raises(UnreadableImage):
        decode(content[: len(content) // 2])


def test_truncated_where_another_extension_made_pillow_lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = saved(photo(200, 150), "JPEG")
    with whole_files_only(), pytest.raises(UnreadableImage, match="cut off"):
        decode(content[: len(content) // 2])
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@cache
def _valid(format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(photo(40, 30), format, **({"exif": exif} if format in ("JPEG", "PNG", "WEBP") else {}))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    format=st.sampled_from(
        [
            "JPEG",
            "PNG",
            "WEBP",
            "GIF",
            "TIFF",
            "BMP",
            "PPM",
            "TGA",
            "JPEG2000",
            "AVIF",
        ]
    ),
    cut=st.floats(0, 1),
    flips=st.integers(0, 30),
    head=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_damaged_files_raise_one_exception_only(format: str, cut: float, flips: int, head: bool, seed: int) -> None:
    if format not in Image.SAVE:
        return
    rng = random.Random(seed)
    content = bytearray(_valid(format))
    # Headers decide what a decoder does; most damage elsewhere is only noise in the picture.
    reach = min(200, len(content)) if head else len(content)
    for _ in range(flips):
        content[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    if cut < 0.7:
        del content[int(len(content) * cut / 0.7) :]
    try:
        assert decode(bytes(content), target=4).mode == "RGB"
    except UnreadableImage as error:
        assert error.reason
