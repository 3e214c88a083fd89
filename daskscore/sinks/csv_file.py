"""One CSV file of the rows of all mini-batches: their columns stand under one header, whatever their order and number."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import StringIO
from typing import Any, BinaryIO

from daskscore.sinks.blocks import Blocks
from daskscore.sinks.interface import Piece

HEADS_AT_HAND = 1000
Column = tuple[str, int]
"""A name as it is written, and which of that name it is."""


def write(pieces: Iterable[Piece], target: BinaryIO, rows: Mapping[str, Any]) -> None:
    """The names stand in the order in which they first come up in the plan."""
    blocks, dialect = Blocks.of(pieces), Dialect.of(rows)
    columns = _all_columns(blocks, dialect)
    header = dialect.join(name for name, _ in columns)
    if rows["header"] and columns:
        target.write(_encoded(header + dialect.end))
    same, places_of = _encoded(header), lru_cache(HEADS_AT_HAND)(lambda head: _places(dialect.columns(head), columns))
    for head, body in blocks:
        if head == same:
            body.copy(target)
        else:
            target.write(_encoded(dialect.rearranged(_decoded(body.read()), places_of(head))))


def _all_columns(blocks: Blocks, dialect: Dialect) -> list[Column]:
    columns: dict[Column, None] = {}
    seen: set[bytes] = set()
    for head, _ in blocks:
        if head not in seen:
            if len(seen) >= HEADS_AT_HAND:
                seen.clear()
            seen.add(head)
            columns.update(dict.fromkeys(dialect.columns(head)))
    return list(columns)


def _places(own: list[Column], columns: list[Column]) -> list[int | None]:
    """For each column of the file, where a row of the mini-batch has it."""
    places = {column: place for place, column in enumerate(own)}
    return [places.get(column) for column in columns]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are told apart. They are moved as they are written, quotes and all."""

    separator: str
    end: str
    missing: str
    field: re.Pattern[str] = field(repr=False)

    @classmethod
    def of(cls, rows: Mapping[str, Any]) -> Dialect:
        to_csv = rows.get("to_csv") or {}
        quoting = to_csv.get("quoting", csv.QUOTE_MINIMAL)
        quote = "" if quoting == csv.QUOTE_NONE else to_csv.get("quotechar", '"')
        escape = to_csv.get("escapechar") or ""
        separator, end = rows["separator"], rows["line_terminator"]
        text = StringIO()
        writer = csv.writer(
            text,
            delimiter=separator,
            quoting=quoting,
            quotechar=to_csv.get("quotechar", '"'),
            escapechar=escape or None,
            doublequote=to_csv.get("doublequote", True),
            lineterminator="",
        )
        writer.writerow([to_csv.get("na_rep", ""), 0])
        pattern = _field(re.escape(separator), re.escape(end), re.escape(quote), re.escape(escape))
        return cls(separator, end, text.getvalue().rpartition(separator)[0], pattern)

    def join(self, fields: Iterable[str]) -> str:
        return self.separator.join(fields)

    def columns(self, head: bytes) -> list[Column]:
        number: Counter[str] = Counter()
        columns = []
        for name in next(self._rows(_decoded(head) + self.end)):
            columns.append((name, number[name]))
            number[name] += 1
        return columns

    def rearranged(self, text: str, places: list[int | None]) -> str:
        return "".join(
            self.join(self.missing if place is None else row[place] for place in places) + self.end
            for row in self._rows(text)
        )

    def _rows(self, text: str) -> Iterator[list[str]]:
        row: list[str] = []
        for match in self.field.finditer(text):
            row.append(match[1])
            if match[2] != self.separator:
                yield row
                row = []


def _field(separator: str, end: str, quote: str, escape: str) -> re.Pattern[str]:
    """A field, and what stands after it."""
    escaped = f"|{escape}." if escape else ""
    plain = f"(?:[^{separator}{escape}\r\n]{escaped})*"
    quoted = f"{quote}(?:[^{quote}{escape}]|{quote}{quote}{escaped})*{quote}|" if quote else ""
    return re.compile(f"({quoted}{plain})({separator}|{end})", re.DOTALL)


def _decoded(data: bytes) -> str:
    """Also of names that are no UTF-8; `_encoded` gives the same bytes back."""
    return data.decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
