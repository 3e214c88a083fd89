from __future__ import annotations

import pytest

from daskscore.cli.terminal import LONG, SHORT, one_line, shown


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ä ü\u00a0漢字 \t|", "ä ü\u00a0漢字 \t|"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07"),
        ("\x9b2J \u202e \ud800", r"\x9b2J \u202e \ud800"),
        ("10 %\r20 %\r\nend", "10 %\n20 %\nend"),
    ],
)
def test_letters_that_a_terminal_would_obey_are_spelled_out(text: str, told: str) -> None:
    assert shown(text) == told


def test_a_very_long_line_is_cut_and_others_are_not() -> None:
    text = "x" * LONG
    assert shown(f"{text}\n{text}y") == f"{text}\n{text} … (1 more letters)"


def test_a_text_in_a_table_has_one_short_line() -> None:
    told = one_line("a\r\n\tb\x1b[2J\0 " + "c" * 1_000)
    assert told.startswith("a b ccc")
    assert len(told) == SHORT
