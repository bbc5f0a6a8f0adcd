"""The settings page, and what follows from it: where embeddings and the text projection are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr
from modules import paths, shared

from ...embeddings.library import LeftOut, Library, open_library
from ...embeddings.presets import PresetFile
from ...embeddings.scan import is_text, tell_once
from ...method.modes import Memory
from ...printable import printable
from ...settings import FIRST_PRESET, NO_EMBEDDING, PRESETS
from ...spaces import PUBLISHED, Space

if TYPE_CHECKING:
    from ...clip.text_projection import ProjectionSources

EXTENSION = Path(__file__).resolve().parents[3]
_SECTION = ("aesthetic_gradients", "Aesthetic Gradients")
_FOLDER = "aesthetic_embeddings_dir"
_PROJECTION = "aesthetic_text_projection"
_SIMILARITY = "aesthetic_similarity_infotext"
_MEMORY = "aesthetic_memory"
_BF16 = "aesthetic_bf16"
_HIDE_MISFITS = "aesthetic_hide_misfits"
_FIRST_PRESET = "aesthetic_first_preset"
_FIRST_EMBEDDING = "aesthetic_first_embedding"
_ENCODERS = {space: f"aesthetic_image_encoder_{space.dim}" for space in PUBLISHED}


def register() -> None:
    """Add the settings page (callback ``on_ui_settings``)."""
    _add(
        _FOLDER,
        "",
        "Another folder with aesthetic embeddings",
        "searched with its subfolders, after models/aesthetic_embeddings, where new ones go",
    )
    _add(
        _PROJECTION,
        "",
        "Text projection",
        "a model.safetensors of openai/clip-vit-large-patch14, or its folder; "
        "empty: the Hugging Face cache, ViT-L-14.pt, or a 2.4 MB download when first needed",
    )
    _add(_SIMILARITY, False, "Write the similarity before and after into the picture's parameters")
    _add(
        _HIDE_MISFITS,
        False,
        "Hide the cards of embeddings that do not fit the loaded checkpoint",
        "their refresh button brings those of another checkpoint; otherwise such cards say so",
    )
    shared.opts.add_option(
        _FIRST_PRESET,
        shared.OptionInfo(
            FIRST_PRESET, "Preset that the page starts with", gr.Dropdown, _presets, section=_SECTION
        ).info("unless other defaults were stored in Settings > Defaults"),
    )
    shared.opts.add_option(
        _FIRST_EMBEDDING,
        shared.OptionInfo(
            NO_EMBEDDING,
            "Taste that is on when a page is opened",
            gr.Dropdown,
            lambda: {"choices": [NO_EMBEDDING, *embeddings().names()]},
            refresh=lambda: None,
            section=_SECTION,
        ).info("an embedding or a taste that grows; the accordion shows it, and choosing None there turns it off"),
    )
    modes = {"choices": [mode.value for mode in Memory]}
    shared.opts.add_option(
        _MEMORY,
        shared.OptionInfo(Memory.AUTOMATIC.value, "Memory", gr.Radio, modes, section=_SECTION).info(
            "Low keeps the optimiser's state in main memory, Lowest nowhere: slower, the same picture; "
            "Automatic takes Fast where it fits, and the console says which it was"
        ),
    )
    _add(
        _BF16,
        False,
        "Multiply in bf16 while a prompt is personalised",
        "faster where the processor can (AVX-512 BF16, AMX; TF32 on NVIDIA cards); the picture differs a little",
    )
    for space, key in _ENCODERS.items():
        _add(
            key,
            "",
            f"Image encoder for {space.name}",
            f"file or folder of {space.hub_id}, to create embeddings; empty: looked for in the caches",
        )


def _add(key: str, default: object, label: str, info: str = "") -> None:
    path = isinstance(default, str)
    # The WebUI takes what can't be seen for what can't be set.
    arguments = {"visible": False} if path and not paths_allowed() else None
    component = gr.Textbox if path else gr.Checkbox
    option = shared.OptionInfo(default, label, component, arguments, section=_SECTION)
    # As for the WebUI's own: neither the API's options nor those of one job set where files are. (It has that since 1.6.)
    option.restrict_api = path
    shared.opts.add_option(key, option.info(info) if info else option)


def paths_allowed() -> bool:
    """Whether people at the page may name files and folders of this machine.

    As the WebUI decides it for its own: not with ``--hide-ui-dir-config``, and not on a page that others reach
    (``--listen``, ``--share``, ...) with neither a login nor ``--enable-insecure-extension-access``.
    """
    flags = shared.cmd_opts
    login = getattr(flags, "gradio_auth", None) or getattr(flags, "gradio_auth_path", None)
    strangers = bool(getattr(flags, "disable_extension_access", False)) and not login
    return not flags.hide_ui_dir_config and not strangers


def embeddings() -> Library:
    """The embedding folders; the first, where new ones go, is in the WebUI's models folder.

    Those in the extension's own folder, where version 1.0 put them and a removal of the
    extension would take them along, are found as well.
    """
    data = Path(paths.data_path)
    folders = [
        Path(paths.models_path) / "aesthetic_embeddings",
        data / "models" / "aesthetic_embeddings",
        data / "aesthetic_embeddings",
        EXTENSION / "aesthetic_embeddings",
    ]
    if (chosen := _path(_FOLDER)) is not None:
        folders.append(chosen)
        try:
            os.stat(chosen)
        except FileNotFoundError:
            if is_text(str(chosen)):
                tell_once([LeftOut(printable(str(chosen)), "the folder named in the settings is not there")])
        except (OSError, ValueError):  # the library says so, as it does of a name that is no text
            pass
    return open_library(folders)


OWN_PRESETS = PresetFile(lambda: embeddings().folders[0])


def projection_sources() -> ProjectionSources:
    """Where CLIP ViT-L/14's text projection may be."""
    from ...clip.text_projection import ProjectionSources

    return ProjectionSources(
        path=_path(_PROJECTION),
        clip_folders=clip_folders(),
        cache_folder=models_folder(),
    )


def clip_folders() -> list[Path]:
    """Where the WebUI and OpenAI's CLIP keep ``ViT-L-14.pt``."""
    own = getattr(shared.cmd_opts, "clip_models_path", None)
    return [*([Path(own)] if own else []), Path.home() / ".cache" / "clip"]


def models_folder() -> Path:
    """Where models that this extension fetches are kept."""
    return Path(paths.models_path) / "aesthetic_clip"


def encoder_path(space: Space) -> str:
    """The user's own image encoder of a space; empty if there is none."""
    return _text(_ENCODERS[space]) if space in _ENCODERS else ""


def _presets() -> dict[str, list[str]]:
    return {"choices": list(PRESETS)}


def first_preset() -> str:
    """What a page of txt2img or img2img starts with."""
    chosen = str(getattr(shared.opts, _FIRST_PRESET, FIRST_PRESET))
    return chosen if chosen in PRESETS else FIRST_PRESET


def first_embedding() -> str:
    """The embedding that a page of txt2img or img2img starts with, ``None`` for none; it may not be there."""
    return str(getattr(shared.opts, _FIRST_EMBEDDING, NO_EMBEDDING) or NO_EMBEDDING)


def similarity_in_infotext() -> bool:
    return bool(getattr(shared.opts, _SIMILARITY, False))


def hide_misfits() -> bool:
    """Whether embeddings that do not fit the loaded checkpoint have no cards."""
    return bool(getattr(shared.opts, _HIDE_MISFITS, False))


def memory() -> Memory:
    """Where the optimiser's state is."""
    chosen = getattr(shared.opts, _MEMORY, None)
    return Memory(chosen) if chosen in {mode.value for mode in Memory} else Memory.AUTOMATIC


def bf16() -> bool:
    """Whether matrices may be multiplied by way of bf16 in the optimisation."""
    return bool(getattr(shared.opts, _BF16, False))


def _text(key: str) -> str:
    return str(getattr(shared.opts, key, "") or "").strip().strip('"')


def _path(key: str) -> Path | None:
    """What the setting names; a ``~nobody`` that is no user's stays as it is, and is found not to be there."""
    text = _text(key)
    return Path(os.path.expanduser(text)) if text else None
