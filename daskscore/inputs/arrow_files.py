"""Parquet, Feather and Arrow files: their columns and row groups, from what stands at their ends. Called in the driver."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import IO, Any, TypeVar

from daskscore.core.table_pieces import Group, cut_groups
from daskscore.core.tables import FLOATS, INTEGERS, NULLABLE_INTEGERS, Column, Format, OnBadRecord, Piece, Reading, Size
from daskscore.errors import InputError
from daskscore.inputs.column_kinds import Kind, Seen, column
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.text_files import Opener

SAMPLED_FILES = 8
THREADS = 8
AHEAD = 32
"""Files whose ends are read while the pieces of those before are waited for."""

T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a file without reading its records."""

    file: str
    types: dict[str, str]
    """Of the columns, in the words of Arrow."""
    groups: list[Group]
    with_missing: set[str]
    """Columns that lack a value somewhere, as far as was looked for."""
    dtypes: dict[str, str]
    """What pandas had, where it wrote the file and Arrow's types do not tell: Int64, boolean."""
    index: tuple[str, ...]


def arrow_reading(format: Format, files: Iterable[str], options: TableOptions, opener: Opener) -> Reading:
    """How these files are read; only the ends of the first of them are looked at."""
    shapes = list(_ahead(islice(files, SAMPLED_FILES), lambda file: shape(file, format, opener, sample=True)))
    if not shapes:
        raise InputError("the input has no files. Name some")
    first = shapes[0]
    with_missing: set[str] = set().union(*(each.with_missing for each in shapes))
    return Reading(
        format,
        tuple(
            _column(name, type, first.dtypes.get(name, ""), name in with_missing, options)
            for name, type in first.types.items()
        ),
        on_bad_record=options.on_bad_record,
        index=first.index,
        sample=f"{first.file} and {len(shapes) - 1} other files" if shapes[1:] else first.file,
    )


def arrow_pieces(files: Iterable[str], reading: Reading, size: Size, opener: Opener, *, number: int) -> Iterator[Piece]:
    """The rows of these files, each in one piece."""
    for each in _ahead(files, lambda file: shape(file, reading.format, opener)):
        _check(each, reading)
        for cut in cut_groups(each.groups, size):
            yield {
                "input": number,
                "file": each.file,
                "items": cut.stop - cut.start,
                "row": cut.row,
                "groups": [cut.first, cut.last],
                "rows": [cut.start, cut.stop],
            }


def shape(file: str, format: Format, opener: Opener, *, sample: bool = False) -> Shape:
    """Read the end of one file; of a sample, look for missing values as well."""
    import pyarrow as pa

    with opener(file) as opened:
        try:
            found = (_parquet if format is Format.PARQUET else _ipc)(opened, sample)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            if getattr(error, "errno", None) is not None or not type(error).__module__.startswith(
                ("pyarrow", "builtins")
            ):
                raise
            kind = "a Parquet" if format is Format.PARQUET else "an Arrow or Feather"
            why = str(error).partition("\n")[0].rstrip(".")
            raise InputError(f"{file} cannot be read as {kind} file: {why}. Leave it out with exclude") from error
        schema, groups, with_missing = found
    described = (schema.pandas_metadata or {}).get("columns", [])
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    return Shape(
        file,
        {each.name: type_name(each.type) for each in schema},
        groups,
        with_missing,
        {each["name"]: each["numpy_type"] for each in described if each["numpy_type"] in _EXTENSIONS},
        tuple(name for name in index if isinstance(name, str) and name in schema.names),
    )


def type_name(type: Any) -> str:
    """Of an Arrow type; how values are packed makes no difference."""
    import pyarrow as pa

    if pa.types.is_dictionary(type):
        return type_name(type.value_type)
    return re.sub(r"^large_|_view$", "", re.sub(r"<element: ", "<item: ", str(type)))


def _parquet(opened: IO[bytes], sample: bool) -> tuple[Any, list[Group], set[str]]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(opened)
    length = opened.seek(0, 2)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    total = sum(group.total_byte_size for group in groups) or 1
    with_missing = set()
    for group in groups if sample else ():
        for number in range(metadata.num_columns):
            chunk = group.column(number)
            if chunk.is_stats_set and chunk.statistics.null_count:
                with_missing.add(chunk.path_in_schema)
    schema = metadata.schema.to_arrow_schema()
    return schema, [Group(group.num_rows, length * group.total_byte_size / total) for group in groups], with_missing


def _ipc(opened: IO[bytes], sample: bool) -> tuple[Any, list[Group], set[str]]:
    import pyarrow as pa

    reader = pa.ipc.open_file(opened)
    length = opened.seek(0, 2)
    schema = reader.schema
    with_missing = set()
    if sample and reader.num_record_batches:
        first = reader.get_batch(0)
        with_missing = {name for name, values in zip(schema.names, first.columns, strict=True) if values.null_count}
    if len(schema):
        # The number of rows is had for the price of one column.
        cheapest = next((n for n, each in enumerate(schema) if pa.types.is_primitive(each.type)), 0)
        reader = pa.ipc.open_file(opened, options=pa.ipc.IpcReadOptions(included_fields=[cheapest]))
    rows = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
    total = sum(rows) or 1
    return schema, [Group(each, length * each / total) for each in rows], with_missing


def _column(name: str, source: str, extension: str, with_missing: bool, options: TableOptions) -> Column:
    declared = options.declared(name)
    if declared is not None:
        seen = Seen(missing=with_missing)
        return replace(column(name, seen, declared, options.on_bad_record, unseen=Kind.MIXED), source=source)
    dtype = source if source in (*INTEGERS, "bool") else _DTYPES.get(source, "")
    if with_missing:
        dtype = "float64" if dtype in INTEGERS else dtype.replace("bool", "boolean")
    found = Column(name, extension or dtype, source=source)
    return replace(found, dtype=found.dtype_with_room) if options.on_bad_record is OnBadRecord.KEEP else found


def _check(each: Shape, reading: Reading) -> None:
    """Whether a file has the columns that the first one has."""
    for wanted in reading.stored:
        type = each.types.get(wanted.name)
        if type is None:
            raise InputError(
                f"{each.file} has no column {wanted.name}, which other files of the input have. "
                "Name the columns that all have with columns:, or make the file an input of its own"
            )
        if not wanted.declared and not _is_like(type, wanted):
            raise InputError(
                f"column {wanted.name} is {type} in {each.file}, but {wanted.source} in the first file. "
                f"Declare what holds both, like dtypes: {{{wanted.name}: {_wider(str(type), wanted.source)}}}"
            )
    if not reading.selected:
        known = {wanted.name for wanted in reading.stored}
        surplus = next((name for name in each.types if name not in known), None)
        if surplus is not None:
            raise InputError(
                f"{each.file} has a column {surplus}, which the first file has not. "
                "Name the columns to read with columns:, or make the file an input of its own"
            )


def _is_like(type: str, wanted: Column) -> bool:
    if type in (wanted.source, "null"):
        return True
    if wanted.dtype in FLOATS:
        return type in INTEGERS or type in ("float", "double", "halffloat")
    return type in INTEGERS and wanted.source in INTEGERS


def _ahead(items: Iterable[Item], work: Callable[[Item], T]) -> Iterator[T]:
    """What becomes of the items, in their order, several of them at a time."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="daskscore-footers") as threads:
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


_EXTENSIONS = (*NULLABLE_INTEGERS, "boolean")
_DTYPES = {"float": "float32", "double": "float64", "string": "str"}


def _wider(one: str, other: str) -> str:
    """A dtype that holds the values of both."""
    numbers = ("int", "uint", "float", "double", "half", "Int", "UInt")
    both = one.startswith(numbers) and other.startswith(numbers)
    if not both:
        return "str"
    floats = ("float", "double", "half")
    return "float64" if one.startswith(floats) or other.startswith(floats) else "int64"
