"""CONTRACT 2.5: the keyword arguments of DataFrame.to_csv as keys of a job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daskscore.jobfiles.interface import Ignored
from daskscore.jobfiles.row_settings import FILE_NAME, TO_CSV, read
from tests.jobfiles.conftest import Files


def told(files: Files, **options: Any) -> tuple[dict[str, Any], list[Ignored]]:
    return read(files.write(json.dumps({"append_row": {TO_CSV: options}}), FILE_NAME))


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"quoting": 0}, {"append_row_quoting": "minimal"}),
        ({"quoting": 3, "escapechar": "\\"}, {"append_row_quoting": "none", "append_row_escape_char": "\\"}),
        ({"quotechar": "'", "doublequote": False}, {"append_row_quote_char": "'", "append_row_double_quote": False}),
        ({"line_terminator": "\r\n"}, {"append_row_line_terminator": "\r\n"}),
        ({"lineterminator": "\n"}, {"append_row_line_terminator": "\n"}),
        (
            {"na_rep": "NA", "float_format": "%.2f", "date_format": "%Y", "decimal": ","},
            {
                "append_row_na_rep": "NA",
                "append_row_float_format": "%.2f",
                "append_row_date_format": "%Y",
                "append_row_decimal": ",",
            },
        ),
        ({"float_format": None, "escapechar": None}, {}),
    ],
)
def test_an_argument_of_to_csv_is_a_key(files: Files, options: dict[str, Any], settings: dict[str, Any]) -> None:
    assert told(files, **options) == (settings, [])


@pytest.mark.parametrize(
    ("option", "value", "why"),
    [
        ("quoting", 4, "is 4, and daskscore knows 0 to 3"),
        ("quoting", True, "is True, and daskscore knows 0 to 3"),
        ("quoting", "all", "is 'all', and daskscore knows 0 to 3"),
        ("encoding", "latin-1", "rows are UTF-8"),
        ("columns", ["a"], "daskscore has no key append_row_columns"),
    ],
)
def test_what_daskscore_does_not_know_is_named(files: Files, option: str, value: Any, why: str) -> None:
    assert told(files, **{option: value}) == ({}, [Ignored(f"{FILE_NAME}: {TO_CSV}.{option}", why)])
