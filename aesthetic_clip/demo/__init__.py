"""The demonstration model: a text-to-image system of a few megabytes, and the world that it was trained on."""
