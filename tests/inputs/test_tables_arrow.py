from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy
import pandas
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from daskscore.core.tables import Size
from daskscore.errors import InputError
from daskscore.inputs import arrow_files
from daskscore.inputs.parquet_ranges import ranges_of
from daskscore.inputs.table_options import TableOptions
from daskscore.inputs.tables import decide_reading, table_pieces
from daskscore.scorer.tables import Reader
from tests.tables import TEXT, assert_each_record_once, cut, opener

LAW = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
SIZES = st.builds(Size, bytes=st.integers(50, 5000)) | st.builds(Size, rows=st.integers(1, 40))


def frame(rows: int) -> pandas.DataFrame:
    """Each dtype that Parquet and pandas have in common."""
    numbers = numpy.arange(rows)
    return pandas.DataFrame(
        {
            "int": numbers,
            "small": numbers.astype("int8"),
            "float": numbers / 7,
            "missing": [None if number % 3 else number / 2 for number in range(rows)],
            "nullable": pandas.array([None if number % 3 else number for number in range(rows)], dtype="Int64"),
            "bool": numbers % 2 == 0,
            "text": [f"é {number}" for number in range(rows)],
            "when": pandas.date_range("2020", periods=rows, freq="h"),
            "zone": pandas.date_range("2020", periods=rows, freq="h", tz="Europe/Rome"),
            "day": [datetime.date(2020, 1, 1)] * rows,
            "exact": [decimal.Decimal("1.50")] * rows,
            "list": [[number, 1] for number in range(rows)],
        }
    )


def write(data: pandas.DataFrame, path: Path, rows: int) -> None:
    if path.suffix == ".parquet":
        data.to_parquet(path, row_group_size=rows)
    else:
        pyarrow.feather.write_feather(data, str(path), compression=path.stem, chunksize=rows)


@LAW
@given(
    rows=st.integers(1, 80),
    group=st.integers(1, 120),
    size=SIZES,
    name=st.sampled_from(["data.parquet", "uncompressed.feather", "zstd.arrow", "lz4.ipc"]),
)
def test_the_pieces_of_a_file_are_what_pandas_reads_of_the_whole(
    rows: int, group: int, size: Size, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    write(frame(rows), path, group)
    found = cut(path, size)
    assert_each_record_once(found.pieces)
    assert_frame_equal(found.whole, pandas.read_parquet(path) if name.endswith("t") else pandas.read_feather(path))


def test_an_index_that_pandas_wrote_is_the_index_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = frame(10)[["int", "text"]].set_index("text")
    data.to_parquet(path)
    assert_frame_equal(pandas.concat(cut(path, "3 rows").frames), data)


def test_categories_are_read_as_their_values(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pandas.DataFrame({"c": pandas.Categorical(["x", "y", "x"])}).to_parquet(path, row_group_size=1)
    found = cut(path, "1 rows")
    assert found.whole["c"].tolist() == ["x", "y", "x"]
    assert found.frames[0]["c"].dtype == TEXT


def test_a_frame_may_be_written_into(tmp_path: Path) -> None:
    path = tmp_path / "uncompressed.feather"
    write(frame(10)[["float"]], path, 10)
    for found in cut(path, "10 rows").frames:
        found.loc[0, "float"] = 5.0
        found["float"] += 1
        assert found["float"].iloc[0] == 6


def test_one_huge_row_group_is_cut_by_rows_and_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = pyarrow.table({"x": numpy.arange(2_000_000), "y": numpy.random.default_rng(0).random(2_000_000)})
    pyarrow.parquet.write_table(data, path, row_group_size=2_000_000)
    reading = decide_reading([str(path)], TableOptions(), opener)
    pieces = list(table_pieces([str(path)], reading, Size.parse("50000 rows"), opener))
    assert [(piece["groups"], piece["items"]) for piece in pieces] == [([0, 0], 50_000)] * 40
    reader = Reader([reading])
    before = pyarrow.total_allocated_bytes()
    pool = pyarrow.default_memory_pool()
    for piece in pieces[::7]:
        found = reader.read(piece).frame
        assert found["x"].tolist() == list(range(piece["row"], piece["row"] + 50_000))
        assert pyarrow.total_allocated_bytes() - before < 16 << 20
    reader.close()
    del found
    assert pool.bytes_allocated() - before < 16 << 20


def test_whole_numbers_with_missing_ones_are_floats_in_every_piece(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": [1, 2, None, 4], "b": [True, True, True, None]}), path)
    found = cut(path, "2 rows")
    assert [frame.dtypes.astype(str).tolist() for frame in found.frames] == [["float64", "boolean"]] * 2


def test_files_are_looked_at_ahead_but_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow_files, "AHEAD", 4)
    paths = [tmp_path / f"{number:02}.parquet" for number in range(20)]
    for number, path in enumerate(paths):
        pyarrow.parquet.write_table(pyarrow.table({"x": [number] * 3}), path)
    opened: list[str] = []
    names = list(map(str, paths))
    reading = decide_reading(names, TableOptions(), opener)

    def counting(path: str) -> Any:
        opened.append(path)
        return opener(path)

    pieces = table_pieces(names, reading, Size.parse("2 rows"), counting)
    assert [next(pieces)["file"] for _ in range(2)] == names[:1] * 2
    assert len(opened) <= 5
    assert [piece["file"] for piece in pieces] == [name for name in names[1:] for _ in range(2)]


def test_columns_may_stand_in_another_order_and_be_packed_in_another_way(tmp_path: Path) -> None:
    one = pyarrow.table({"a": pyarrow.array([1], pyarrow.int64()), "b": ["x"], "c": [1.5]})
    other = pyarrow.table(
        {
            "c": pyarrow.array([2], pyarrow.int32()),
            "b": pyarrow.array(["y"]).dictionary_encode(),
            "a": pyarrow.array([3], pyarrow.int16()),
        }
    )
    for name, table in {"a": one, "b": other}.items():
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    found = cut([tmp_path / "a.parquet", tmp_path / "b.parquet"], "1MB")
    assert_frame_equal(found.whole, pandas.DataFrame({"a": [1, 3], "b": ["x", "y"], "c": [1.5, 2.0]}))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": [1]}, r"b\.parquet has no column b, which other files of the input have"),
        ({"a": [1], "b": ["x"], "c": [1]}, r"b\.parquet has a column c, which the first file has not"),
        ({"a": ["1"], "b": ["x"]}, r"column a is string in .*b\.parquet, but int64 in the first file"),
        ({"a": [1.5], "b": ["x"]}, r"column a is double in .*b\.parquet, but int64 in the first file"),
    ],
)
def test_mixed_schemas_are_named_by_file_and_column(other: dict[str, Any], message: str, tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1], "b": ["x"]}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table(other), tmp_path / "b.parquet")
    with pytest.raises(InputError, match=message):
        cut([tmp_path / "a.parquet", tmp_path / "b.parquet"], "1MB")


def test_a_declared_dtype_makes_files_agree(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2], "t": ["2020-01-01", "2020-01-02"]}), tmp_path / "a.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"a": ["3", "4.5"], "t": ["2020-01-03", None]}), tmp_path / "b.parquet")
    found = cut([tmp_path / "a.parquet", tmp_path / "b.parquet"], "1 rows", dtypes={"a": "float", "t": "datetime"})
    assert found.whole["a"].tolist() == [1, 2, 3, 4.5]
    assert found.whole["t"].dt.day.tolist()[:3] == [1, 2, 3]


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.feather"):
        (tmp_path / name).write_text("not at all")
        with pytest.raises(InputError, match=rf"{name} cannot be read as a"):
            cut(tmp_path / name, "1MB")
    (tmp_path / "a.parquet.gz").write_text("no")
    with pytest.raises(InputError, match="Decompress it first"):
        cut(tmp_path / "a.parquet.gz", "1MB")


def test_the_bytes_that_a_piece_needs_are_enough_to_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(frame(1000), path, 100)
    found = cut(path, "150 rows", columns=["text", "list", "int"])
    for piece, want in zip(found.pieces, found.frames, strict=True):
        copy = tmp_path / "copy.parquet"
        with path.open("rb") as whole, copy.open("wb") as part:
            ranges = ranges_of(piece, found.reading, whole)
            for start, stop in ranges:
                whole.seek(start)
                part.seek(start)
                part.write(whole.read(stop - start))
        assert sum(stop - start for start, stop in ranges) < path.stat().st_size / 2
        reader = Reader([found.reading])
        assert_frame_equal(reader.read(piece, str(copy)).frame, want)
        reader.close()
