"""The local page with a model that only paints its order: ``python -m tests.support.page_server PORT LIBRARY ENCODER``.

For what depends on gradio alone, under every gradio; ``test_local_page.py`` has the demonstration model on it as well.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import torch
from PIL import Image

from aesthetic_clip.clip.image_encoder import load_encoder
from aesthetic_clip.create.looking import embedding_of, look
from aesthetic_clip.create.sources import Source
from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.embeddings.profiles import Picture
from aesthetic_clip.pages import local_page as page
from aesthetic_clip.pages.local_page import Order, Pair
from aesthetic_clip.pages.tab import TabHost
from aesthetic_clip.pages.thumbs import ThumbsHost
from aesthetic_clip.settings import FIRST_PRESET, Settings
from aesthetic_clip.spaces import space_of

SPACE = space_of(32)
SLOW = "take your time"
"""A prompt that takes until it is interrupted."""


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def main(port: int, folder: str, encoder: str) -> None:
    jobs = page.Jobs()
    shelf = open_library([folder])

    def generate(order: Order) -> Pair:
        end = time.monotonic() + (60 if order.prompt == SLOW else 5)  # long enough to be seen on a busy machine
        while time.monotonic() < end:
            jobs.progress(1, 2, "halfway")
            time.sleep(0.05)
        shelf.load(order.settings.embedding)
        size = (order.width, order.height)
        plain, personalised = (png(Image.new("RGB", size, (order.seed, 5 * n, 0))) for n in (0, order.settings.steps))
        return Pair(
            plain,
            personalised,
            {SPACE.name: [0.1, 0.2, 0.4]},
            f"{order.prompt}\nSeed: {order.seed}, {order.settings.infotext()}",
        )

    host = TabHost(
        library=lambda: shelf,
        spaces=lambda: [SPACE],
        encoder=lambda space, download: load_encoder(space, encoder),
        text_features=lambda text: {SPACE: torch.ones(SPACE.dim)},
        picture=None,
        job=jobs.make,
        progress=jobs.progress,
        interrupt=jobs.interrupt,
    )

    def look_at(source: Source) -> Picture:
        with load_encoder(SPACE, encoder) as image_encoder:
            return look(source, [image_encoder])

    def keep(picture: Picture) -> str:
        return shelf.save_new(embedding_of(picture, "this"), f"this {picture.digest[:4]}", overwrite=True).stem

    initial = Settings.from_mapping({"preset": FIRST_PRESET})
    thumbs_host = ThumbsHost(lambda: shelf, look_at, lambda progress: None, keep)
    built = page.build(host, jobs, generate, "paints its order", (64, 64), 4.0, initial, thumbs_host)
    page.launch(built, jobs, "127.0.0.1", port, [str(Path(folder))], browser=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
