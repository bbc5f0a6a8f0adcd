"""Aesthetic gradients for diffusers pipelines of Stable Diffusion 1.x, 2.x and SDXL."""

from .prompt_embeddings import PartOfSampling, PromptEmbeddings
from .prompts import encode_prompts

__all__ = ["PartOfSampling", "PromptEmbeddings", "encode_prompts"]
