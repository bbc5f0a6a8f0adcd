"""What an error's way out is called in the WebUI."""

from __future__ import annotations

from ...errors import Remedy

_SETTINGS = "Settings > Aesthetic Gradients"

REMEDIES = {
    Remedy.TEXT_PROJECTION: f"Name a file that holds it in {_SETTINGS} > Text projection.",
    Remedy.IMAGE_ENCODER: f"Put it there, or name its path in {_SETTINGS}, "
    "or tick 'Allow to download a missing image encoder' on the tab Create aesthetic embedding.",
    Remedy.DOWNLOAD: "Tick 'Allow to download a missing image encoder' on the tab and try again, "
    f"or name its path in {_SETTINGS}.",
    Remedy.MEMORY: f"Set {_SETTINGS} > Memory to Lowest, start the WebUI with --medvram, or take fewer pictures at once.",
    Remedy.OVERWRITE: "Tick Overwrite, or choose another name.",
}
