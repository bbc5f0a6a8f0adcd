"""CLIP itself: the text encoder as a host has it in memory, the image encoder, and the files of both."""
