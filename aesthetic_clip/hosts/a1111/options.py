"""The settings page, and what follows from it: where embeddings and the text projection are."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from modules import paths, shared

from ...library import Library, library
from ...text_projection import ProjectionSources

EXTENSION = Path(__file__).resolve().parents[3]
_SECTION = ("aesthetic_gradients", "Aesthetic Gradients")
_FOLDER = "aesthetic_embeddings_dir"
_PROJECTION = "aesthetic_text_projection"
_SIMILARITY = "aesthetic_similarity_infotext"


def register() -> None:
    """Add the settings page (callback ``on_ui_settings``)."""
    for key, default, label, info in (
        (
            _FOLDER,
            "",
            "Another folder with aesthetic embeddings",
            "searched after the extension's own, with subfolders",
        ),
        (
            _PROJECTION,
            "",
            "Text projection",
            "a model.safetensors of openai/clip-vit-large-patch14, or its folder; "
            "empty: the Hugging Face cache, ViT-L-14.pt, or a 2.4 MB download when first needed",
        ),
        (_SIMILARITY, False, "Write the similarity before and after into the picture's parameters", ""),
    ):
        component = gr.Checkbox if isinstance(default, bool) else gr.Textbox
        option = shared.OptionInfo(default, label, component, section=_SECTION)
        shared.opts.add_option(key, option.info(info) if info else option)


def embeddings() -> Library:
    """The embedding folders: the extension's, the WebUI's two, the one from the settings."""
    data = Path(paths.data_path)
    folders = [
        EXTENSION / "aesthetic_embeddings",
        data / "aesthetic_embeddings",
        data / "models" / "aesthetic_embeddings",
    ]
    if chosen := _text(_FOLDER):
        folders.append(Path(chosen).expanduser())
    return library(folders)


def projection_sources() -> ProjectionSources:
    """Where CLIP ViT-L/14's text projection may be."""
    chosen = _text(_PROJECTION)
    clip_folder = getattr(shared.cmd_opts, "clip_models_path", None)
    return ProjectionSources(
        path=Path(chosen).expanduser() if chosen else None,
        clip_folders=[*([Path(clip_folder)] if clip_folder else []), Path.home() / ".cache" / "clip"],
        cache_folder=Path(paths.models_path) / "aesthetic_clip",
        report=lambda line: print(f"Aesthetic Gradients: {line}"),
    )


def similarity_in_infotext() -> bool:
    return bool(getattr(shared.opts, _SIMILARITY, False))


def _text(key: str) -> str:
    return str(getattr(shared.opts, key, "") or "").strip().strip('"')
