"""What an error says in the WebUI, and what its ways out are called there."""

from __future__ import annotations

from ...errors import AestheticError, Remedy

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


def refused(error: AestheticError) -> AestheticError:
    """The error in the WebUI's words, with what its API takes for its answer: status 422 and the sentence."""
    told = error.in_words_of(REMEDIES)
    told.status_code, told.detail = 422, str(told)  # type: ignore[attr-defined]
    return told
