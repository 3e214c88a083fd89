from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from daskscore.core.tables import Size
from tests.tables import TEXT, assert_each_record_once, cut

LAW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TEXTS = st.text(st.sampled_from('ab\n"\\é\u2028, {}'), max_size=6)
VALUES = st.sampled_from(
    [
        st.integers(-(1 << 62), 1 << 62),
        st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9),
        st.booleans(),
        TEXTS,
        st.integers(-9, 9) | TEXTS | st.booleans() | st.none() | st.lists(st.integers(0, 9), max_size=2),
    ]
)


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    kinds = draw(st.lists(VALUES, min_size=1, max_size=3))
    columns = {f"column {number}": kind for number, kind in enumerate(kinds)}
    return draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=10))


@LAW
@given(
    records=records(),
    size=st.builds(Size, bytes=st.integers(1, 200)) | st.builds(Size, rows=st.integers(1, 4)),
    line_end=st.sampled_from(["\n", "\r\n", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "latin-1", "utf-16"]),
    ascii_only=st.booleans(),
)
def test_the_pieces_of_a_file_are_its_records_in_order(
    records: list[dict[str, Any]], size: Size, line_end: str, encoding: str, ascii_only: bool, tmp_path: Path
) -> None:
    path = tmp_path / "data.jsonl"
    text = line_end.join(json.dumps(record, ensure_ascii=ascii_only or encoding == "latin-1") for record in records)
    path.write_bytes(text.encode(encoding))
    found = cut(path, size, encoding=encoding)
    assert_each_record_once(found.pieces)
    for row, record in zip(found.whole.to_dict("records"), records, strict=True):
        assert set(row) == set(record)
        assert all(row[key] == value or (value is None and pandas.isna(row[key])) for key, value in record.items())


def test_columns_are_the_keys_in_the_order_in_which_they_appear(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"a": 1, "b": true}\n{"c": "x", "a": 2}\n{"d": [1], "a": 3}\n')
    found = cut(path, "1MB").frames[0]
    want = pandas.DataFrame(
        {
            "a": [1, 2, 3],
            "b": pandas.array([True, None, None], dtype="boolean"),
            "c": pandas.Series([math.nan, "x", math.nan], dtype=TEXT),
            "d": [None, None, [1]],
        }
    )
    assert_frame_equal(found, want)


def test_named_columns_are_read_and_other_keys_let_be(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "x": 1}\n{"a": 2, "y": {}}\n{"a": 3, "day": "2020-01-31"}\n')
    found = cut(path, "1 rows", columns=["day", "a"], dtypes={"day": "datetime"}, sample_bytes=10).whole
    assert found["a"].tolist() == [1, 2, 3]
    assert found["day"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize(
    "line", ["null", "[1, 2]", "3", '{"a": ', '{"a": 1} {"a": 2}', '{"a": 1}, {"a": 2}', "\x00", "[" * 5000]
)
def test_no_line_ends_the_scorer(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n{{"a": 2}}\n')
    found = cut(path, "1MB", on_bad_record="skip")
    assert found.whole["a"].tolist() == [1, 2]
    assert [(bad.row, bad.place) for bad in found.bad] == [(1, f"{path} line 2")]
