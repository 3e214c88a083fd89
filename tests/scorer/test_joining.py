"""What stands beside results."""

from __future__ import annotations

from typing import Any

import pandas
import pytest

from daskscore.scorer.context import MiniBatch
from daskscore.scorer.joining import Join
from daskscore.scorer.loading import Given, Rows
from daskscore.scorer.rows import BadOutput


def joined(join: Join, result: Any, given: Given) -> pandas.DataFrame:
    return join(result, join.beside(given))


FRAME = pandas.DataFrame({"id": [7, 8, 9], "x": [0.5, 1.5, 2.5]}, index=[4, 5, 6])


def files(*names: str, called: list[str] | None = None) -> Given:
    return Given(MiniBatch([*names], 0), len(names), len(names), names=called or [])


def records() -> Given:
    return Given(FRAME, 3, 3, rows=[Rows("a.csv", 10, 12), Rows("a.csv", 13, 14)])


def told(frame: pandas.DataFrame) -> dict[str, list[Any]]:
    return frame.to_dict("list")


@pytest.mark.parametrize(
    ("result", "columns"),
    [
        (["cat", "dog"], {"result": ["cat", "dog"]}),
        ([("cat", 1), ("dog", 2)], {"result": [("cat", 1), ("dog", 2)]}),
        ([{"label": "cat"}, {"label": "dog", "p": 1}], {"label": ["cat", "dog"]}),
        (pandas.Series([1, 2], index=[5, 5], name="p"), {"p": [1, 2]}),
        (pandas.DataFrame({"p": [1, 2]}, index=[9, 9]), {"p": [1, 2]}),
    ],
)
def test_a_key_is_the_name_of_the_item(result: Any, columns: dict[str, Any]) -> None:
    found = told(joined(Join("key"), result, files("/a/x.png", "/a/y.png")))
    assert found["item"] == ["/a/x.png", "/a/y.png"]
    assert {name: found[name] for name in columns} == columns
    assert next(iter(found)) == "item"


def test_a_file_that_was_brought_has_the_name_of_the_plan() -> None:
    given = files("/scratch/x", called=["s3://b/x"])
    assert told(joined(Join("key"), ["cat"], given)) == {"item": ["s3://b/x"], "result": ["cat"]}


def test_the_key_of_a_record_is_file_and_row_without_those_that_were_skipped() -> None:
    found = told(joined(Join("key"), ["a", "b", "c"], records()))
    assert found == {"file": ["a.csv"] * 3, "row": [10, 11, 13], "result": ["a", "b", "c"]}


def test_the_columns_of_the_input_stand_first_and_may_be_chosen() -> None:
    result = pandas.DataFrame({"label": list("abc"), "p": [1, 2, 3]})
    assert list(joined(Join("input"), result, records()).columns) == ["id", "x", "label", "p"]
    chosen = joined(Join("input", inputs=["id"], outputs=["p"]), result, records())
    assert told(chosen) == {"id": [7, 8, 9], "p": [1, 2, 3]}


def test_a_mini_batch_that_is_returned_with_a_column_more_has_its_columns_once() -> None:
    assert list(joined(Join("input"), FRAME.assign(p=1), records()).columns) == ["id", "x", "p"]


def test_neither_the_mini_batch_nor_the_result_is_changed() -> None:
    result = pandas.DataFrame({"p": [1, 2, 3]})
    joined(Join("input"), result, records())
    joined(Join("key"), result, records())
    assert (list(result.columns), list(FRAME.columns)) == (["p"], ["id", "x"])


@pytest.mark.parametrize(
    ("join", "result", "given", "message"),
    [
        (
            Join("key"),
            ["a"],
            files("x", "y"),
            "join: key needs one result for each item, in order: run.. returned 1 for 2",
        ),
        (Join("key"), "ab", files("x", "y"), "join needs a list, an array or a DataFrame, and run.. returned a str"),
        (Join("key"), None, files("x"), "returned a NoneType"),
        (
            Join("key", outputs=["q"]),
            pandas.DataFrame({"p": [1]}),
            files("x"),
            "columns.out: what run.. returned has no column q",
        ),
        (Join("input", inputs=["q"]), [1, 2, 3], records(), "columns.in: the input has no column q. It has id, x"),
        (
            Join("key"),
            pandas.DataFrame({"item": [1]}),
            files("x"),
            "join: key adds a column item, and run.. returned one",
        ),
    ],
)
def test_what_cannot_be_joined_says_why(join: Join, result: Any, given: Given, message: str) -> None:
    with pytest.raises(BadOutput, match=message):
        joined(join, result, given)


def test_what_the_script_does_to_its_mini_batch_changes_nothing_beside() -> None:
    given = Given(FRAME.copy(), 3, 3, rows=records().rows)
    join = Join("input")
    beside = join.beside(given)
    given.mini_batch["id"] = 0
    del given.mini_batch["x"]
    assert told(join([1, 2, 3], beside)) == {"id": [7, 8, 9], "x": [0.5, 1.5, 2.5], "result": [1, 2, 3]}
    names = files("b", "a")
    key = Join("key")
    before = key.beside(names)
    names.mini_batch.sort()
    assert told(key([1, 2], before))["item"] == ["b", "a"]
