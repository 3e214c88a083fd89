"""Rows in Arrow's memory as a DataFrame, with the columns and dtypes of the input. Called in the scorer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from daskscore.core.tables import NULLABLE_INTEGERS, Column, OnBadRecord, Reading
from daskscore.scorer.fitting import Bad, Misfit, reason_of, series_of_texts, text_misfits

if TYPE_CHECKING:
    import pandas


def frame_of(table: Any, reading: Reading) -> tuple[pandas.DataFrame, list[Bad]]:
    """The records, without those that are bad, or with them mended where they are kept; and what was bad."""
    import pyarrow as pa

    try:
        return _frame(table, reading), []
    except (Misfit, pa.ArrowInvalid):
        table, bad = _mend(table, reading)
        return _frame(table, reading), bad


def _frame(table: Any, reading: Reading) -> pandas.DataFrame:
    import pandas

    return pandas.DataFrame({column.name: _series(table.column(column.name), column) for column in reading.stored})


def _series(values: Any, column: Column) -> pandas.Series[Any]:
    """Values of one column in its dtype; raises Misfit or ArrowInvalid where one is of another type."""
    import pandas

    values = _plain(values)
    if _is_converted_text(values, column):
        return series_of_texts(values.to_pandas(), column)
    target = _target(values, column)
    if values.type != target:
        values = values.cast(target)
    if values.null_count and not column.has_room:
        raise Misfit(column.name)
    if column.dtype in NULLABLE_INTEGERS or column.dtype == "boolean":
        dtype = pandas.Series([], dtype=column.dtype).dtype
        return values.to_pandas(types_mapper={target: dtype}.get)  # type: ignore[no-any-return]  # pyarrow ships no types
    return values.to_pandas()  # type: ignore[no-any-return]  # pyarrow ships no types


def _mend(table: Any, reading: Reading) -> tuple[Any, list[Bad]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    reasons: dict[int, str] = {}
    for column in reading.stored:
        values = _plain(table.column(column.name))
        wrong = _misfits(values, column)
        for position in wrong:
            reasons.setdefault(position, reason_of(values[position].as_py(), column, reading))
        if wrong and reading.on_bad_record is OnBadRecord.KEEP:
            values = pc.if_else(_all_but(wrong, len(values)), values, pa.scalar(None, values.type))
            table = table.set_column(table.schema.get_field_index(column.name), column.name, values)
    if reading.on_bad_record is not OnBadRecord.KEEP:
        table = table.filter(_all_but(reasons, table.num_rows))
    return table, [Bad(position, -1, reasons[position]) for position in sorted(reasons)]


def _misfits(values: Any, column: Column) -> list[int]:
    """Where the values are that cannot be those of the column."""
    import pyarrow.compute as pc

    missing = [] if column.has_room else pc.indices_nonzero(values.is_null()).to_pylist()
    if _is_converted_text(values, column):
        return [position for position, wrong in enumerate(text_misfits(values.to_pandas(), column)) if wrong]
    return sorted({*missing, *_not_castable(values, _target(values, column), 0)})


def _all_but(positions: Iterable[int], length: int) -> Any:
    import numpy
    import pyarrow as pa

    flags = numpy.ones(length, dtype=bool)
    flags[list(positions)] = False
    return pa.array(flags)


def _not_castable(values: Any, target: Any, offset: int) -> list[int]:
    """Found by halves, so that few of them among many are found fast."""
    import pyarrow as pa

    try:
        values.cast(target)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return [offset]
        half = len(values) // 2
        return [
            *_not_castable(values.slice(0, half), target, offset),
            *_not_castable(values.slice(half), target, offset + half),
        ]
    return []


def _plain(values: Any) -> Any:
    """Values that are packed as a dictionary, unpacked: dictionaries differ from piece to piece."""
    import pyarrow as pa

    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _is_converted_text(values: Any, column: Column) -> bool:
    import pyarrow as pa

    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    return bool(is_text) and column.dtype not in ("", "str")


def _target(values: Any, column: Column) -> Any:
    """The Arrow type that becomes the dtype."""
    import pyarrow as pa

    if column.dtype == "":
        return (
            pa.type_for_alias(column.source)
            if pa.types.is_null(values.type) and column.source in _EMPTY
            else values.type
        )
    if column.dtype == "str" and pa.types.is_large_string(values.type):
        return values.type
    return pa.type_for_alias(_ALIASES.get(column.dtype, column.dtype.lower()))


_ALIASES = {
    "str": "string",
    "boolean": "bool",
    "datetime64[ns]": "timestamp[ns]",
    "float32": "float",
    "float64": "double",
}
_EMPTY = {f"timestamp[{unit}]" for unit in ("s", "ms", "us", "ns")}
"""What a column has to be made in a file where all its values are missing, as others have no dtype of their own."""
