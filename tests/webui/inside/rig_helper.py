"""The rig's own extension, put into the WebUI by :meth:`..webui.WebUI.prepare`.

Three things need code inside the host: the small text towers have to be made known; checkpoints with equal
configurations have to share one, as published SD1 checkpoints do, or the host would never reload weights into a
model it keeps; and tests look inside.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import Body, FastAPI
from modules import script_callbacks, shared
from transformers import CLIPTextConfig

EXTENSION = "sd_webui_aesthetic_gradients"
"""What the extension's package is called in here."""

FEWER_LAYERS = {12: 3, 32: 3, 24: 4, 23: 3}
"""Of ViT-L, of ViT-bigG, of ViT-H, and of ViT-H as Forge builds it, in the small checkpoints."""


def changed_when_built(cls: Any, change: Callable[[Any], None]) -> None:
    build = getattr(cls, "rig_build", cls.__init__)

    def changed(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        change(self)

    cls.rig_build, cls.__init__ = build, changed


open_clip_configs = Path(Path(__file__).with_name("open_clip_configs.txt").read_text(encoding="utf-8"))
if open_clip_configs.is_dir():
    import open_clip
    from modules import sd_models_config

    open_clip.add_model_config(open_clip_configs)

    if not hasattr(sd_models_config, "rig_beside"):
        sd_models_config.rig_beside = sd_models_config.find_checkpoint_config_near_filename
        sd_models_config.rig_seen = {}

    def shared_config(info: Any) -> str | None:
        path = sd_models_config.rig_beside(info)
        if path is None:
            return None
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return str(sd_models_config.rig_seen.setdefault(digest, path))

    sd_models_config.find_checkpoint_config_near_filename = shared_config
else:
    # The hosts that know checkpoints by their shapes have the towers' sizes in files of their own.
    def fewer_layers(config: CLIPTextConfig) -> None:
        config.num_hidden_layers = FEWER_LAYERS.get(config.num_hidden_layers, config.num_hidden_layers)

    def last_but_one(encoder: Any) -> None:
        encoder.wrapped.layer_idx = -2

    changed_when_built(CLIPTextConfig, fewer_layers)
    if importlib.util.find_spec("modules_forge.forge_clip"):
        from modules_forge import forge_clip

        # reForge and Classic read ViT-L's eleventh layer for SDXL.
        changed_when_built(forge_clip.CLIP_SD_XL_L, last_but_one)

    if importlib.util.find_spec("modules.sd_models_config"):
        from modules import sd_models_config

        # reForge finds out what an SD 2.x checkpoint predicts by running a UNet of the published size with its weights.
        sd_models_config.is_using_v_parameterization_for_sd2 = lambda state_dict: False

_loaded: dict[str, ModuleType] = {}


def _importing(name: str, *arguments: Any) -> ModuleType:
    package, dot, rest = name.partition(".")
    return builtins.__import__((EXTENSION if package == "aesthetic_clip" else package) + dot + rest, *arguments)


def load(path: str) -> ModuleType:
    """The module in a file, the same one until Reload UI, with the extension under its usual name."""
    if path not in _loaded:
        spec = importlib.util.spec_from_file_location(f"rig_{Path(path).stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _importing}
        spec.loader.exec_module(module)
        _loaded[path] = module
    return _loaded[path]


def routes(demo: object, app: FastAPI) -> None:
    @app.post("/rig/run")
    def run(code: str = Body(..., embed=True)) -> Any:
        names = {"shared": shared, "result": None}
        exec(code, names)
        return names["result"]

    @app.post("/rig/call")
    def call(path: str = Body(...), name: str = Body(...), arguments: list[Any] = Body(...)) -> Any:  # noqa: B008
        return getattr(load(path), name)(*arguments)

    @app.post("/rig/reload")
    def reload() -> None:
        shared.state.request_restart()


script_callbacks.on_app_started(routes)
