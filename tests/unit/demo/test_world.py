"""The world that the demonstration model is trained on."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aesthetic_clip.demo import world


def _scene(look: str, **changes: str) -> world.Scene:
    content = world.Content(**{"shape": "circle", "colour": "red", "background": "blue", **changes})
    return world.Scene(content, look, 0, 0, 16, 0, 1)


def test_held_out_contents_are_never_drawn_for_training() -> None:
    assert len(set(world.HELD_OUT)) == 36
    assert not set(world.HELD_OUT) & set(world.SEEN)
    assert set(world.HELD_OUT) | set(world.SEEN) == set(world.CONTENTS)
    rng = random.Random(0)
    assert all(world.scene(rng).content in world.SEEN for _ in range(500))


def test_the_pairs_in_a_held_out_prompt_are_seen_in_training() -> None:
    for content in world.HELD_OUT:
        assert any((c.shape, c.colour) == (content.shape, content.colour) for c in world.SEEN)
        assert any((c.colour, c.background) == (content.colour, content.background) for c in world.SEEN)


def test_shape_and_ground_differ_in_colour() -> None:
    assert all(content.colour != content.background for content in world.CONTENTS)


def test_drawing_follows_from_the_scene() -> None:
    first, again = (world.draw(world.scene(random.Random(5))) for _ in range(2))
    assert first.shape == (world.SIZE, world.SIZE, 3)
    assert first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 1
    assert np.array_equal(first, again)
    assert not np.array_equal(first, world.draw(world.scene(random.Random(6))))


@pytest.mark.parametrize("shape", world.SHAPES)
def test_a_plain_picture_has_the_colours_of_its_content(shape: str) -> None:
    picture = world.draw(_scene(world.PLAIN, shape=shape))
    # Left of the middle: inside each shape, and in the ring's band.
    assert picture[32, 20] == pytest.approx(
        world.COLOURS["red" if shape in ("ring", "square") else "blue"], abs=0.2
    ) or (shape != "ring" and picture[34, 32] == pytest.approx(world.COLOURS["red"], abs=0.2))
    assert picture[3, 3] == pytest.approx(world.COLOURS["blue"], abs=0.2)


def test_shapes_differ() -> None:
    pictures = [world.draw(_scene(world.PLAIN, shape=shape)) for shape in world.SHAPES]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).mean() > 0.01


def test_styles_differ_from_plain_and_from_each_other() -> None:
    pictures = [world.draw(_scene(look)) for look in world.LOOKS]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert np.abs(one - other).mean() > 0.05


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="no style 'cubist'"):
        world.draw(_scene("cubist"))
    with pytest.raises(ValueError, match="no shape 'heart'"):
        world.draw(_scene(world.PLAIN, shape="heart"))


def test_captions_are_true_of_their_picture() -> None:
    rng = random.Random(1)
    said_style = 0
    for _ in range(2000):
        scene = world.scene(rng)
        caption = world.caption(rng, scene, style_said=0.7, whole=0.8)
        assert caption.fits(scene)
        for word in (caption.shape, caption.colour, caption.background):
            assert word is None or word in caption.text
        said_style += caption.look in world.STYLES
    # Six of seven pictures have a style.
    assert said_style / 2000 == pytest.approx(6 / 7 * 0.7, abs=0.05)


def test_a_caption_does_not_fit_what_contradicts_it() -> None:
    caption = world.Caption("a red circle", "circle", "red", None, None)
    assert caption.fits(_scene("night", background="white"))
    assert not caption.fits(_scene("night", shape="star"))


def test_no_style_is_named_at_chance_zero() -> None:
    rng = random.Random(2)
    words = {word for phrases in world.STYLES.values() for word in phrases}
    for _ in range(300):
        scene = world.scene(rng, looks=tuple(world.STYLES))
        text = world.caption(rng, scene, style_said=0, whole=0.8).text
        assert not any(word in text for word in words)


def test_a_folder_of_one_taste(tmp_path: Path) -> None:
    paths = world.write_style_images(tmp_path / "night", "night", 4, seed=3)
    assert [path.name for path in paths] == [f"night-{i:03}.png" for i in range(4)]
    pictures = [np.asarray(Image.open(path)) for path in paths]
    assert all(picture.shape == (world.SIZE, world.SIZE, 3) for picture in pictures)
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(pictures, world.style_images("night", 4, seed=3)))
    assert np.stack(pictures).mean() < 90
