"""What `run()` returned → the bytes that go into the output, and how many rows they are."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from types import GeneratorType
from typing import Any, NamedTuple

from daskscore.scorer.csv_rows import CsvRows
from daskscore.scorer.json_rows import frame_as_json, to_json
from daskscore.scorer.parquet_rows import ParquetRows
from daskscore.scorer.records import BadOutput, encode

BAD_OUTPUT = (
    "The run() method in the entry script should return a list or a pandas DataFrame. The length of returned result "
    "is considered as succeeded number of items. For --output_action=append_row, the returned result is what to write "
    "into the result file. The actual type of output is {}."
)
LINES: dict[str, Callable[[Any], str]] = {"text": str, "jsonl": to_json}
"""The formats in which an element is a line, and what makes it one."""

OBJECTS = "objects"
"""The format in which a worker takes a mini-batch's results for other Dask tasks: one pickle."""


class Rows(NamedTuple):
    data: bytes
    number: int
    header: str | None = None


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How a result is written; the defaults are the text format of ParallelRunStep."""

    write: bool = True
    """False counts only (summary_only)."""
    format: str = "text"
    separator: str = " "
    header: bool = False
    index: bool = False
    line_terminator: str = "\n"
    to_csv: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of DataFrame.to_csv, for text and csv."""
    mixed_types: bool = False
    """Write a column of several types as text, in parquet."""

    def __post_init__(self) -> None:
        if self.write and self.format == "parquet":
            import pyarrow  # noqa: F401 - now, and not while run() is on the clock

    def render(self, result: Any) -> Rows:
        """The rows of one mini-batch; raises BadOutput for what is no list, tuple, array or DataFrame."""
        if isinstance(result, (list, tuple)):
            return self._elements(result)
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(result, pandas.DataFrame):
            return self._frame(result)
        if pandas is not None and isinstance(result, pandas.Series):
            return self._series(result)
        numpy = sys.modules.get("numpy")
        if (numpy is not None and isinstance(result, numpy.ndarray) and result.ndim) or isinstance(
            result, GeneratorType
        ):
            return self._elements(list(result))
        raise BadOutput(BAD_OUTPUT.format(type(result).__name__))

    def _elements(self, elements: list[Any] | tuple[Any, ...]) -> Rows:
        elements = tuple(elements)  # a thread of the script may go on filling the list
        if self.format == OBJECTS:
            return _pickled(list(elements))
        if not self.write or not elements:
            return Rows(b"", len(elements))
        line = LINES.get(self.format)
        if line is None:
            return Rows(self._in_blocks.of_elements(elements), len(elements))
        end = self.line_terminator
        return Rows(encode(end.join(map(line, elements)) + end), len(elements))

    def _series(self, series: Any) -> Rows:
        if self.format == OBJECTS:
            return _pickled(series)
        if self.format in LINES or not self.write:
            return self._elements(series.tolist())
        return self._frame(series.to_frame("value" if series.name is None else series.name))

    def _frame(self, frame: Any) -> Rows:
        if not self.write:
            return Rows(b"", len(frame))
        if self.format == OBJECTS:
            return _pickled(frame)
        if self.format not in LINES:
            return Rows(self._in_blocks.of_frame(frame), len(frame))
        if self.format == "jsonl":
            return Rows(encode(frame_as_json(frame, index=self.index)), len(frame))
        header = self._text(frame.iloc[:0], header=True) if self.header else None
        return Rows(encode(self._text(frame, header=False)) if len(frame) else b"", len(frame), header)

    def _text(self, frame: Any, *, header: bool) -> str:
        text = StringIO(newline="")
        options = {**self.to_csv, "sep": self.separator, "index": self.index, "lineterminator": self.line_terminator}
        frame.to_csv(text, header=header, **options)
        return text.getvalue()

    @property
    def _in_blocks(self) -> CsvRows | ParquetRows:
        if self.format == "parquet":
            return ParquetRows(index=self.index, mixed_types=self.mixed_types)
        return CsvRows(self.separator, index=self.index, line_terminator=self.line_terminator, to_csv=self.to_csv)


def _pickled(result: Any) -> Rows:
    return Rows(pickle.dumps(result, protocol=5), len(result))


__all__ = ["BAD_OUTPUT", "BadOutput", "RowFormat", "Rows"]
