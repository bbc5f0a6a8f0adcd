"""Other extensions in the layers of a text encoder: they see each of our passes as the one that the WebUI asked for.

Extensions that replace the forward passes of torch's layers (composable LoRA and its kind) count the passes to know
which prompt they are at, and with "Use LoRA in the old way" or such an extension the WebUI's LoRA puts weights back
and merges them again inside each pass. Our passes are more of the same prompt, with weights that stand in for the
layer's: they must count for none, and nothing may be put back over them, or kept of them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

# Of the WebUI's built-in extension Lora (networks.py): both write into the weights of a layer.
_WRITING = ("network_apply_weights", "network_restore_weights_from_backup")
_WEBUI_OR_TORCH = ("torch", "transformers", "open_clip", "networks", "modules", "backend", "ldm_patched")


class Layers:
    """What the forward passes of a module's layers know of themselves, as it is now.

    Args:
        module: the text encoder, before the WebUI's own pass over it.
    """

    def __init__(self, module: nn.Module) -> None:
        self._layers = list(module.modules())
        forwards = (getattr(type(layer).forward, "__globals__", None) for layer in self._layers)
        self._namespaces = {
            id(names): names
            for names in forwards
            if names is not None and str(names.get("__name__", "")).partition(".")[0] not in _WEBUI_OR_TORCH
        }
        self._before = self._counters()

    def rewind(self) -> None:
        """Before one of our passes: the counters as they were before the WebUI's."""
        self._put(self._before)

    @contextlib.contextmanager
    def repeated(self) -> Iterator[None]:
        """Around the WebUI's own passes of the same prompts, done once more: they count once."""
        after = self._counters()
        self.rewind()
        try:
            yield
        finally:
            self._put(after)

    @contextlib.contextmanager
    def around_passes(self) -> Iterator[None]:
        """Around our passes, after the WebUI's: afterwards all is as if there had been none."""
        after, attributes = self._counters(), [dict(vars(layer)) for layer in self._layers]
        lora: Any = sys.modules.get("networks")
        writing = {name: getattr(lora, name) for name in _WRITING if hasattr(lora, name)}
        for name in writing:
            setattr(lora, name, _write_nothing)
        try:
            yield
        finally:
            for name, function in writing.items():
                setattr(lora, name, function)
            for layer, before in zip(self._layers, attributes):
                for name in vars(layer).keys() - before.keys():
                    del vars(layer)[name]
                vars(layer).update(before)
            self._put(after)

    def _counters(self) -> dict[int, dict[str, int]]:
        return {
            key: {name: value for name, value in names.items() if type(value) is int}
            for key, names in self._namespaces.items()
        }

    def _put(self, counters: dict[int, dict[str, int]]) -> None:
        for key, values in counters.items():
            self._namespaces[key].update(values)


def _write_nothing(_layer: object) -> None:
    """The weights are as the WebUI's own pass left them, LoRA merged, and our steps on top."""
