"""What a sample shows of a column, and the dtype that follows: the one the column then has in every piece.

A sample can be wrong: a column of whole numbers may have a missing one, or a word, further on. No dtype is changed
for that, as pieces are read independently of each other and would no longer agree; the record is a bad one, named
with what to declare instead, and `on_bad_record` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from daskscore.core.tables import Column, OnBadRecord
from daskscore.errors import InputError
from daskscore.inputs.table_options import WHOLE

if TYPE_CHECKING:
    import pandas


class Kind(StrEnum):
    """What the values seen so far have in common."""

    EMPTY = "empty"
    """There was none."""
    BOOL = "bool"
    INT = "int64"
    UINT = "uint64"
    FLOAT = "float64"
    TEXT = "str"
    MIXED = ""
    """Of JSON: values of several types, lists and objects; each stays what it is."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A column, as far as it was sampled."""

    kind: Kind = Kind.EMPTY
    missing: bool = False
    """Some record has no value."""

    def merge(self, other: Seen, *, mixed: Kind = Kind.TEXT) -> Seen:
        """What two samples show together; the order does not matter."""
        return Seen(_wider(self.kind, other.kind, mixed), self.missing or other.missing)


def _wider(one: Kind, other: Kind, mixed: Kind) -> Kind:
    if one is other or other is Kind.EMPTY:
        return one
    if one is Kind.EMPTY:
        return other
    if Kind.FLOAT in (one, other) and {one, other} <= {Kind.FLOAT, Kind.INT, Kind.UINT}:
        return Kind.FLOAT
    return mixed


def column(name: str, seen: Seen, declared: Column | None, on_bad_record: OnBadRecord, *, unseen: Kind) -> Column:
    """The column of the mini-batches. `unseen`: what it is where the sample has no value of it."""
    if declared is not None and declared.dtype not in (WHOLE, "bool"):
        if on_bad_record is OnBadRecord.KEEP and not declared.has_room:
            raise InputError(
                f"dtypes: {name} cannot be {declared.dtype} with on_bad_record: keep, as it has no room for the values "
                f"that do not fit. Declare {declared.dtype_with_room}, or say on_bad_record: skip"
            )
        return declared
    kind = seen.kind
    if declared is not None:
        kind = Kind.BOOL if declared.dtype == "bool" else Kind.INT
    elif kind is Kind.EMPTY:
        kind = unseen
    dtype = str(kind)
    if seen.missing:
        dtype = {"bool": "boolean", "int64": "float64", "uint64": "float64"}.get(dtype, dtype)
    found = replace(declared or Column(name, ""), dtype=dtype)
    return replace(found, dtype=found.dtype_with_room) if on_bad_record is OnBadRecord.KEEP else found


def kind_of_series(values: pandas.Series[Any]) -> Seen:
    """What pandas' CSV parser made of a sample."""
    import pandas

    types = pandas.api.types
    missing = bool(values.isna().any())
    if values.isna().all():
        return Seen(Kind.EMPTY, missing)
    if types.is_bool_dtype(values.dtype):
        return Seen(Kind.BOOL, missing)
    if types.is_unsigned_integer_dtype(values.dtype):
        return Seen(Kind.UINT, missing)
    if types.is_integer_dtype(values.dtype):
        return Seen(Kind.INT, missing)
    if types.is_float_dtype(values.dtype):
        return Seen(Kind.FLOAT, missing)
    if types.infer_dtype(values, skipna=True) == "boolean":
        return Seen(Kind.BOOL, missing)
    return Seen(Kind.TEXT, missing)


def kind_of_json(values: Iterable[object]) -> Seen:
    """What the values of one JSON key have in common."""
    seen = Seen()
    types = set()
    for value in values:
        types.add(type(value))
        if type(value) is int and not -(1 << 63) <= value < 1 << 63:
            types.add(object)
    for one in types:
        seen = seen.merge(_OF_JSON_TYPE.get(one, Seen(Kind.MIXED)), mixed=Kind.MIXED)
    return seen


_OF_JSON_TYPE = {
    type(None): Seen(Kind.EMPTY, True),
    bool: Seen(Kind.BOOL),
    int: Seen(Kind.INT),
    float: Seen(Kind.FLOAT),
    str: Seen(Kind.TEXT),
}
