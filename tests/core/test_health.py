"""CONTRACT 1.8: when a node whose init() keeps failing is left alone, and when the job is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.health import JOB_SECONDS, Health

LONG = JOB_SECONDS + 1


def failed(slots: int, **failures: int) -> Health:
    """So often init() has failed on each node."""
    health = Health(slots)
    for node, times in failures.items():
        for _ in range(times):
            health.init_failed(node)
    return health


@pytest.mark.parametrize(("slots", "times", "aside"), [(1, 2, False), (1, 3, True), (4, 11, False), (4, 12, True)])
def test_a_node_is_set_aside_after_three_failures_per_slot(slots: int, times: int, aside: bool) -> None:
    assert failed(slots, a=times).set_aside("a") == aside


def test_a_node_is_not_set_aside_for_the_failures_of_another() -> None:
    assert not failed(1, a=3, b=2).set_aside("b")


def test_a_node_that_was_never_heard_of_is_not_set_aside() -> None:
    assert not Health(1).set_aside("a")


def test_one_scorer_that_gets_ready_clears_its_node() -> None:
    health = failed(1, a=3)
    health.initialized("a")
    assert not health.set_aside("a")


def test_one_scorer_that_gets_ready_clears_no_other_node() -> None:
    health = failed(1, a=3, b=3)
    health.initialized("b")
    assert health.set_aside("a")


def test_failures_after_a_success_are_counted_anew() -> None:
    health = failed(1, a=2)
    health.initialized("a")
    health.init_failed("a")
    assert not health.set_aside("a")


def test_all_failures_of_the_job_are_counted_for_its_message() -> None:
    health = failed(1, a=2, b=3)
    health.initialized("a")
    assert health.total == 5


def test_when_all_nodes_are_set_aside_there_is_no_hope() -> None:
    assert failed(1, a=3, b=3).hopeless({"a", "b"}, seconds=0)


def test_a_node_that_is_gone_gives_no_hope() -> None:
    assert failed(1, a=3, b=1).hopeless({"a"}, seconds=0)


@pytest.mark.parametrize(
    ("failures", "seconds", "hopeless"),
    [(4, LONG, True), (3, LONG, False), (4, JOB_SECONDS, False), (4, JOB_SECONDS + 0.1, True)],
)
def test_after_two_minutes_two_failures_per_slot_are_enough(failures: int, seconds: float, hopeless: bool) -> None:
    assert failed(2, a=failures).hopeless({"a"}, seconds=seconds) == hopeless


@pytest.mark.parametrize(("a", "b", "hopeless"), [(2, 5, False), (2, 6, True), (4, 4, True)])
def test_the_failures_of_all_nodes_are_added_up(a: int, b: int, hopeless: bool) -> None:
    assert failed(2, a=a, b=b).hopeless({"a", "b"}, seconds=LONG) == hopeless


def test_two_minutes_are_what_the_contract_says() -> None:
    assert JOB_SECONDS == 120


@given(st.integers(1, 4), st.integers(0, 100), st.floats(0, 1e6))
def test_one_good_node_is_hope_whatever_the_others_do(slots: int, times: int, seconds: float) -> None:
    health = failed(slots, a=times, b=times)
    health.initialized("b")
    assert not health.hopeless({"a", "b"}, seconds=seconds)


def test_without_nodes_there_is_nothing_to_judge() -> None:
    assert not failed(1, a=3).hopeless(set(), seconds=LONG)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)), st.sets(st.sampled_from("abc")), st.floats(0, 1e3))
def test_another_failure_never_gives_hope(failures: dict[str, int], nodes: set[str], seconds: float) -> None:
    before, after = failed(1, **failures), failed(1, **failures)
    after.init_failed("a")
    assert not before.hopeless(nodes, seconds=seconds) or after.hopeless(nodes, seconds=seconds)


def test_a_node_where_each_attempt_fails_while_others_go_well_is_set_aside() -> None:
    health = Health(2)
    health.tried("good", scored=3, failed=1)
    for _ in range(9):
        assert not health.set_aside("bad")
        health.tried("bad", scored=0, failed=1)
    assert health.set_aside("bad")
    assert not health.set_aside("good")


def test_attempts_that_fail_everywhere_are_not_the_node_s_fault() -> None:
    health = Health(1)
    for _ in range(100):
        health.tried("a", scored=0, failed=1)
        health.tried("b", scored=0, failed=1)
    assert not health.set_aside("a")
    assert not health.set_aside("b")


def test_one_attempt_that_goes_well_clears_the_node() -> None:
    health = Health(1)
    health.tried("good", scored=1, failed=0)
    for scored in (0, 1, 0):
        for _ in range(5):
            health.tried("bad", scored=scored, failed=1 - scored)
    assert not health.set_aside("bad")
