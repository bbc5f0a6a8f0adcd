"""Aesthetic gradients (Gallego 2022, arXiv 2209.12330) for CLIP text encoders.

The modules here know torch and nothing of a host; those under ``hosts`` know one host each.
"""

__version__ = "1.0.0"
