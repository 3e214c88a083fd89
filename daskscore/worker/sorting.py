"""Sort records by their partition keys, in files that the driver and all workers see. Given to Dask, runs in the worker.

In two steps. `sort_records` reads consecutive pieces and writes spills: files of sorted rows, each with a list of its
keys beside it. The driver merges the lists, and `join_spills` writes the rows of some keys, from all spills, into one
file. What is written depends on the records alone: not on the worker, nor on how often a step was begun anew.

A step holds no more than `SPILL_BYTES` of rows, and as much again once or twice while it sorts them.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from daskscore.core.sorted_rows import Value, batch_rows, is_as_json, order_of_value, unsorted_reading
from daskscore.core.tables import Column, Piece, Reading
from daskscore.errors import DaskscoreError, InputError, RunError
from daskscore.inputs.stores import Stores
from daskscore.scorer.tables import BadRecord, Reader, Unreadable
from daskscore.worker.passing import brought

if TYPE_CHECKING:
    import numpy
    import pandas

SPILL_BYTES = 32 << 20
TOKEN = "shared"
"""The file that tells a worker that it sees the driver's folder, and not one of the same name."""
SPILLS, KEYS, BAD = "spills", ".keys", ".bad"
_ALIASES = {"str": "large_string", "boolean": "bool", "datetime64[ns]": "timestamp[ns]", "float32": "float"}


@dataclass(frozen=True, slots=True)
class Sorting:
    """What is the same for all records of an input."""

    folder: str
    token: str
    reading: Reading
    keys: tuple[str, ...]
    types: bytes = b""
    """Of columns that have no dtype: their types in the files, as Arrow writes a schema."""
    stores: Stores | None = None
    """Opens the files that are in a storage."""
    spill_bytes: int = SPILL_BYTES

    @property
    def spills(self) -> Path:
        return Path(self.folder, SPILLS)


class Spill(NamedTuple):
    """A file of sorted rows."""

    name: str
    rows: int
    bytes: int


class Stretch(NamedTuple):
    """Consecutive rows of a spill."""

    name: str
    start: int
    stop: int


def attempt(step: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What a step gives, or the error that it shows the user: Dask would print a raised one on each worker."""
    try:
        return step(*arguments, **named)
    except DaskscoreError as error:
        return error


def sort_records(sorting: Sorting, number: int, pieces: Sequence[Piece]) -> list[Spill]:
    """Write consecutive records of the input as spills, in their order, and what was bad beside them."""
    _check_folder(sorting)
    found = []
    for count, table in enumerate(_filled(_tables(sorting, number, pieces), sorting.spill_bytes)):
        order, keys = _sort(table, sorting)
        name = f"{number:06}-{count:04}"
        with _whole(sorting.spills / f"{name}{KEYS}") as file:
            file.writelines(json.dumps([list(values), rows]).encode() + b"\n" for values, rows in keys)
        found.append(Spill(name, table.num_rows, table.nbytes))
        rows = batch_rows(table.nbytes / table.num_rows)
        table = table.take(order)
        _write(sorting.spills / name, table.schema, table.combine_chunks().to_batches(rows))
    return found


def join_spills(sorting: Sorting, name: str, stretches: Sequence[Stretch], batch_rows: int, *, one_key: bool) -> int:
    """Write all rows of some keys, each key's in the order of the input; gives their number.

    The rows of `one_key` are in order already, and there may be more of them than memory holds.
    """
    import pyarrow as pa

    _check_folder(sorting)
    slices = _slices(sorting, stretches)
    if not one_key:
        table = pa.concat_tables(slices).combine_chunks()
        order, _ = _sort(table, sorting)
        slices = iter([table.take(order)])
        del table
    return _write(Path(sorting.folder, name), _schema(sorting), _batches(slices, batch_rows))


def _check_folder(sorting: Sorting) -> None:
    try:
        seen = Path(sorting.folder, TOKEN).read_text()
    except OSError:
        seen = ""
    if seen != sorting.token:
        raise RunError(
            f"the Dask worker on {socket.gethostname()} does not see {sorting.folder}, where records are sorted by "
            "partition_keys. Name an output on a disk that the driver and all workers share, or store the records in "
            "folders like key=value"
        )


def _tables(sorting: Sorting, number: int, pieces: Sequence[Piece]) -> Iterator[Any]:
    """The records, piece by piece, in Arrow's memory; those that are bad are written down."""
    import pyarrow as pa

    schema = _schema(sorting)
    as_json = [column.name for column in sorting.reading.columns if is_as_json(sorting.reading, column)]
    with (
        closing(Reader([unsorted_reading(sorting.reading, sorting.keys)])) as reader,
        brought(sorting.reading, sorting.stores) as bring,
        _whole(sorting.spills / f"{number:06}{BAD}") as bad_records,
    ):
        for piece in pieces:
            path, first_byte = bring(piece)
            try:
                frame, bad = reader.read({**piece, "input": 0}, path, first_byte)
            except Unreadable as error:
                raise InputError(f"records cannot be sorted by partition_keys: {error}") from None
            bad_records.writelines(_line(piece["file"], each) for each in bad)
            for name in as_json:
                frame[name] = [json.dumps(value) for value in frame[name]]
            yield pa.Table.from_pandas(frame, schema, preserve_index=False, nthreads=1).replace_schema_metadata()


def _line(file: str, bad: BadRecord) -> bytes:
    return json.dumps({"file": file, **bad._asdict()}).encode() + b"\n"


def _filled(tables: Iterable[Any], most: int) -> Iterator[Any]:
    """Tables put together up to about so many bytes."""
    import pyarrow as pa

    waiting: list[Any] = []
    for table in tables:
        if table.num_rows:
            waiting.append(table)
        if sum(each.nbytes for each in waiting) >= most:
            table = pa.concat_tables(waiting).combine_chunks()
            waiting = []
            yield table
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def _schema(sorting: Sorting) -> Any:
    import pyarrow as pa

    types = pa.ipc.read_schema(pa.py_buffer(sorting.types)) if sorting.types else pa.schema([])
    columns = unsorted_reading(sorting.reading, sorting.keys).columns
    return pa.schema([(column.name, _type(column, types, sorting.reading)) for column in columns])


def _type(column: Column, types: Any, reading: Reading) -> Any:
    import pyarrow as pa

    if is_as_json(reading, column):
        return pa.large_string()
    if not column.dtype:
        return types.field(column.name).type
    return pa.type_for_alias(_ALIASES.get(column.dtype, column.dtype.lower()))


def _sort(table: Any, sorting: Sorting) -> tuple[numpy.ndarray[Any, Any], list[tuple[tuple[Value, ...], int]]]:
    """Which row is first, second and so on by the keys and then by its place; and each key, with how many rows it has."""
    import numpy

    ranks = numpy.array([])
    columns = []
    for key in sorting.keys:
        values = table.column(key).to_pandas()
        if is_as_json(sorting.reading, next(column for column in sorting.reading.columns if column.name == key)):
            values = values.map(json.loads).astype("object")
        found, ordered = _ranks(values, key)
        columns.append((found, ordered))
        # Numbered anew each time, so that the product of many keys stays small.
        ranks = numpy.unique(ranks * len(ordered) + found, return_inverse=True)[1] if columns[1:] else found
    order = numpy.argsort(ranks, kind="stable")
    rows = numpy.bincount(ranks)
    firsts = order[numpy.cumsum(rows) - rows]
    values_of = [[ordered[rank] for rank in found[firsts].tolist()] for found, ordered in columns]
    return order, list(zip(zip(*values_of, strict=True), rows.tolist(), strict=True))


def _ranks(values: pandas.Series[Any], key: str) -> tuple[numpy.ndarray[Any, Any], list[Value]]:
    """The rank of each row's value among the different ones, and these in order."""
    import numpy
    import pandas

    if values.dtype == object and pandas.api.types.infer_dtype(values, skipna=True) != "string":
        codes, different = numpy.arange(len(values)), [_plain(value, key) for value in values]
    else:
        codes, found = pandas.factorize(values, use_na_sentinel=False)
        different = [_plain(value, key) for value in found.tolist()]
    by_order = {order_of_value(value): value for value in reversed(different)}
    ordered = sorted(by_order)
    ranks = {order: rank for rank, order in enumerate(ordered)}
    return numpy.array([ranks[order_of_value(value)] for value in different])[codes], [by_order[one] for one in ordered]


def _plain(value: object, key: str) -> Value:
    """As JSON can have it."""
    import pandas

    if value is None or value is pandas.NaT or value is pandas.NA or value != value:
        return None
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, date):
        return value.isoformat()
    raise InputError(
        f"partition_keys: column {key} has a value of the type {type(value).__name__}, by which records cannot be put "
        f"together. Name another column, or declare dtypes: {{{key}: str}}"
    )


def _slices(sorting: Sorting, stretches: Iterable[Stretch]) -> Iterator[Any]:
    """Rows of the spills, which are mapped into memory and not copied; no file stays open for them."""
    import pyarrow as pa

    for name, start, stop in stretches:
        with pa.memory_map(str(sorting.spills / name)) as file:
            reader = pa.ipc.open_file(file)
            rows = reader.get_batch(0).num_rows
            first, last = start // rows, (stop - 1) // rows
            batches = [reader.get_batch(number) for number in range(first, last + 1)]
            yield pa.Table.from_batches(batches).slice(start - first * rows, stop - start)


def _batches(tables: Iterable[Any], rows: int) -> Iterator[Any]:
    """The same rows in batches of so many; only the last has fewer."""
    import pyarrow as pa

    waiting: list[Any] = []
    missing = rows
    for table in tables:
        start = 0
        while start < table.num_rows:
            waiting.append(table.slice(start, missing))
            start += waiting[-1].num_rows
            missing -= waiting[-1].num_rows
            if not missing:
                yield from pa.concat_tables(waiting).combine_chunks().to_batches()
                waiting, missing = [], rows
    if waiting:
        yield from pa.concat_tables(waiting).combine_chunks().to_batches()


def _write(path: Path, schema: Any, batches: Iterable[Any]) -> int:
    """An Arrow file, and how many rows it has."""
    import pyarrow as pa

    rows = 0
    with _whole(path) as file, pa.ipc.new_file(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears when it is complete; the one of another attempt is the same."""
    incoming = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with incoming.open("xb") as file:
            yield file
        incoming.replace(path)
    except OSError as error:
        if error.filename is not None and str(error.filename) != str(incoming):
            raise
        raise RunError(
            f"records cannot be sorted by partition_keys in {path.parent}: {error.strerror or error}. "
            "That takes twice the room that they have in memory; name an output with more room"
        ) from error
    finally:
        incoming.unlink(missing_ok=True)
