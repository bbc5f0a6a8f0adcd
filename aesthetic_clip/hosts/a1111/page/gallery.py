"""Pictures of the WebUI's galleries, as a page sends them back."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from modules import shared, ui_tempdir

from ....errors import AestheticError
from ....files import write_atomically
from ....pages.forms import path_in, upload_folder

_DATA = "data:image/"
_LARGEST_DATA = 64 * 2**20


def gallery_file(item: object) -> Path:
    """The file of one item of a gallery: one that the WebUI itself showed there, or made of what is within the item.

    Nothing of it is read: a thousand of them, of any size, take no memory.

    Raises:
        AestheticError: it is neither.
    """
    # With a caption in gradio 3; as {"image": file, "caption": ...} later.
    if isinstance(item, (list, tuple)) and item:
        item = item[0]
    if isinstance(item, dict) and isinstance(item.get("image"), dict):
        item = item["image"]
    text = path_in(item)
    try:
        if text.startswith(_DATA) and len(text) <= _LARGEST_DATA:
            return _written(base64.b64decode(text.partition(",")[2], validate=True))
        if text and _was_shown(text):
            # The WebUI adds a file's time to its path.
            path = next(path for path in (Path(text), Path(text.rpartition("?")[0])) if path.is_file())
            return path.resolve()
    except (OSError, ValueError, RuntimeError, StopIteration):  # no base64; no path at all; gone
        pass
    raise AestheticError(
        "A picture of the gallery can't be read.", "It is none that the WebUI shows.", "Send it again."
    )


def selected_file(value: object, info: object = "") -> Path:
    """The file of the picture that is selected in a gallery.

    Args:
        value: what ``aestheticSelected`` in ``javascript/`` sends in the gallery's place.
        info: the gallery's generation info, if it has one.

    Raises:
        AestheticError: there is none, or what was sent is no picture that the WebUI shows.
    """
    sent = value if isinstance(value, dict) else {}
    count, index = (n if isinstance(n := sent.get(key), int) else -1 for key in ("count", "index"))
    first = first_picture(info)
    if count <= 0:
        raise AestheticError("There is no picture yet.", do="Generate one, or select one in the gallery.")
    if index < 0 and count - first > 1:
        raise AestheticError("No picture is selected.", f"There are {count - first}.", "Click on one of them.")
    if 0 <= index < first:
        raise AestheticError("The grid of all pictures is selected.", "A taste grows by one.", "Click on one of them.")
    return gallery_file(sent.get("item"))


def first_picture(info: object) -> int:
    """How many grids precede the pictures of a gallery, as its generation info says."""
    try:
        return max(int(json.loads(str(info or "{}")).get("index_of_first_image", 0)), 0)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return 0


def _written(content: bytes) -> Path:
    """Where gradio keeps what a page sends, by its content, so that sending it again adds nothing."""
    path = upload_folder() / "sent" / f"{hashlib.sha256(content).hexdigest()}.png"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return path


def _was_shown(text: str) -> bool:
    if ui_tempdir.check_tmp_file(shared.demo, text):
        return True
    folders = [upload_folder()]
    if shared.opts.temp_dir:
        folders.append(Path(shared.opts.temp_dir).resolve())
    path = Path(text).resolve()
    return any(path.is_relative_to(folder) for folder in folders)
