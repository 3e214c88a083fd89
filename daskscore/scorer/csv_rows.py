"""Rows as CSV: a block whose head is the line of column names, and whose body is the rows.

The sink puts the columns of different mini-batches under one header. What spreadsheets would run is left alone.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from daskscore.core.row_blocks import block
from daskscore.scorer.records import BadOutput, check_columns, encode, records

NO_ESCAPE = (
    "what run() returned cannot be written without quotes: a value holds the separator, a quote or a line "
    "break, and there is no append_row_escape_char. Set one, or another append_row_quoting"
)
CAREFUL = "\r\n"
"""The csv module quotes only those line breaks that stand in the line terminator; with this one, all."""


@dataclass(frozen=True, slots=True)
class CsvRows:
    separator: str = ","
    index: bool = False
    line_terminator: str = "\n"
    to_csv: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of DataFrame.to_csv; they mean the same for other results."""

    def of_elements(self, elements: Sequence[Any]) -> bytes:
        names, rows = records(elements)
        return self._block(names, self._lines([self._cell(row.get(name)) for name in names] for row in rows))

    def of_frame(self, frame: Any) -> bytes:
        if not self.index:
            check_columns(frame, "a CSV file")
        names = [str(name) for name in frame.columns]
        if self.index:
            names = ["" if name is None else str(name) for name in frame.index.names] + names
        return self._block(names, self._frame(frame)) if names else b""

    def _block(self, names: Sequence[str], rows: str) -> bytes:
        return block(encode(self._lines([names]).removesuffix(self.line_terminator)), encode(rows))

    def _frame(self, frame: Any) -> str:
        text = StringIO(newline="")
        self._write_frame(frame, text, self.line_terminator)
        if "\r" not in text.getvalue() or self.line_terminator == CAREFUL:
            return text.getvalue()
        lines = _Lines(self.line_terminator)
        self._write_frame(frame, lines, CAREFUL)
        return "".join(lines.lines)

    def _write_frame(self, frame: Any, target: Any, end: str) -> None:
        options = {**self.to_csv, "sep": self.separator, "index": self.index, "lineterminator": end}
        try:
            frame.to_csv(target, header=False, **options)
        except csv.Error as error:
            raise BadOutput(NO_ESCAPE) from error

    def _lines(self, rows: Iterable[Sequence[Any]]) -> str:
        lines = _Lines(self.line_terminator)
        writer = csv.writer(
            lines,
            delimiter=self.separator,
            lineterminator=CAREFUL,
            quoting=self.to_csv.get("quoting", csv.QUOTE_MINIMAL),
            quotechar=self.to_csv.get("quotechar", '"'),
            escapechar=self.to_csv.get("escapechar"),
            doublequote=self.to_csv.get("doublequote", True),
        )
        try:
            writer.writerows(rows)
        except csv.Error as error:
            raise BadOutput(NO_ESCAPE) from error
        return "".join(lines.lines)

    def _cell(self, value: Any) -> Any:
        """As pandas writes a value of a column; a number stays one, which the quoting may depend on."""
        if isinstance(value, (str, int)):
            return value
        if value is None or _is_missing(value):
            return self.to_csv.get("na_rep", "")
        if isinstance(value, float) or _dtype_kind(value) == "f":
            return self._number(value)
        date_format = self.to_csv.get("date_format")
        if date_format and hasattr(value, "strftime"):
            return value.strftime(date_format)
        return value if _dtype_kind(value) in "iub" else str(value)

    def _number(self, value: Any) -> Any:
        number_format, decimal = self.to_csv.get("float_format"), self.to_csv.get("decimal", ".")
        if number_format is None and decimal == ".":
            return value
        text = number_format % value if number_format is not None else str(value)
        return text.replace(".", decimal)


class _Lines:
    """Takes a csv.writer's lines, and gives them their own end."""

    def __init__(self, end: str) -> None:
        self.end = end
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line.removesuffix(CAREFUL) + self.end)


def _dtype_kind(value: Any) -> str:
    """Of a single number or time of numpy; a blank for all else."""
    return " " if getattr(value, "ndim", 1) else getattr(getattr(value, "dtype", None), "kind", " ")


def _is_missing(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NaT or value is pandas.NA):
        return True
    if isinstance(value, float) or _dtype_kind(value) in "fmM":
        return bool(value != value)
    return False
