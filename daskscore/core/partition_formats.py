"""Columns whose values stand in the names of files: `/{department}/{day:yyyy/MM/dd}/data.csv`, or `season=winter/`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

HIVE_MISSING = "__HIVE_DEFAULT_PARTITION__"
"""The folder's value where there is none."""

_PART = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")
_DIGITS = {"yyyy": 4, "MM": 2, "dd": 2, "HH": 2, "mm": 2, "ss": 2}
_UNITS = re.compile("|".join(_DIGITS))
_EMPTY = {"yyyy": "1970", "MM": "01", "dd": "01", "HH": "00", "mm": "00", "ss": "00"}


class PathColumn(NamedTuple):
    """A column that a format names; a date where it says how years, months and so on are written."""

    name: str
    is_date: bool


def path_columns(partition_format: str) -> list[PathColumn]:
    """The columns of a format, in order."""
    return [PathColumn(part[1], bool(part[2])) for part in _PART.finditer(partition_format)]


def path_values(partition_format: str, file: str) -> list[str] | None:
    """The values for one file, dates in ISO 8601; None where its name does not end as the format says."""
    pattern, units = _compiled(partition_format)
    found = pattern.search(file.replace("\\", "/"))
    if not found:
        return None
    if not any(units):
        return list(found.groups())
    values = iter(found.groups())
    return [_date_of(of_date, values) if of_date else next(values) for of_date in units]


def _date_of(units: tuple[str, ...], values: Iterator[str]) -> str:
    digits = dict(_EMPTY)
    digits.update((unit, next(values)) for unit in units)
    return "{yyyy}-{MM}-{dd}T{HH}:{mm}:{ss}".format_map(digits)


def hive_values(file: str) -> dict[str, str | None]:
    """What folders like `season=winter` say of a file; of two with one name, the one nearest to it."""
    return _hive_values(file.rpartition("/")[0])


@lru_cache
def _hive_values(folder: str) -> dict[str, str | None]:
    pairs = (part.split("=", 1) for part in folder.split("/") if "=" in part)
    return {_decoded(name): None if value == HIVE_MISSING else _decoded(value) for name, value in pairs}


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")


@lru_cache
def _compiled(partition_format: str) -> tuple[re.Pattern[str], list[tuple[str, ...]]]:
    """Of the end of a path, where a name has no slash in it; and of each column that is a date its units."""
    text = "" if partition_format.startswith("/") else "(?:^|/)"
    position = 0
    units = []
    for part in _PART.finditer(partition_format):
        text += re.escape(partition_format[position : part.start()])
        text += _date(part[2]) if part[2] else "([^/]+?)"
        units.append(tuple(_UNITS.findall(part[2] or "")))
        position = part.end()
    return re.compile(text + re.escape(partition_format[position:]) + r"\Z"), units


def _date(how: str) -> str:
    text, position = "", 0
    for unit in _UNITS.finditer(how):
        text += re.escape(how[position : unit.start()]) + rf"(\d{{{_DIGITS[unit[0]]}}})"
        position = unit.end()
    return text + re.escape(how[position:])
