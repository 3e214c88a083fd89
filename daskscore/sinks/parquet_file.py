"""One Parquet file of the rows of all mini-batches, with one type for each column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from daskscore.errors import RunError
from daskscore.sinks.blocks import Blocks
from daskscore.sinks.interface import Piece

GROUP_ROWS = 1 << 20
GROUP_BYTES = 1 << 26
"""At most in a row group, but for its last block: what assembling needs in memory."""
SCHEMAS_AT_HAND = 1000
BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)


def write(pieces: Iterable[Piece], target: BinaryIO, *, mixed_types: bool) -> None:
    """The columns stand in the order in which they first come up in the plan; a column that a mini-batch lacks is null.

    Raises RunError where a column has two types that no third one can hold, unless `mixed_types` says to write it as
    text.
    """
    blocks = Blocks.of(pieces)
    columns = _Columns()
    for head, body in blocks:
        columns.add(head, rows=body.length > 0)
    while True:
        try:
            return _write(blocks, target, columns.schema(), columns.texts)
        except _Misfit as misfit:
            if not mixed_types:
                raise RunError(
                    f"column {misfit.column} is {misfit.types[0]} in some mini-batches and {misfit.types[1]} in others"
                    f"{misfit.reason}, and a Parquet file has one type for a column. All rows are kept: to write such "
                    "columns as text, run the same command with --resume --set append_row_mixed_types=true"
                ) from misfit
            columns.texts.add(misfit.column)
            target.seek(0)
            target.truncate()


class _Misfit(Exception):
    """Values of one type that do not go into another."""

    def __init__(self, column: str, *types: Any, reason: str = "") -> None:
        self.column, self.types, self.reason = column, types, reason


@dataclass(slots=True)
class _Columns:
    """What the mini-batches' columns are together."""

    texts: set[str] = field(default_factory=set)
    """Those that are written as text."""
    _types: dict[str, Any] = field(default_factory=dict)
    _without_rows: dict[str, Any] = field(default_factory=dict)
    """What tables without rows say their types are: it counts where nothing else does."""
    _misfits: dict[str, _Misfit] = field(default_factory=dict)
    _seen: set[tuple[bytes, bool]] = field(default_factory=set)

    def add(self, head: bytes, *, rows: bool) -> None:
        if (head, rows) in self._seen:
            return
        if len(self._seen) >= SCHEMAS_AT_HAND:
            self._seen.clear()
        self._seen.add((head, rows))
        for column in pa.ipc.read_schema(pa.py_buffer(head)):
            if not rows:
                self._types.setdefault(column.name, pa.null())
                self._without_rows.setdefault(column.name, column.type)
                continue
            before = self._types.get(column.name, pa.null())
            together = _together(before, column.type)
            if together is None:
                self._misfits.setdefault(column.name, _Misfit(column.name, before, column.type))
            self._types[column.name] = together or before

    def schema(self) -> Any:
        for name, misfit in self._misfits.items():
            if name not in self.texts:
                raise misfit
        fields = {
            name: self._without_rows.get(name, found) if pa.types.is_null(found) else found
            for name, found in self._types.items()
        }
        return pa.schema([(name, pa.string() if name in self.texts else found) for name, found in fields.items()])


def _together(one: Any, other: Any) -> Any:
    """The type that holds the values of both, None where there is no such; values themselves are checked later."""
    if one == other:
        return one
    if _is_bytes(one) != _is_bytes(other) and not pa.types.is_null(one) and not pa.types.is_null(other):
        return None
    if {pa.types.is_decimal(one), pa.types.is_decimal(other)} == {True, False} and (
        pa.types.is_floating(one) or pa.types.is_floating(other)
    ):
        return None
    try:
        schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def _is_bytes(kind: Any) -> bool:
    return any(is_such(kind) for is_such in BYTES)


def _write(blocks: Blocks, target: BinaryIO, schema: Any, texts: set[str]) -> None:
    with pq.ParquetWriter(target, schema) as writer:
        for group in _groups(blocks):
            fitted = [_fitted(batch, schema, texts) for batch in group]
            writer.write_table(pa.Table.from_batches(fitted, schema), row_group_size=GROUP_ROWS)


def _groups(blocks: Blocks) -> Iterator[list[Any]]:
    """Batches that make a row group; where one ends depends on the mini-batches alone."""
    group: list[Any] = []
    rows = size = 0
    for head, body in blocks:
        if not body.length:
            continue
        size += body.length
        batch = pa.ipc.read_record_batch(pa.py_buffer(body.read()), pa.ipc.read_schema(pa.py_buffer(head)))
        group.append(batch)
        rows += batch.num_rows
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _fitted(batch: Any, schema: Any, texts: set[str]) -> Any:
    if batch.schema == schema:
        return batch
    place = {name: number for number, name in enumerate(batch.schema.names)}
    columns = [
        _column(batch.column(place[column.name]), column, texts)
        if column.name in place
        else pa.nulls(batch.num_rows, column.type)
        for column in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(values: Any, column: Any, texts: set[str]) -> Any:
    if values.type == column.type:
        return values
    if column.name in texts:
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise _Misfit(column.name, values.type, column.type, reason=f" ({error})") from error
