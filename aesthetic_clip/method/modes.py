"""Ways to optimise that differ in memory and time, not in result."""

from __future__ import annotations

import enum


class Memory(enum.Enum):
    """Where Adam's moments are; the numbers are the same."""

    AUTOMATIC = "Automatic"
    """beside the weights if they fit there"""
    FAST = "Fast"
    """beside the weights"""
    LOW = "Low"
    """in main memory, fetched and brought back in every step"""
    LOWEST = "Lowest"
    """nowhere: made anew in every step from the gradients' factors, a piece at a time"""
