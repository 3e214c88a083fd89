"""Which records of a piece of a CSV file are bad, and why; called in the scorer, for pieces that have one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskscore.core.csv_records import Record, fields, records
from daskscore.core.tables import Column, OnBadRecord, Reading
from daskscore.scorer.fitting import Bad, reason_of, text_misfits

if TYPE_CHECKING:
    import pandas

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What pandas takes for a missing value."""

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Examined:
    """What is left to be parsed once bad records are out, or mended; and which they are."""

    left: str = ""
    bad: list[Bad] = field(default_factory=list)


@dataclass(slots=True)
class _Taken:
    """A record, taken apart."""

    start: int
    position: int
    cells: list[str]
    reason: str

    def text(self, delimiter: str) -> str:
        line = delimiter.join(self.cells)
        return (line if line.strip(" \t") else "NA") + "\n"


def examine(
    text: bytes,
    reading: Reading,
    names: tuple[str, ...],
    as_texts: Callable[[str], Mapping[str, pandas.Series[Any]]],
) -> Examined:
    """Look at each record: whether it has the right number of fields, and each field a value of its column."""
    taken = [
        _take_apart(text, record, number, reading, names)
        for number, record in enumerate(records(text, reading.dialect))
    ]
    delimiter = reading.dialect.delimiter
    columns = {column.name: column for column in reading.stored}
    for name, values in as_texts("".join(each.text(delimiter) for each in taken)).items():
        _judge(taken, values, columns[name], names.index(name), reading)
    bad = [
        Bad(each.position, len(_LINE_END.findall(text, 0, each.start)), each.reason) for each in taken if each.reason
    ]
    keep = reading.on_bad_record is OnBadRecord.KEEP
    return Examined("".join(each.text(delimiter) for each in taken if keep or not each.reason), bad)


def _take_apart(text: bytes, record: Record, position: int, reading: Reading, names: tuple[str, ...]) -> _Taken:
    dialect = reading.dialect
    cells = fields(text[record.start : record.stop], dialect)
    reason = ""
    if record.is_open:
        reason = "a quote in it is never closed"
        cells[-1] += dialect.quote.encode()
    surplus = cells[len(names) :]
    if len(surplus) > 1 or (surplus and surplus[0].decode("latin-1").strip(dialect.quote or None) not in MISSING):
        reason = reason or f"it has {len(cells)} fields, not {len(names)}"
    try:
        texts = [cell.decode(dialect.text_encoding) for cell in cells]
    except UnicodeDecodeError as error:
        reason = reason or f"it is no {dialect.encoding} text ({error.reason}); encoding: says what it is"
        texts = [cell.decode(dialect.text_encoding, "replace") for cell in cells]
    return _Taken(record.start, position, texts[: len(names)], reason)


def _judge(taken: list[_Taken], values: pandas.Series[Any], column: Column, index: int, reading: Reading) -> None:
    """Give those records a reason whose value does not fit the column, and take the value out."""
    misfits = text_misfits(values, column, reading.dialect.decimal)
    for each, value, is_misfit in zip(taken, values.tolist(), misfits, strict=True):
        if is_misfit:
            each.reason = each.reason or reason_of(value if isinstance(value, str) else None, column, reading)
            if index < len(each.cells):
                each.cells[index] = "NA"
