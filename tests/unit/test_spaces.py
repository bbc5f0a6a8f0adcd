"""CLIP spaces by width and by name."""

from __future__ import annotations

import pytest

from aesthetic_clip.spaces import PUBLISHED, Space, space_named, space_of


@pytest.mark.parametrize("space", PUBLISHED, ids=str)
def test_a_published_space_is_found_by_width_and_by_name(space: Space) -> None:
    assert space_of(space.dim) is space
    assert space_named(space.name) is space
    assert space_named(space.name.lower().replace("/", "-")) is space


def test_another_width_is_a_space_of_its_own() -> None:
    assert space_of(512).name == "CLIP-512"
    assert space_of(512) == space_of(512) != space_of(513)


def test_a_name_that_is_none() -> None:
    assert space_named("ViT-X/99") is None
