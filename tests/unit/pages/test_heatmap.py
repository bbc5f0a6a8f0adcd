"""The picture of similarities."""

import pytest
import torch
from PIL import ImageFont

from aesthetic_clip.pages.heatmap import similarity_picture


def warmth(pixel: object) -> int:
    """How much more red than blue."""
    assert isinstance(pixel, tuple)
    return int(pixel[0] - pixel[2])


@pytest.mark.parametrize("bitmap", [False, True])
def test_similarities_are_red_above_zero_and_blue_below(bitmap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if bitmap:  # a machine without fonts, and an old Pillow
        old = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()

        def missing(*_: object, **__: object) -> None:
            raise OSError

        def load_default(*size: float) -> object:
            if size:
                raise TypeError("load_default() takes 0 positional arguments but 1 was given")
            return old

        monkeypatch.setattr(ImageFont, "truetype", missing)
        monkeypatch.setattr(ImageFont, "load_default", load_default)
    names = ["sac_8plus", "私の好み", "a very long name that has to be cut somewhere", "x"]
    picture = similarity_picture(
        names, torch.tensor([[1.0, 0.5, -0.5, 0], [0.5, 1, 0, 0], [-0.5, 0, 1, -1], [0, 0, -1, 1]])
    )
    assert picture.mode == "RGB"
    assert picture.width == picture.height > 4 * 50
    # A corner of each cell of the first row, where no digit is.
    one, half, minus_half, zero = (
        picture.getpixel((picture.width - 12 - 56 * (4 - column) + 3, picture.height - 12 - 56 * 4 + 3))
        for column in range(4)
    )
    assert zero == (255, 255, 255)
    red, paler_red, pale_blue = (warmth(pixel) for pixel in (one, half, minus_half))
    assert red > paler_red > 0 > pale_blue
    assert similarity_picture([], torch.zeros(0, 0)).width > 0
