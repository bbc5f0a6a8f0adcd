"""Damaged and hostile files without end: ``python -m tests.fuzz --minutes 60``."""
