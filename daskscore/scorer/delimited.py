"""A piece of a CSV file as a DataFrame: pandas' own parser, with the columns and dtypes of the input.

Called in the scorer. A piece is parsed as it stands; only where pandas finds fault with it is it taken apart, record by
record, so that what counts as a bad record does not depend on where pieces begin.
"""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskscore.core.tables import FLOATS, INTEGERS, Column, Reading
from daskscore.scorer.csv_faults import MISSING, Examined, examine
from daskscore.scorer.fitting import Misfit, empty_frame, is_text, numbers, series_of_texts

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class CsvParser:
    """Reads pieces of files whose records have these fields."""

    reading: Reading
    names: tuple[str, ...]
    told: set[str] = field(default_factory=set)
    """Columns of texts that look like something else in some pieces, so that pandas must be told."""

    def read(self, text: bytes, items: int) -> tuple[pandas.DataFrame, Examined]:
        """The records, without those that are bad, or with them mended where they are kept; and what was bad."""
        import pandas

        try:
            if b"\r" not in text or not self._eaten.search(text):
                frame = self._parse(io.BytesIO(text), self.reading.dialect.text_encoding)
                if len(frame) == items:
                    return frame, Examined()
        except (Misfit, ValueError, OverflowError, pandas.errors.ParserWarning):
            pass
        examined = examine(text, self.reading, self.names, self._as_texts)
        if not examined.left:
            return empty_frame(self.wanted.values()), examined
        return self._parse(io.StringIO(examined.left), None), examined

    @cached_property
    def _eaten(self) -> re.Pattern[bytes]:
        """A delimiter that pandas does not see: first in its record, after a line without data that ends in CR alone."""
        sign = self.reading.dialect.delimiter.encode()
        comment = self.reading.dialect.comment.encode()
        without_data = rb"(?:^|[\r\n])[ \t]*" + (rb"(?:" + re.escape(comment) + rb"[^\r\n]*)?" if comment else b"")
        return re.compile(without_data + rb"\r" + re.escape(sign))

    @cached_property
    def wanted(self) -> dict[str, Column]:
        """The columns that the mini-batch has of this file."""
        return {each.name: each for each in self.reading.stored if each.name in self.names}

    def _parse(self, text: io.BytesIO | io.StringIO, encoding: str | None) -> pandas.DataFrame:
        import pandas

        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            frame = self._read_csv(text, {name: self._parsed_as(name) for name in self.names}, encoding)
            found_other = {
                name for name, column in self.wanted.items() if column.dtype == "str" and not is_text(frame[name])
            }
            if found_other:
                self.told.update(found_other)
                text.seek(0)
                frame = self._read_csv(text, {name: self._parsed_as(name) for name in self.names}, encoding)
        parsed = {name: frame[name] for name in self.wanted}
        finished = {name: self._finish(parsed[name], column) for name, column in self.wanted.items()}
        if len(frame.columns) == len(parsed) and all(finished[name] is parsed[name] for name in parsed):
            return frame
        return pandas.DataFrame(finished)

    def _as_texts(self, text: str) -> dict[str, pandas.Series[Any]]:
        """The fields of the columns that are no texts themselves."""
        frame = self._read_csv(io.StringIO(text), dict.fromkeys(self.names, str), None)
        return {name: frame[name] for name, column in self.wanted.items() if column.dtype != "str"}

    def _read_csv(
        self, text: io.BytesIO | io.StringIO, dtypes: dict[str, Any], encoding: str | None
    ) -> pandas.DataFrame:
        import pandas

        options: dict[str, Any] = {**self._missing, **self.reading.dialect.parser_options}
        frame: pandas.DataFrame = pandas.read_csv(
            text,
            header=None,
            names=list(self.names),
            index_col=False,
            dtype={name: dtype for name, dtype in dtypes.items() if dtype},
            low_memory=False,
            encoding=encoding,
            **options,
        )
        return frame

    def _parsed_as(self, name: str) -> Any:
        """What pandas is told, which is little.

        If told, it would make whole numbers of 1.0 and floats of True; and it finds texts three times as fast by itself.
        """
        column = self.wanted.get(name)
        if column is None or (column.dtype == "str" and name not in self.told):
            return None
        if column.true_values or column.dtype not in (*INTEGERS, *FLOATS, "bool"):
            return str
        return bool if column.dtype == "bool" else None

    @cached_property
    def _missing(self) -> dict[str, Any]:
        if not self.reading.dialect.empty_as_string:
            return {}
        text = {name for name in self.names if name not in self.wanted or self.wanted[name].dtype == "str"}
        words = {name: [word for word in MISSING if word or name not in text] for name in self.names}
        return {"keep_default_na": False, "na_values": words}

    def _finish(self, values: pandas.Series[Any], column: Column) -> pandas.Series[Any]:
        """A parsed column in its dtype; raises Misfit."""
        if column.dtype == "str" or self._parsed_as(column.name) is str:
            return series_of_texts(values, column, self.reading.dialect.decimal)
        return values if column.dtype == "bool" else numbers(values, column)
