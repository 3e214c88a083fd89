"""`daskscore.Failed` in the place of a result."""

from __future__ import annotations

import pytest

from daskscore import Failed
from daskscore.scorer.context import MiniBatch
from daskscore.scorer.loading import Given, Rows
from daskscore.scorer.records import BadOutput
from daskscore.scorer.refused import REASON_CHARACTERS, without_refused


def given(*items: str) -> Given:
    return Given(MiniBatch(items, 0), len(items), len(items))


def test_the_others_keep_their_order() -> None:
    left, refused = without_refused(["A", Failed("no face"), "C", Failed("too dark")], given("a", "b", "c", "d"))
    assert left == ["A", "C"]
    assert refused == [(1, "no face"), (3, "too dark")]


def test_they_are_named_as_in_the_plan() -> None:
    assert given("a", "b").refused(1, "why")["item"] == "b"
    table = Given(None, 5, 5, rows=[Rows("t.csv", 10, 12), Rows("u.csv", 0, 3)])
    assert [table.refused(place, "why")["item"] for place in (1, 2, 4)] == [
        "t.csv row 11",
        "u.csv row 0",
        "u.csv row 2",
    ]


@pytest.mark.parametrize("results", [["A", Failed()], ["A", Failed(), "C", "D"]])
def test_which_item_is_meant_must_be_known(results: list[object]) -> None:
    with pytest.raises(BadOutput, match="one result for each item, in order"):
        without_refused(results, given("a", "b", "c"))


def test_a_reason_is_text_and_not_too_much_of_it() -> None:
    _, refused = without_refused([Failed(ValueError("x" * 10_000))], given("a"))
    assert refused == [(0, "x" * REASON_CHARACTERS)]
    assert repr(Failed("no face")) == "Failed('no face')"


def test_what_is_no_list_is_left_alone() -> None:
    result = {"a": Failed()}
    assert without_refused(result, given("a")) == (result, [])
