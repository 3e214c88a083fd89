"""`parallel_run_step.settings.json` beside the script: how rows of a DataFrame are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daskscore.config import JobConfig
from daskscore.errors import ConfigError
from daskscore.jobfiles.interface import Ignored
from daskscore.jobfiles.reading import nearest, shown

FILE_NAME = "parallel_run_step.settings.json"
TO_CSV = "pandas.DataFrame.to_csv"
KEYS = {
    "sep": "append_row_separator",
    "header": "append_row_header",
    "index": "append_row_index",
    "quoting": "append_row_quoting",
    "quotechar": "append_row_quote_char",
    "escapechar": "append_row_escape_char",
    "doublequote": "append_row_double_quote",
    "na_rep": "append_row_na_rep",
    "float_format": "append_row_float_format",
    "date_format": "append_row_date_format",
    "decimal": "append_row_decimal",
    "columns": "append_row_columns",
    "index_label": "append_row_index_label",
    "lineterminator": "append_row_line_terminator",
}
"""Keyword arguments of DataFrame.to_csv, and the keys of JobConfig that say the same where it has them."""

QUOTING = ("minimal", "all", "nonnumeric", "none")
"""Our words for the csv module's constants, which are the numbers of their places."""

OURS = {
    "path_or_buf": "the rows go to append_row_file_name",
    "mode": "the output is written once, at the end",
    "compression": "the output is written as it is",
    "chunksize": "a mini-batch is written in one piece",
    "storage_options": "the rows go to the output folder",
    "encoding": "rows are UTF-8",
    "errors": "rows are UTF-8",
}


def beside(source_directory: Path) -> tuple[dict[str, Any], list[Ignored]]:
    """What the file in a script's folder says; nothing where there is none."""
    path = source_directory / FILE_NAME
    return read(path) if path.is_file() else ({}, [])


def read(path: Path) -> tuple[dict[str, Any], list[Ignored]]:
    """Keys of JobConfig, and what has none."""
    options, ignored = _options(path)
    settings: dict[str, Any] = {}
    for option, value in options.items():
        named = f"{FILE_NAME}: {TO_CSV}.{option}"
        key = KEYS.get("lineterminator" if option == "line_terminator" else option)
        if key is None:
            near = nearest(option, KEYS)
            why = OURS.get(option, "to_csv has no such argument" + (f". Did you mean {near}?" if near else ""))
            ignored.append(Ignored(named, why))
        elif key not in JobConfig.model_fields:
            ignored.append(Ignored(named, f"daskscore has no key {key}"))
        elif option in ("header", "index") and not isinstance(value, bool):
            ignored.append(Ignored(named, f"is {shown(value)}, and daskscore knows true and false"))
        elif option == "quoting" and (isinstance(value, bool) or value not in range(len(QUOTING))):
            ignored.append(Ignored(named, f"is {shown(value)}, and daskscore knows 0 to {len(QUOTING) - 1}"))
        elif value is not None:
            settings[key] = QUOTING[value] if option == "quoting" else value
    return settings, ignored


def _options(path: Path) -> tuple[Mapping[str, Any], list[Ignored]]:
    content = _mapping(_json(path), path, "the file")
    ignored = [Ignored(f"{FILE_NAME}: {key}", "only append_row is known") for key in content if key != "append_row"]
    append_row = _mapping(content.get("append_row") or {}, path, "append_row")
    ignored += [
        Ignored(f"{FILE_NAME}: append_row.{key}", f"only {TO_CSV} is known") for key in append_row if key != TO_CSV
    ]
    return _mapping(append_row.get(TO_CSV) or {}, path, TO_CSV), ignored


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} cannot be read: it is no UTF-8 text. Save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {error}. Mend or remove it") from None


def _mapping(value: Any, path: Path, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f'{path}: {what} is {shown(value)}, no mapping. Write {{"append_row": {{"{TO_CSV}": {{…}}}}}}'
        )
    return value
