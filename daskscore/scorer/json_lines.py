"""A piece of a file of JSON lines as a DataFrame, with the columns and dtypes of the input. Called in the scorer.

Parsed by Python: it is as fast as pandas here, keeps values as they are, and no line can crash it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskscore.core.tables import FLOATS, INTEGERS, Column, OnBadRecord, Reading
from daskscore.scorer.fitting import Bad, Misfit, dates, json_misfits, reason_of

if TYPE_CHECKING:
    import pandas

_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class JsonParser:
    """Reads pieces of one input."""

    reading: Reading

    def read(self, text: bytes) -> tuple[pandas.DataFrame, list[Bad]]:
        """The records, without those that are bad, or with them mended where they are kept; and what was bad."""
        lines = text.split(b"\n")
        try:
            return self._frame(self._all_at_once(lines)), []
        except (Misfit, ValueError, OverflowError, RecursionError):
            found, bad = self._one_by_one(lines)
            return self._frame(found), bad

    def _all_at_once(self, lines: list[bytes]) -> list[dict[str, Any]]:
        filled = [line for line in lines if line and not line.isspace()]
        found = _DECODER.decode("[" + b",".join(filled).decode(self.reading.dialect.text_encoding) + "]")
        if len(found) != len(filled) or not all(type(record) is dict for record in found):
            raise Misfit
        if not self.reading.selected and not all(self._known.issuperset(record) for record in found):
            raise Misfit
        return found  # type: ignore[no-any-return]  # JSON has no types

    def _one_by_one(self, lines: list[bytes]) -> tuple[list[dict[str, Any]], list[Bad]]:
        """The good records, or all of them mended; and the bad ones."""
        found: list[dict[str, Any]] = []
        at: list[int] = []
        reasons: dict[int, str] = {}
        for number, line in enumerate(lines):
            if line and not line.isspace():
                record = self._parse(line)
                if isinstance(record, str):
                    reasons[len(found)] = record
                    record = {}
                found.append(record)
                at.append(number)
        for column in self.reading.stored:
            values = [record.get(column.name) for record in found]
            for position, misfit in enumerate(json_misfits(values, column)):
                if misfit:
                    reasons.setdefault(position, reason_of(values[position], column, self.reading))
                    found[position][column.name] = None
        bad = [Bad(position, at[position], reasons[position]) for position in sorted(reasons)]
        if self.reading.on_bad_record is OnBadRecord.KEEP:
            return found, bad
        return [record for position, record in enumerate(found) if position not in reasons], bad

    def _parse(self, line: bytes) -> dict[str, Any] | str:
        """One record, or why it is none."""
        encoding = self.reading.dialect.text_encoding
        try:
            record = _DECODER.decode(line.decode(encoding).strip())
        except UnicodeDecodeError as error:
            return f"it is no {encoding} text ({error.reason}); encoding: says what it is"
        except (ValueError, RecursionError) as error:
            return f"it is no JSON ({error})"
        if type(record) is not dict:
            return f"it is no JSON object but {line.decode(encoding).strip()[:40]}"
        surplus = None if self.reading.selected else next((key for key in record if key not in self._known), None)
        if surplus is not None:
            return (
                f"it has a key {surplus!r}, which {self.reading.sample} did not show (name the columns to read "
                "with columns:)"
            )
        return record

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(column.name for column in self.reading.stored)

    def _frame(self, found: list[dict[str, Any]]) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame(
            {
                column.name: _series([record.get(column.name) for record in found], column)
                for column in self.reading.stored
            }
        )


def _series(values: list[Any], column: Column) -> pandas.Series[Any]:
    """Values of one column in its dtype; raises Misfit where one is of another type."""
    import numpy
    import pandas

    if any(json_misfits(values, column)):
        raise Misfit(column.name)
    data: Any = values
    dtype: Any = column.dtype or "object"
    if column.dtype in (*INTEGERS, *FLOATS, "bool"):
        data = numpy.array(values, dtype=dtype)
    elif column.dtype == "str" or column.dtype.startswith("datetime"):
        data = [math.nan if value is None else value if type(value) is str else json.dumps(value) for value in values]
        dtype = pandas.Series([], dtype="str").dtype
    found: pandas.Series[Any] = pandas.Series(data, dtype=dtype)
    return dates(found, column) if column.dtype.startswith("datetime") else found
