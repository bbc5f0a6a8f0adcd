"""What users read when something goes wrong."""

from __future__ import annotations

from aesthetic_clip.errors import AestheticError, Remedy, first_line


def test_an_error_is_three_sentences() -> None:
    assert str(AestheticError("It broke.", "The disk is full.", "Free some space.")) == (
        "It broke. The disk is full. Free some space."
    )
    assert str(AestheticError("It broke.")) == "It broke."


def test_a_host_puts_its_own_way_out_in_place_of_the_general_one() -> None:
    error = AestheticError("Too large.", "It takes 9 GB.", "Use memory=Memory.LOW.", Remedy.MEMORY)
    assert error.told({}) == str(error)
    assert (
        error.told({Remedy.MEMORY: "Start it with --medvram."}) == "Too large. It takes 9 GB. Start it with --medvram."
    )
    assert error.told({Remedy.OVERWRITE: "Tick Overwrite."}) == str(error)


def test_first_line_is_short() -> None:
    assert first_line(ValueError("a\nb")) == "a"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 999))) == 200


def test_what_someone_sent_is_quoted_in_part_only() -> None:
    error = AestheticError(f"There is no setting {'x' * 10**6!r}.", f"It is {'y' * 10**6}.", "Leave it out.")
    assert len(str(error)) < 3000
    assert str(error).startswith("There is no setting 'xxx") and str(error).endswith("y. Leave it out.")
