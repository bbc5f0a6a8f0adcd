"""Which sampling steps read the personalised prompt."""

from __future__ import annotations

import pytest
import torch

from aesthetic_clip.embeddings.embedding import Embedding
from aesthetic_clip.errors import AestheticError
from aesthetic_clip.method.part import nothing_in, part_of, steps_of
from aesthetic_clip.method.taste import taste
from aesthetic_clip.settings import Settings
from aesthetic_clip.spaces import space_of

EMBEDDING = Embedding("one", {space_of(8): torch.ones(8)})
ON = Settings(embedding="one", weight=1.0)


@pytest.mark.parametrize(
    ("part", "total", "expected"),
    [
        ((0, 0.5), 20, range(10)),
        ((0.5, 1), 20, range(10, 20)),
        ((0.25, 0.75), 4, range(1, 3)),
        ((0, 0.5), 5, range(3)),  # the third of five begins at 0.4
        ((0.07, 1), 100, range(7, 100)),  # though 0.07 * 100 is more than 7
        ((0, 0.01), 20, range(1)),
        ((0.51, 0.54), 20, range(0)),
        ((0.5, 1), 1, range(0)),
    ],
)
def test_a_step_counts_by_where_it_begins(part: tuple[float, float], total: int, expected: range) -> None:
    assert list(steps_of(part, total)) == list(expected)


@pytest.mark.parametrize("total", [1, 2, 7, 20, 33])
def test_two_parts_that_meet_are_all_steps_once(total: int) -> None:
    for hundredths in range(101):
        edge = hundredths / 100
        assert [*steps_of((0, edge), total), *steps_of((edge, 1), total)] == list(range(total))


def test_all_of_the_sampling_is_no_part() -> None:
    assert part_of(Settings()) is None
    assert part_of(Settings(guidance_start=0.2)) == (0.2, 1)


def test_a_part_without_length_moves_nothing() -> None:
    settings = ON.replaced({"guidance_start": 0.5, "guidance_end": 0.5})
    assert taste(settings, [], lambda name: EMBEDDING) is None


def test_a_part_that_ends_before_it_starts_is_refused() -> None:
    settings = ON.replaced({"guidance_start": 0.6, "guidance_end": 0.5})
    with pytest.raises(AestheticError, match=r"ends at 0.5, before it starts at 0.6"):
        taste(settings, [], lambda name: EMBEDDING)


def test_a_part_without_a_step_is_told_in_numbers() -> None:
    assert "None of the 20 steps begins between 0.51 and 0.54" in nothing_in((0.51, 0.54), 20)


def test_the_whole_sampling_stands_in_no_parameters() -> None:
    assert not any("guidance" in key for key in ON.infotext())
    part = ON.replaced({"guidance_start": 0.2, "guidance_end": 0.9}).infotext()
    assert part["Aesthetic guidance start"] == "0.2"
    assert part["Aesthetic guidance end"] == "0.9"
