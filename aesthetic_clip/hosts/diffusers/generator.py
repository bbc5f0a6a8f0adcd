"""A Stable Diffusion model that makes pictures from personalised prompts: what the programs share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...embeddings.embedding import Embedding
from ...embeddings.library import Library
from ...errors import AestheticError, Remedy
from ...method.modes import Memory
from ...method.session import text_feature
from ...progress import Progress, silent
from ...settings import Settings
from ...spaces import Space
from .encoders import pipeline_encoders
from .models import load_pipeline, own_tower
from .noise import Noise
from .private import borrowed
from .prompt_embeddings import PartOfSampling, PromptEmbeddings
from .prompts import encode_prompts


class Generator:
    """A diffusers pipeline for text to image, on its device.

    Args:
        model: as for :func:`load_pipeline`.
        device: torch's name of it; None is CUDA where there is one.
        half: compute in half precision on a GPU.
        config: folder or hub id of a pipeline of the same kind, for a model in one file.
        text_tower: the CLIP that the first text encoder came from, where the model lacks a part of it.
        memory: where the optimiser's state is while a prompt is personalised.
        bf16: whether matrices are multiplied by way of bf16 meanwhile, where the processor can.

    Raises:
        AestheticError: the model can't be loaded.
    """

    def __init__(
        self,
        model: str,
        device: str | None = None,
        half: bool = True,
        config: str | None = None,
        text_tower: Path | None = None,
        memory: Memory = Memory.AUTOMATIC,
        bf16: bool = False,
    ) -> None:
        self.model = model
        self.memory, self.bf16 = memory, bf16
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.float16 if half and self.device.startswith("cuda") else torch.float32
        self.pipe: Any = load_pipeline(model, self.device, dtype, config)
        self.pipe.set_progress_bar_config(disable=None)
        self.text_tower = text_tower or own_tower(self.pipe, model)

    @property
    def spaces(self) -> list[Space]:
        """CLIP spaces of the text encoders."""
        return [encoder.space for encoder in pipeline_encoders(self.pipe, self.text_tower)]

    @property
    def image_encoder(self) -> Path | None:
        """The image encoder that the model brings for its text encoder, as the demonstration model does."""
        folder = Path(self.model).expanduser() / "image_encoder"
        return folder if folder.is_dir() else None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels that the model was made for."""
        size = self.pipe.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return int(width * self.pipe.vae_scale_factor), int(height * self.pipe.vae_scale_factor)

    def sample_with(self, sampler: str) -> None:
        """Choose the sampler.

        Args:
            sampler: ``DDIM`` or ``PLMS``, as in the paper's script, or ``DPM++ 2M``.
        """
        import diffusers

        config = self.pipe.scheduler.config
        schedulers: dict[str, Any] = {
            "DDIM": lambda: diffusers.DDIMScheduler.from_config(config, clip_sample=False),
            "PLMS": lambda: diffusers.PNDMScheduler.from_config(config, skip_prk_steps=True),
            "DPM++ 2M": lambda: diffusers.DPMSolverMultistepScheduler.from_config(config, solver_order=2),
        }
        self.pipe.scheduler = schedulers[sampler]()

    def refuse_other_latents(self, channels: int | None, factor: int | None) -> None:
        """Check what is said of the latents against what the model has; None says nothing.

        Raises:
            AestheticError: the model has others.
        """
        has_channels, has_factor = self.pipe.unet.config.in_channels, self.pipe.vae_scale_factor
        if channels not in (None, has_channels) or factor not in (None, has_factor):
            raise AestheticError(
                "The model has other latents.",
                f"It has {has_channels} channels (--C) and {has_factor} pixels per latent (--f), as it was trained.",
                "Leave both out.",
            )

    def noise(self, seed: int, count: int, steps: int, width: int | None = None, height: int | None = None) -> Noise:
        """What pictures begin as, from one generator for all batches, as the paper's script draws it.

        Args:
            seed: of the generator.
            count: pictures of a whole batch.
            steps: sampling steps of each, with the sampler that is chosen.
            width, height: in pixels.
        """
        own_width, own_height = self.size
        factor = self.pipe.vae_scale_factor
        shape = (
            count,
            self.pipe.unet.config.in_channels,
            (height or own_height) // factor,
            (width or own_width) // factor,
        )
        return Noise(seed, self.device, shape, _draws(self.pipe.scheduler, steps))

    def text_features(self, text: str) -> dict[Space, Tensor]:
        """CLIP features (D,) of a text, by space.

        Raises:
            AestheticError: the text is too long, or a part of the text tower is not to be had.
        """
        with borrowed(self.pipe) as pipe:
            return {host.space: text_feature(host, text) for host in pipeline_encoders(pipe, self.text_tower)}

    def encode(
        self,
        prompts: str | Sequence[str],
        settings: Settings,
        embeddings: Library | Embedding | None,
        negative_prompt: str = "",
        guidance: bool = True,
        clip_skip: int = 1,
        progress: Progress = silent,
    ) -> PromptEmbeddings:
        """:func:`encode_prompts` with this model; ``clip_skip`` counts as the WebUI does, from 1."""
        return encode_prompts(
            self.pipe,
            prompts,
            settings,
            embeddings,
            negative_prompt=negative_prompt or None,
            guidance=guidance,
            clip_skip=clip_skip - 1 or None,
            text_tower=self.text_tower,
            memory=self.memory,
            bf16=self.bf16,
            progress=progress,
        )

    def pictures(
        self,
        encoded: Sequence[PromptEmbeddings],
        seeds: Sequence[int],
        steps: int,
        scale: float,
        width: int | None = None,
        height: int | None = None,
        progress: Progress | None = None,
        noise: Noise | None = None,
        fixed_noise: bool = False,
        eta: float = 0.0,
    ) -> list[Image.Image]:
        """One picture for each encoded prompt and its seed, all at once.

        Args:
            noise: what to begin as, instead of a generator for each seed.
            fixed_noise: begin as in the batch before.
            eta: how much noise DDIM's steps add, 0 to 1.
            progress: called after each sampling step with those done and those in all; may raise to stop.

        Raises:
            AestheticError: not enough memory.
        """
        part = PartOfSampling(encoded)
        own_width, own_height = self.size
        # On the CPU, so that a seed means the same everywhere.
        generator: Any = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        more: dict[str, Any] = {}
        if noise is not None:
            generator = noise.generator
            more["latents"] = noise.batch(len(encoded), fixed_noise, drawn=eta > 0).to(
                self.device, self.pipe.unet.dtype
            )

        def after_step(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if progress is not None:
                progress(step + 1, steps, "")
            return part(pipe, step, time, tensors)

        more["callback_on_step_end"] = after_step
        more["callback_on_step_end_tensor_inputs"] = part.tensor_inputs
        try:
            return self.pipe(
                **part.begin(),
                # The pipeline takes neither height nor width unless it gets both.
                width=width or own_width,
                height=height or own_height,
                num_inference_steps=steps,
                guidance_scale=scale,
                generator=generator,
                eta=eta,
                **more,
            ).images
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise AestheticError(
                f"There was not enough memory for {len(encoded)} pictures at once.",
                f"They have {width or own_width} x {height or own_height} pixels each.",
                "Make fewer at once, or choose a smaller size.",
                Remedy.MEMORY,
            ) from error


def _draws(scheduler: Any, steps: int) -> int:
    """How often the paper's sampler of this kind draws noise after the first, used or not."""
    # Its timesteps are every (1000 // steps)-th, which may be more than ``steps``.
    trained = scheduler.config.num_train_timesteps
    taken = len(range(0, trained, max(1, trained // steps)))
    # PLMS takes its first step twice.
    return {"DDIMScheduler": taken, "PNDMScheduler": taken + 1}.get(type(scheduler).__name__, 0)
