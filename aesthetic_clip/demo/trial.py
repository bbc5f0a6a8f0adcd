"""The demonstration in the folders of a program that makes pictures: put there to try the method, and taken away again.

What is put there: the model as a checkpoint, and an embedding of each of its world's styles.
Its image encoder stays where it is, see :func:`aesthetic_clip.demo.own_image_encoder`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..embeddings.library import Library
from ..errors import AestheticError
from ..files import reason
from . import DEMO, GUIDANCE_SCALE, SAMPLING_STEPS, export, world
from .loading import NOTE, save_examples

EMBEDDING = f"{DEMO} {next(iter(world.STYLES))}"
"""The one to begin with."""
PROMPT = world.HELD_OUT[0].prompt
SIZE, SAMPLER = world.SIZE, "DDIM"
__all__ = ["EMBEDDING", "GUIDANCE_SCALE", "PROMPT", "SAMPLER", "SAMPLING_STEPS", "SIZE", "Trial"]


@dataclass(frozen=True)
class Trial:
    """Where the demonstration goes.

    Attributes:
        checkpoints: the program's folder for them.
        library: its embeddings.
    """

    checkpoints: Path
    library: Library

    @property
    def there(self) -> bool:
        """Whether its checkpoint is."""
        return export.files(self.checkpoints)[0].is_file()

    def put(self) -> Sequence[Path]:
        """Put it there; what is there already stays.

        Returns:
            All its files, the checkpoint first.

        Raises:
            AestheticError: a folder can't be written.
        """
        names = save_examples(self.library)
        export.export(self.checkpoints)
        previews = (self.library.preview(name) for name in names)
        return [
            *export.files(self.checkpoints),
            *(self.library.find(name) for name in names),
            *(preview for preview in previews if preview),
        ]

    def take_away(self) -> Sequence[Path]:
        """Take it away again: its own files are deleted, the embeddings go to the trash.

        Returns:
            What is gone, where it was.

        Raises:
            AestheticError: a file can't be removed.
        """
        gone = [self.library.find(name) for name in self._own()]
        for name in self._own():
            self.library.trash(name)
        files = export.files(self.checkpoints)
        try:
            for file in files:
                if file.is_file():
                    file.unlink()
                    gone.append(file)
        except OSError as error:
            raise AestheticError(
                f"{file} was not removed.", f"{reason(error)}.", "Close what uses it, and try again."
            ) from error
        with contextlib.suppress(OSError):  # somebody put more into it, or it is gone
            files[-1].parent.rmdir()
        return gone

    def _own(self) -> list[str]:
        """The names of its embeddings that nobody has replaced by others of the same name."""
        names = {f"{DEMO} {style}" for style in world.STYLES}
        found = []
        for name in sorted(names & set(self.library.names())):
            with contextlib.suppress(AestheticError):  # a file that can't be read is none of these
                if self.library.load(name).about.note == NOTE:
                    found.append(name)
        return found
