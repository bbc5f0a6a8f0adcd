"""CLIP's image encoders; only the vision half is in memory."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import AestheticError, first_line
from ..progress import Progress, silent
from ..readers.faults import UnreadableFile, quoted
from ..readers.json_text import parse_json
from ..readers.shards import shards
from ..readers.tensor_files import open_tensors
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
from .preprocess import CLIP_MEAN, CLIP_STD, normalise


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
        tower = self._live().to(self.device, self._dtype)
        if self.device.type != "cpu":
            # A GPU's convolutions want the channels together; linear layers have none.
            tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) normalised pixels to (B, D) raw projected features, fp32, on the encoder's device."""
        with torch.no_grad():
            return self._live()(pixels.to(self.device, self._dtype)).float()

    def begin(self, pixels: Tensor) -> Tensor:
        """(B, 3, size, size) uint8 pixels in main memory to (B, D) raw projected features, fp32, on the encoder's device.

        A GPU may still be at work on them: whoever reads them waits.
        """
        if self.device.type == "cuda":
            # What can't be paged out is copied while the processor goes on.
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True)
        return self.encode(normalise(pixels, self.mean, self.std))

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
    except UnreadableFile as error:
        raise AestheticError(subject, error.why, error.do) from error
    except OSError as error:
        raise AestheticError(subject, f"It can't be read: {error.strerror or error}.", "Check the path.") from error
    except ImportError as error:
        raise AestheticError(subject, f"{error}.", "Install open_clip_torch and transformers.") from error
    except Exception as error:  # damaged weights fail in as many ways as there are readers
        raise AestheticError(
            subject,
            f"The weights are damaged or of another model ({first_line(error)}).",
            "Get them again, or name another file or folder.",
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


# The configuration is as little to be trusted as the weights: these are all that is taken from it, within bounds
# that leave room above every published CLIP.
_BOUNDS = {
    "hidden_size": 8192,
    "intermediate_size": 32768,
    "num_hidden_layers": 100,
    "num_attention_heads": 128,
    "num_channels": 3,
    "image_size": 1024,
    "patch_size": 1024,
    "projection_dim": 8192,
}
_MOST_PATCHES = 4096
_CONFIG_BYTES = 2**18
_WIDEST_ELEMENT = 8  # bytes
_LAYER = re.compile(r"(?:module\.)?vision_model\.encoder\.layers\.([0-9]{1,6})\.")


def _from_transformers(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**_vision_config(checkpoint.path))
    files = _weight_files(checkpoint.path)
    layers = 1 + max(
        (int(match[1]) for file in files for name in _names(file) if (match := _LAYER.match(name))), default=-1
    )
    if layers < config.num_hidden_layers:
        raise UnreadableFile(f"Of {config.num_hidden_layers} layers {config.num_hidden_layers - layers} are missing.")
    # On the meta device nothing is allocated or drawn at random.
    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(config)
    _fill(model, files, "")
    for module in model.modules():
        # No weights, so by the library's version not in the files.
        if getattr(module, "position_ids", None) is not None and module.position_ids.is_meta:
            module.position_ids = torch.arange(module.position_ids.shape[-1]).unsqueeze(0)
    mean, std = _normalisation(checkpoint.path)
    return ImageEncoder(space, _Projected(model), config.image_size, checkpoint.model_id, mean, std)


def _vision_config(folder: Path) -> dict[str, Any]:
    raw = _json(folder / "config.json")
    vision = raw.get("vision_config", raw)
    if not isinstance(vision, dict):
        raise UnreadableFile("Its config.json has no vision_config.")
    # In LAION's configurations the vision half repeats a default width; the whole model's is the true one.
    vision = {**vision, **({"projection_dim": raw["projection_dim"]} if "projection_dim" in raw else {})}
    found: dict[str, Any] = {key: vision[key] for key in _BOUNDS if key in vision}
    for key, value in found.items():
        if type(value) is not int or not 0 < value <= _BOUNDS[key]:
            raise UnreadableFile(f"Its config.json gives {key} as what no CLIP has.")
    if found.get("hidden_size", 768) % found.get("num_attention_heads", 12):
        raise UnreadableFile("Its config.json divides hidden_size into attention heads that leave a rest.")
    if (found.get("image_size", 224) // found.get("patch_size", 32)) ** 2 > _MOST_PATCHES:
        raise UnreadableFile("Its config.json divides a picture into more patches than any CLIP.")
    activation = vision.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "relu"):
        raise UnreadableFile(f"Its config.json names an activation {quoted(activation)}.")
    epsilon = vision.get("layer_norm_eps", 1e-5)
    if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
        raise UnreadableFile("Its config.json gives layer_norm_eps as what no CLIP has.")
    return {**found, "hidden_act": activation, "layer_norm_eps": epsilon}


def _normalisation(folder: Path) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of the pixels, CLIP's own unless the folder says otherwise."""
    try:
        raw = _json(folder / "preprocessor_config.json")
    except OSError:
        return CLIP_MEAN, CLIP_STD
    mean, std = raw.get("image_mean", CLIP_MEAN), raw.get("image_std", CLIP_STD)
    for values, least in ((mean, -100.0), (std, 1e-6)):
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise UnreadableFile("Its preprocessor_config.json has no three means and deviations.")
        if not all(isinstance(value, (int, float)) and least <= value <= 100 for value in values):
            raise UnreadableFile("Its preprocessor_config.json has impossible means or deviations.")
    return mean, std


def _json(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        data = file.read(_CONFIG_BYTES + 1)
    value = parse_json(data, path.name, _CONFIG_BYTES)
    if not isinstance(value, dict):
        raise UnreadableFile(f"Its {path.name} is damaged.")
    return value


def _weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights; safetensors is preferred, since nothing else has to be looked at then."""
    for name in (
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model.bin.index.json",
    ):
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return [folder / name]
        return shards(folder / name)
    raise UnreadableFile("It holds no weights.")


def _names(file: Path) -> list[str]:
    with open_tensors(file) as content:
        return list(content.tensors)


def _fill(module: nn.Module, files: Sequence[Path], prefix: str) -> None:
    """Put the weights of files, below ``prefix`` in them, into a module on the meta device.

    Shapes are compared with the module's before a byte of a tensor is read.

    Raises:
        UnreadableFile: tensors are missing, of other shapes, or the files are damaged.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    state: dict[str, Tensor] = {}
    for file in files:
        with open_tensors(file) as content:
            names = {name: name.removeprefix("module.") for name in content.tensors}
            there = {
                name: short.removeprefix(prefix)
                for name, short in names.items()
                if short.startswith(prefix) and short.removeprefix(prefix) in wanted
            }
            for name, inner in there.items():
                if content.tensors[name] != wanted[inner]:
                    raise UnreadableFile(
                        f"Its tensor {quoted(inner)} has the shape {content.tensors[name]}, "
                        f"the model's has {wanted[inner]}.",
                        "Take the file of the right model.",
                    )
            at_most = _WIDEST_ELEMENT * sum(math.prod(wanted[inner]) for inner in there.values())
            state.update((there[name], tensor) for name, tensor in content.read(there, at_most).items())
    missing = [name for name in wanted if name not in state and not name.endswith("position_ids")]
    if missing:
        raise UnreadableFile(
            f"{len(missing)} of {len(wanted)} tensors are missing, e.g. {prefix}{missing[0]}.",
            "Take the whole file of the right model.",
        )
    module.load_state_dict(state, strict=False, assign=True)


def _from_open_clip(space: Space, checkpoint: Checkpoint) -> ImageEncoder:
    if space.open_clip is None:
        raise UnreadableFile(f"open_clip knows no architecture for {space.name}.", "Give a folder of transformers.")
    import open_clip
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    arch, tag = space.open_clip
    config = open_clip.get_model_config(arch)
    if config is None:
        raise UnreadableFile(f"This version of open_clip does not know {arch}.", "Install a newer open_clip_torch.")
    # OpenAI trained with a quicker GELU, which open_clip says in the tag and not in the architecture.
    quick_gelu = config.get("quick_gelu", False) or tag == "openai"
    # On the meta device nothing is allocated or drawn at random.
    with torch.device("meta"):
        tower = _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**config["vision_cfg"]), quick_gelu)
    _fill(tower, [checkpoint.path], "visual.")
    return ImageEncoder(space, tower, config["vision_cfg"]["image_size"], checkpoint.model_id)
