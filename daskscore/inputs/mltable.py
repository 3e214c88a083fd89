"""An MLTable folder: which files it names, and how its transformations say that they are read. Called in the driver."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from daskscore.core.partition_formats import path_columns
from daskscore.core.tables import Column, Dialect, Format, Header, OnBadRecord
from daskscore.errors import ConfigError, InputError
from daskscore.inputs.table_options import DATES, WHOLE, TableOptions
from daskscore.inputs.text_files import Opener
from daskscore.job_file import parse

FILE = "MLTable"
READS = ("read_delimited", "read_parquet", "read_json_lines")
SUPPORTED = (*READS, "convert_column_types", "drop_columns", "keep_columns", "extract_columns_from_partition_format")


@dataclass(frozen=True, slots=True)
class MLTable:
    """What an MLTable file says."""

    paths: tuple[str, ...]
    """Files, folders and patterns, in order; relative ones are below the MLTable's own folder."""
    options: TableOptions | None
    """None: it reads nothing, so its items are the files themselves."""

    def files(self, find: Callable[[str], Iterable[str]]) -> Iterator[str]:
        """The files that `find` finds at the paths, without the MLTable file."""
        for path in self.paths:
            yield from (file for file in find(path) if re.split(r"[/\\]", file)[-1] != FILE)


def read_mltable(folder: str, opener: Opener) -> MLTable:
    """Read the MLTable file of a folder; raises InputError for what cannot be done as it is written."""
    where = f"{folder.rstrip('/')}/{FILE}"
    with opener(where) as file:
        text = file.read()
    try:
        content = parse(text.decode("utf-8-sig"), where)
    except UnicodeDecodeError:
        raise InputError(f"{where} is no YAML: it is no UTF-8 text. Name the folder of an MLTable") from None
    except ConfigError as error:
        raise InputError(f"{str(error).partition(chr(10))[0]}. Mend it") from error
    if not isinstance(content, dict) or not isinstance(content.get("paths"), list) or not content["paths"]:
        raise InputError(f"{where} names no paths. It must hold lines like 'paths:' and '  - file: ./data.csv'")
    paths = tuple(_path(entry, folder, where) for entry in content["paths"])
    return MLTable(paths, _Steps(where).all(content.get("transformations") or []))


def _path(entry: Any, folder: str, where: str) -> str:
    path = next(iter(entry.values())) if isinstance(entry, dict) and len(entry) == 1 else None
    if not isinstance(path, str) or next(iter(entry)) not in ("file", "folder", "pattern"):
        raise InputError(f"{where}: {entry!r} in paths is not known. Write file:, folder: or pattern: and a path")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) or os.path.isabs(path):
        return path
    return f"{folder.rstrip('/')}/{re.sub(r'^(?:[.]/)+', '', path)}"


class _Steps:
    """The transformations of one MLTable, taken in order."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.options: TableOptions | None = None

    def all(self, transformations: Any) -> TableOptions | None:
        if not isinstance(transformations, list):
            raise self._wrong("transformations", "is no list. Begin each with a dash")
        for entry in transformations:
            name, given = (entry, None) if isinstance(entry, str) else self._single(entry)
            if name not in SUPPORTED:
                raise InputError(
                    f"{self.where}: the transformation {name} is not supported; supported are {', '.join(SUPPORTED)}. "
                    "Leave it out and do the same in run(), or write the result to files first"
                )
            if name in READS:
                if self.options is not None:
                    raise self._wrong(name, "is a second one that reads. Keep one")
                self.options = self._read(name, given)
            elif self.options is None:
                raise self._wrong(name, f"comes before any of {', '.join(READS)}. Put one of them first")
            else:
                self.options = self._then(self.options, name, given)
        return self.options.checked() if self.options is not None else None

    def _read(self, name: str, given: Any) -> TableOptions:
        keys = dict(given or {}) if isinstance(given, Mapping) or given is None else {name: given}
        path_column = str(keys.pop("path_column", None) or "Path")
        options = TableOptions(path_column=path_column if keys.pop("include_path_column", False) else "")
        keys.pop("partition_size", None)
        match name:
            case "read_delimited":
                options = self._delimited(options, keys)
            case "read_json_lines":
                words = {"error": OnBadRecord.FAIL, "drop": OnBadRecord.SKIP}
                options = replace(
                    options,
                    format=Format.JSONL,
                    on_bad_record=self._word("invalid_lines", keys.pop("invalid_lines", "error"), words),
                    dialect=Dialect(encoding=_encoding(keys.pop("encoding", "utf8"))),
                )
            case _:
                options = replace(options, format=Format.PARQUET)
        if keys:
            raise self._wrong(f"{next(iter(keys))} of {name}", "is not known. Remove it")
        return options

    def _delimited(self, options: TableOptions, keys: dict[str, Any]) -> TableOptions:
        keys.pop("support_multi_line", None)  # a line end inside quotes is never the end of a record
        infer = keys.pop("infer_column_types", True)
        overrides = infer.get("column_type_overrides") or {} if isinstance(infer, Mapping) else {}
        headers = {"no_header": Header.NONE, **{str(rule): rule for rule in Header if rule is not Header.NONE}}
        return replace(
            options,
            format=Format.CSV,
            header=self._word("header", keys.pop("header", "all_files_same_headers"), headers),
            delimiter=keys.pop("delimiter", ","),
            dialect=Dialect(
                encoding=_encoding(keys.pop("encoding", "utf8")),
                empty_as_string=bool(keys.pop("empty_as_string", False)),
            ),
            infer_column_types=bool(infer),
            conversions=tuple(self._conversion(str(name), what) for name, what in overrides.items()),
        )

    def _then(self, options: TableOptions, name: str, given: Any) -> TableOptions:
        match name:
            case "keep_columns":
                return replace(options, columns=self._list(name, given))
            case "drop_columns":
                return self._drop(options, self._list(name, given))
            case "extract_columns_from_partition_format":
                how = given.get("partition_format") if isinstance(given, Mapping) else given
                if not isinstance(how, str) or not path_columns(how):
                    raise self._wrong(name, "has no format. Write it like '/{department}/{day:yyyy/MM/dd}/data.csv'")
                added = tuple(column.name for column in path_columns(how)) if options.columns else ()
                return replace(options, partition_format=how, columns=(*options.columns, *added))
            case _:
                found = {column.name: column for column in options.conversions}
                for each in given if isinstance(given, list) else [given]:
                    if not isinstance(each, Mapping) or "columns" not in each or "column_type" not in each:
                        raise self._wrong(name, "needs columns and column_type in each entry")
                    for column in self._list("columns", each["columns"]):
                        found[column] = self._conversion(column, each["column_type"])
                return replace(options, conversions=tuple(found.values()))

    def _drop(self, options: TableOptions, names: tuple[str, ...]) -> TableOptions:
        if not options.columns:
            return replace(options, drop_columns=(*options.drop_columns, *names))
        left = tuple(name for name in options.columns if name not in names)
        if not left:
            raise self._wrong("drop_columns", "drops all that keep_columns keeps. Keep at least one")
        return replace(options, columns=left)

    def _conversion(self, name: str, what: Any) -> Column:
        kind, details = self._single(what) if isinstance(what, Mapping) else (what, None)
        details = dict(details or {})
        dtype = _DTYPES.get(str(kind))
        if dtype is None:
            raise self._wrong(f"column_type {kind} of column {name}", f"is not known. Known are {', '.join(_DTYPES)}")
        lists: dict[str, Any] = {
            key: self._list(key, details.pop(key, ())) for key in ("formats", "true_values", "false_values")
        }
        if details.pop("mismatch_as", None) not in (None, "error") or details:
            raise self._wrong(
                f"column_type of column {name}", "can have formats, true_values, false_values and mismatch_as: error"
            )
        return Column(name, dtype, declared=True, **lists)

    def _single(self, entry: Any) -> tuple[str, Any]:
        if not isinstance(entry, Mapping) or len(entry) != 1:
            raise self._wrong(repr(entry), "is no single name with its details")
        return next((str(name), details) for name, details in entry.items())

    def _list(self, key: str, value: Any) -> tuple[str, ...]:
        values = (value,) if isinstance(value, str) else value
        if not isinstance(values, (list, tuple)):
            raise self._wrong(key, "is no list")
        return tuple(str(each) for each in values)

    def _word(self, key: str, value: Any, words: Mapping[str, Any]) -> Any:
        if str(value) not in words:
            raise self._wrong(f"{key}: {value}", f"is not known. Known are {', '.join(words)}")
        return words[str(value)]

    def _wrong(self, what: str, how: str) -> InputError:
        return InputError(f"{self.where}: {what} {how}")


def _encoding(name: Any) -> str:
    names = {"utf8": "utf-8", "utf8bom": "utf-8", "iso88591": "latin-1", "latin1": "latin-1", "windows1252": "cp1252"}
    return names.get(str(name), str(name))


_DTYPES = {
    "int": WHOLE,
    "float": "float64",
    "string": "str",
    "boolean": "bool",
    "bool": "bool",
    "datetime": DATES,
}
