from __future__ import annotations

import datetime
import json
import math
import string
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.scorer.context import MiniBatch
from daskscore.scorer.rows import BadOutput, RowFormat, Rows

TEXT = RowFormat()
JSONL = RowFormat(format="jsonl")


def lines(result: Any, how: RowFormat = JSONL) -> list[Any]:
    return [json.loads(line) for line in how.render(result).data.decode().splitlines()]


class Scored:
    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return f"scored {self.name}"

    def __repr__(self) -> str:
        raise AssertionError("rows are written with str()")


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ("a.png: 3", "a.png: 3"),
        ("", ""),
        (' "quoted" \\ ', ' "quoted" \\ '),
        (1, "1"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e22, "1e+22"),
        (float("nan"), "nan"),
        (None, "None"),
        (True, "True"),
        ({"a": 1}, "{'a': 1}"),
        (["x", 2], "['x', 2]"),
        (b"raw", "b'raw'"),
        (np.float32(0.1), "0.1"),
        (np.int64(7), "7"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (Scored("a"), "scored a"),
        ("größe 數", "größe 數"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_a_list_element_is_written_as_its_str_and_a_newline(element: Any, text: str) -> None:
    assert TEXT.render([element]) == Rows(text.encode() + b"\n", 1)


def test_each_element_has_its_own_line_in_order() -> None:
    assert TEXT.render(["b", "a", 3]) == Rows(b"b\na\n3\n", 3)


def test_a_tuple_is_written_like_a_list() -> None:
    assert TEXT.render(("b", "a")) == TEXT.render(["b", "a"])


def test_the_mini_batch_itself_may_be_returned() -> None:
    assert TEXT.render(MiniBatch(["/in/a", "/in/b"], 0)) == Rows(b"/in/a\n/in/b\n", 2)


@pytest.mark.parametrize("empty", [[], (), np.array([]), pd.DataFrame({"a": []}), pd.Series([], dtype=float)])
@pytest.mark.parametrize("how", [TEXT, JSONL])
def test_an_empty_result_has_no_rows_and_no_bytes(empty: Any, how: RowFormat) -> None:
    assert how.render(empty) == Rows(b"", 0)


def test_an_array_of_one_dimension_has_a_row_for_each_number() -> None:
    assert TEXT.render(np.array([1.5, 2.0])) == Rows(b"1.5\n2.0\n", 2)


def test_an_array_of_two_dimensions_has_a_row_for_each_of_its_rows() -> None:
    assert TEXT.render(np.array([[1, 2], [3, 4]])) == Rows(b"[1 2]\n[3 4]\n", 2)


def test_a_series_has_a_row_for_each_value() -> None:
    assert TEXT.render(pd.Series([1, 2], index=["x", "y"])) == Rows(b"1\n2\n", 2)


def test_a_generator_is_run_to_its_end() -> None:
    def run() -> Iterator[str]:
        yield "a"
        yield "b"

    assert TEXT.render(run()) == Rows(b"a\nb\n", 2)


def test_what_a_generator_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        TEXT.render(1 // (n - 1) for n in range(3))


@pytest.mark.parametrize("name", ["a\udcff.png", "\udc80", "é\udce9"])
def test_a_file_name_that_is_no_utf_8_comes_out_as_the_bytes_it_has_on_disk(name: str) -> None:
    assert TEXT.render([name]).data == name.encode(errors="surrogateescape") + b"\n"


def test_text_that_is_no_unicode_at_all_is_written_all_the_same() -> None:
    assert TEXT.render(["\ud800"]) == Rows(b"\xed\xa0\x80\n", 1)


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (None, "NoneType"),
        ("a row", "str"),
        (b"a row", "bytes"),
        ({"a": 1}, "dict"),
        (3, "int"),
        ({1, 2}, "set"),
        (np.array(3), "ndarray"),
        (np.float64(3), "float64"),
    ],
)
def test_what_has_no_rows_is_refused_in_the_words_of_parallel_run_step(result: Any, name: str) -> None:
    with pytest.raises(BadOutput) as refused:
        TEXT.render(result)
    assert str(refused.value) == (
        "The run() method in the entry script should return a list or a pandas DataFrame. The length of returned "
        "result is considered as succeeded number of items. For --output_action=append_row, the returned result is "
        f"what to write into the result file. The actual type of output is {name}."
    )


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (["plain", "two words"], 'plain\n"two words"\n'),
        (['a "quoted" word'], '"a ""quoted"" word"\n'),
        (["two\nlines"], '"two\nlines"\n'),
        ([0.1 + 0.2, 1e-20, 1e22], "0.30000000000000004\n1e-20\n1e+22\n"),
        ([1.0, math.inf], "1.0\ninf\n"),
        ([2**62 + 1], "4611686018427387905\n"),
        ([True, False], "True\nFalse\n"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "2020-01-01\n2020-01-02\n"),
        (pd.to_datetime(["2020-01-01 03:04:05"]), '"2020-01-01 03:04:05"\n'),
        ([datetime.date(2020, 1, 1)], "2020-01-01\n"),
        ([{"a": 1}, [1, 2]], '"{\'a\': 1}"\n"[1, 2]"\n'),
        (["größe", "數"], "größe\n數\n"),
        (pd.Categorical(["b", "a"]), "b\na\n"),
    ],
)
def test_a_column_of_a_frame_is_written_as_pandas_writes_it(column: Any, text: str) -> None:
    assert TEXT.render(pd.DataFrame({"column": column})).data.decode() == text


def test_a_frame_is_space_separated_without_header_and_index() -> None:
    frame = pd.DataFrame({"b": [1, 2], "a": ["x", "y"]}, index=[7, 8])
    assert TEXT.render(frame) == Rows(b"1 x\n2 y\n", 2)


def test_a_missing_value_in_a_frame_is_an_empty_field() -> None:
    frame = pd.DataFrame({"a": [1.0, None], "b": [None, "x"], "c": pd.to_datetime(["2020-01-01", None])})
    assert TEXT.render(frame).data == b"1.0  2020-01-01\n x \n"


def test_a_file_name_that_is_no_utf_8_keeps_its_bytes_in_a_frame_too() -> None:
    frame = pd.DataFrame({"file": pd.Series(["a\udcff"], dtype=object)})
    assert TEXT.render(frame).data == b"a\xff\n"


def test_a_frame_without_columns_still_has_its_rows() -> None:
    assert TEXT.render(pd.DataFrame(index=range(2))) == Rows(b"\n\n", 2)
    assert lines(pd.DataFrame(index=range(2))) == [{}, {}]


def test_the_header_is_told_apart_from_the_rows() -> None:
    frame = pd.DataFrame({"a b": [1], "c": [2]})
    assert RowFormat(header=True).render(frame) == Rows(b"1 2\n", 1, header='"a b" c\n')


def test_the_index_comes_first_and_its_name_goes_into_the_header() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="key"))
    assert RowFormat(header=True, index=True).render(frame) == Rows(b"x 1\n", 1, header="key a\n")


def test_an_empty_frame_has_a_header_and_no_rows() -> None:
    assert RowFormat(header=True).render(pd.DataFrame({"a": [], "b": []})) == Rows(b"", 0, header="a b\n")


def test_a_list_has_no_header() -> None:
    assert RowFormat(header=True).render(["a"]).header is None


def test_another_separator_changes_what_must_be_quoted() -> None:
    frame = pd.DataFrame({"a": ["x y"], "b": ["1,5"]})
    assert RowFormat(separator=",").render(frame).data == b'x y,"1,5"\n'


@pytest.mark.parametrize("result", [["a", "b"], pd.DataFrame({"a": [1, 2]}), np.zeros((2, 3)), (n for n in "ab")])
def test_summary_only_counts_and_writes_nothing(result: Any) -> None:
    assert RowFormat(write=False, header=True).render(result) == Rows(b"", 2)


def test_summary_only_refuses_what_has_no_rows_too() -> None:
    with pytest.raises(BadOutput):
        RowFormat(write=False).render("a row")


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.text('a ,;"\n\r\t', max_size=5),
    st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)),
)
names = st.lists(st.text(string.ascii_letters + ' "é', max_size=4), min_size=1, max_size=4, unique=True)


@st.composite
def frames(draw: st.DrawFn) -> pd.DataFrame:
    columns = draw(names)
    rows = draw(st.integers(1, 5))
    data = {name: draw(st.lists(cells, min_size=rows, max_size=rows)) for name in columns}
    index = draw(st.permutations(range(rows)))
    return pd.DataFrame(data, columns=columns, index=index)


@given(frame=frames(), separator=st.sampled_from(" ,;\t"), header=st.booleans(), index=st.booleans())
def test_header_and_rows_of_a_frame_are_what_to_csv_writes(
    frame: pd.DataFrame, separator: str, header: bool, index: bool
) -> None:
    rows = RowFormat(separator=separator, header=header, index=index).render(frame)
    theirs = frame.to_csv(sep=separator, header=header, index=index, lineterminator="\n")
    assert ((rows.header or "") + rows.data.decode(), rows.number) == (theirs, len(frame))


@given(st.lists(st.one_of(st.integers(), st.floats(), st.text(), st.lists(st.text(max_size=3))), max_size=5))
def test_a_list_is_the_str_of_its_elements(elements: list[Any]) -> None:
    text = "".join(f"{element}\n" for element in elements)
    assert TEXT.render(elements) == Rows(text.encode(errors="surrogatepass"), len(elements))


@pytest.mark.parametrize(
    ("element", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"b": 1, "a": [true, null]}'),
        ("größe 數", '"größe 數"'),
        ("two\nlines", '"two\\nlines"'),
        ("a\udcff", '"a\\udcff"'),
        (0.1 + 0.2, "0.30000000000000004"),
        (float("nan"), "null"),
        ({"score": [float("-inf"), {"x": float("nan")}]}, '{"score": [null, {"x": null}]}'),
        (np.float64("nan"), "null"),
        (np.float32("nan"), "null"),
        (np.int64(7), "7"),
        (np.bool_(True), "true"),
        (np.array([[1.5, math.nan]]), "[[1.5, null]]"),
        ({"p": np.array([0.5])}, '{"p": [0.5]}'),
        ({np.int64(1): 2, (3, 4): 5}, '{"1": 2, "(3, 4)": 5}'),
        ({math.nan: math.nan}, '{"nan": null}'),
        (datetime.date(2020, 1, 2), '"2020-01-02"'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5, 678901), '"2020-01-02T03:04:05.678901"'),
        (pd.Timestamp("2020-01-02", tz="UTC"), '"2020-01-02T00:00:00+00:00"'),
        (np.datetime64("2020-01-02", "ns"), '"2020-01-02T00:00:00.000000000"'),
        (np.array(["2020-01-02"], dtype="M8[D]"), '["2020-01-02"]'),
        (pd.NaT, "null"),
        (pd.NA, "null"),
        (pd.Series([1.0, math.nan]), "[1.0, null]"),
        (Decimal("1.10"), '"1.10"'),
        (b"raw", "\"b'raw'\""),
        (Scored("a"), '"scored a"'),
    ],
)
def test_an_element_becomes_a_line_of_json(element: Any, text: str) -> None:
    assert JSONL.render([element]) == Rows(text.encode() + b"\n", 1)


def test_a_frame_becomes_an_object_for_each_row() -> None:
    frame = pd.DataFrame({"file": ["ü", None], "score": [0.5, math.nan], "n": [2**53 + 1, 2]})
    assert JSONL.render(frame).data.decode() == (
        '{"file": "ü", "score": 0.5, "n": 9007199254740993}\n{"file": null, "score": null, "n": 2}\n'
    )


def test_a_frame_in_json_keeps_every_digit() -> None:
    values = [0.1 + 0.2, 1e-20, 123456789.12345679]
    assert [row["x"] for row in lines(pd.DataFrame({"x": values}))] == values


def test_a_frame_in_json_has_dates_and_missing_ones() -> None:
    times = pd.to_datetime(["2020-01-02 03:04:05.678901", None])
    assert [row["t"] for row in lines(pd.DataFrame({"t": times}))] == ["2020-01-02T03:04:05.678901", None]


def test_a_frame_in_json_has_its_index_first_where_that_is_wanted() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="key"))
    assert RowFormat(format="jsonl", index=True).render(frame).data == b'{"key": "x", "a": 1}\n'


def test_two_columns_of_one_name_do_not_become_one_json_key() -> None:
    with pytest.raises(BadOutput, match="two columns called a"):
        JSONL.render(pd.DataFrame([[1, 2]], columns=["a", "a"]))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=4))
def test_json_comes_back_as_it_went_in_with_null_for_what_is_no_number(elements: list[Any]) -> None:
    def finite(value: Any) -> Any:
        match value:
            case float():
                return value if math.isfinite(value) else None
            case list():
                return [finite(part) for part in value]
            case dict():
                return {key: finite(part) for key, part in value.items()}
        return value

    data = JSONL.render(elements).data
    assert [json.loads(line) for line in data.decode().split("\n")[:-1]] == finite(elements)
