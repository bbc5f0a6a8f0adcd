"""Single pictures: the same vectors as when embeddings are made of them, and told apart by their pixels."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from aesthetic_clip.clip.image_encoder import ImageEncoder
from aesthetic_clip.create.looking import embedding_of, look
from aesthetic_clip.create.pictures import create, to_embedding
from aesthetic_clip.embeddings.library import open_library
from aesthetic_clip.embeddings.profiles import Opinion, rate
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.spaces import VIT_L

from .test_images import photo
from .test_pictures import make_encoder


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return make_encoder(space=VIT_L)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """PNG, and JPEG large enough to be decoded at a part of their size."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{i}.{'jpg' if i % 2 else 'png'}" for i in range(8)]
    for i, path in enumerate(paths):
        photo(300 + 40 * i, 400 - 10 * i, i).save(path)
    return paths


def test_a_profile_of_pictures_is_the_embedding_made_of_them_in_one_go(
    encoder: ImageEncoder, files: list[Path], tmp_path: Path
) -> None:
    library = open_library([tmp_path])
    for path in files:
        rate(library, "grown", look(path, [encoder]), Opinion.LIKED)
    made = to_embedding(create(files, [encoder]), "made")
    grown = library.load("grown")
    assert (grown.vectors[VIT_L] - made.vectors[VIT_L]).abs().max() < 1e-6
    for key in ("image_count", "source_hash", "raw", "model_id", "mean_cosine"):
        assert grown.metadata[key] == made.metadata[key]


def test_what_else_is_in_a_file_does_not_make_it_another_picture(encoder: ImageEncoder, files: list[Path]) -> None:
    content = io.BytesIO()
    with Image.open(files[0]) as image:
        image.save(content, "WEBP", lossless=True)
        other = image.copy()
    first = look(files[0], [encoder])
    assert look(("sent", content.getvalue()), [encoder]).digest == first.digest == look(files[0], []).digest
    other.putpixel((0, 0), (1, 2, 3))
    assert look(("sent", other), []).digest != first.digest
    assert (first.name, first.path, first.model_ids) == (files[0].name, str(files[0]), {VIT_L: encoder.model_id})
    with Image.open(io.BytesIO(first.thumbnail)) as small:
        assert max(small.size) == 256


def test_a_single_pictures_own_embedding(encoder: ImageEncoder, files: list[Path]) -> None:
    picture = look(files[0], [encoder])
    embedding = embedding_of(picture, "this picture")
    assert torch.equal(embedding.vectors[VIT_L], picture.vectors[VIT_L])
    assert embedding.about.image_count == 1


def test_what_is_no_picture_is_a_sentence(encoder: ImageEncoder, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"no picture")
    with pytest.raises(AestheticError, match=r"x\.png can't be used\. It is not a picture.*Take another picture"):
        look(path, [encoder])


def test_numbers_that_are_none_are_a_sentence(files: list[Path]) -> None:
    class Broken(ImageEncoder):
        def encode(self, pixels: torch.Tensor) -> torch.Tensor:
            return super().encode(pixels) * float("nan")

    broken = Broken(VIT_L, make_encoder(space=VIT_L)._live(), 32, "broken")
    with pytest.raises(AestheticError, match="no finite numbers"):
        look(files[0], [broken])
