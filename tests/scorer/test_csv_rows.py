"""Results as CSV, read back with pandas and with the csv module."""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections import namedtuple
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.scorer.rows import BadOutput, RowFormat, Rows
from tests.rows import CSV, assembled

BERLIN = datetime.timezone(datetime.timedelta(hours=1))
Score = namedtuple("Score", "name score")


def text(folder: Path, *results: Any, how: RowFormat = CSV) -> str:
    return assembled(folder, how, *results).read_bytes().decode(errors="surrogateescape")


def with_options(**options: Any) -> RowFormat:
    return replace(CSV, to_csv=options)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("plain", "plain"),
        ("two words", "two words"),
        ("a,b", '"a,b"'),
        ('a "quote"', '"a ""quote"""'),
        ("two\nlines", '"two\nlines"'),
        ("old\rMac", '"old\rMac"'),
        ("größe 數 🙂", "größe 數 🙂"),
        ("=1+1", "=1+1"),
        ("", '""'),
        (None, '""'),
        (math.nan, '""'),
        (np.float32("nan"), '""'),
        (pd.NaT, '""'),
        (pd.NA, '""'),
        (np.datetime64("NaT"), '""'),
        (math.inf, "inf"),
        (0.1 + 0.2, "0.30000000000000004"),
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (2**70, "1180591620717411303424"),
        (np.int64(7), "7"),
        (True, "True"),
        (Decimal("1.10"), "1.10"),
        (b"raw", "b'raw'"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=BERLIN), "2020-01-02 03:04:05+01:00"),
        (pd.Timestamp("2020-01-02", tz="UTC"), "2020-01-02 00:00:00+00:00"),
    ],
)
def test_a_value_is_one_field(tmp_path: Path, value: Any, field: str) -> None:
    assert text(tmp_path / "list", [value]) == f"value\n{field}\n"
    frame = pd.DataFrame({"value": pd.Series([value], dtype=object)})
    assert text(tmp_path / "frame", frame) == f"value\n{field}\n"


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        ([{"a": 1, "b": [1, "x"]}, {"b": {"k": None}, "c": 3}], ["a,b,c", "1,\"[1, 'x']\",", ",{'k': None},3"]),
        ([("x", 1), ("y",)], ["0,1", "x,1", "y,"]),
        (([1, 2], None), ["0,1", "1,2", ","]),
        ([Score("x", 1)], ["name,score", "x,1"]),
        (np.array([[1, 2], [3, 4]]), ["0,1", "1,2", "3,4"]),
        (pd.Series(["a", "b"], name="label"), ["label", "a", "b"]),
        (pd.Series([1.5, None]), ["value", "1.5", '""']),
        ([pd.Series({"a": 1}), pd.Series({"a": 2})], ["a", "1", "2"]),
        (pd.DataFrame({"a": pd.Categorical(["y", "x"]), "b": [None, 1.0]}), ["a,b", "y,", "x,1.0"]),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ["a,a", "1,2"]),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), ["\"('a', 'b')\"", "1"]),
        (pd.DataFrame({"a": [], "b": []}), ["a,b"]),
        ([], []),
    ],
)
def test_each_kind_of_result_has_its_columns(tmp_path: Path, result: Any, lines: list[str]) -> None:
    assert text(tmp_path, result) == "".join(f"{line}\n" for line in lines)


def test_rows_are_counted_as_in_the_other_formats() -> None:
    assert [CSV.render(result).number for result in ([1, 2], pd.DataFrame({"a": [1, 2, 3]}), [])] == [2, 3, 0]
    assert CSV.render([]) == Rows(b"", 0)


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ([{"a": 1}, 2], "several kinds: mappings, single values"),
        ([{}, {}], "2 rows without any value"),
        ([{1: "x", "1": "y"}], "two keys that read the same: 1, '1'"),
        (pd.DataFrame(index=range(2)), "2 rows and no columns"),
    ],
)
def test_what_has_no_columns_is_refused(result: Any, why: str) -> None:
    with pytest.raises(BadOutput, match=why):
        CSV.render(result)


ROW = {"text": "x", "number": 1.5, "none": None, "time": datetime.datetime(2020, 1, 2)}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"quoting": csv.QUOTE_ALL}, '"x","1.5","","2020-01-02"'),
        ({"quoting": csv.QUOTE_NONNUMERIC}, '"x",1.5,"","2020-01-02"'),
        ({"quoting": csv.QUOTE_ALL, "quotechar": "'"}, "'x','1.5','','2020-01-02'"),
        ({"na_rep": "NA"}, "x,1.5,NA,2020-01-02"),
        ({"float_format": "%.3f"}, "x,1.500,,2020-01-02"),
        ({"decimal": ","}, 'x,"1,5",,2020-01-02'),
        ({"date_format": "%d.%m.%y"}, "x,1.5,,02.01.20"),
    ],
)
def test_an_option_means_the_same_for_a_frame_and_a_list(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    frame = pd.DataFrame([ROW]).astype({"time": "datetime64[ns]"})
    how = replace(with_options(**options), header=False)
    assert text(tmp_path / "frame", frame, how=how) == f"{line}\n"
    row = ROW | {"time": ROW["time"] if "date_format" in options else datetime.date(2020, 1, 2)}
    assert text(tmp_path / "list", [row], how=how) == f"{line}\n"


@pytest.mark.parametrize("result", [[{"a": 'x,"y'}], pd.DataFrame({"a": ['x,"y']})])
def test_escapes_stand_for_quotes(tmp_path: Path, result: Any) -> None:
    how = with_options(quoting=csv.QUOTE_NONE, escapechar="\\")
    assert text(tmp_path / "none", result, how=how) == 'a\nx\\,\\"y\n'
    how = with_options(doublequote=False, escapechar="\\")
    assert text(tmp_path / "single", result, how=how) == 'a\n"x,\\"y"\n'


@pytest.mark.parametrize("result", [[{"a": "x,y"}], pd.DataFrame({"a": ["x,y"]})])
def test_what_needs_an_escape_and_has_none_is_refused(result: Any) -> None:
    with pytest.raises(BadOutput, match="append_row_escape_char"):
        with_options(quoting=csv.QUOTE_NONE).render(result)


def test_lines_end_as_wanted(tmp_path: Path) -> None:
    how = replace(CSV, line_terminator="\r\n")
    assert text(tmp_path / "csv", [1, 2], pd.DataFrame({"value": [3]}), how=how) == "value\r\n1\r\n2\r\n3\r\n"
    assert RowFormat(line_terminator="\r\n").render(["a", "b"]).data == b"a\r\nb\r\n"


def test_the_index_is_the_first_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="key"))
    assert text(tmp_path / "named", frame, how=replace(CSV, index=True)) == "key,a\nx,1\n"
    assert text(tmp_path / "unnamed", pd.DataFrame({"a": [1]}), how=replace(CSV, index=True)) == ",a\n0,1\n"


@pytest.mark.parametrize(
    "options", [{}, {"to_csv": {"quoting": csv.QUOTE_NONE, "escapechar": "\\"}}, {"to_csv": {"quoting": csv.QUOTE_ALL}}]
)
def test_columns_of_different_mini_batches_stand_under_one_header(tmp_path: Path, options: dict[str, Any]) -> None:
    results = [
        pd.DataFrame({"a": ["1,1"], "b": ["x"]}),
        pd.DataFrame({"b": ["y\ny"], "c": ['"'], "a": ["é"]}),
        [{"a": "only"}],
        pd.DataFrame({"a": ["1"], "b": ["z"]}),
    ]
    path = assembled(tmp_path, replace(CSV, **options), *results)
    read = pd.read_csv(
        path,
        keep_default_na=False,
        dtype=str,
        quoting=options.get("to_csv", {}).get("quoting", 0),
        escapechar=options.get("to_csv", {}).get("escapechar"),
    )
    assert read.values.tolist() == [["1,1", "x", ""], ["é", "y\ny", '"'], ["only", "", ""], ["1", "z", ""]]
    assert list(read.columns) == ["a", "b", "c"]


def test_without_a_header_the_columns_still_stand_in_their_places(tmp_path: Path) -> None:
    how = replace(with_options(na_rep="-"), header=False)
    assert text(tmp_path, [{"a": 1, "b": 2}], [{"b": 3}], how=how) == "1,2\n-,3\n"


def test_a_file_name_that_is_no_utf_8_keeps_its_bytes(tmp_path: Path) -> None:
    results = [[{"file": "a\udcff"}], [{"score": 1, "file": "\udc80"}], [{"file": "\ud800"}]]
    assert assembled(tmp_path, CSV, *results).read_bytes() == b"file,score\na\xff,\n\x80,1\n\xed\xa0\x80,\n"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("a ,;\"\n\r\t\\'"), max_size=6)
frames = st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, texts)), min_size=1, max_size=3)
)
dialects = st.sampled_from(
    [
        {},
        {"quoting": csv.QUOTE_ALL},
        {"quoting": csv.QUOTE_NONNUMERIC, "quotechar": "'"},
        {"doublequote": False, "escapechar": "\\"},
        {"escapechar": "\\"},
    ]
)


@given(
    results=st.lists(st.tuples(frames, st.booleans()), min_size=1, max_size=5),
    options=dialects,
    separator=st.sampled_from(",;\t |é"),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_text_comes_back_in_its_own_column(
    tmp_path_factory: pytest.TempPathFactory, results: Any, options: dict[str, Any], separator: str, end: str
) -> None:
    how = replace(CSV, separator=separator, line_terminator=end, to_csv=options)
    made = [pd.DataFrame(rows, dtype=object) if as_frame else rows for rows, as_frame in results]
    path = assembled(tmp_path_factory.mktemp("rows"), how, *made)
    dialect = {"quotechar": options.get("quotechar", '"'), "doublequote": options.get("doublequote", True)}
    reader = csv.DictReader(
        io.StringIO(path.read_bytes().decode(), newline=""),
        delimiter=separator,
        escapechar=options.get("escapechar"),
        **dialect,
    )
    names = list(dict.fromkeys(name for rows, _ in results for row in rows for name in row))
    wanted = [{name: row.get(name, "") for name in names} for rows, _ in results for row in rows]
    assert (list(reader), reader.fieldnames) == (wanted, names)


@given(
    rows=st.lists(
        st.tuples(st.floats(allow_nan=False), st.integers(-(2**63), 2**63 - 1), texts), min_size=1, max_size=4
    )
)
def test_pandas_reads_back_what_it_has_written(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    frame = pd.DataFrame(rows, columns=["f", "i", "t"]).astype({"f": float, "i": "int64"})
    path = assembled(tmp_path_factory.mktemp("rows"), with_options(quoting=csv.QUOTE_NONNUMERIC), frame, frame)
    read = pd.read_csv(path, keep_default_na=False, dtype={"t": str, "f": str})
    assert read.assign(f=read.f.map(float)).values.tolist() == frame.values.tolist() * 2
