"""What `run()` returned → the bytes that go into the output, and how many rows they are."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import repeat
from types import GeneratorType, NoneType
from typing import Any, NamedTuple

BAD_OUTPUT = (
    "The run() method in the entry script should return a list or a pandas DataFrame. The length of returned result "
    "is considered as succeeded number of items. For --output_action=append_row, the returned result is what to write "
    "into the result file. The actual type of output is {}."
)


class BadOutput(TypeError):
    """run() returned something that has no rows."""


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

    def render(self, result: Any) -> Rows:
        """The rows of one mini-batch; raises BadOutput for what is no list, tuple, array or DataFrame."""
        if isinstance(result, (list, tuple)):
            return self._elements(result)
        pandas = sys.modules.get("pandas")
        if pandas is not None and isinstance(result, pandas.DataFrame):
            return self._frame(result)
        if pandas is not None and isinstance(result, pandas.Series):
            return self._elements(result.tolist())
        numpy = sys.modules.get("numpy")
        if (numpy is not None and isinstance(result, numpy.ndarray) and result.ndim) or isinstance(
            result, GeneratorType
        ):
            return self._elements(list(result))
        raise BadOutput(BAD_OUTPUT.format(type(result).__name__))

    def _elements(self, elements: list[Any] | tuple[Any, ...]) -> Rows:
        elements = tuple(elements)  # a thread of the script may go on filling the list
        if not self.write or not elements:
            return Rows(b"", len(elements))
        write = to_json if self.format == "jsonl" else str
        return Rows(encode("\n".join(map(write, elements)) + "\n"), len(elements))

    def _frame(self, frame: Any) -> Rows:
        header = self._header(frame) if self.header and self.write and self.format == "text" else None
        if not self.write or not len(frame):
            return Rows(b"", len(frame), header)
        if self.format == "jsonl":
            return Rows(encode("".join(to_json(record) + "\n" for record in self._records(frame))), len(frame))
        return Rows(encode(self._csv(frame, header=False)), len(frame), header)

    def _records(self, frame: Any) -> Iterator[dict[str, Any]]:
        """Not `DataFrame.to_json`, which keeps ten digits of a number and milliseconds of a time."""
        if self.index:
            frame = frame.reset_index()
        names = [str(name) for name in frame.columns]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise BadOutput(
                f"run() returned a DataFrame with two columns called {twice}, and a JSON object has one. Rename one"
            )
        columns = [frame.iloc[:, place].tolist() for place in range(len(names))]
        rows = zip(*columns, strict=True) if columns else repeat((), len(frame))
        return (dict(zip(names, row, strict=True)) for row in rows)

    def _header(self, frame: Any) -> str:
        return self._csv(frame.iloc[:0], header=True)

    def _csv(self, frame: Any, *, header: bool) -> str:
        text = StringIO(newline="")
        frame.to_csv(text, sep=self.separator, header=header, index=self.index, lineterminator="\n")
        return text.getvalue()


def encode(text: str) -> bytes:
    """UTF-8; a file name's undecodable bytes come out as they went in."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            return text.encode(errors="surrogatepass")


def to_json(element: Any) -> str:
    """One JSON line. NaN, infinity and what pandas calls missing become null; what JSON has no word for, its text."""
    try:
        text = _STRICT.encode(element)
    except (TypeError, ValueError):
        element = _plain_inside(element)
        text = _STRICT.encode(element)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(element, default=_plain)
    return text


def _plain(value: Any) -> Any:
    """What stands in JSON for something that it does not know."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NaT or value is pandas.NA):
        return None
    if hasattr(value, "tolist"):
        times = getattr(getattr(value, "dtype", None), "kind", "") in _TIMES
        return _plain_inside((value.astype(str) if times else value).tolist())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _plain_inside(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {
            key if isinstance(key, (str, int, NoneType)) else str(key): _plain_inside(v) for key, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain_inside(part) for part in value]
    return value


_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)
_TIMES = ("m", "M")
"""numpy's dates and durations; as a list they would be counts of nanoseconds."""
