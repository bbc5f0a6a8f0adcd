"""Pictures: found in folders, and decoded whatever they are stored as."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from ..errors import AestheticError

Picture = Path | str | bytes | BinaryIO | Image.Image

# Pillow's own hard limit, stated here since other extensions of a host lift Pillow's.
MAX_PIXELS = 2 * 89_478_485
# Ghostscript runs whatever program an EPS file holds.
_REFUSED_FORMATS = {"EPS"}
_JUNK = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "system volume information"}
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
# A JPEG reduced while decoding keeps at least this many times the size it is resized to afterwards.
_DRAFT_MARGIN = 4


class UnreadableImage(Exception):
    """One picture that can't be used.

    Attributes:
        path: its path or the name it was uploaded under.
        reason: why, as the rest of a sentence that begins with the name.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


def find_images(folders: Iterable[Path | str], recursive: bool = False) -> list[Path]:
    """Every file in these folders that may be a picture, each once, sorted within its folder.

    Whether it is one shows when it is decoded. Hidden files and folders, and
    what operating systems leave behind (``Thumbs.db``), are left out.

    Raises:
        AestheticError: a folder is missing, empty, not readable, or not a folder; or none was given.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in _files_in(Path(folder).expanduser(), recursive):
            found.setdefault(os.path.realpath(path), path)
    if not found:
        raise AestheticError("There are no pictures to use.", "No folder was given.", "Name a folder with pictures.")
    return list(found.values())


def _files_in(folder: Path, recursive: bool) -> list[Path]:
    subject = f"The pictures in {folder} can't be used."
    if not os.path.lexists(folder):
        raise AestheticError(
            subject, "There is no such folder.", "Check the path; it is one of the machine that this runs on."
        )
    if not folder.is_dir():
        raise AestheticError(subject, "It is a file, not a folder.", f"Name the folder that it is in: {folder.parent}.")

    def refuse(error: OSError) -> None:
        raise AestheticError(
            subject,
            f"{error.filename} can't be read: {error.strerror or error}.",
            "Give yourself the permission, or leave it out.",
        ) from error

    files: list[Path] = []
    seen: set[str] = set()
    has_subfolders = False
    for here, subfolders, names in os.walk(folder, onerror=refuse, followlinks=True):
        # Linked folders are followed, but not round in circles.
        subfolders[:] = sorted(
            name for name in subfolders if not _is_junk(name) and os.path.realpath(os.path.join(here, name)) not in seen
        )
        seen.update(os.path.realpath(os.path.join(here, name)) for name in subfolders)
        seen.add(os.path.realpath(here))
        has_subfolders |= bool(subfolders)
        paths = (Path(here, name) for name in sorted(names) if not _is_junk(name))
        files += [path for path in paths if path.is_file()]
        if not recursive:
            break
    if not files:
        raise AestheticError(
            subject,
            "There is no file in it." if recursive or not has_subfolders else "There are only folders in it.",
            "Put pictures there, or name another folder."
            if recursive or not has_subfolders
            else "Include the subfolders, or name one of them.",
        )
    return files


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in _JUNK


def decode(picture: Picture, name: str = "", target: int = 0) -> Image.Image:
    """A picture as RGB, upright, its transparent parts on white, 16 bits scaled to 8; of an animation the first frame.

    Args:
        picture: path, content, file opened for reading (it is rewound first), or an image.
        name: what to call it in errors; the path if it has one.
        target: the size that its shorter side will be resized to. Lets a huge
            JPEG be decoded at 1/2, 1/4 or 1/8, never below 4 times this size.

    Raises:
        UnreadableImage: for whatever reason; no other exception leaves here.
    """
    name = name or (str(picture) if isinstance(picture, (str, Path)) else "picture")
    try:
        with contextlib.ExitStack() as stack:
            if isinstance(picture, Image.Image):
                return _upright_rgb(picture)
            if isinstance(picture, (str, Path)):
                file: Any = stack.enter_context(open(picture, "rb"))
            else:
                file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
                file.seek(0)
            image = Image.open(file, formats=_formats())
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            _reduce(image, target)
            return _upright_rgb(image)
    except Exception as error:  # on damaged files Pillow's decoders raise nearly every built-in exception
        raise UnreadableImage(name, _reason(error)) from error


def _formats() -> list[str]:
    Image.init()
    if "AVIF" not in Image.ID:
        with contextlib.suppress(ImportError):
            import pillow_avif  # type: ignore[import-not-found]  # noqa: F401  registers itself
    return [name for name in Image.ID if name not in _REFUSED_FORMATS]


def _reduce(image: Image.Image, target: int) -> None:
    """Have a huge JPEG decoded at a fraction of its size, only where that fraction divides both sides exactly."""
    if image.format != "JPEG" or not target:
        return
    width, height = image.size
    for scale in (8, 4, 2):
        if min(width, height) >= scale * _DRAFT_MARGIN * target and width % scale == 0 and height % scale == 0:
            # The empty mode keeps the file's own; Pillow's annotation wants a text or None by its version.
            image.draft("", (width // scale, height // scale))
            return


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    turn = _TURNS.get(_orientation(image))
    flat = _flat(image)
    return flat if turn is None else flat.transpose(turn)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block, in as many ways as a damaged picture, leaves the picture usable
        return 1


def _flat(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _grey(image).convert("RGB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    """More than 8 bits to 8; Pillow's own conversion cuts off everything above 255."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32), nan=0, posinf=0, neginf=0)
    brightest = float(values.max())
    # Files don't say what white is: the smallest usual one that nothing exceeds. Whole numbers come from 16 bits.
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0, 2.0**31)
    white = next((level for level in usual if brightest <= level), brightest)
    return Image.fromarray(np.clip(values * (255 / white) + 0.5, 0, 255).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"it has more than {MAX_PIXELS / 1e6:.0f} million pixels and could exhaust the memory"
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture, or of a kind that can't be read here"
    if isinstance(error, FileNotFoundError):
        return "it is not there any more"
    if isinstance(error, PermissionError):
        return "there is no permission to read it"
    if isinstance(error, MemoryError):
        return "there was not enough memory to decode it"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "it is cut off: part of the file is missing"
    return f"it is damaged ({error or type(error).__name__})"


@contextlib.contextmanager
def whole_files_only() -> Iterator[None]:
    """Make Pillow refuse cut-off files even where something else in this process told it to pad them with grey."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
