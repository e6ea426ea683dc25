"""Other people's text, made safe to print."""

from __future__ import annotations

import pytest

from igfiqa_head.text import number, padded, printable, width_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202egnp.exe", r"a\u202egnp.exe"),  # an override that turns what follows round
        ("a\u2066b\u2069", r"a\u2066b\u2069"),
        ("a\u200bb", r"a\u200bb"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("é 人脸 ±", "é 人脸 ±"),
    ],
)
def test_what_turns_hides_or_breaks_text_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("人脸", 4), ("e\u0301", 1), ("ｆ", 2)])
def test_text_is_padded_by_what_a_terminal_shows(text: str, width: int) -> None:
    assert width_of(text) == width
    assert padded(text, 6) == text + " " * (6 - width)
    assert padded(text, 6, ">") == " " * (6 - width) + text
    assert padded(text, 0) == text


def test_numbers_are_those_that_other_programs_read_too() -> None:
    assert number(" -1.5e3 ") == -1500
    assert number("\u00a07") == 7


@pytest.mark.parametrize("text", ["1_000", "１", "٣", "", "1,5", "x"])
def test_what_only_python_takes_for_a_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="number|float"):
        number(text)
