"""What a terminal can be shown of texts that a script has made: none of them moves its cursor or clears its screen."""

from __future__ import annotations

import unicodedata

import click

SHORT, LONG = 160, 2_000
"""Letters of one line: in a table, and of a log."""


def one_line(text: str) -> str:
    """As much of it as a table has room for, without what would spoil that."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in click.unstyle(text)).split())
    return text if len(text) <= SHORT else text[: SHORT - 2] + " …"


def shown(text: str) -> str:
    """All its lines. Colours are taken out, other letters that a terminal would obey are spelled out, and a very long
    line is cut."""
    return "\n".join(map(_shown_line, text.splitlines()))


def _shown_line(line: str) -> str:
    if len(line) > LONG:
        line = f"{line[:LONG]} … ({len(line) - LONG} more letters)"
    return line if line.isprintable() else "".join(map(_spelled, click.unstyle(line)))


def _spelled(letter: str) -> str:
    if letter.isprintable() or letter == "\t" or unicodedata.category(letter) == "Zs":
        return letter
    return repr(letter)[1:-1]
