"""Columns whose values stand in the names of files: `/{department}/{day:yyyy/MM/dd}/data.csv`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

_PART = re.compile(r"\{([^{}:]+)(?::([^{}]*))?\}")
_DIGITS = {"yyyy": 4, "MM": 2, "dd": 2, "HH": 2, "mm": 2, "ss": 2}
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
    found = _pattern(partition_format).search(file.replace("\\", "/"))
    if not found:
        return None
    values = iter(found.groups())
    result = []
    for part in _PART.finditer(partition_format):
        if part[2]:
            digits = dict(_EMPTY)
            digits.update((unit, next(values)) for unit in re.findall("|".join(_DIGITS), part[2]))
            result.append("{yyyy}-{MM}-{dd}T{HH}:{mm}:{ss}".format_map(digits))
        else:
            result.append(next(values))
    return result


@lru_cache
def _pattern(partition_format: str) -> re.Pattern[str]:
    """Of the end of a path; a name has no slash in it."""
    text = "" if partition_format.startswith("/") else "(?:^|/)"
    position = 0
    for part in _PART.finditer(partition_format):
        text += re.escape(partition_format[position : part.start()])
        text += _date(part[2]) if part[2] else "([^/]+?)"
        position = part.end()
    return re.compile(text + re.escape(partition_format[position:]) + "$")


def _date(how: str) -> str:
    text, position = "", 0
    for unit in re.finditer("|".join(_DIGITS), how):
        text += re.escape(how[position : unit.start()]) + rf"(\d{{{_DIGITS[unit[0]]}}})"
        position = unit.end()
    return text + re.escape(how[position:])
