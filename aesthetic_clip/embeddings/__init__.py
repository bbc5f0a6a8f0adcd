"""Aesthetic embeddings: the files, the folders they lie in, arithmetic with them, and the published ones."""
