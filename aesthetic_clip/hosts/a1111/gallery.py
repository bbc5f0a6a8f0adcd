"""Pictures of the WebUI's galleries, as a page sends them back."""

from __future__ import annotations

import base64
from pathlib import Path

from modules import shared, ui_tempdir
from PIL import Image

from ...create.images import UnreadableImage, decode
from ...errors import AestheticError
from ...pages.forms import path_in, upload_folder

_DATA = "data:image/"
_LARGEST_DATA = 64 * 2**20


def gallery_picture(item: object) -> Image.Image:
    """One item of a gallery: a file that the WebUI itself showed there, or a picture within the item.

    Raises:
        AestheticError: it is neither, or can't be read.
    """
    # With a caption in gradio 3; as {"image": file, "caption": ...} later.
    if isinstance(item, (list, tuple)) and item:
        item = item[0]
    if isinstance(item, dict) and isinstance(item.get("image"), dict):
        item = item["image"]
    try:
        text = path_in(item)
        if text.startswith(_DATA) and len(text) <= _LARGEST_DATA:
            return decode(base64.b64decode(text.partition(",")[2], validate=True), "a picture of the gallery")
        if text and _was_shown(text):
            # The WebUI adds a file's time to its path.
            return decode(Path(text.rpartition("?")[0] or text), "a picture of the gallery")
    except UnreadableImage as error:
        raise _unreadable(f"{error.reason}.") from error
    except (OSError, ValueError, RuntimeError):  # no base64; no path at all
        pass
    raise _unreadable("It is none that the WebUI shows.")


def _unreadable(why: str) -> AestheticError:
    return AestheticError("A picture of the gallery can't be read.", why, "Send it again.")


def _was_shown(text: str) -> bool:
    if ui_tempdir.check_tmp_file(shared.demo, text):
        return True
    folders = [upload_folder()]
    if shared.opts.temp_dir:
        folders.append(Path(shared.opts.temp_dir).resolve())
    path = Path(text).resolve()
    return any(path.is_relative_to(folder) for folder in folders)
