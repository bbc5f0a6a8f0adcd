"""Pictures as pixels: decoded whatever they are stored as, and told what is wrong with those that can't be."""

from __future__ import annotations

import contextlib
import io
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import first_line
from ..printable import printable
from .image_files import MARGIN, MAX_PIXELS, READ, Content, check_format, is_huge, loaded
from .image_headers import Refused

Picture = Content | Image.Image

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112
# A larger block can be made to unpack into gigabytes of numbers.
_MOST_EXIF_BYTES = 2**20
# Converted at once; some conversions take several copies.
_STRIP_PIXELS = 2**20


class UnreadableImage(Exception):
    """One picture that can't be used.

    Attributes:
        path: its path or the name it was uploaded under.
        reason: why, as the rest of a sentence that begins with the name.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


@contextlib.contextmanager
def decoded(picture: Picture, name: str = "", target: int = 0) -> Iterator[Image.Image]:
    """A picture as RGB, upright, its transparent parts on white, 16 bits scaled to 8; of an animation the first frame.

    While it is open it counts against the memory that all pictures together may take
    (:data:`~aesthetic_clip.create.image_files.MEMORY`), for which it may have to wait.
    Do not open a second one inside.

    Args:
        picture: path, content, file opened for reading (it is rewound first), or an image.
        name: what to call it in errors; the path if it has one.
        target: the size that its shorter side will be resized to. Lets a large JPEG
            be decoded at 1/2, 1/4 or 1/8, and makes a picture of more than 64 million
            pixels smaller, never below 4 times this size.

    Raises:
        UnreadableImage: for whatever reason; no other exception leaves here.
    """
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(picture, Image.Image):
                check_format(picture)
                picture.load()
                image = _upright_rgb(picture, target)
                if image is picture:
                    image = picture.copy()
            else:
                image = _upright_rgb(stack.enter_context(loaded(picture, target)), target)
        except Exception as error:  # on damaged files Pillow's decoders raise nearly every built-in exception
            raise UnreadableImage(_name(picture, name), _reason(error)) from error
        yield image


def decode(picture: Picture, name: str = "", target: int = 0) -> Image.Image:
    """The same, to keep.

    Raises:
        UnreadableImage: for whatever reason; no other exception leaves here.
    """
    with decoded(picture, name, target) as image:
        return image


def thumbnail(picture: Picture, side: int, name: str = "") -> bytes:
    """A picture at most ``side`` pixels wide and high, as the content of a JPEG file.

    Raises:
        UnreadableImage: for whatever reason; no other exception leaves here.
    """
    with decoded(picture, name, side) as image:
        image.thumbnail((side, side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
    return buffer.getvalue()


def _name(picture: Picture, name: str) -> str:
    return printable(name or (str(picture) if isinstance(picture, (str, Path)) else "picture"))


def _upright_rgb(image: Image.Image, target: int) -> Image.Image:
    factor = min(image.size) // (MARGIN * target) if target and is_huge(image) else 1
    turn = _TURNS.get(_orientation(image))
    flat = _flat(image, max(factor, 1))
    return flat if turn is None else flat.transpose(turn)


def _orientation(image: Image.Image) -> int:
    if len(image.info.get("exif") or b"") > _MOST_EXIF_BYTES:
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block, in as many ways as a damaged picture, leaves the picture usable
        return 1


def _flat(image: Image.Image, factor: int) -> Image.Image:
    """As RGB, each square of ``factor`` x ``factor`` pixels made one, strip by strip so that it takes little memory."""
    convert = _conversion(image)
    if convert is None and factor == 1:
        return image
    rows = max(1, _STRIP_PIXELS // (image.width * factor)) * factor
    flat = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        strip = convert(strip) if convert else strip
        flat.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return flat


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """How a strip of this picture becomes RGB; None if it is."""
    if image.mode in ("LAB", "HSV"):
        raise Refused(f"its colours are stored as {image.mode}; save it as RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        white = _white(image)
        return lambda strip: _grey(strip, white)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white
    return None if image.mode == "RGB" else lambda strip: strip.convert("RGB")


def _on_white(strip: Image.Image) -> Image.Image:
    if strip.mode == "La":
        strip = strip.convert("LA")
    return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip.convert("RGBA")).convert("RGB")


def _values(strip: Image.Image) -> np.ndarray:
    return np.nan_to_num(np.asarray(strip).astype(np.float32), nan=0, posinf=0, neginf=0)


def _white(image: Image.Image) -> float:
    """Which number means white, of a picture with more than 8 bits."""
    rows = max(1, _STRIP_PIXELS // image.width)
    strips = (image.crop((0, top, image.width, min(top + rows, image.height))) for top in range(0, image.height, rows))
    brightest = max(float(_values(strip).max()) for strip in strips)
    # Files don't say what white is: the smallest usual one that nothing exceeds. Whole numbers come from 16 bits.
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0, 2.0**31)
    return next((level for level in usual if brightest <= level), brightest)


def _grey(strip: Image.Image, white: float) -> Image.Image:
    """More than 8 bits to 8; Pillow's own conversion cuts off everything above 255."""
    return Image.fromarray(np.clip(_values(strip) * (255 / white) + 0.5, 0, 255).astype(np.uint8)).convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {MAX_PIXELS / 1e6:.0f} million pixels and could exhaust the memory"
    if isinstance(error, UnidentifiedImageError):
        return f"it is not a picture, or of a kind that can't be read here ({READ} can)"
    if isinstance(error, FileNotFoundError):
        return "it is not there any more"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    if isinstance(error, MemoryError):
        return "there was not enough memory to decode it"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "it is cut off: part of the file is missing"
    if isinstance(error, OSError) and error.strerror:
        return f"it can't be read ({error.strerror})"
    return f"it is damaged ({printable(first_line(error))})"


class _Strictness:
    """Pillow's one switch for all threads of a process: set while anyone needs it, then put back as it was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._before = False

    @contextlib.contextmanager
    def whole_files_only(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before = ImageFile.LOAD_TRUNCATED_IMAGES
            self._users += 1
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    ImageFile.LOAD_TRUNCATED_IMAGES = self._before


whole_files_only = _Strictness().whole_files_only
"""Make Pillow refuse cut-off files even where something else in this process told it to pad them with grey."""
