"""Damaged and hostile files by the million: ``python -m tests.fuzz --minutes 60``."""
