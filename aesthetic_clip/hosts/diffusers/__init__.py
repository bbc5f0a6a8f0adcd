"""Aesthetic gradients for diffusers pipelines of Stable Diffusion 1.x, 2.x and SDXL."""

from .prompts import PromptEmbeddings, encode_prompts

__all__ = ["PromptEmbeddings", "encode_prompts"]
