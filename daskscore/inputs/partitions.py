"""Files that lie together by the keys in their names, as mini-batches: all files of one key are one. Called in the driver.

The keys stand in a pattern like `{user}/{season}/{genre}.wav`, or in folders like `user=u1/season=winter`. A listing need
not be in the order of the keys, so the names are written to a temporary database first: memory does not grow with them,
and the database is gone with its process, whatever ends that.
"""

from __future__ import annotations

import difflib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from operator import itemgetter

from daskscore.core.partition_formats import hive_values, path_columns, path_values
from daskscore.core.tables import Piece, Reading, Size
from daskscore.errors import InputError
from daskscore.inputs.tables import table_pieces
from daskscore.inputs.text_files import Opener

Keys = dict[str, str | None]
"""A mini-batch's values of the partition keys, in their order, as they stand in the names; None is hive's missing one."""

Values = tuple[str | None, ...]

_WHOLE_FILES = Size(rows=1 << 62)
_TOGETHER = """
    SELECT keys, name FROM (SELECT keys, name, rowid AS place, min(rowid) OVER (PARTITION BY keys) AS first FROM files)
    ORDER BY first, place
"""
_CACHE = "PRAGMA cache_size = -16000"
"""In KiB."""


def partition_files(
    files: Iterable[str], keys: Sequence[str], pattern: str, top: str
) -> Iterator[tuple[Keys, list[str]]]:
    """The files of each key, in the order in which the keys, and the files of each, are listed.

    `top` is the folder that was listed: keys stand below it. Without a `pattern` they are the names of folders.
    """
    values_of = _values(keys, pattern, top)
    for text, group in groupby(_together(files, values_of), key=itemgetter(0)):
        yield dict(zip(keys, json.loads(text), strict=True)), [name for _, name in group]


def partition_tables(
    files: Iterable[str], reading: Reading, keys: Sequence[str], top: str, opener: Opener, number: int
) -> Iterator[tuple[Keys, list[Piece]]]:
    """The records of each key: a piece for each of its files, which are read whole. Keys without records are left out."""
    values_of = _values(keys, reading.partition_format, top)
    names = (name for _, name in _together(files, values_of))
    # All files at once, as some rules for headers tell the first of an input from the others.
    pieces = table_pieces(names, reading, _WHOLE_FILES, opener, number=number)
    with closing(pieces):
        for values, group in groupby(pieces, key=lambda piece: values_of(piece["file"])):
            yield dict(zip(keys, values, strict=True)), list(group)


def are_in_paths(keys: Sequence[str], reading: Reading) -> bool:
    """Whether all keys stand in the names of the files, so that no record has to be moved."""
    by_name = {column.name: column for column in reading.columns}
    return all(by_name[key].from_path and key != reading.path_column for key in keys)


def _values(keys: Sequence[str], pattern: str, top: str) -> Callable[[str], Values]:
    """How a file's values are found; that raises InputError for a file that does not fit."""
    columns = [column.name for column in path_columns(pattern)]
    places = {key: columns.index(key) for key in keys if key in columns}
    top = top.rstrip("/")

    def find(file: str) -> Values:
        below = file[len(top) :] if file.startswith(top) else file
        in_name = path_values(pattern, below) if pattern else []
        if in_name is None:
            raise InputError(
                f"{file} does not end like the partition format {pattern} below {top}. "
                "It is to match the end of every file's name; leave other files out with exclude"
            )
        if len(places) == len(keys):
            return tuple([in_name[places[key]] for key in keys])
        in_folders = hive_values(below)
        lacking = next((key for key in keys if key not in places and key not in in_folders), None)
        if lacking is not None:
            raise _without(lacking, file, pattern, top)
        return tuple([in_name[places[key]] if key in places else in_folders[key] for key in keys])

    return find


def _without(key: str, file: str, pattern: str, top: str) -> InputError:
    if not pattern:
        return InputError(
            f"{file} lies in no folder {key}=… below {top}, so it has no value of the partition key {key}. Move it into "
            f"one, leave it out with exclude, or say where {key} stands, like partition_format: '{{{key}}}/{{name}}'"
        )
    columns = [column.name for column in path_columns(pattern)]
    nearest = difflib.get_close_matches(key, columns, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"Name some of {', '.join(columns)}"
    return InputError(
        f"partition_keys: {key} is no column of the partition format {pattern}, and {file} lies in no folder {key}=…. {hint}"
    )


def _together(files: Iterable[str], values_of: Callable[[str], Values]) -> Iterator[tuple[str, str]]:
    """All files, each after the text of its values; those with the same values one after the other."""
    # Begun in one thread and gone on with in another, never at the same time.
    with closing(sqlite3.connect("", isolation_level=None, check_same_thread=False)) as database:
        try:
            database.execute(_CACHE)
            database.execute("CREATE TABLE files (keys TEXT, name BLOB)")
            database.execute("BEGIN")
            database.executemany("INSERT INTO files VALUES (?, ?)", _rows(files, values_of))
            for text, name in database.execute(_TOGETHER):
                yield text, os.fsdecode(name)
        except sqlite3.OperationalError as error:
            raise InputError(
                f"the names of the input's files cannot be sorted by partition_keys: {error}. "
                "That is done in the folder for temporary files; name one with more room with TMPDIR"
            ) from error


def _rows(files: Iterable[str], values_of: Callable[[str], Values]) -> Iterator[tuple[str, bytes]]:
    last: Values | None = None
    text = ""
    for file in files:
        values = values_of(file)
        if values != last:
            text, last = json.dumps(values), values
        yield text, os.fsencode(file)
