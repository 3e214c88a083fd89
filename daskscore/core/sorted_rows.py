"""What driver, worker and scorer must say alike of records that were sorted by their partition keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from daskscore.core.tables import Column, Dialect, Format, Header, OnBadRecord, Piece, Reading

AS_JSON = "values as JSON"
"""The source of a column that holds values of any type, each as a text of JSON."""

Value = str | int | float | bool | None
"""Of a partition key, as JSON has it; a date is its text in ISO 8601."""

BATCH_ROWS = 1 << 16
BATCH_BYTES = 4 << 20


def order_of(values: Sequence[Value]) -> tuple[tuple[int, Any], ...]:
    """What keys are sorted and compared by: truths, numbers, texts, and what is missing last. So `True` is not 1."""
    return tuple([order_of_value(value) for value in values])


def order_of_value(value: Value) -> tuple[int, Any]:
    """The same of one key."""
    match value:
        case None:
            return (3, 0)
        case bool():
            return (0, value)
        case str():
            return (2, value)
        case _:
            return (1, value)


def unsorted_reading(reading: Reading, keys: Sequence[str]) -> Reading:
    """How records are read before they are sorted: the keys are the last columns, and the index is a column too."""
    last = [column for key in keys for column in reading.columns if column.name == key]
    others = [column for column in reading.columns if column.name not in keys]
    return replace(reading, columns=(*others, *last), index=())


def sorted_reading(reading: Reading, keys: Sequence[str]) -> Reading:
    """How they are read afterwards, as the same frames."""
    before = unsorted_reading(reading, keys)
    columns = tuple(
        replace(column, from_path=False, source=AS_JSON if is_as_json(reading, column) else column.source)
        for column in before.columns
    )
    return replace(
        before,
        format=Format.ARROW,
        index=tuple(name for name in reading.index if name not in keys),
        columns=columns,
        any_name=False,
        header=(),
        header_rule=Header.FIRST_ROW,
        dialect=Dialect(),
        on_bad_record=OnBadRecord.FAIL,
        path_column="",
        partition_format="",
    )


def is_as_json(reading: Reading, column: Column) -> bool:
    """Whether values of this column may be of any type."""
    return column.dtype == "" and reading.format not in (Format.PARQUET, Format.ARROW)


@dataclass(frozen=True, slots=True)
class SortedFile:
    """A file of sorted records, whose batches all have the same number of rows but the last."""

    path: str
    batch_rows: int

    def piece(self, start: int, rows: int, number: int) -> Piece:
        """These rows of it, as records of an input."""
        first, last = start // self.batch_rows, (start + rows - 1) // self.batch_rows
        begin = start - first * self.batch_rows
        return {
            "input": number,
            "file": self.path,
            "items": rows,
            "row": start,
            "groups": [first, last],
            "rows": [begin, begin + rows],
        }


def batch_rows(row_bytes: float) -> int:
    """How many rows are one batch, so that one is small whatever a row is."""
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(row_bytes, 1))))
