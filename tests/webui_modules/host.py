"""AUTOMATIC1111's conditioning path, as the package auto1111sdk carries it, with this extension in it.

The package's ``modules`` is the WebUI's own, of about version 1.7: text encoder wrappers,
prompt parser, conditioning cache, extra networks, script runner, samplers. It has no
page, so the modules that draw one are empty here; some slips of the package outside the
conditioning path are mended (see `_mend`). Nothing on that path is replaced.

``modules`` is global to a process and changes torch.load, so tests that use it run
in a process of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.util
import shutil
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..support.checkpoints import Assets

REPOSITORY = Path(__file__).resolve().parents[2]
EXTENSION_PACKAGE = "sd_webui_aesthetic_gradients"
PACKAGE = "auto1111sdk"

# What modules imports and no test comes near: metrics, CLIP for captions, training logs.
_UNUSED = ("jsonmerge", "cleanfid", "resize_right", "clip", "kornia", "torch.utils.tensorboard")
# The WebUI's page and API, which the package has not.
_PAGE = (
    "modules.extensions",
    "modules.ui_common",
    "modules.ui_components",
    "modules.ui_tempdir",
    "modules.ui_extra_networks",
    "modules.ui_extra_networks_user_metadata",
    "modules.infotext_utils",
    "modules.generation_parameters_copypaste",
    "modules.call_queue",
    "modules.ui_tempdir",
)
WRAPPED = ("cached_params", "get_conds_with_caching")
_DEFAULTS: dict[str, Any] = {
    "prompt": "a photo of a cat",
    "width": 64,
    "height": 64,
    "steps": 2,
    "seed": 1,
    "sampler_name": "Euler",
    "do_not_save_samples": True,
    "do_not_save_grid": True,
}


def installed() -> bool:
    """Whether the package is there; it is not imported."""
    return importlib.util.find_spec(PACKAGE) is not None


@dataclass
class Job:
    """One finished job.

    Attributes:
        pictures: as PIL images; none where only the prompt was encoded.
        parameters: what extensions added to the generation parameters.
        comments: what they said under the picture.
        positive, negative: every tensor of the conditioning, in the WebUI's order.
        hires: the same of the hires pass, positive only.
    """

    pictures: list[Any]
    parameters: dict[str, Any]
    comments: list[str]
    positive: list[Tensor]
    negative: list[Tensor]
    hires: list[Tensor]

    @property
    def images(self) -> list[bytes]:
        return [picture.convert("RGB").tobytes() for picture in self.pictures]


def tensors(conds: Any) -> list[Tensor]:
    """The tensors in what the WebUI calls conditioning, whatever it is nested in."""
    if isinstance(conds, Tensor):
        return [conds]
    if isinstance(conds, dict):
        return [tensor for key in sorted(conds) for tensor in tensors(conds[key])]
    for name in ("batch", "schedules", "cond"):
        if hasattr(conds, name):
            return tensors(getattr(conds, name))
    return [tensor for part in conds or () for tensor in tensors(part)]


class _Encoded(Exception):
    """Ends a job whose picture nobody looks at."""


class Host:
    """The WebUI's modules in this process, with checkpoints loaded and the extension's script run."""

    def __init__(self, data: Path, assets: Assets) -> None:
        self.assets = assets
        self._models: dict[Path, Any] = {}
        self.loaded_weights: dict[tuple[str, int, str], Tensor] = {}
        self._import(data)
        self._initialise()
        self._load_extension()

    # --- start -------------------------------------------------------------------

    def _import(self, data: Path) -> None:
        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None and spec.origin is not None
        folder = Path(spec.origin).parent
        # The package itself imports upscalers; its folder holds `modules` under the name that extensions know.
        sys.path.insert(0, str(folder))
        sys.argv = ["webui", "--data-dir", str(data), "--use-cpu", "all", "--no-half", "--no-half-vae"]
        shutil.copyfile(folder / "config.json", data / "config.json")
        sys.meta_path.insert(0, _Empty(name for name in _UNUSED if not _importable(name)))

    def _initialise(self) -> None:
        import open_clip

        open_clip.add_model_config(self.assets.open_clip_configs)
        modules = self.module
        # First of all: the others take `opts` from it when they are imported.
        modules("shared_init").initialize()
        modules("sd_samplers").set_samplers()
        modules("sd_models").setup_model()
        modules("extra_networks").initialize()
        modules("scripts").load_scripts()
        self._mend()
        callbacks = modules("script_callbacks")
        callbacks.on_list_optimizers(modules("sd_hijack_optimizations").list_optimizers)
        modules("sd_hijack").list_optimizers()
        self.shared.opts.data.update(
            live_previews_enable=False,
            show_progress_every_n_steps=-1,
            samples_save=False,
            grid_save=False,
            CLIP_stop_at_last_layers=1,
        )

    def _mend(self) -> None:
        # Checkpoints with equal configurations share one file, as published SD1 checkpoints
        # do; only then are the weights of a model that is kept replaced in place.
        configs = self.module("sd_models_config")
        beside = configs.find_checkpoint_config_near_filename
        known: dict[bytes, str] = {}

        def shared_config(info: Any) -> str | None:
            path = beside(info)
            return None if path is None else known.setdefault(Path(path).read_bytes(), path)

        configs.find_checkpoint_config_near_filename = shared_config
        # The package gave this function a first argument, and two of its callers not.
        unets, shared = self.module("sd_unet"), self.shared
        apply = unets.apply_unet

        def apply_unet(model: Any = None, option: str | None = None) -> None:
            if model is None or isinstance(model, str):
                model, option = shared.sd_model, model
            apply(model, option)

        unets.apply_unet = apply_unet

    def _load_extension(self) -> None:
        self._stand_in_for_page()
        self._run_script()
        self.set_options(aesthetic_text_projection=str(self.assets.text_projection))

    def _run_script(self) -> None:
        scripts, callbacks = self.module("scripts"), self.module("script_callbacks")
        path = REPOSITORY / "scripts" / "aesthetic.py"
        script = self.module("script_loading").load_module(str(path))
        scripts.scripts_data.append(scripts.ScriptClassData(script.AestheticScript, str(path), str(REPOSITORY), script))
        # The package's own caller hands an argument over; the WebUI has none here.
        for registered in callbacks.callback_map["callbacks_before_ui"]:
            registered.callback()
        # The package calls it with one argument more than the WebUI.
        network = self.module("extra_networks").extra_network_registry["aesthetic"]
        activate = network.activate
        network.activate = lambda p, params, *_: activate(p, params)
        callbacks.ui_settings_callback()
        self.runners = {}
        for is_img2img in (False, True):
            self.runners[is_img2img] = runner = scripts.ScriptRunner()
            runner.initialize_scripts(is_img2img)
            self._draw(runner)

    def reload_ui(self) -> None:
        """What the WebUI does on Reload UI: scripts are told, forgotten and run anew, models are kept."""
        self.module("script_callbacks").script_unloaded_callback()
        self.module("extra_networks").initialize()
        optimizers = self.module("sd_hijack_optimizations").list_optimizers
        self.module("scripts").load_scripts()
        self.module("script_callbacks").on_list_optimizers(optimizers)
        self._run_script()

    def _stand_in_for_page(self) -> None:
        import gradio as gr

        sys.meta_path.insert(0, _Empty(name for name in _PAGE if not _importable(name)))
        self.module("extensions").active = list
        self.module("ui_common").create_refresh_button = lambda *_: gr.Button("refresh")
        self.module("ui_extra_networks").register_page = lambda page: None
        self.module("ui_components").InputAccordion = None

    def _draw(self, runner: Any) -> None:
        import gradio as gr

        with gr.Blocks():
            for script in runner.alwayson_scripts:
                script.args_from = len(runner.inputs) - 1
                runner.inputs += script.ui(script.is_img2img)
                script.args_to = len(runner.inputs) - 1

    # --- parts of it -------------------------------------------------------------

    def module(self, name: str) -> Any:
        """The WebUI's ``modules.<name>``."""
        return importlib.import_module(f"modules.{name}")

    def extension(self, name: str) -> Any:
        """A module of the extension as the WebUI has loaded it, by its name in the package."""
        return importlib.import_module(f"{EXTENSION_PACKAGE}.{name}")

    @property
    def shared(self) -> Any:
        return self.module("shared")

    def set_options(self, **values: Any) -> None:
        for key, value in values.items():
            assert key in self.shared.opts.data_labels, key
            self.shared.opts.data[key] = value

    @contextlib.contextmanager
    def options(self, **values: Any) -> Iterator[None]:
        """Settings that last for the block."""
        before = {key: getattr(self.shared.opts, key) for key in values}
        self.set_options(**values)
        try:
            yield
        finally:
            self.set_options(**before)

    # --- checkpoints and jobs ----------------------------------------------------

    def model(self, checkpoint: Path) -> Any:
        """The model of this checkpoint, loaded when first asked for."""
        if checkpoint not in self._models:
            models: Any = self.module("sd_models")
            shared, kept_model = self.shared, models.SdModelData

            class Data(kept_model):  # type: ignore[misc, valid-type]
                # In the WebUI shared.sd_model is this one's model; the package looks for it there too.
                def set_sd_model(self, v: Any, already_loaded: bool = False) -> None:
                    super().set_sd_model(v, already_loaded)
                    shared.sd_model = v

            aliases = models.list_models(str(checkpoint))
            data = Data(aliases)
            model = models.load_model(aliases=aliases, model_data=data, weights_file=checkpoint.name)
            # The package rounds to half precision what it loads first, whatever the flags say.
            hijack = self.module("sd_hijack").model_hijack
            hijack.undo_hijack(model)
            models.load_model_weights(model, model.sd_checkpoint_info, None)
            hijack.hijack(model)
            self._models[checkpoint] = (model, data, aliases)
            for key, tensor in self.weights().items():
                self.loaded_weights.setdefault(key, tensor.clone())
        return self._models[checkpoint][0]

    def forget_conditioning(self) -> None:
        """Empty the WebUI's conditioning caches, as a restart does."""
        processing = self.module("processing")
        plain, txt2img = processing.StableDiffusionProcessing, processing.StableDiffusionProcessingTxt2Img
        for cache in (plain.cached_c, plain.cached_uc, txt2img.cached_hr_c, txt2img.cached_hr_uc):
            cache[:] = [None, None]

    def encoders(self, checkpoint: Path) -> list[Any]:
        """The WebUI's wrappers around the text encoders of this checkpoint."""
        model = self.model(checkpoint)
        found = list(model.conditioner.embedders) if hasattr(model, "conditioner") else [model.cond_stage_model]
        return [wrapper for wrapper in found if hasattr(wrapper, "encode_with_transformers")]

    def wrappers(self, name: str) -> int:
        """How often the WebUI's method ``name`` is wrapped."""
        method, count = getattr(self.module("processing").StableDiffusionProcessing, name), 0
        while hasattr(method, "__wrapped__"):
            method, count = method.__wrapped__, count + 1
        return count

    @contextlib.contextmanager
    def uninstalled(self) -> Iterator[None]:
        """The extension's hooks are taken out for the block."""
        self.extension("hosts.a1111.hook").uninstall()
        try:
            yield
        finally:
            # Reload UI may have put another one in its place.
            self.extension("hosts.a1111.hook").install()

    def weights(self) -> dict[tuple[str, int, str], Tensor]:
        """Every parameter and buffer of the text encoders, live, by checkpoint, encoder and name."""
        return {
            (checkpoint.name, index, name): tensor.detach()
            for checkpoint in self._models
            for index, wrapper in enumerate(self.encoders(checkpoint))
            for name, tensor in [*wrapper.named_parameters(), *wrapper.named_buffers()]
        }

    def traces(self) -> dict[str, object]:
        """What else a job could leave behind: attributes, hooks, gradients, fixes, progress text, one more wrapper."""
        found: dict[str, object] = {
            "fixes": self.module("sd_hijack").model_hijack.fixes,
            "textinfo": self.shared.state.textinfo,
            "wrappers": [self.wrappers(name) for name in WRAPPED],
        }
        for checkpoint in self._models:
            for index, wrapper in enumerate(self.encoders(checkpoint)):
                for name, module in wrapper.named_modules():
                    found[f"{checkpoint.name} {index} {name}"] = (
                        sorted(vars(module)),
                        list(module._forward_hooks),
                        list(module._forward_pre_hooks),
                        [(p.requires_grad, p.grad is None) for p in module.parameters(recurse=False)],
                    )
        return found

    def generate(self, aesthetic: object = None, look: Callable[[Any], None] | None = None, **payload: Any) -> Job:
        """One job, as the API makes it.

        Args:
            aesthetic: the script's first argument or, as a list, all of them.
            look: is shown the job's own object when it is done.
            payload: ``checkpoint`` (else the first SD1-like one), and fields of the
                processing class; ``init_images`` makes it img2img.
        """
        p, run = self._job(aesthetic, **payload)
        job = self._run(p, run)
        if look is not None:
            look(p)
        return job

    def encode(self, aesthetic: object = None, **payload: Any) -> Job:
        """The same up to the first step of the sampler."""
        p, run = self._job(aesthetic, **payload)

        def stop(**_: Any) -> None:
            raise _Encoded

        p.sample = stop
        return self._run(p, run)

    def conditioning(self, aesthetic: object = None, **payload: Any) -> Any:
        """What the WebUI's prompt parser and this extension make of the prompt, as the sampler would get it."""
        p, run = self._job(aesthetic, **payload)
        found = []

        def stop(**_: Any) -> None:
            found.append(p.c)
            raise _Encoded

        p.sample = stop
        self._run(p, run)
        return found[0]

    def _job(self, aesthetic: object, checkpoint: Path | None = None, **payload: Any) -> tuple[Any, Callable[[], Any]]:
        checkpoint = checkpoint or self.assets.sd1_a
        model = self.model(checkpoint)
        self.shared.sd_model = model
        processing = self.module("processing")
        is_img2img = "init_images" in payload
        kind = (
            processing.StableDiffusionProcessingImg2Img if is_img2img else processing.StableDiffusionProcessingTxt2Img
        )
        p = kind(sd_model=model, **{**_DEFAULTS, **payload})
        p.is_api = True
        p.scripts = self.runners[is_img2img]
        p.script_args = aesthetic if isinstance(aesthetic, list) else [aesthetic]
        _, data, aliases = self._models[checkpoint]
        # Where the WebUI reads the checkpoint from its options, the package wants the file's name.
        file = p.override_settings.get("sd_model_checkpoint", checkpoint.name)
        return p, lambda: processing.process_images(p, aliases, data, model, file)

    def _run(self, p: Any, run: Callable[[], Any]) -> Job:
        state = self.shared.state
        state.begin("test")
        try:
            try:
                pictures = run().images
            except _Encoded:
                pictures = []
            hires = tensors(getattr(p, "hr_c", None))
            return Job(pictures, dict(p.extra_generation_params), list(p.comments), tensors(p.c), tensors(p.uc), hires)
        finally:
            state.end()
            p.close()


class _Empty(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds empty modules under these names; whatever is taken from them is an empty class."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if any(name == unused or name.startswith(f"{unused}.") for unused in self.names):
            return importlib.util.spec_from_loader(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return types.ModuleType(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__["__getattr__"] = _empty_class


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _empty_class(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {"__init__": lambda self, *args, **kwargs: None})
