from __future__ import annotations

import pytest

from daskscore.core.partition_formats import path_columns, path_values


@pytest.mark.parametrize(
    ("how", "file", "values"),
    [
        (
            "/{Department}/{Day:yyyy/MM/dd}/data.csv",
            "../Accounts/2019/01/31/data.csv",
            ["Accounts", "2019-01-31T00:00:00"],
        ),
        ("{Day:yyyy/MM/dd/HH}/{name}.jsonl", "s3://b/2020/12/01/07/x.jsonl", ["2020-12-01T07:00:00", "x"]),
        ("{Store}/{Brand}/{file_name}.{extension}", "/d/1000/tropicana/p.csv", ["1000", "tropicana", "p", "csv"]),
        ("/year={year}/month={month}/{f}", "a/year=2018/month=07/x.parquet", ["2018", "07", "x.parquet"]),
        ("/{x}/data.csv", "a/b/other.csv", None),
        ("/{x}/data.csv", "a/b/c/data.csv.gz", None),
        ("{d:yyyy-MM-dd_HHmmss}.csv", "in/2020-01-02_030405.csv", ["2020-01-02T03:04:05"]),
    ],
)
def test_values_stand_at_the_end_of_the_name(how: str, file: str, values: list[str] | None) -> None:
    assert path_values(how, file) == values


def test_a_column_with_units_of_time_is_a_date() -> None:
    assert path_columns("/{a}/{b:yyyy}/x") == [("a", False), ("b", True)]
