"""Adapters, one per host; nothing else in the package imports a host."""
