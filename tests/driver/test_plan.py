from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskscore.core.model import Span
from daskscore.core.planning import Content, Named, PlanHeader, cut, line, line_of_pieces, sources_in
from daskscore.core.tables import Piece
from daskscore.driver.plan import Plan, Planned, Planner, first_difference, read_header, readings_in, write_rank_plan
from daskscore.errors import InputError
from tests.support import wait_until

HOSTILE = [
    "plain",
    "two words",
    'quo"te',
    "new\nline",
    "\\",
    "[]",
    "",
    "größe 數",
    "\udcff\udc80",
    "\u2028",
    "\0",
    "🎈",
]


def lines_of(*inputs: Iterable[str], size: int = 2) -> Iterator[tuple[bytes, int]]:
    return ((line(batch), len(batch)) for items in inputs for batch in cut(items, size))


def planned(folder: Path, lines: Iterator[tuple[bytes, int]], shape: Any = None) -> Planner:
    planner = Planner(folder, lines, content=Content.FILES, shape={"shape": shape})
    planner.start()
    return planner


def plan_of(folder: Path, *inputs: Iterable[str], size: int = 2, shape: Any = None) -> Plan:
    planner = planned(folder, lines_of(*inputs, size=size), shape)
    assert planner.wait(30)
    planner.check()
    return Plan(folder)


def header_of(folder: Path) -> PlanHeader:
    header = read_header(folder)
    assert header is not None
    return header


def batches(plan: Plan) -> list[list[str]]:
    return [[named.name for named in plan.items(index)] for index in range(plan.planned.mini_batches)]


def test_any_name_comes_back_as_it_was(tmp_path: Path) -> None:
    assert batches(plan_of(tmp_path, HOSTILE, size=5)) == [HOSTILE[:5], HOSTILE[5:10], HOSTILE[10:]]


def test_inputs_are_cut_each_by_itself_and_never_mixed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ["a", "b", "c"], ["d"], [], ["e", "f"])
    assert batches(plan) == [["a", "b"], ["c"], ["d"], ["e", "f"]]


def test_the_header_counts_and_tells_files_from_other_items(tmp_path: Path) -> None:
    planner = Planner(tmp_path, lines_of(["a", "b", "c"]), content=Content.WORDS, shape={})
    planner.start()
    assert planner.wait(30)
    header = header_of(tmp_path)
    assert (header.mini_batches, header.items, header.content) == (2, 3, Content.WORDS)
    assert Plan(tmp_path).planned == Planned(2, 3, complete=True)


def test_a_scorer_is_given_the_lines_of_its_spans_in_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, (str(number) for number in range(10)), size=1)
    lines = plan.lines([Span(2, 2), Span(7, 1), Span(9, 1)])
    assert [sources_in(line) for line in lines.splitlines()] == [["2"], ["3"], ["7"], ["9"]]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(1, 5))
def test_every_item_is_in_one_mini_batch_at_its_place(tmp_path: Path, inputs: list[list[str]], size: int) -> None:
    plan = plan_of(tmp_path, *inputs, size=size)
    assert [item for batch in batches(plan) for item in batch] == list(itertools.chain(*inputs))
    assert all(plan.count_items(index) == len(plan.items(index)) for index in range(plan.planned.mini_batches))
    assert plan.planned.items == sum(map(len, inputs))


def test_items_are_asked_for_one_by_one(tmp_path: Path) -> None:
    asked = iter(range(1_000_000))
    folders = (map(str, itertools.islice(asked, count)) for count in (5, 3))
    assert plan_of(tmp_path, *folders).planned.items == 8
    assert next(asked) == 8


def test_the_mean_length_of_a_line_says_how_many_fit_in_a_bundle(tmp_path: Path) -> None:
    assert plan_of(tmp_path, ["x" * 96] * 4, size=1).line_bytes == 101


def test_a_rank_plan_has_numbers_and_no_items(tmp_path: Path) -> None:
    header = write_rank_plan(tmp_path, 3, shape={"count": 3})
    plan = Plan(tmp_path)
    assert header == header_of(tmp_path) == PlanHeader(3, 3, header.fingerprint, Content.RANK)
    assert plan.planned == Planned(3, 3, complete=True)
    assert (batches(plan), plan.count_items(2)) == ([["rank 0"], ["rank 1"], ["rank 2"]], 1)
    assert (plan.lines([Span(0, 3)]), plan.line_bytes) == (b"", 0)


def test_the_same_items_and_settings_have_the_same_fingerprint(tmp_path: Path) -> None:
    plan_of(tmp_path / "one", HOSTILE, shape={"b": 1, "a": Path("/x")})
    plan_of(tmp_path / "other", HOSTILE, shape={"a": Path("/x"), "b": 1})
    assert header_of(tmp_path / "one") == header_of(tmp_path / "other")


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": [["a", "b", "d"]]},
        {"inputs": [["b", "a", "c"]]},
        {"inputs": [["a", "b"]]},
        {"inputs": [["a", "b"], ["c", "d"]]},
        {"size": 3},
        {"shape": {"size": 3}},
    ],
)
def test_another_item_order_size_or_setting_has_another_fingerprint(tmp_path: Path, changed: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"inputs": [["a", "b", "c"]], "size": 2, "shape": {}}
    for folder, these in (("one", settings), ("other", {**settings, **changed})):
        plan_of(tmp_path / folder, *these["inputs"], size=these["size"], shape=these["shape"])
    assert header_of(tmp_path / "one").fingerprint != header_of(tmp_path / "other").fingerprint


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        (["a", "b", "c"], ["a", "b"], "c is gone (it was in mini-batch 1)"),
        (["a", "b"], ["a", "b", "c"], "c is new (in mini-batch 1)"),
        (["a", "b", "c"], ["a", "b", "c", "d"], "d is new (in mini-batch 1)"),
        (["a", "b", "c", "d", "e"], ["a", "c", "d", "e"], "b is gone (it was in mini-batch 0)"),
        (["a", "c", "d"], ["a", "b", "c", "d"], "b is new (in mini-batch 0)"),
        (["a", "b", "c", "d"], ["b", "c", "d"], "a is gone (it was in mini-batch 0)"),
        (["a", "b"], ["a", "x", "b"], "x is new (in mini-batch 0)"),
        (["a", "b", "c"], ["b", "a", "c"], "the items of mini-batch 0 are in another order"),
        (["a", "b", "c"], ["a", "b", "c"], None),
        (["a", "b", "c", "d", "e", "f"], ["a", "b"], "c is gone (it was in mini-batch 1)"),
    ],
)
def test_the_first_difference_names_what_has_come_or_gone(
    tmp_path: Path, old: list[str], new: list[str], difference: str | None
) -> None:
    plan_of(tmp_path / "old", old)
    plan_of(tmp_path / "new", new)
    assert first_difference(tmp_path / "old", tmp_path / "new") == difference


def test_a_plan_that_is_cut_short_on_the_disk_is_refused(tmp_path: Path) -> None:
    plan_of(tmp_path, ["a"])
    (tmp_path / "mini_batches.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match=r"is empty: the plan of this run is damaged\. Start it anew with --overwrite"):
        Plan(tmp_path)


def test_what_is_listed_can_be_read_before_the_listing_ends(tmp_path: Path) -> None:
    go_on = threading.Event()

    def slowly() -> Iterator[tuple[bytes, int]]:
        yield line(["a", "b"]), 2
        assert go_on.wait(30)
        yield line(["c"]), 1

    planner = planned(tmp_path / "new", slowly())
    wait_until(lambda: planner.planned == Planned(1, 2), "the first mini-batch")
    (tmp_path / "new").rename(tmp_path / "plan")
    plan = Plan(tmp_path / "plan", planner)
    assert (plan.planned, batches(plan), read_header(tmp_path / "plan")) == (Planned(1, 2), [["a", "b"]], None)
    go_on.set()
    assert planner.wait(30)
    assert (plan.planned, batches(plan)) == (Planned(2, 3, complete=True), [["a", "b"], ["c"]])
    assert header_of(tmp_path / "plan") == header_of_plan_made_at_once(tmp_path / "whole", slowly)


def header_of_plan_made_at_once(folder: Path, lines: Callable[[], Iterator[tuple[bytes, int]]]) -> PlanHeader:
    planner = planned(folder, lines())
    assert planner.wait(30)
    return header_of(folder)


def test_what_ends_a_listing_is_told_and_what_was_listed_stays(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[bytes, int]]:
        yield line(["a"]), 1
        raise InputError("the storage is gone")

    planner = planned(tmp_path, broken())
    assert planner.wait(30)
    plan = Plan(tmp_path, planner)
    assert (str(plan.error), plan.planned, batches(plan)) == ("the storage is gone", Planned(1, 1), [["a"]])
    assert read_header(tmp_path) is None
    with pytest.raises(InputError, match="the storage is gone"):
        planner.check()


def test_a_planner_that_is_stopped_writes_no_more(tmp_path: Path) -> None:
    go_on = threading.Event()

    def endless() -> Iterator[tuple[bytes, int]]:
        for number in itertools.count():
            yield line([str(number)]), 1
            assert number or go_on.wait(30)

    planner = planned(tmp_path, endless())
    wait_until(lambda: planner.planned.mini_batches == 1, "the first mini-batch")
    go_on.set()
    planner.stop(seconds=30)
    assert planner.wait(0)
    assert read_header(tmp_path) is None


def test_an_unfinished_plan_is_the_beginning_of_the_whole_one(tmp_path: Path) -> None:
    plan_of(tmp_path / "new", ["a", "b", "c", "d", "e"])
    plan_of(tmp_path / "old", ["a", "b", "c", "d", "e"])
    (tmp_path / "old" / "plan.json").unlink()
    lines = tmp_path / "old" / "mini_batches.jsonl"
    lines.write_bytes(lines.read_bytes()[:-3])  # its driver was killed while it wrote
    assert first_difference(tmp_path / "old", tmp_path / "new") is None
    lines.write_bytes(b'["a","x"]\n["c')
    assert first_difference(tmp_path / "old", tmp_path / "new") == "x is gone (it was in mini-batch 0)"


def test_records_are_named_by_their_rows(tmp_path: Path) -> None:
    pieces = [piece("/in/a.csv", 0, 100), piece("s3://b/b.csv", 7, 1)]
    planner = Planner(
        tmp_path, iter([(line_of_pieces(pieces), 101)]), content=Content.RECORDS, shape={}, readings=("{}",)
    )
    planner.start()
    assert planner.wait(30)
    plan = Plan(tmp_path)
    assert plan.items(0) == [Named("/in/a.csv rows 0-99", 100), Named("s3://b/b.csv row 7")]
    assert (plan.count_items(0), plan.content, readings_in(tmp_path)) == (101, Content.RECORDS, ("{}",))


def piece(file: str, row: int, items: int) -> Piece:
    return {"input": 0, "file": file, "row": row, "items": items, "line": row + 1, "bytes": [row, row + items]}


def test_records_that_were_sorted_are_named_by_their_keys(tmp_path: Path) -> None:
    lines = iter([(line_of_pieces([piece("0/00000.arrow", 40, 3)], {"store": "north", "brand": 2}), 3)])
    planner = Planner(tmp_path, lines, content=Content.RECORDS, shape={})
    planner.start()
    assert planner.wait(30)
    assert Plan(tmp_path).items(0) == [Named("store=north, brand=2 rows 0-2", 3)]
