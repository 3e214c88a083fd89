"""Files of records as mini-batches: how they are read, decided once, and their pieces, lazily and in file order.

Called in the driver. Pieces never cross the border of a file; every record of a file is in exactly one.
"""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from daskscore.core.partition_formats import hive_values, path_columns, path_values
from daskscore.core.tables import (
    COMPRESSIONS_BY_SUFFIX,
    FORMATS_BY_SUFFIX,
    Column,
    Format,
    Header,
    Piece,
    Reading,
    Size,
    compression_of,
    is_cuttable,
    suffix_of,
)
from daskscore.errors import InputError
from daskscore.inputs.arrow_files import arrow_pieces, arrow_reading
from daskscore.inputs.table_options import DATES, TAB_SUFFIXES, WHOLE, TableOptions
from daskscore.inputs.text_columns import csv_reading, json_reading, take_header
from daskscore.inputs.text_files import Opener, opened


def decide_reading(files: Iterable[str], options: TableOptions, opener: Opener, keys: Sequence[str] = ()) -> Reading:
    """How these files are read: their columns and dtypes, the same for all pieces. Looks at the first files only.

    The `keys` of partitioned mini-batches are the last columns; one that is not in the files comes from their folders.
    """
    rest = iter(files)
    first = next(rest, None)
    if first is None:
        raise InputError("the input has no files. Name some")
    format = format_of(first, options.format)
    names = _of_format(chain([first], rest), format, options.format is not None)
    match format:
        case Format.CSV:
            reading = csv_reading(names, options, options.dialect_of(suffix_of(first)), opener)
        case Format.JSONL:
            reading = json_reading(names, options, options.dialect, opener)
        case Format.PARQUET | Format.ARROW:
            reading = arrow_reading(format, names, options, opener)
    return _select(_with_path_columns(reading, options, first, keys), options, keys)


def table_pieces(
    files: Iterable[str], reading: Reading, size: Size, opener: Opener, *, number: int = 0
) -> Generator[Piece]:
    """The pieces of all files; `number` is that of the input in the job. Raises InputError for files that do not fit."""
    names = _matching(_of_format(files, reading.format, reading.any_name), reading)
    if reading.format in (Format.PARQUET, Format.ARROW):
        yield from arrow_pieces(names, reading, size, opener, number=number)
        return
    first: tuple[str, ...] = ()
    for file in names:
        with opened(file, reading.format, reading.dialect, opener) as text:
            header = first
            if reading.format is Format.CSV:
                header = take_header(text, reading.header_rule, first, reading.dialect)
                _check_header(file, header, reading)
                first = first or header
            can_be_cut = not compression_of(file) and is_cuttable(reading.dialect.encoding)
            for cut in text.cuts(size):
                piece = Piece(input=number, file=file, items=cut.items, row=cut.row, line=cut.line)
                if can_be_cut:
                    piece["bytes"] = [cut.start, cut.stop]
                else:
                    piece["decoded"] = [cut.start, cut.stop]
                if header and header != reading.header:
                    piece["header"] = list(header)
                yield piece


def format_of(file: str, declared: Format | None) -> Format:
    """As declared, or else by the end of the file's name."""
    format = declared or FORMATS_BY_SUFFIX.get(suffix_of(file))
    if format is None:
        known = ", ".join(FORMATS_BY_SUFFIX)
        raise InputError(
            f"{file} is in no format that is known by its name (known are {known}, and {', '.join(COMPRESSIONS_BY_SUFFIX)} "
            "after those of text). Say what it is, like format: csv, or leave it out with exclude"
        )
    if compression_of(file) and format in (Format.PARQUET, Format.ARROW):
        raise InputError(f"{file} is a compressed {format} file, which cannot be read in parts. Decompress it first")
    return format


def _of_format(files: Iterable[str], format: Format, any_name: bool) -> Iterator[str]:
    first = ""
    for file in files:
        first = first or file
        if format_of(file, format if any_name else None) is not format:
            raise InputError(
                f"{file} is no {format} file, but {first} is. Make them two inputs, or leave some out with exclude"
            )
        if not any_name and (suffix_of(file) in TAB_SUFFIXES) != (suffix_of(first) in TAB_SUFFIXES):
            raise InputError(
                f"{file} and {first} have different delimiters by their names. Make them two inputs, or say format: csv "
                "and delimiter, if they have the same"
            )
        yield file


def _matching(files: Iterable[str], reading: Reading) -> Iterator[str]:
    for file in files:
        if reading.partition_format and path_values(reading.partition_format, file) is None:
            raise InputError(
                f"{file} does not end like the partition format {reading.partition_format}. "
                "It is to match the end of every file's name; leave other files out with exclude"
            )
        yield file


def _with_path_columns(reading: Reading, options: TableOptions, first: str, keys: Sequence[str]) -> Reading:
    found = [Column(options.path_column, "str", declared=True, from_path=True)] if options.path_column else []
    found += [
        _from_path(name, DATES if is_date else "str", options)
        for name, is_date in path_columns(options.partition_format)
    ]
    stored = {column.name for column in reading.columns}
    known = ", ".join(column.name for column in reading.columns)
    for key in keys:
        if key in stored or any(column.name == key for column in found):
            continue
        if key not in hive_values(first):
            raise InputError(
                f"partition_keys: the records have no column {key} (they have {known}), and {first} lies in "
                f"no folder {key}=…. Name columns of the records, or columns of partition_format"
            )
        found.append(_from_path(key, "str", options))
    for column in found:
        if column.name in stored:
            raise InputError(
                f"column {column.name} stands in the files and in their names. Give the one of path_column or "
                "partition_format another name"
            )
    return replace(
        reading,
        columns=(*found, *reading.columns),
        any_name=options.format is not None,
        path_column=options.path_column,
        partition_format=options.partition_format,
    )


def _from_path(name: str, dtype: str, options: TableOptions) -> Column:
    column = options.declared(name) or Column(name, dtype, declared=True)
    return replace(column, from_path=True, dtype="int64" if column.dtype == WHOLE else column.dtype)


def _select(reading: Reading, options: TableOptions, keys: Sequence[str]) -> Reading:
    """Keep the columns that the user wants, in the user's order; then come the keys."""
    by_name = {column.name: column for column in reading.columns}
    for key, names in {
        "columns": options.columns,
        "drop_columns": options.drop_columns,
        "dtypes": [column.name for column in options.conversions],
    }.items():
        for name in names:
            if name not in by_name:
                nearest = difflib.get_close_matches(name, by_name, n=1)
                raise InputError(
                    f"{key}: the files have no column {name}. "
                    + (f"Did you mean {nearest[0]}?" if nearest else f"They have {', '.join(by_name)}")
                )
    left_out = (*options.drop_columns, *keys)
    columns = tuple(by_name[name] for name in options.columns or by_name if name not in left_out)
    columns += tuple(by_name[key] for key in keys)
    if not columns:
        raise InputError("drop_columns: no column is left. Keep at least one")
    chosen = {column.name for column in columns}
    return replace(
        reading,
        columns=columns,
        selected=bool(options.columns or options.drop_columns),
        index=tuple(name for name in reading.index if name in chosen and name not in keys),
    )


def _check_header(file: str, header: tuple[str, ...], reading: Reading) -> None:
    """Whether a file has the columns that the mini-batches have."""
    if not header or header == reading.header:
        return
    for column in reading.stored:
        if column.name in header:
            continue
        if reading.header_rule is not Header.ALL_FILES_DIFFERENT_HEADERS:
            raise InputError(
                f"{file} has no column {column.name}, which the first file has. Mend the file, or say "
                "header: all_files_different_headers to have it missing there"
            )
        if not column.has_room:
            raise InputError(
                f"{file} has no column {column.name}, which all records have in {reading.sample}: as {column.dtype} it "
                f"has no room for missing values. Declare dtypes: {{{column.name}: {column.dtype_with_room}}}"
            )
    surplus = next((name for name in header if name not in reading.header), None)
    if surplus is not None and not reading.selected:
        raise InputError(
            f"{file} has a column {surplus}, which is not in {reading.sample}. Name the columns to read with columns:, "
            "or make the file an input of its own"
        )
