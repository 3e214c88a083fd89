"""What one record of a CSV file is, as pandas' own parser sees it, in one regular expression per dialect.

The definition that others are held to: the driver's fast way of finding borders asks it where it is not sure, and
the scorer when a record is bad and must be named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from daskscore.core.tables import Dialect


class Record(NamedTuple):
    """From where to where a record stands, its line end included, and whether its last quote is never closed."""

    start: int
    stop: int
    is_open: bool


def records(text: bytes, dialect: Dialect) -> Iterator[Record]:
    """The records of a piece; lines that are blank or a comment are none."""
    pattern = line_pattern(dialect)
    start = 0
    while start < len(text):
        found = pattern.match(text, start)
        assert found is not None
        stop = found.end()
        if is_record(text[start:stop], dialect):
            yield Record(start, stop, found.lastgroup is not None)
        start = stop


def is_record(line: bytes, dialect: Dialect) -> bool:
    """Whether a line has data."""
    if dialect.comment and line.startswith(dialect.comment.encode()):
        return False
    return bool(line.strip(b"\r\n").strip(dialect.blanks))


def fields(record: bytes, dialect: Dialect) -> list[bytes]:
    """A record's fields as they are written, quotes and all; without its line end and comment."""
    pattern = field_pattern(dialect)
    delimiter = dialect.delimiter.encode()
    found: list[bytes] = []
    position = 0
    while True:
        match = pattern.match(record, position)
        assert match is not None
        found.append(match[0])
        position = match.end() + 1
        if record[match.end() : position] != delimiter:
            return found


@lru_cache
def line_pattern(dialect: Dialect, inside_quotes: bool = False) -> re.Pattern[bytes]:
    """One line: a record, a comment, or nothing; it ends inside quotes where `lastgroup` is set.

    `inside_quotes`: for text that begins in the middle of a quoted field.
    """
    first = _rest_of_quoted(dialect, 0) if inside_quotes else _field(dialect, 0)
    others = rb"(?:" + _sign(dialect.delimiter) + _field(dialect, 1) + rb")*+"
    comment = rb"(?:" + _sign(dialect.comment) + rb"[^\r\n]*+)?+" if dialect.comment else b""
    return re.compile(first + others + comment + rb"(?:\r\n|\n|\r|\Z)")


@lru_cache
def field_pattern(dialect: Dialect) -> re.Pattern[bytes]:
    """One field, as it is written."""
    return re.compile(_field(dialect, 0))


def _field(dialect: Dialect, number: int) -> bytes:
    space = rb" *+" if dialect.skip_initial_space else b""
    if not dialect.quote:
        return space + _unquoted(dialect)
    quote = _sign(dialect.quote)
    return (
        space
        + rb"(?:"
        + quote
        + _rest_of_quoted(dialect, number)
        + rb"|(?!"
        + quote
        + rb")"
        + _unquoted(dialect)
        + rb")"
    )


def _unquoted(dialect: Dialect) -> bytes:
    """Here a quote is a letter like others."""
    ends = _sign(dialect.delimiter) + _sign(dialect.escape) + _sign(dialect.comment)
    return rb"(?:[^\r\n" + ends + rb"]++" + _escaped(dialect) + rb")*+"


def _rest_of_quoted(dialect: Dialect, number: int) -> bytes:
    """What follows an opening quote; what stands between the closing one and the delimiter belongs to the field."""
    quote = _sign(dialect.quote)
    doubled = rb"|" + quote * 2 if dialect.double_quote else b""
    inside = rb"(?:[^" + quote + _sign(dialect.escape) + rb"]++" + doubled + _escaped(dialect) + rb")*+"
    after = _unquoted(dialect)
    if dialect.double_quote:
        after = rb"(?:[^\r\n" + _sign(dialect.delimiter) + rb"]" + after + rb")?+"
    return inside + rb"(?:" + quote + after + rb"|(?P<open" + str(number).encode() + rb">\Z))"


def _escaped(dialect: Dialect) -> bytes:
    return rb"|" + _sign(dialect.escape) + rb"[\s\S]?+" if dialect.escape else b""


def _sign(sign: str) -> bytes:
    return re.escape(sign.encode())
