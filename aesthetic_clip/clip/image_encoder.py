"""CLIP's image encoders; only the vision half is in memory."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AestheticError, first_line
from ..progress import Progress, silent
from ..spaces import Space
from .image_encoder_files import (
    DOWNLOADS,
    AllowDownload,
    Checkpoint,
    download,
    find_checkpoint,
    nothing_found,
    offline,
)
from .preprocess import CLIP_MEAN, CLIP_STD
from .tensor_files import read_tensors


class ImageEncoder:
    """The vision half of a CLIP model.

    Attributes:
        space: the space of its features.
        size: side of the square images it takes.
        mean, std: what their pixels are normalised with.
        model_id: which model it is, for people and for the metadata of embeddings.
        device: where it computes.
    """

    def __init__(
        self,
        space: Space,
        tower: nn.Module,
        size: int,
        model_id: str,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        self.space, self.size, self.model_id = space, size, model_id
        self.mean, self.std = tuple(mean), tuple(std)
        self._tower: nn.Module | None = tower.eval().requires_grad_(False)
        self.to("cpu")

    def to(self, device: str | torch.device) -> ImageEncoder:
        """Move it; it computes in half precision on a GPU and in fp32 on the CPU."""
        self.device = torch.device(device)
        self._dtype = torch.float32 if self.device.type == "cpu" else torch.float16
        self._live().to(self.device, self._dtype)
        return self

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) normalised pixels to (B, D) raw projected features, fp32, on the encoder's device."""
        with torch.no_grad():
            return self._live()(pixels.to(self.device, self._dtype)).float()

    def close(self) -> None:
        """Give its memory back; it can't be used afterwards."""
        self._tower = None
        gc.collect()
        if self.device.type != "cpu":
            # cuda, mps and xpu each have one.
            getattr(getattr(torch, self.device.type, None), "empty_cache", lambda: None)()

    def _live(self) -> nn.Module:
        if self._tower is None:
            raise RuntimeError("this image encoder is closed")
        return self._tower

    def __enter__(self) -> ImageEncoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_encoder(
    space: Space,
    path: str | Path = "",
    folders: Sequence[Path] = (),
    device: str | torch.device = "cpu",
    allow_download: AllowDownload | None = None,
    progress: Progress = silent,
) -> ImageEncoder:
    """The image encoder of a space, from where it is found first.

    Args:
        space: whose encoder.
        path: the user's own copy, a folder or a file; nothing else is tried then.
        folders: more places to look in; a download goes to the first of them.
        device: where it is to compute.
        allow_download: is told size in bytes and a description, and decides; None is no.
        progress: is told bytes done and bytes in all during a download; may raise to stop.

    Raises:
        AestheticError: there is none, or what is there can't be used.
        Interrupted: stopped by ``progress``; what has come is kept for the next try.
    """
    checkpoint = find_checkpoint(space, path, folders)
    if checkpoint is None:
        folder = Path(folders[0]) if folders else DOWNLOADS
        if allow_download is None or space.hub_id is None or offline():
            why = "Downloads are switched off (HF_HUB_OFFLINE)." if offline() else ""
            raise nothing_found(space, folder, why)
        checkpoint = download(space, folder, allow_download, progress)
    return load(space, checkpoint).to(device)


def load(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    """Read weights into an encoder on the CPU; code in them is never executed.

    Raises:
        AestheticError: damaged, incomplete, or of another model.
    """
    subject = f"The image encoder for {space.name} can't be loaded from {checkpoint.path}."
    try:
        if checkpoint.library == "transformers":
            encoder = _from_transformers(space, checkpoint)
        else:
            encoder = _from_open_clip(space, checkpoint)
        # One blank image says more about width and size than any configuration.
        width = encoder.encode(torch.zeros(1, 3, encoder.size, encoder.size)).shape[-1]
    except AestheticError:
        raise
    except ImportError as error:
        raise AestheticError(subject, f"{error}.", "Install open_clip_torch and transformers.") from error
    except Exception as error:  # damaged weights fail in as many ways as there are readers
        raise AestheticError(
            subject,
            f"The weights are damaged or of another model ({first_line(error)}).",
            "Get them again, or name another path in the settings.",
        ) from error
    if width != space.dim:
        raise AestheticError(
            subject,
            f"Its features have the width {width}, those of {space.name} have {space.dim}.",
            "Name the path of the right model.",
        )
    return encoder


class _Projected(nn.Module):
    """A transformers vision tower that returns its projected features and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model(pixel_values=pixels).image_embeds


def _from_transformers(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    raw = json.loads((checkpoint.path / "config.json").read_text("utf-8"))
    config = CLIPVisionConfig.from_dict(raw.get("vision_config", raw))
    # In LAION's configurations the vision half repeats a default width; the whole model's is the true one.
    config.projection_dim = raw.get("projection_dim", config.projection_dim)
    with _quiet_transformers():
        model, info = CLIPVisionModelWithProjection.from_pretrained(
            str(checkpoint.path), config=config, local_files_only=True, output_loading_info=True
        )
    missing = [key for key in info["missing_keys"] if not key.endswith("position_ids")]
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, e.g. {missing[0]}")
    norm: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        norm = json.loads((checkpoint.path / "preprocessor_config.json").read_text("utf-8"))
    return ImageEncoder(
        space,
        _Projected(model),
        config.image_size,
        checkpoint.model_id,
        norm.get("image_mean", CLIP_MEAN),
        norm.get("image_std", CLIP_STD),
    )


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without its list of the text half's tensors, which are left out on purpose."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _from_open_clip(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    if space.open_clip is None:
        raise ValueError(f"open_clip knows no architecture for {space.name}")
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    arch, tag = space.open_clip
    config = open_clip.get_model_config(arch)
    if config is None:
        raise ValueError(f"this version of open_clip does not know {arch}")
    # OpenAI trained with a quicker GELU, which open_clip says in the tag and not in the architecture.
    quick_gelu = config.get("quick_gelu", False) or tag == "openai"
    weights = _visual_weights(checkpoint.path)
    # On the meta device nothing is allocated or drawn at random; needs a torch that can take tensors over.
    lean = "assign" in inspect.signature(nn.Module.load_state_dict).parameters
    with torch.device("meta" if lean else "cpu"):
        tower = _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), quick_gelu)
    tower.load_state_dict(weights, **({"assign": True} if lean else {}))
    return ImageEncoder(space, tower, config["vision_cfg"]["image_size"], checkpoint.model_id)


def _visual_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of ``visual.*`` in an open_clip or OpenAI checkpoint, without that prefix."""
    weights = read_tensors(path, lambda key: key.startswith("visual."))
    if not weights:
        raise ValueError("it holds no tensors called visual.*")
    return {key.removeprefix("visual."): value for key, value in weights.items()}
