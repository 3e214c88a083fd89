from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskscore.core.model import Span
from daskscore.core.planning import PlanHeader, items_of
from daskscore.driver.plan import Plan, first_difference, write_plan, write_rank_plan
from daskscore.errors import InputError

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


def plan_of(folder: Path, *inputs: Iterable[str], size: int = 2, shape: Any = None) -> Plan:
    write_plan(folder, inputs, size=size, files=True, shape={"shape": shape})
    return Plan(folder)


def batches(plan: Plan) -> list[list[str]]:
    return [plan.items(index) for index in range(plan.header.mini_batches)]


def test_any_name_comes_back_as_it_was(tmp_path: Path) -> None:
    assert batches(plan_of(tmp_path, HOSTILE, size=5)) == [HOSTILE[:5], HOSTILE[5:10], HOSTILE[10:]]


def test_inputs_are_cut_each_by_itself_and_never_mixed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, ["a", "b", "c"], ["d"], [], ["e", "f"])
    assert batches(plan) == [["a", "b"], ["c"], ["d"], ["e", "f"]]


def test_the_header_counts_and_tells_files_from_other_items(tmp_path: Path) -> None:
    header = write_plan(tmp_path, [["a", "b", "c"]], size=2, files=False, shape={})
    assert (header.mini_batches, header.items, header.rank, header.files) == (2, 3, False, False)
    assert Plan(tmp_path).header == header


def test_a_scorer_is_given_the_lines_of_its_spans_in_order(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, (str(number) for number in range(10)), size=1)
    lines = plan.lines([Span(2, 2), Span(7, 1), Span(9, 1)])
    assert [items_of(line) for line in lines.splitlines()] == [["2"], ["3"], ["7"], ["9"]]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=8), min_size=1, max_size=4), st.integers(1, 5))
def test_every_item_is_in_one_mini_batch_at_its_place(tmp_path: Path, inputs: list[list[str]], size: int) -> None:
    plan = plan_of(tmp_path, *inputs, size=size)
    assert [item for batch in batches(plan) for item in batch] == list(itertools.chain(*inputs))
    assert all(plan.count_items(index) == len(plan.items(index)) for index in range(plan.header.mini_batches))
    assert plan.header.items == sum(map(len, inputs))


def test_items_are_asked_for_one_by_one(tmp_path: Path) -> None:
    asked = iter(range(1_000_000))
    folders = (map(str, itertools.islice(asked, count)) for count in (5, 3))
    assert plan_of(tmp_path, *folders).header.items == 8
    assert next(asked) == 8


def test_the_mean_length_of_a_line_says_how_many_fit_in_a_bundle(tmp_path: Path) -> None:
    assert plan_of(tmp_path, ["x" * 96] * 4, size=1).line_bytes == 101


def test_a_rank_plan_has_numbers_and_no_items(tmp_path: Path) -> None:
    header = write_rank_plan(tmp_path, 3, shape={"count": 3})
    plan = Plan(tmp_path)
    assert header == plan.header == PlanHeader(3, 3, header.fingerprint, rank=True, files=False)
    assert (batches(plan), plan.count_items(2)) == ([["rank 0"], ["rank 1"], ["rank 2"]], 1)
    assert (plan.lines([Span(0, 3)]), plan.line_bytes) == (b"", 0)


def test_the_same_items_and_settings_have_the_same_fingerprint(tmp_path: Path) -> None:
    one = plan_of(tmp_path / "one", HOSTILE, shape={"b": 1, "a": Path("/x")})
    other = plan_of(tmp_path / "other", HOSTILE, shape={"a": Path("/x"), "b": 1})
    assert one.header == other.header


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
    settings: dict[str, Any] = {"inputs": [["a", "b", "c"]], "size": 2, "files": True, "shape": {}}
    one = write_plan(tmp_path / "one", **settings)
    assert write_plan(tmp_path / "other", **{**settings, **changed}).fingerprint != one.fingerprint


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
        (["a", "b", "c"], ["a", "b", "c"], "their settings differ"),
        (["a", "b", "c", "d", "e", "f"], ["a", "b"], "c is gone (it was in mini-batch 1)"),
    ],
)
def test_the_first_difference_names_what_has_come_or_gone(
    tmp_path: Path, old: list[str], new: list[str], difference: str
) -> None:
    plan_of(tmp_path / "old", old)
    plan_of(tmp_path / "new", new)
    assert first_difference(tmp_path / "old", tmp_path / "new") == difference


def test_a_plan_that_is_cut_short_on_the_disk_is_refused(tmp_path: Path) -> None:
    plan_of(tmp_path, ["a"])
    (tmp_path / "mini_batches.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match=r"is empty: the plan of this run is damaged\. Start it anew with --overwrite"):
        Plan(tmp_path)
