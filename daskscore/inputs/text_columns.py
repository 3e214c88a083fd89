"""The columns of CSV and JSON lines: from headers, and from a sample of the first files. Called in the driver."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from daskscore.core.csv_records import fields, records
from daskscore.core.tables import Dialect, Format, Header, Reading
from daskscore.errors import InputError
from daskscore.inputs.column_kinds import Kind, Seen, column, kind_of_json, kind_of_series
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.text_files import Opener, Text, opened

SAMPLED_FILES = 8
LATER_SAMPLE_BYTES = 512 << 10
"""Of each file after the first."""


class Sample(NamedTuple):
    """What the first records of the first files show."""

    columns: dict[str, Seen]
    complete: bool
    """There are no other records."""
    of: str
    """What was read, in words."""


def csv_reading(files: Iterable[str], options: TableOptions, dialect: Dialect, opener: Opener) -> Reading:
    """How these CSV files are read; only the first of them are looked at."""
    seen: dict[str, Seen] = {}
    names: tuple[str, ...] = ()
    looked_at = _Looked(options.sample_bytes)
    for file in looked_at.at(files):
        with opened(file, Format.CSV, dialect, opener) as text:
            header = take_header(text, options.header, names, dialect)
            sample = looked_at.take(text)
            if options.header is Header.NONE and not names and sample:
                header = _count_columns(file, sample, options.names, dialect)
        if header:
            seen = _together(seen, _kinds_of_csv(sample, header, dialect), Kind.TEXT)
            names = names or header
    if not names:
        raise _no_records()
    if options.header is Header.ALL_FILES_DIFFERENT_HEADERS:
        names = tuple(seen)
    if not options.infer_column_types:
        seen = {name: Seen(Kind.TEXT) for name in names}
    unseen = Kind.FLOAT if looked_at.complete else Kind.TEXT  # text can be anything; what is known is as pandas has it
    return Reading(
        Format.CSV,
        tuple(column(name, seen[name], options.declared(name), options.on_bad_record, unseen=unseen) for name in names),
        header=names,
        header_rule=options.header,
        dialect=dialect,
        on_bad_record=options.on_bad_record,
        sample=looked_at.words,
    )


def json_reading(files: Iterable[str], options: TableOptions, dialect: Dialect, opener: Opener) -> Reading:
    """How these files of JSON lines are read; only the first of them are looked at."""
    seen: dict[str, Seen] = {}
    looked_at = _Looked(options.sample_bytes)
    for file in looked_at.at(files):
        with opened(file, Format.JSONL, dialect, opener) as text:
            found = _kinds_of_json(looked_at.take(text), dialect)
        if found:
            seen = _together(seen, found, Kind.MIXED)
    if not seen and not options.columns:
        raise _no_records(looked_at.files)
    for name in options.columns:
        seen.setdefault(name, Seen(missing=True))
    return Reading(
        Format.JSONL,
        tuple(
            column(name, found, options.declared(name), options.on_bad_record, unseen=Kind.MIXED)
            for name, found in seen.items()
        ),
        dialect=dialect,
        on_bad_record=options.on_bad_record,
        sample=looked_at.words,
    )


def take_header(text: Text, rule: Header, first: tuple[str, ...], dialect: Dialect) -> tuple[str, ...]:
    """The names of a file's columns, read past where they stand; none where the file has nothing, or no header.

    `first`: the names that the first file has.
    """
    if rule is Header.NONE or (rule is Header.FROM_FIRST_FILE and first):
        return first
    record = text.take_record()
    if not record:
        return ()
    names = _header_names(text.file, record, dialect)
    if rule is not Header.ALL_FILES_SAME_HEADERS or not first:
        return names
    if len(names) != len(first):
        raise InputError(
            f"{text.file} has {len(names)} columns, the first file has {len(first)}. All files of one input need the "
            "same ones; make other files an input of their own, or say header: all_files_different_headers"
        )
    return first


class _Looked:
    """How much of an input has been looked at, and no more than is enough."""

    def __init__(self, sample_bytes: int) -> None:
        self.sample_bytes = sample_bytes
        self.files: list[str] = []
        self.complete = True

    def at(self, files: Iterable[str]) -> Iterable[str]:
        for file in files:
            if len(self.files) == SAMPLED_FILES:
                self.complete = False
                return
            yield file

    def take(self, text: Text) -> bytes:
        """The file's first records; a file without any does not count."""
        number = min(LATER_SAMPLE_BYTES, self.sample_bytes) if self.files else self.sample_bytes
        sample, whole = text.take_bytes(number)
        if sample:
            self.files.append(text.file)
            self.complete = self.complete and whole
        return sample

    @property
    def words(self) -> str:
        if self.complete:
            return "all records"
        others = f" and of {len(self.files) - 1} other files" if self.files[1:] else ""
        return f"the first {self.sample_bytes / (1 << 20):g} MB of {self.files[0]}{others}"


def _together(one: dict[str, Seen], other: dict[str, Seen], mixed: Kind) -> dict[str, Seen]:
    """A column that one of two samples does not have is missing in it."""
    if not one:
        return other
    none = Seen(missing=True)
    return {name: one.get(name, none).merge(other.get(name, none), mixed=mixed) for name in {**one, **other}}


def _header_names(file: str, record: bytes, dialect: Dialect) -> tuple[str, ...]:
    import pandas

    try:
        found = pandas.read_csv(
            io.BytesIO(record), nrows=0, index_col=False, encoding=dialect.text_encoding, **dialect.parser_options
        )
    except pandas.errors.ParserError as error:
        raise InputError(
            f"{file} has a header that cannot be read: {error}. Mend it, or set the right quoting"
        ) from error
    return tuple(str(name) for name in found.columns)


def _count_columns(file: str, sample: bytes, declared: tuple[str, ...], dialect: Dialect) -> tuple[str, ...]:
    record = next(records(sample, dialect))
    count = len(fields(sample[record.start : record.stop], dialect))
    if declared and len(declared) != count:
        raise InputError(
            f"{file} has {count} columns, but {len(declared)} are named: {', '.join(declared)}. Name each of them"
        )
    return declared or tuple(f"Column{number}" for number in range(1, count + 1))


def _kinds_of_csv(sample: bytes, names: tuple[str, ...], dialect: Dialect) -> dict[str, Seen]:
    if not sample:
        return {name: Seen() for name in names}
    import pandas

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pandas.errors.ParserWarning)
        frame = pandas.read_csv(
            io.BytesIO(sample),
            header=None,
            names=list(names),
            index_col=False,
            low_memory=False,
            on_bad_lines="skip",
            encoding=dialect.text_encoding,
            encoding_errors="replace",
            **dialect.parser_options,
        )
    return {name: kind_of_series(frame[name]) for name in names}


def _kinds_of_json(sample: bytes, dialect: Dialect) -> dict[str, Seen]:
    values: dict[str, list[object]] = {}
    count = 0
    for line in sample.decode(dialect.text_encoding, "replace").split("\n"):
        try:
            record = json.loads(line, strict=False) if line.strip() else None
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            count += 1
            for key, value in record.items():
                values.setdefault(key, []).append(value)
    return {
        key: kind_of_json(found).merge(Seen(missing=len(found) < count), mixed=Kind.MIXED)
        for key, found in values.items()
    }


def _no_records(read: Sequence[str] = ()) -> InputError:
    if read:
        return InputError(f"{read[0]} has no line that is a JSON object. Mend it, or say what it is with format")
    return InputError("the input has no records: its files are empty. Name files that have some")
