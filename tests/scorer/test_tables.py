from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES
from pandas.testing import assert_frame_equal

from daskscore.core.tables import Size
from daskscore.scorer.csv_faults import MISSING
from daskscore.scorer.tables import Reader, Unreadable
from tests.tables import Cut, cut

LAW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ANY_BAD = ["skip", "keep"]
SIGNS = st.sampled_from(["a", "1", "2.5", "True", "NA", "", '"', '""', ",", "\n", '"\n', ',"', '",', "#", " ", "\\"])
LINES = st.sampled_from(
    ['{"a": 1}', '{"a": 2.5, "b": "x"}', '{"a": 1}, {"a": 2}', "[1]", "null", "{", '{"b": null}', " "]
)


def everything(found: Cut) -> tuple[pandas.DataFrame, list[tuple[int, str, str]]]:
    return found.whole, [(bad.row, bad.place, bad.reason) for bad in found.bad]


def assert_same_in_one_piece(path: Path, size: int, **options: Any) -> None:
    in_one = cut(path, Size(rows=1 << 40), **options)
    in_many = cut(path, Size(bytes=size), **options)
    one, bad_of_one = everything(in_one)
    many, bad_of_many = everything(in_many)
    assert bad_of_many == bad_of_one
    assert_frame_equal(many, one)


@LAW
@given(
    text=st.lists(SIGNS, max_size=60).map("".join),
    size=st.integers(1, 40),
    on_bad_record=st.sampled_from(ANY_BAD),
    comment=st.sampled_from(["", "#"]),
)
def test_what_is_bad_in_csv_does_not_depend_on_the_cut(
    text: str, size: int, on_bad_record: str, comment: str, tmp_path: Path
) -> None:
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1,2.5\n" + text, newline="")
    assert_same_in_one_piece(path, size, on_bad_record=on_bad_record, comment=comment, sample_bytes=4)


@LAW
@given(lines=st.lists(LINES, max_size=12), size=st.integers(1, 40), on_bad_record=st.sampled_from(ANY_BAD))
def test_what_is_bad_in_json_lines_does_not_depend_on_the_cut(
    lines: list[str], size: int, on_bad_record: str, tmp_path: Path
) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(['{"a": 1}', *lines]))
    assert_same_in_one_piece(path, size, on_bad_record=on_bad_record, sample_bytes=4)


CSV = """n,f,b,s
1,1.5,True,x
2,x,True,x
3,2.5,True,x,surplus
,2.5,False,x
5.0,2.5,False,x
6,2.5,no,x
7,2.5,False,"x
y"
8,,True,
"""


def bad_rows(found: Cut) -> list[tuple[int, str]]:
    return [(bad.row, bad.place.rpartition(" ")[2]) for bad in found.bad]


@pytest.mark.parametrize("size", ["1 rows", "2 rows", "1MB"])
def test_bad_records_are_skipped_counted_and_named(size: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    found = cut(path, size, on_bad_record="skip", sample_bytes=1)
    assert found.whole["n"].tolist() == [1, 7, 8]
    assert bad_rows(found) == [(1, "3"), (2, "4"), (3, "5"), (4, "6"), (5, "7")]
    assert [bad.reason.partition(",")[0] for bad in found.bad] == [
        "column f is 'x'",
        "it has 5 fields",
        "column n has no value",
        "column n is '5.0'",
        "column b is 'no'",
    ]


@pytest.mark.parametrize("size", ["1 rows", "2 rows", "1MB"])
def test_bad_records_are_kept_without_what_does_not_fit(size: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    found = cut(path, size, on_bad_record="keep", sample_bytes=1)
    none = pandas.NA
    assert found.whole["n"].tolist() == [1, 2, 3, none, none, 6, 7, 8]
    assert found.whole["b"].tolist() == [True, True, True, False, False, none, False, True]
    assert found.whole["f"].isna().tolist() == [False, True, *[False] * 5, True]
    assert found.whole["s"].tolist()[:7] == [*"xxxxxx", "x\ny"]
    assert [bad.row for bad in found.bad] == [1, 2, 4, 5]


def test_a_bad_record_fails_its_mini_batch_with_what_to_declare(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,x\n1,1\n2,1\n3,\n")
    with pytest.raises(
        Unreadable, match=r"a\.csv line 4: column x has no value, in the first .* MB of .* it is int64"
    ) as error:
        cut(path, "2 rows", sample_bytes=1)
    assert "declare dtypes: {x: Int64}" in str(error.value)
    assert "on_bad_record: skip or keep" in str(error.value)


@pytest.mark.parametrize(
    ("data", "encoding", "reason"),
    [
        (b'x\na\n"b\nc\n', "utf-8", "a quote in it is never closed"),
        (b"x\na\n\xff\nc\n", "utf-8", "it is no utf-8 text"),
    ],
)
def test_what_is_no_text_or_has_no_end_is_a_bad_record(data: bytes, encoding: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    found = cut(path, "1 rows", on_bad_record="skip", encoding=encoding)
    assert [(bad.row, bad.reason[: len(reason)]) for bad in found.bad] == [(1, reason)]
    assert found.whole["x"].tolist()[0] == "a"


@pytest.mark.parametrize("text", ["x,y\n1,2,\n3,4\n5,6,\n", "x,y\n1,2\n3,4,NA\n5,6\n"])
@pytest.mark.parametrize("size", ["1 rows", "1MB"])
def test_a_delimiter_at_the_end_of_records_is_no_surplus_field(text: str, size: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert cut(path, size).whole.to_dict("list") == {"x": [1, 3, 5], "y": [2, 4, 6]}


def test_a_delimiter_that_pandas_does_not_see_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"x,y\r1,2\r\r,3\r")
    assert cut(path, "1MB", dtypes={"x": "Int64"}).whole["y"].tolist() == [2, 3]


def test_whole_numbers_beside_one_that_is_none_are_not_rounded(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n9007199254740993\n1.0\n")
    found = cut(path, "1MB", on_bad_record="skip", sample_bytes=1)
    assert found.whole["x"].tolist() == [1, 9007199254740993]


def test_empty_fields_can_be_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,s\n1,\n,NA\n3,x\n")
    found = cut(path, "1MB", empty_as_string=True, dtypes={"n": "Int64"}).whole
    assert found["n"].tolist() == [1, pandas.NA, 3]
    assert found["s"].fillna("missing").tolist() == ["", "missing", "x"]


def test_what_is_missing_is_what_pandas_says() -> None:
    assert set(MISSING) == STR_NA_VALUES


def test_bad_rows_of_parquet_are_named_by_their_number(tmp_path: Path) -> None:
    for name, values in {"a": [1, 2], "b": [3, None, 5]}.items():
        pyarrow.parquet.write_table(
            pyarrow.table({"x": values, "s": ["s"] * len(values)}), tmp_path / f"{name}.parquet"
        )
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    options = {"dtypes": {"x": "int64"}}
    skipped = cut(paths, "2 rows", on_bad_record="skip", **options)
    assert skipped.whole["x"].tolist() == [1, 2, 3, 5]
    assert [(bad.row, bad.place) for bad in skipped.bad] == [(1, f"{paths[1]} row 1")]
    with pytest.raises(Unreadable, match=r"b\.parquet row 1: column x has no value, declared is int64"):
        cut(paths, "2 rows", **options)


def test_values_that_cannot_be_converted_are_found_among_many(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    values = [float(number) for number in range(1000)]
    values[77] = values[900] = 0.5
    pyarrow.parquet.write_table(pyarrow.table({"x": values}), path)
    found = cut(path, "600 rows", dtypes={"x": "Int32"}, on_bad_record="keep")
    assert [bad.row for bad in found.bad] == [77, 900]
    assert found.whole["x"].isna().sum() == 2


def test_a_slice_of_a_file_is_enough(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x\n1\n2\n3\n")
    found = cut(path, "1 rows")
    piece = found.pieces[1]
    start, stop = piece["bytes"]
    part = tmp_path / "part"
    part.write_bytes(path.read_bytes()[start:stop])
    table = Reader([found.reading]).read(piece, str(part), first_byte=start)
    assert table.frame["x"].tolist() == [2]


def test_rows_can_come_as_an_arrow_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = pandas.DataFrame({"x": [1, 2, 3], "c": pandas.Categorical(["a", "b", "a"])})
    data.to_parquet(path)
    found = cut(path, "2 rows")
    table = pyarrow.parquet.read_table(path).slice(2, 1)
    pyarrow.feather.write_feather(table, str(tmp_path / "rows"), compression="uncompressed")
    again = Reader([found.reading]).read_arrow(found.pieces[1], str(tmp_path / "rows")).frame
    assert_frame_equal(again, found.frames[1])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet"])
def test_a_file_that_has_changed_is_said_to_have(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    data = pandas.DataFrame({"x": range(100)})
    write = {"csv": data.to_csv, "gz": data.to_csv, "parquet": data.to_parquet}.get(name.rpartition(".")[2])
    if write is not None:
        write(path, index=False)
    else:
        data.to_json(path, orient="records", lines=True)
    found = cut(path, "60 rows")
    reader = Reader([found.reading])
    pandas.DataFrame({"x": range(5)}).to_parquet(path) if write == data.to_parquet else path.write_bytes(b"")
    with pytest.raises(Unreadable, match=re.escape(name)):
        reader.read(found.pieces[1])
    path.unlink()
    with pytest.raises(Unreadable, match=re.escape(name)):
        Reader([found.reading]).read(found.pieces[0])


def test_columns_from_the_name_of_the_file_come_first(tmp_path: Path) -> None:
    folder = tmp_path / "acme" / "2020"
    folder.mkdir(parents=True)
    path = folder / "a.csv"
    path.write_text("x\n1\n2\n")
    found = cut(path, "1 rows", path_column="Path", partition_format="/{who}/{day:yyyy}/a.csv")
    assert list(found.whole.columns) == ["Path", "who", "day", "x"]
    assert found.whole.iloc[1].tolist() == [str(path), "acme", pandas.Timestamp("2020-01-01"), 2]
    typed = cut(path, "1 rows", partition_format="/{year}/a.csv", dtypes={"year": "int"}, columns=["x", "year"])
    assert typed.whole.to_dict("list") == {"x": [1, 2], "year": [2020, 2020]}


def test_pieces_may_be_read_in_any_order_and_from_many_inputs(tmp_path: Path) -> None:
    one, two = tmp_path / "a.csv.gz", tmp_path / "b.parquet"
    pandas.DataFrame({"x": range(100)}).to_csv(one, index=False)
    pandas.DataFrame({"y": range(100)}).to_parquet(two, row_group_size=30)
    first, second = cut(one, "7 rows"), cut(two, "7 rows")
    reader = Reader([first.reading, second.reading])
    for number in (3, 1, 2, 14, 0):
        for column, found, index in (("x", first, 0), ("y", second, 1)):
            frame = reader.read({**found.pieces[number], "input": index}).frame
            assert frame[column].tolist() == list(range(100))[7 * number : 7 * number + 7]
    reader.close()
