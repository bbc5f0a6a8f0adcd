"""An embedding from pictures: the right mean, whatever is among them, and nothing where it was stopped."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image, ImageFile
from torch import Tensor, nn

from aesthetic_clip.clip.image_encoder import ImageEncoder
from aesthetic_clip.clip.preprocess import pixels
from aesthetic_clip.create import loader, statistics
from aesthetic_clip.create.limits import check_count, checked_batch_size
from aesthetic_clip.create.parts import Part, Shard, embedding_of, merge_parts
from aesthetic_clip.create.pictures import CreateResult, create, to_embedding
from aesthetic_clip.create.sources import Source
from aesthetic_clip.create.sources import find_images as found
from aesthetic_clip.embeddings import embedding as embeddings
from aesthetic_clip.errors import AestheticError, Interrupted
from aesthetic_clip.geometry import unit
from aesthetic_clip.spaces import VIT_L, Space

from .test_images import photo, saved


def find_images(folders: list[Path]) -> list[Path]:
    return [path for path in found(folders) if isinstance(path, Path)]


class Tower(nn.Module):
    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        torch.manual_seed(dim)
        self.model = transformers.CLIPVisionModelWithProjection(
            transformers.CLIPVisionConfig(
                hidden_size=48,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=3,
                image_size=side,
                patch_size=8,
                projection_dim=dim,
                initializer_factor=3.0,
            )
        )

    def forward(self, batch: Tensor) -> Tensor:
        return self.model(pixel_values=batch).image_embeds


def make_encoder(dim: int = 768, side: int = 32, space: Space | None = None) -> ImageEncoder:
    return ImageEncoder(space or Space(f"CLIP-{dim}", dim), Tower(dim, side), side, f"tiny {dim}")


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return make_encoder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(23):
        photo(60 + i, 90 - 2 * i, i).save(folder / f"{i:02}.png")
    return folder


def features(encoder: ImageEncoder, paths: list[Path]) -> Tensor:
    """Picture by picture, without any of the machinery."""
    return torch.cat([encoder.encode(pixels(Image.open(path).convert("RGB"), encoder.size)[None]) for path in paths])


def vector(result: CreateResult, encoder: ImageEncoder) -> Tensor:
    return result.sums[encoder.space].vector


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_mean_of_unit_vectors(encoder: ImageEncoder, folder: Path, batch_size: int) -> None:
    paths = find_images([folder])
    result = create(paths, [encoder], batch_size=batch_size)
    each = unit(features(encoder, paths))
    mean = unit(each.mean(0))
    torch.testing.assert_close(vector(result, encoder), mean, rtol=0, atol=1e-6)
    assert result.used == 23
    assert not result.skipped
    assert result.mean_cosine[encoder.space] == pytest.approx(float((each @ mean).mean()), abs=1e-6)
    assert sum(result.histograms[encoder.space].counts) == 23
    assert result.histograms[encoder.space].edges[-1] == pytest.approx(float((each @ mean).max()), abs=1e-6)
    order = (each @ mean).argsort(descending=True)[:9].tolist()
    assert [Path(near.name) for near in result.nearest] == [paths[i] for i in order]
    assert [near.cosine for near in result.nearest] == pytest.approx([float(each[i] @ mean) for i in order], abs=1e-6)


def test_the_papers_mean(encoder: ImageEncoder, folder: Path) -> None:
    paths = find_images([folder])
    raw = features(encoder, paths)
    result = create(paths, [encoder], raw=True)
    torch.testing.assert_close(vector(result, encoder), unit(raw.mean(0)), rtol=0, atol=1e-6)
    cosine = float((unit(raw) @ unit(raw.mean(0))).mean())
    assert result.mean_cosine[encoder.space] == pytest.approx(cosine, abs=1e-6)


def test_parts_merge_to_the_whole(encoder: ImageEncoder, folder: Path) -> None:
    paths = find_images([folder])
    whole = create(paths, [encoder])
    parts = [create(paths[i::3], [encoder], batch_size=5) for i in range(3)]
    total = parts[0].sums[encoder.space]
    for part in parts[1:]:
        total.merge(part.sums[encoder.space])
    torch.testing.assert_close(total.vector, vector(whole, encoder), rtol=0, atol=1e-6)


def test_several_spaces_of_different_sizes(encoder: ImageEncoder, folder: Path) -> None:
    other = make_encoder(64, 48)
    paths = find_images([folder])
    result = create(paths, [encoder, other])
    for one in (encoder, other):
        torch.testing.assert_close(vector(result, one), unit(unit(features(one, paths)).mean(0)), rtol=0, atol=1e-6)
    assert result.model_ids == {encoder.space: "tiny 768", other.space: "tiny 64"}
    with pytest.raises(AestheticError, match="each once"):
        create(paths, [encoder, encoder])


def test_bad_files_are_skipped_with_their_reasons(encoder: ImageEncoder, folder: Path, tmp_path: Path) -> None:
    good = [saved(photo(50, 40, i), "JPEG") for i in range(3)]
    for i, content in enumerate(good):
        (tmp_path / f"good{i}.jpg").write_bytes(content)
    (tmp_path / "half.jpg").write_bytes(good[0][: len(good[0]) // 2])
    (tmp_path / "notes.jpg").write_text("not a picture")
    (tmp_path / "empty.png").touch()
    result = create([*find_images([tmp_path]), tmp_path / "gone.png"], [encoder], batch_size=2)
    assert result.used == 3
    reasons = {Path(name).name: reason for name, reason in result.skipped}
    assert reasons.keys() == {"half.jpg", "notes.jpg", "empty.png", "gone.png"}
    assert "cut off" in reasons["half.jpg"]
    assert "not a picture" in reasons["notes.jpg"]
    assert "not there" in reasons["gone.png"]
    clean = create([tmp_path / f"good{i}.jpg" for i in range(3)], [encoder])
    torch.testing.assert_close(vector(result, encoder), vector(clean, encoder), rtol=0, atol=1e-6)


def test_half_files_are_skipped_where_another_extension_made_pillow_lenient(
    encoder: ImageEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = saved(photo(200, 150), "JPEG")
    result = create([("whole", content), ("half", content[: len(content) // 2])], [encoder])
    assert [name for name, _ in result.skipped] == ["half"]
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_nothing_readable(encoder: ImageEncoder, tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_text("no")
    with pytest.raises(AestheticError, match=r"None of 3 files.*3 x it is not a picture.*0\.jpg"):
        create(find_images([tmp_path]), [encoder])
    with pytest.raises(AestheticError, match="no pictures"):
        create([], [encoder])


@pytest.mark.parametrize("size", [1, 16, 256, 16.0])
def test_batch_sizes(size: object) -> None:
    assert checked_batch_size(size) == size
    assert isinstance(checked_batch_size(size), int)


@pytest.mark.parametrize(
    "size", ["x", "16", None, float("nan"), float("inf"), 1e9, 0, -3, 2.5, True, 257, [], "\x1b[2J" * 1000]
)
def test_other_batch_sizes_are_refused_in_one_sentence(encoder: ImageEncoder, size: object) -> None:
    with pytest.raises(AestheticError, match=r"whole number from 1 to 256") as caught:
        create([("a", b"")], [encoder], batch_size=size)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200
    assert "\x1b" not in str(caught.value)


def test_captions_and_videos_beside_the_pictures_are_counted_not_listed(
    encoder: ImageEncoder, folder: Path, tmp_path: Path
) -> None:
    picture = (folder / "00.png").read_bytes()
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(picture)
        (tmp_path / f"{i}.txt").write_text("a caption")
    (tmp_path / "clip.MP4").touch()
    uploads: list[Source] = [(path.name, path) for path in sorted(tmp_path.iterdir())]
    for sources in (found([tmp_path]), uploads):
        result = create(sources, [encoder])
        assert result.used == 3
        assert not result.skipped
        assert result.left_out == {"text file": 3, "video": 1}


def test_uploads(encoder: ImageEncoder, folder: Path) -> None:
    paths = find_images([folder])[:4]
    uploads: list[Source] = [
        ("a", paths[0].read_bytes()),
        ("b", io.BytesIO(paths[1].read_bytes())),
        ("c", Image.open(paths[2])),
        paths[3],
    ]
    result = create(uploads, [encoder])
    torch.testing.assert_close(vector(result, encoder), vector(create(paths, [encoder]), encoder), rtol=0, atol=1e-6)
    assert {near.name for near in result.nearest} == {"a", "b", "c", str(paths[3])}


def test_progress(encoder: ImageEncoder, folder: Path) -> None:
    told: list[tuple[int, int, str]] = []
    sources = [*find_images([folder]), folder / "gone.png"]
    create(sources, [encoder], batch_size=5, progress=lambda *n: told.append(n))
    assert sorted({done for done, *_ in told}) == [0, 5, 10, 15, 20, 24]
    assert {total for _, total, _ in told} == {24}
    assert told[-1][2].startswith("24 of 24 pictures, ")


class _After:
    """Interrupts once so many pictures are done."""

    def __init__(self, pictures: int) -> None:
        self.pictures, self.told = pictures, set[int]()

    def __call__(self, done: int, total: int, line: str) -> None:
        self.told.add(done)
        if done >= self.pictures:
            raise Interrupted


class _OnAGpu(ImageEncoder):
    """Computes as ever; whoever makes an embedding takes it to be on a GPU."""

    def begin(self, crops: Tensor) -> Tensor:
        self.device = torch.device("cpu")
        try:
            return super().begin(crops)
        finally:
            self.device = torch.device("cuda")


def test_a_batch_that_a_gpu_still_works_on_is_counted_once(encoder: ImageEncoder, folder: Path) -> None:
    paths = find_images([folder])
    expected = create(paths, [encoder], batch_size=4)
    ahead = _OnAGpu(encoder.space, Tower(768, 32), 32, encoder.model_id)
    ahead.device = torch.device("cuda")
    told: list[int] = []
    result = create(paths, [ahead], batch_size=4, progress=lambda done, total, line: told.append(done))
    assert torch.equal(vector(result, encoder), vector(expected, encoder))
    assert (result.used, told[-1]) == (len(paths), len(paths))
    # What is kept when it is interrupted is what was told as done.
    part = create(paths, [ahead], batch_size=4, progress=_After(8), keep_partial=True)
    assert torch.equal(vector(part, encoder), vector(create(paths[:8], [encoder], batch_size=4), encoder))


def test_interrupting_saves_nothing_unless_asked(encoder: ImageEncoder, folder: Path) -> None:
    paths = find_images([folder]) * 20
    stop = _After(8)
    with pytest.raises(Interrupted):
        create(paths, [encoder], batch_size=4, progress=stop)
    assert stop.told == {0, 4, 8}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    part = create(paths, [encoder], batch_size=4, progress=_After(8), keep_partial=True)
    assert (part.used, part.complete) == (8, False)
    torch.testing.assert_close(vector(part, encoder), vector(create(paths[:8], [encoder]), encoder), rtol=0, atol=1e-6)
    assert to_embedding(part, "part").metadata["complete"] == "false"
    with pytest.raises(Interrupted):  # nothing to keep yet
        create(paths, [encoder], progress=_After(0), keep_partial=True)


def test_an_interrupt_is_noticed_while_a_picture_takes_long(
    encoder: ImageEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, calls = threading.Event(), 0
    prepare = loader._prepare

    def slow(*arguments: object) -> object:
        released.wait(10)
        return prepare(*arguments)  # type: ignore[arg-type]

    def progress(done: int, total: int, line: str) -> None:
        nonlocal calls
        calls += 1
        if calls > 2:
            released.set()
            raise Interrupted

    monkeypatch.setattr(loader, "_prepare", slow)
    with pytest.raises(Interrupted):
        create([folder / "00.png"], [encoder], progress=progress)


def test_no_more_than_two_batches_are_decoded_ahead(
    encoder: ImageEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the number of pictures."""
    taken, most = 0, 0
    prepare = loader._prepare

    def watched(*arguments: object) -> object:
        nonlocal taken
        taken += 1
        return prepare(*arguments)  # type: ignore[arg-type]

    def progress(done: int, total: int, line: str) -> None:
        nonlocal most
        most = max(most, taken - done)

    monkeypatch.setattr(loader, "_prepare", watched)
    create(find_images([folder]) * 3, [encoder], batch_size=4, workers=2, progress=progress)
    assert 0 < most <= 8 + 4  # and the batch at hand


def test_a_sample_stands_for_very_many(encoder: ImageEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "SAMPLE", 10)
    paths = find_images([folder])
    result = create(paths, [encoder])
    assert result.used == 23
    assert sum(result.histograms[encoder.space].counts) == 10
    assert len({near.name for near in result.nearest}) == 9
    monkeypatch.undo()
    whole = create(paths, [encoder])
    assert torch.equal(vector(result, encoder), vector(whole, encoder))
    assert result.mean_cosine == whole.mean_cosine


def test_a_picture_that_overflows_does_not_spoil_the_mean(folder: Path) -> None:
    class Overflowing(Tower):
        def forward(self, batch: Tensor) -> Tensor:
            features = super().forward(batch)
            features[batch.mean((1, 2, 3)) > 1.5] = float("nan")  # white
            return features

    fragile = ImageEncoder(Space("CLIP-64", 64), Overflowing(64, 32), 32, "fragile")
    paths = find_images([folder])
    white: Source = ("white", Image.new("RGB", (40, 40), "white"))
    result = create([paths[0], white, *paths[1:]], [fragile, make_encoder(96)])
    assert [name for name, _ in result.skipped] == ["white"]
    assert {total.count for total in result.sums.values()} == {23}
    torch.testing.assert_close(vector(result, fragile), unit(unit(features(fragile, paths)).mean(0)), rtol=0, atol=1e-6)


def test_the_same_pictures_have_one_source_hash_however_they_were_divided(folder: Path) -> None:
    one = make_encoder(768, 32, VIT_L)
    pictures = found([folder])
    whole, parts = to_embedding(create(pictures, [one]), "whole"), []
    for number in (1, 2):
        result = create(pictures.shard(number, 2), [one])
        parts.append(Part(result.sums, result.source_hash, Shard(number, 2), {}, result.model_ids))
    merged = embedding_of(merge_parts(parts), "merged")
    for key in ("source_hash", "image_count", "model_id", "raw"):
        assert merged.metadata[key] == whole.metadata[key]
    # Parts are sums, in which no groups can be seen.
    assert set(merged.metadata) == set(whole.metadata) - {"groups"}


def test_file(folder: Path, tmp_path: Path) -> None:
    one = make_encoder(768, 32, VIT_L)
    paths = find_images([folder])
    embedding = to_embedding(create([*paths, folder / "gone"], [one]), "my taste", " summer ")
    embeddings.save(embedding, tmp_path / "my taste.safetensors")
    loaded = embeddings.load(tmp_path / "my taste.safetensors")
    torch.testing.assert_close(loaded.vectors[VIT_L], unit(unit(features(one, paths)).mean(0)), rtol=0, atol=1e-6)
    metadata = dict(loaded.metadata)
    assert metadata["image_count"] == "23"
    assert json.loads(metadata["model_id"]) == {"ViT-L/14": "tiny 768"}
    assert 0 < float(metadata["mean_cosine"]) <= 1
    assert (metadata["note"], metadata["raw"], metadata["name"]) == ("summer", "false", "my taste")
    assert len(metadata["source_hash"]) == 64
    assert metadata["created"].endswith("+00:00")
    assert str(folder) not in json.dumps(metadata)  # files get shared


def test_requests_with_too_many_pictures() -> None:
    check_count(100, 100)
    with pytest.raises(AestheticError, match=r"10,000 pictures in one request.*At most 100"):
        check_count(10_000, 100)
