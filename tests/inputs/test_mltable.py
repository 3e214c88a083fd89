from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest
from pandas.testing import assert_frame_equal

from daskscore.core.tables import Format, Header, OnBadRecord, Size
from daskscore.errors import InputError
from daskscore.inputs.local import LocalFiles
from daskscore.inputs.mltable import MLTable, read_mltable
from daskscore.inputs.tables import decide_reading, table_pieces
from daskscore.scorer.tables import Reader
from tests.tables import TEXT, opener


def mltable(folder: Path, text: str) -> MLTable:
    (folder / "MLTable").write_text(text)
    return read_mltable(str(folder), opener)


def find(path: str) -> Iterator[str]:
    return LocalFiles(path).items()


def frame(table: MLTable, size: str = "1MB") -> pandas.DataFrame:
    """All that a job would be given of it."""
    assert table.options is not None
    files = list(table.files(find))
    reading = decide_reading(files, table.options, opener)
    reader = Reader([reading])
    pieces = table_pieces(files, reading, Size.parse(size), opener)
    return pandas.concat([reader.read(piece).frame for piece in pieces], ignore_index=True)


def test_the_official_iris_table_is_read_as_written(tmp_path: Path) -> None:
    """Its data has no header, its MLTable says that it has: the first record is eaten (CONTRACT 1.2)."""
    (tmp_path / "iris.csv").write_text("5.1,3.5,setosa\n" * 75)
    table = mltable(
        tmp_path,
        """
        type: mltable
        paths:
          - file: ./iris.csv
        transformations:
          - read_delimited:
              delimiter: ','
              encoding: ascii
              header: all_files_same_headers
        """,
    )
    found = frame(table, "1KB")
    assert len(found) == 74
    assert list(found.columns) == ["5.1", "3.5", "setosa"]


def test_a_table_of_every_transformation_that_is_supported(tmp_path: Path) -> None:
    for store, day in (("north", "01"), ("south", "02")):
        folder = tmp_path / "sales" / store / "2020" / "05" / day
        folder.mkdir(parents=True)
        (folder / "data.txt").write_text("when;amount;open;junk\n31/12/2019;1,5;yes;a\n01/01/2020;;no;\n", "latin-1")
    table = mltable(
        tmp_path,
        """
        $schema: https://azuremlschemas.azureedge.net/latest/MLTable.schema.json
        type: mltable
        traits:
          index_columns: [amount]
        paths:
          - pattern: ./sales/**/*.txt
        transformations:
          - read_delimited:
              delimiter: ';'
              encoding: latin1
              header: all_files_different_headers
              empty_as_string: false
              include_path_column: true
              support_multi_line: true
              infer_column_types: true
              partition_size: 20971520
          - extract_columns_from_partition_format: /{store}/{day:yyyy/MM/dd}/data.txt
          - convert_column_types:
              - columns: when
                column_type:
                  datetime:
                    formats: ["%d/%m/%Y"]
              - columns: [open]
                column_type:
                  boolean:
                    mismatch_as: error
                    true_values: ["yes", "1"]
                    false_values: ["no", "0"]
              - columns: amount
                column_type: string
          - drop_columns: [junk, Path]
        """,
    )
    found = frame(table)
    want = {
        "store": pandas.Series(["north", "north", "south", "south"], dtype=TEXT),
        "day": pandas.to_datetime(["2020-05-01", "2020-05-01", "2020-05-02", "2020-05-02"]).astype("datetime64[ns]"),
        "when": pandas.to_datetime(["2019-12-31", "2020-01-01"] * 2).astype("datetime64[ns]"),
        "amount": pandas.Series(["1,5", None] * 2, dtype=TEXT).fillna(math.nan),
        "open": [True, False] * 2,
    }
    assert_frame_equal(found, pandas.DataFrame(want))


def test_no_header_and_kept_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2,3\n4,5,\n")
    table = mltable(
        tmp_path,
        """
        paths: [{file: a.csv}]
        transformations:
          - read_delimited: {header: no_header, include_path_column: true}
          - keep_columns: [Column3, Column1, Path]
          - drop_columns: Path
          - convert_column_types: [{columns: [Column1, Column3], column_type: int}]
        """,
    )
    found = frame(table)
    assert list(found.columns) == ["Column3", "Column1"]
    assert found.dtypes.astype(str).tolist() == ["float64", "int64"]


def test_parquet_and_json_lines(tmp_path: Path) -> None:
    pandas.DataFrame({"x": [1, 2]}).to_parquet(tmp_path / "part-0")
    (tmp_path / "j.json").write_text('{"x": 1}\nnot json\n')
    parquet = mltable(tmp_path, "paths: [{file: ./part-0}]\ntransformations: [read_parquet]\n")
    assert frame(parquet)["x"].tolist() == [1, 2]
    lines = mltable(
        tmp_path,
        "paths: [{file: ./j.json}]\ntransformations: [read_json_lines: {encoding: utf8bom, invalid_lines: drop}]\n",
    )
    assert lines.options is not None
    assert (lines.options.format, lines.options.on_bad_record) == (Format.JSONL, OnBadRecord.SKIP)
    assert frame(lines)["x"].tolist() == [1]


def test_without_a_transformation_that_reads_the_files_are_the_items(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text(name)
    table = mltable(tmp_path, "type: mltable\npaths:\n  - folder: ./\n")
    assert table.options is None
    assert [Path(file).name for file in table.files(find)] == ["a.jpg", "b.jpg"]


def test_paths_elsewhere_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "MLTable").write_text(
        "paths: [{file: 'wasbs://a@b.blob.core.windows.net/x.csv'}, {pattern: /d/*.csv}, {folder: ./s}]"
    )
    found = read_mltable(f"{tmp_path}/", opener).paths
    assert found == ("wasbs://a@b.blob.core.windows.net/x.csv", "/d/*.csv", f"{tmp_path}/s")


def test_defaults_are_those_of_azure(tmp_path: Path) -> None:
    options = mltable(tmp_path, "paths: [{file: a}]\ntransformations: [{read_delimited: }]\n").options
    assert options is not None
    assert (options.header, options.delimiter, options.dialect.encoding) == (
        Header.ALL_FILES_SAME_HEADERS,
        ",",
        "utf-8",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "MLTable is no YAML"),
        ("type: mltable", "MLTable names no paths"),
        ("paths: [{uri: x}]", "is not known. Write file:, folder: or pattern:"),
        ("paths: [{file: a}]\ntransformations: [{read_delta_lake: {version_as_of: 1}}]", "transformation read_delta_lake is not supported; supported are read_delimited"),
        ("paths: [{file: a}]\ntransformations: [read_parquet, {filter: 'col(\"x\") > 1'}]", "transformation filter is not supported"),
        ("paths: [{file: a}]\ntransformations: [read_parquet, {take: 5}]", "transformation take is not supported"),
        ("paths: [{file: a}]\ntransformations: [{drop_columns: [x]}]", "drop_columns comes before any of read_delimited"),
        ("paths: [{file: a}]\ntransformations: [read_parquet, read_parquet]", "is a second one that reads"),
        ("paths: [{file: a}]\ntransformations: [{read_delimited: {heading: x}}]", "heading of read_delimited is not known"),
        ("paths: [{file: a}]\ntransformations: [{read_delimited: {header: first}}]", "header: first is not known. Known are no_header"),
        ("paths: [{file: a}]\ntransformations: [read_parquet, {convert_column_types: [{columns: x, column_type: stream_info}]}]", "column_type stream_info of column x is not known"),
        ("paths: [{file: a}]\ntransformations: [{read_delimited: {delimiter: '||'}}]", "delimiter: '||' is not usable"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_as_written_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        mltable(tmp_path, text)
    assert message in str(error.value)
