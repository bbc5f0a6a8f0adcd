"""Opening picture files: which formats are read, and how much memory all of them together may take.

Pillow opens nothing but the formats named here. What else it knows is hardly ever in a
folder of pictures, and some of it starts programs (EPS) or is decoded by slow Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition
from typing import BinaryIO, NamedTuple, TypeVar

from PIL import Image, ImageFile, UnidentifiedImageError, features

from ..errors import first_line
from .image_headers import Refused, bare_png, lightened

# Pillow's own hard limit, stated here since other extensions of a host lift Pillow's.
MAX_PIXELS = 2 * 89_478_485
MAX_BYTES = 512 * 2**20
# What the pictures in all threads together may take while they are decoded.
MEMORY = 2**30
# Up to this size a picture is resized in one step, as CLIP's own preprocessing does; above it, it is made smaller first.
EXACT_PIXELS = 64_000_000
# What is made smaller first keeps at least this many times the size it is resized to afterwards.
MARGIN = 4
READ = "JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF and HEIC"

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "TGA", "JPEG2000", "AVIF", "HEIF")
_JPEG = ("JPEG", "MPO")
# The others are read piece by piece.
_READ_WHOLE = {*_JPEG, "PNG", "WEBP", "JPEG2000", "AVIF", "HEIF"}
# Measured, rounded up: bytes that decoders take for each pixel, or each of its bands, beside the picture itself.
_BYTES_PER_PIXEL = {"WEBP": 14, "AVIF": 14, "HEIF": 14}
_JPEG2000_BYTES_PER_BAND = 6
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}

Content = Path | str | bytes | BinaryIO
_T = TypeVar("_T")


class Plugin(NamedTuple):
    """A package that teaches Pillow a format.

    Attributes:
        format: as people call it.
        id: as Pillow calls it.
        package: the name to install it by.
        module: the name to import it by.
        register: its function that registers it, if importing it is not enough.
    """

    format: str
    id: str
    package: str
    module: str
    register: str = ""

    def load(self) -> str:
        """Register it; what is wrong with it, or nothing."""
        try:
            module = importlib.import_module(self.module)
            if self.register:
                getattr(module, self.register)()
        except ImportError:
            return f"reading it takes the package {self.package} (pip install {self.package})"
        except Exception as error:  # a library made for another system or version raises what it likes
            return f"the package {self.package}, which reads it, does not start ({first_line(error)})"
        return ""


HEIC = Plugin("HEIC", "HEIF", "pillow-heif", "pillow_heif", "register_heif_opener")
AVIF = Plugin("AVIF", "AVIF", "pillow-avif-plugin", "pillow_avif")


class Memory:
    """A number of bytes that threads share: who wants some waits for it, in the order of asking.

    A thread that holds a share must not ask for a second one, or two could wait for each other.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = Condition()
        self._waiting: deque[object] = deque()

    @contextlib.contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Keep ``amount`` bytes, which must not be more than there are in all."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._free >= amount)
                self._free -= amount
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


_memory = Memory(MEMORY)
# The GNU allocator keeps for each thread what that thread has freed: sixteen threads, sixteen large pictures.
_LARGE = 128 * 2**20
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


def _give_back_freed() -> None:
    if _malloc_trim is not None:
        _malloc_trim(0)


@contextlib.contextmanager
def loaded(content: Content, target: int = 0) -> Iterator[Image.Image]:
    """The picture as Pillow decodes it, within a share of :data:`MEMORY` that is given back at the end.

    Args:
        content: path, content, or file opened for reading (it is rewound first).
        target: size that its shorter side will be resized to; 0 if it is wanted as it is.

    Raises:
        Refused: it is not to be read.
        Exception: whatever Pillow raises.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(content, (str, Path)):
            file: BinaryIO = stack.enter_context(_regular_file(content))
        else:
            file = io.BytesIO(content) if isinstance(content, bytes) else content
        size = file.seek(0, os.SEEK_END)
        if size > MAX_BYTES:
            raise Refused(f"it is larger than {MAX_BYTES >> 20} MB")
        # The headers are read twice, so that no thread waits for more memory while it holds some.
        with _memory.hold(size):
            file = lightened(file)
            cost = _despite_profile(lambda file: _cost(_opened(file), size, target), file)
        stack.enter_context(_memory.hold(cost))
        if cost > _LARGE:
            stack.callback(_give_back_freed)
        yield _despite_profile(lambda file: _loaded(_opened(file), target), file)


def check_format(image: Image.Image) -> None:
    """Someone else may have opened an image as a format that is not to be decoded.

    Raises:
        Refused: it is one.
    """
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.format not in (*_FORMATS, *_JPEG):
        raise Refused(f"it is of the kind {image.format}, which is not read here")


def is_huge(image: Image.Image) -> bool:
    """Whether a picture is made smaller before it is resized."""
    return image.width * image.height > EXACT_PIXELS


def _despite_profile(read: Callable[[BinaryIO], _T], file: BinaryIO) -> _T:
    """What ``read`` makes of a file; of a PNG that can't be read, what it makes of the pixels alone."""
    try:
        return read(file)
    except Refused:
        raise
    except Exception:  # whatever Pillow raises
        bare = bare_png(file)
        if bare is None:
            raise
        return read(bare)


def _loaded(image: Image.Image, target: int) -> Image.Image:
    _draft(image, target)
    image.load()
    return image


def _opened(file: BinaryIO) -> Image.Image:
    """Identified, not yet decoded."""
    image = _identified(file)
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    return image


def _identified(file: BinaryIO) -> Image.Image:
    Image.init()
    file.seek(0)
    plugin = _plugin_for(file.read(64))
    if plugin and plugin.id not in Image.OPEN and (missing := plugin.load()):
        raise Refused(f"it is {plugin.format}, and {missing}")
    file.seek(0)
    try:
        return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        if plugin is None:
            raise
        # A Pillow that knows of AVIF may be built without its library.
        without = "avif" in features.modules and not features.check_module("avif")
        if plugin is AVIF and without and (missing := plugin.load()):
            raise Refused(f"it is {plugin.format}, and {missing}") from error
        raise Refused(f"it is {plugin.format}, but cut off or damaged") from error


def _plugin_for(head: bytes) -> Plugin | None:
    if head[4:8] != b"ftyp":
        return None
    end = min(len(head), int.from_bytes(head[:4], "big"))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return AVIF
    return HEIC if brands & _HEIC_BRANDS else None


def _draft(image: Image.Image, target: int) -> None:
    """Have a large JPEG decoded at a fraction of its size, at a fraction of the cost.

    Only where that fraction divides both sides exactly, unless the picture is not resized in one step anyway.
    """
    if not target or image.format not in _JPEG:
        return
    width, height = image.size
    for scale in (8, 4, 2):
        exact = width % scale == 0 and height % scale == 0
        if min(width, height) >= scale * MARGIN * target and (exact or is_huge(image)):
            # The empty mode keeps the file's own; Pillow's annotation wants a text or None by its version.
            image.draft("", (width // scale, height // scale))
            return


def _cost(image: Image.Image, size: int, target: int) -> int:
    """The most bytes that decoding a picture and making it RGB take.

    Raises:
        Refused: that is more than all pictures together may take.
    """
    pixels_stored = image.width * image.height
    _draft(image, target)
    pixels = image.width * image.height
    own = 1 if image.mode in ("1", "L", "P") else 2 if image.mode.startswith("I;16") else 4
    decoder = _BYTES_PER_PIXEL.get(image.format or "", 0) * pixels
    if image.format in _JPEG and "progressive" in image.info:
        # All coefficients of the whole picture, two bytes each, however small it becomes.
        decoder = 2 * len(image.getbands()) * pixels_stored
    elif image.format == "JPEG2000":
        decoder = _JPEG2000_BYTES_PER_BAND * len(image.getbands()) * pixels
    elif image.format == "TIFF":
        decoder = _strip_bytes(image)
    # As RGB, and turned upright; in small strips where it is made smaller.
    afterwards = 0 if target and is_huge(image) else 8 * pixels
    cost = own * pixels + max(decoder, afterwards) + (size if image.format in _READ_WHOLE else 0)
    if cost > MEMORY:
        raise Refused(
            f"it has {pixels / 1e6:.0f} million pixels, which take more than {MEMORY >> 30} GB of memory "
            f"in a file of the kind {image.format}"
        )
    return cost


def _strip_bytes(tiff: Image.Image) -> int:
    """What the decoder of a compressed TIFF holds at once, with the most bytes that a pixel can have."""
    tags = tiff.tag_v2  # type: ignore[attr-defined]
    if _TILE_LENGTH in tags:
        return 8 * int(tags[_TILE_WIDTH]) * int(tags[_TILE_LENGTH])
    return 8 * tiff.width * min(int(tags.get(_ROWS_PER_STRIP, tiff.height)), tiff.height)


@contextlib.contextmanager
def _regular_file(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file, and never wait for the other end of a pipe."""

    def check(mode: int) -> None:
        if stat.S_ISDIR(mode):
            raise Refused("it is a folder")
        if not stat.S_ISREG(mode):
            raise Refused("it is a pipe, a socket or a device")

    check(os.stat(path).st_mode)
    # It may have become another since.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(descriptor, "rb") as file:
        check(os.fstat(descriptor).st_mode)
        yield file
