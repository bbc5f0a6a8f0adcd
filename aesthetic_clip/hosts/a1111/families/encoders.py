"""The CLIP text encoders of the loaded checkpoint, in whichever member of the WebUI's family this is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modules import sd_models, shared

from ....errors import AestheticError
from ....spaces import Space

if TYPE_CHECKING:
    from .webui_encoder import WebUIEncoder


def _families() -> tuple[Callable[[Any], list[WebUIEncoder]], ...]:
    """Each finds the encoders of models as its family holds them, and none in others; what a model has decides."""
    # They and the core's text encoders are loaded with the first model that is asked for, not at the WebUI's start.
    from .engines import engine_encoders
    from .hijack import hijack_encoders
    from .sd3 import sd3_encoders

    return (engine_encoders, sd3_encoders, hijack_encoders)


def host_encoders(model: Any) -> list[WebUIEncoder]:
    """The text encoders of a model.

    They are looked up for every generation, since the WebUI builds new wrappers
    whenever it feels like it.

    Raises:
        AestheticError: no CLIP there.
    """
    for family in _families():
        if found := family(model):
            return found
    raise AestheticError(
        "This checkpoint can't be personalised.",
        f"It is a {type(model).__name__} whose prompt is read by no CLIP text encoder.",
        "Choose another checkpoint, or set the aesthetic embedding to None.",
    )


def loaded_model() -> Any:
    """The checkpoint; Forge does not load it before the first picture, so here it is asked for.

    Raises:
        AestheticError: there is none.
    """
    model = shared.sd_model
    if isinstance(model, getattr(sd_models, "FakeInitialModel", ())):
        model, _ = sd_models.forge_model_reload()
    if model is None:
        raise AestheticError("There is no checkpoint.", "None is loaded.", "Choose one, and try again.")
    return model


def model_spaces(model: Any) -> list[Space]:
    """The CLIP spaces of a model, without asking for its text projection.

    Raises:
        AestheticError: no CLIP there.
    """
    return [host.space for host in host_encoders(model)]


def known_spaces() -> list[Space]:
    """The CLIP spaces of the checkpoint, if one is loaded and has any; none is loaded for this."""
    model = getattr(getattr(sd_models, "model_data", None), "sd_model", None)
    if model is not None and not isinstance(model, getattr(sd_models, "FakeInitialModel", ())):
        # It may be half a model while another thread loads it.
        with contextlib.suppress(AestheticError, AttributeError, IndexError):
            return model_spaces(model)
    return []
