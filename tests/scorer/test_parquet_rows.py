"""Results as Parquet, read back with pandas and pyarrow."""

from __future__ import annotations

import datetime
import math
import string
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.errors import RunError
from daskscore.scorer import parquet_rows
from daskscore.scorer.rows import BadOutput, RowFormat
from tests.rows import PARQUET, assembled

MIXED = replace(PARQUET, mixed_types=True)
UTC = datetime.UTC


def table(folder: Path, *results: Any, how: RowFormat = PARQUET) -> Any:
    return pq.read_table(assembled(folder, how, *results))


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        (["a", None], pa.string(), ["a", None]),
        (['q"\n,🙂', ""], pa.string(), ['q"\n,🙂', ""]),
        ([1, None], pa.int64(), [1, None]),
        ([2**63 - 1], pa.int64(), [2**63 - 1]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([0.1 + 0.2, math.inf, math.nan], pa.float64(), [0.1 + 0.2, math.inf, None]),
        ([np.float32(0.1)], pa.float32(), [np.float32(0.1)]),
        ([np.int8(1)], pa.int8(), [1]),
        ([True, None], pa.bool_(), [True, None]),
        ([None, pd.NA], pa.null(), [None, None]),
        ([b"\xff"], pa.binary(), [b"\xff"]),
        ([Decimal("1.10"), Decimal("22.5")], pa.decimal128(4, 2), [Decimal("1.10"), Decimal("22.50")]),
        ([datetime.date(2020, 1, 2)], pa.date32(), [datetime.date(2020, 1, 2)]),
        ([datetime.datetime(2020, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"), [datetime.datetime(2020, 1, 2, tzinfo=UTC)]),
        ([datetime.timedelta(1)], pa.duration("us"), [datetime.timedelta(1)]),
        ([pd.NaT, pd.Timestamp("2020-01-02")], pa.timestamp("us"), [None, datetime.datetime(2020, 1, 2)]),
        ([[{"label": "cat", "p": 0.5}], []], None, [[{"label": "cat", "p": 0.5}], []]),
        ([np.array([1.5, 2])], pa.list_(pa.float64()), [[1.5, 2.0]]),
        (["{}", None], pa.string(), ["{}", None]),
    ],
)  # fmt: skip
def test_a_value_keeps_its_type(tmp_path: Path, values: list[Any], kind: Any, read: list[Any]) -> None:
    frame = pd.DataFrame({"value": pd.Series(values, dtype=object)})
    for found in (
        table(tmp_path / "list", values and [{"value": v} for v in values]),
        table(tmp_path / "frame", frame),
    ):
        assert found.column("value").to_pylist() == read
        assert kind is None or found.schema.field("value").type == kind


@pytest.mark.parametrize(
    ("column", "read"),
    [
        (pd.Categorical(["b", None]), ["b", None]),
        (pd.period_range("2020-01", periods=2, freq="M"), ["2020-01", "2020-02"]),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.to_datetime(["2020-01-02", None]).tz_localize("Europe/Berlin"), None),
        (pd.Series([{}, {}]), [None, None]),
    ],
)
def test_columns_of_pandas_own_kinds(tmp_path: Path, column: Any, read: list[Any] | None) -> None:
    found = table(tmp_path, pd.DataFrame({"a": column})).column("a")
    if read is None:
        assert str(found.type).endswith("tz=Europe/Berlin]")
    else:
        assert found.to_pylist() == read


@pytest.mark.parametrize(
    ("result", "read"),
    [
        ([{"a": 1}, {"b": "x"}, None], {"a": [1, None, None], "b": [None, "x", None]}),
        ([("x", 1), ("y",)], {"0": ["x", "y"], "1": [1, None]}),
        (["a.png", "b.png"], {"value": ["a.png", "b.png"]}),
        (np.array([[1, 2], [3, 4]]), {"0": [1, 3], "1": [2, 4]}),
        (pd.Series([1, 2], name="n"), {"n": [1, 2]}),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), {"('a', 'b')": [1]}),
        (pd.DataFrame({"a": []}, dtype="int32"), {"a": []}),
        ([], {}),
    ],
)
def test_each_kind_of_result_has_its_columns(tmp_path: Path, result: Any, read: dict[str, list[Any]]) -> None:
    assert table(tmp_path, result).to_pydict() == read


def test_a_frame_without_rows_still_tells_its_types(tmp_path: Path) -> None:
    assert table(tmp_path, pd.DataFrame({"a": []}, dtype="int32")).schema.field("a").type == pa.int32()


def test_the_types_of_rows_win_over_those_of_frames_without_rows(tmp_path: Path) -> None:
    empty = pd.DataFrame({"a": [], "b": []}, dtype="int32")
    assert table(tmp_path, empty, [{"a": "x"}]).to_pydict() == {"a": ["x"], "b": [None]}
    assert table(tmp_path / "back", [{"a": "x"}], empty).schema.field("b").type == pa.int32()


def test_the_index_is_the_first_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="key"))
    assert table(tmp_path, frame, how=replace(PARQUET, index=True)).to_pydict() == {"key": ["x"], "a": [1]}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([1, "a"], "Could not convert 'a' with type str: tried to convert to int64"),
        ([2**63], "Python int too large"),
        ([2**53 + 1, 0.5], "outside of the range exactly representable"),
        ([object()], "did not recognize"),
        ([{1: 2}], "Expected dict key of type str"),
    ],
)
def test_values_of_several_types_are_refused_or_become_text(tmp_path: Path, values: list[Any], why: str) -> None:
    frame = pd.DataFrame({"score": pd.Series(values, dtype=object)})
    with pytest.raises(BadOutput, match=why) as refused:
        PARQUET.render(frame)
    assert str(refused.value).startswith("column score of what run() returned cannot stand in a Parquet file: ")
    assert table(tmp_path, frame, how=MIXED).column("score").to_pylist() == [str(value) for value in values]


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(BadOutput, match="surrogates not allowed"):
        PARQUET.render(["a\udcff"])
    with pytest.raises(BadOutput, match=r"os\.fsencode"):
        MIXED.render(["a\udcff"])


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(BadOutput, match="two columns called a"):
        PARQUET.render(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize(
    ("one", "other", "kind", "read"),
    [
        ([1], [2.5], pa.float64(), [1.0, 2.5]),
        ([None], ["a"], pa.string(), [None, "a"]),
        ([np.int8(1)], [np.uint64(2)], None, [1, 2]),
        ([np.float32(0.5)], [0.1], pa.float64(), [0.5, 0.1]),
        ([Decimal("1.5")], [Decimal("0.25")], None, [Decimal("1.50"), Decimal("0.25")]),
        ([[1]], [[0.5]], pa.list_(pa.float64()), [[1.0], [0.5]]),
        ([{"x": 1}], [{"y": "b"}], None, [{"x": 1, "y": None}, {"x": None, "y": "b"}]),
        ([{}], [{"y": "b"}], None, [None, {"y": "b"}]),
        ([np.datetime64("2020-01-02", "s")], [np.datetime64("2020-01-02", "ns")], pa.timestamp("ns"), None),
    ],
)
def test_types_of_different_mini_batches_become_the_one_that_holds_both(
    tmp_path: Path, one: list[Any], other: list[Any], kind: Any, read: list[Any] | None
) -> None:
    found = table(tmp_path / "there", [{"a": v} for v in one], [{"a": v} for v in other]).column("a")
    back = table(tmp_path / "back", [{"a": v} for v in other], [{"a": v} for v in one]).column("a")
    assert kind is None or found.type == back.type == kind
    if read is not None:
        assert (found.to_pylist(), back.to_pylist()) == (read, read[::-1])


@pytest.mark.parametrize(
    ("one", "other", "types"),
    [
        (1, "a", "int64 in some mini-batches and string in others"),
        (True, 1, "bool in some mini-batches and int64 in others"),
        (b"a", "b", "binary in some mini-batches and string in others"),
        (Decimal("0.1"), 0.1, r"decimal128\(1, 1\) in some mini-batches and double in others"),
        (2**53 + 1, 0.5, "int64 in some mini-batches and double in others .*9007199254740993"),
        (datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2), "date32"),
    ],
)
def test_types_that_no_third_one_holds_are_named_or_become_text(
    tmp_path: Path, one: Any, other: Any, types: str
) -> None:
    results = ([{"k": 1, "score": one}], [{"k": 2, "score": other}])
    with pytest.raises(RunError, match=f"^column score is {types}.*--resume --set append_row_mixed_types=true"):
        table(tmp_path / "refused", *results)
    assert not (tmp_path / "refused" / "rows").exists()
    found = table(tmp_path / "text", *results, how=MIXED)
    assert found.to_pydict() == {"k": [1, 2], "score": [str(one), str(other)]}


def test_what_fails_in_one_mini_batch_is_the_same_text_whether_it_is_told_before_or_after(tmp_path: Path) -> None:
    """A run that failed for its types is resumed with append_row_mixed_types: what was scored before stays."""
    first, second = [{"a": 1}], [{"a": 2}, {"a": "x"}]
    assert MIXED.render(first).data == PARQUET.render(first).data
    assert table(tmp_path, first, second, how=MIXED).to_pydict() == {"a": ["1", "2", "x"]}


@pytest.mark.parametrize("limits", [{"BLOCK_ROWS": 7}, {"BLOCK_BYTES": 100}])
def test_large_results_are_cut_into_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int]
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(parquet_rows, name, value)
    frame = pd.DataFrame({"n": range(100), "t": [str(n) for n in range(100)]})
    assert PARQUET.render(frame).data.count(b"99") > 0
    assert table(tmp_path, frame).to_pydict() == {"n": list(range(100)), "t": [str(n) for n in range(100)]}


cells = {
    "i": st.none() | st.integers(-(2**63), 2**63 - 1),
    "f": st.floats(allow_nan=False),
    "t": st.none() | st.text(st.characters(codec="utf-8"), max_size=6),
    "d": st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2200, 1, 1)),
    "b": st.binary(max_size=4),
    "l": st.lists(st.integers(0, 9), max_size=3),
    "s": st.fixed_dictionaries({"x": st.integers(0, 9) | st.none(), "y": st.text(string.ascii_letters, max_size=2)}),
}
some_rows = st.lists(st.sampled_from(sorted(cells)), min_size=1, unique=True).flatmap(
    lambda names: st.lists(st.fixed_dictionaries({name: cells[name] for name in names}), min_size=1, max_size=4)
)


@given(results=st.lists(st.tuples(some_rows, st.booleans()), max_size=5))
def test_any_rows_come_back_in_their_own_columns(tmp_path_factory: pytest.TempPathFactory, results: Any) -> None:
    made = [pd.DataFrame(rows, dtype=object) if as_frame else rows for rows, as_frame in results]
    names = list(dict.fromkeys(name for rows, _ in results for row in rows for name in row))
    found = table(tmp_path_factory.mktemp("rows"), *made)
    assert found.column_names == names
    assert found.to_pylist() == [{name: row.get(name) for name in names} for rows, _ in results for row in rows]
