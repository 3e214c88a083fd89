"""Which values fit the dtype of their column, so that a record with one that does not can be named.

Called in the scorer. Pieces whose columns come out right are read without a look at single values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from daskscore.core.tables import FLOATS, INTEGERS, NULLABLE_INTEGERS, Column, Reading

if TYPE_CHECKING:
    import pandas

LIMITS = {**INTEGERS, **NULLABLE_INTEGERS}
TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
"""What pandas' CSV parser takes for true and false."""
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)


class Misfit(Exception):
    """Some value is not of its column's dtype; which one, is not known yet."""


class Bad(NamedTuple):
    """A record that cannot be read."""

    position: int
    """Among the records of the piece."""
    line: int
    """Among the lines of the piece; -1 where there are none."""
    reason: str


def reason_of(value: object, column: Column, reading: Reading) -> str:
    """Why a record with this value is a bad one, None being no value, and what the user can declare."""
    what = f"column {column.name} has no value" if value is None else f"column {column.name} is {_brief(value)}"
    if column.declared:
        return f"{what}, declared is {column.dtype}"
    better = "str"
    if value is None:
        better = column.dtype_with_room
    elif column.dtype in LIMITS and _is_number(value, reading.dialect.decimal):
        better = "float64"
    return f"{what}, in {reading.sample} it is {column.dtype} (declare dtypes: {{{column.name}: {better}}})"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _is_number(value: object, decimal: str) -> bool:
    return isinstance(value, float) or (isinstance(value, str) and bool(_float_pattern(decimal).fullmatch(value)))


def is_text(values: pandas.Series[Any]) -> bool:
    """Whether a parser has found nothing but texts, and missing ones."""
    import pandas

    types = pandas.api.types
    if types.is_object_dtype(values.dtype):
        return types.infer_dtype(values, skipna=True) == "string"
    return types.is_string_dtype(values.dtype)


def numbers(values: pandas.Series[Any], column: Column) -> pandas.Series[Any]:
    """What a parser has found to be numbers, in the dtype of the column; raises Misfit for anything else."""
    import pandas

    if str(values.dtype) == column.dtype:
        return values
    is_whole = pandas.api.types.is_integer_dtype(values.dtype)
    if not is_whole and (column.dtype in LIMITS or not pandas.api.types.is_float_dtype(values.dtype)):
        raise Misfit(column.name)
    if column.dtype in LIMITS and len(values):
        least, most = LIMITS[column.dtype]
        if not (least <= int(values.min()) and int(values.max()) <= most):
            raise Misfit(column.name)
    dtype: Any = column.dtype
    found: pandas.Series[Any] = values.astype(dtype)
    return found


def empty_frame(columns: Iterable[Column]) -> pandas.DataFrame:
    """No records at all."""
    import pandas

    return pandas.DataFrame({each.name: pandas.Series([], dtype=each.dtype or "object") for each in columns})


def series_of_texts(values: pandas.Series[Any], column: Column, decimal: str = ".") -> pandas.Series[Any]:
    """Texts, or missing, as what the column is; raises Misfit where one cannot be."""
    import pandas

    if column.dtype == "str":
        return values
    if any(text_misfits(values, column, decimal)):
        raise Misfit(column.name)
    if column.dtype.startswith("datetime"):
        return dates(values, column)
    convert: Any = float
    if column.dtype in LIMITS:
        convert = int
    elif column.dtype in ("bool", "boolean"):
        convert = truths(column).__getitem__
    found = [convert(value) if isinstance(value, str) else None for value in values]
    dtype: Any = column.dtype
    return pandas.Series(found, index=values.index, dtype=dtype)


def text_misfits(values: pandas.Series[Any], column: Column, decimal: str = ".") -> list[bool]:
    """Of fields of a CSV file, texts or missing: which cannot be values of their column."""
    missing = values.isna().tolist()
    if column.dtype.startswith("datetime"):
        bad = dates(values, column).isna().tolist()
    else:
        fits = _text_test(column, decimal)
        bad = [not (gone or fits(value)) for value, gone in zip(values.tolist(), missing, strict=True)]
    return [(not column.has_room) if gone else wrong for gone, wrong in zip(missing, bad, strict=True)]


def _text_test(column: Column, decimal: str) -> Callable[[str], bool]:
    if column.dtype in LIMITS:
        least, most = LIMITS[column.dtype]
        return lambda value: _WHOLE.fullmatch(value) is not None and least <= int(value) <= most
    if column.dtype in FLOATS:
        pattern = _float_pattern(decimal)
        return lambda value: pattern.fullmatch(value) is not None
    if column.dtype in ("bool", "boolean"):
        words = truths(column)
        return lambda value: value in words
    return lambda _: True


def json_misfits(values: Sequence[object], column: Column) -> list[bool]:
    """Of values of JSON records, None where missing: which cannot be those of their column."""
    if column.dtype.startswith("datetime"):
        import pandas

        texts = pandas.Series([value if type(value) is str else None for value in values], dtype="str")
        wrong = dates(texts, column).isna().tolist()
        return [value is not None and bad for value, bad in zip(values, wrong, strict=True)]
    fits = _json_test(column)
    return [(not column.has_room) if value is None else not fits(value) for value in values]


def _json_test(column: Column) -> Callable[[Any], bool]:
    if column.dtype in LIMITS:
        least, most = LIMITS[column.dtype]
        return lambda value: type(value) is int and least <= value <= most
    if column.dtype in FLOATS:
        return lambda value: type(value) in (int, float)
    if column.dtype in ("bool", "boolean"):
        return lambda value: type(value) is bool
    if column.dtype == "str" and not column.declared:
        return lambda value: type(value) is str
    return lambda _: True


def truths(column: Column) -> dict[str, bool]:
    """The words for true and false."""
    if column.true_values or column.false_values:
        return {**dict.fromkeys(column.true_values, True), **dict.fromkeys(column.false_values, False)}
    return TRUTHS


def dates(values: pandas.Series[Any], column: Column) -> pandas.Series[Any]:
    """Texts as points in time, in UTC where they name another zone; NaT where they are none."""
    import pandas

    found: pandas.Series[Any] | None = None
    for how in column.formats or ("ISO8601",):
        read = pandas.to_datetime(values, format=how, errors="coerce", utc=True)
        found = read if found is None else found.fillna(read)
    assert found is not None
    naive: pandas.Series[Any] = found.dt.tz_localize(None).astype("datetime64[ns]")
    return naive


@lru_cache
def _float_pattern(decimal: str) -> re.Pattern[str]:
    """What pandas' CSV parser takes for a number."""
    point = re.escape(decimal)
    return re.compile(
        rf"\s*[+-]?(?:[0-9]+{point}?[0-9]*|{point}[0-9]+)(?:e[+-]?[0-9]+)?\s*|[+-]?inf(?:inity)?",
        re.ASCII | re.IGNORECASE,
    )
