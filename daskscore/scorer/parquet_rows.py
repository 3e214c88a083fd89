"""Rows on their way into a Parquet file: blocks whose head is an Arrow schema, and whose body is a record batch.

The sink brings the types of different mini-batches together. Values are kept as they are, or the mini-batch fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from daskscore.core.row_blocks import block
from daskscore.scorer.records import BadOutput, check_columns, check_names, records

HOLDER = "a Parquet file"
BLOCK_ROWS = 1 << 16
BLOCK_BYTES = 1 << 24
"""At most in one block, as far as rows are smaller: the sink holds a few of them in memory."""


@dataclass(frozen=True, slots=True)
class ParquetRows:
    index: bool = False
    mixed_types: bool = False
    """Write a column of several types as text."""

    def of_elements(self, elements: Sequence[Any]) -> bytes:
        names, rows = records(elements)
        return self._blocks(names, [[row.get(name) for row in rows] for name in names])

    def of_frame(self, frame: Any) -> bytes:
        if self.index:
            frame = frame.reset_index()
        check_columns(frame, HOLDER)
        names = check_names(frame.columns, HOLDER)
        return self._blocks(names, [frame.iloc[:, place] for place in range(len(names))])

    def _blocks(self, names: list[str], columns: list[Any]) -> bytes:
        import pyarrow as pa

        if not names:
            return b""
        arrays = [self._array(name, values) for name, values in zip(names, columns, strict=True)]
        table = pa.Table.from_arrays(arrays, names=names)
        head = table.schema.serialize().to_pybytes()
        if not table.num_rows:
            return block(head, b"")
        rows = max(1, min(BLOCK_ROWS, table.num_rows * BLOCK_BYTES // max(1, table.nbytes)))
        return b"".join(block(head, batch.serialize()) for batch in table.to_batches(max_chunksize=rows))

    def _array(self, name: str, values: Any) -> Any:
        try:
            return _array(values)
        except (TypeError, ValueError, OverflowError, NotImplementedError) as error:  # Arrow's errors are some of these
            if not self.mixed_types:
                raise BadOutput(
                    f"column {name} of what run() returned cannot stand in {HOLDER}: {error}. Convert its values, or "
                    "set append_row_mixed_types to write such columns as text"
                ) from error
        try:
            return _texts(values)
        except UnicodeError as error:
            raise BadOutput(
                f"column {name} of what run() returned holds text that is no Unicode: {error}. Parquet has UTF-8 only; "
                "return such names as bytes, with os.fsencode(name)"
            ) from error


def _array(values: Any) -> Any:
    """As Arrow understands the values; raises TypeError or ValueError where they are not of one type, or of none."""
    import pyarrow as pa

    array = pa.array(values, from_pandas=True)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)  # categories differ between mini-batches
    if isinstance(array.type, pa.BaseExtensionType):
        return _texts(values)  # pandas' periods and intervals
    if pa.types.is_struct(array.type) and not array.type.num_fields:
        return pa.nulls(len(array))
    if why := _unstorable(array.type):
        raise TypeError(why)
    return array


@cache
def _unstorable(arrow_type: Any) -> str:
    """Why Parquet has no such type; nothing where it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if "dictionary<" in str(arrow_type):
        return f"there are categories inside of {arrow_type}"
    try:
        pq.write_table(pa.schema([("column", arrow_type)]).empty_table(), BytesIO())
    except (TypeError, ValueError, NotImplementedError, OSError) as error:
        return str(error)
    return ""


def _texts(values: Iterable[Any]) -> Any:
    import pyarrow as pa

    return pa.array([None if _is_missing(value) else str(value) for value in values], pa.string())


def _is_missing(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    if value is None or (pandas is not None and (value is pandas.NaT or value is pandas.NA)):
        return True
    return isinstance(value, float) and value != value
