"""CONTRACT 1.5 and 1.6, rule by rule: what is counted as failed, and when that ends a job."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.model import Segment
from daskscore.core.thresholds import NOTHING_SUCCEEDED, Tally, Thresholds

HEALTHY = Tally(total_items=100, total_mini_batches=10, succeeded_items=50, succeeded_mini_batches=5)

counts = st.integers(0, 20)
limits = st.integers(-1, 20)
tallies = st.builds(
    Tally,
    total_items=st.just(1000),
    total_mini_batches=st.integers(1, 100),
    succeeded_items=counts,
    failed_items=counts,
    succeeded_mini_batches=counts,
    short_mini_batches=counts,
    given_up_mini_batches=counts,
    failing_mini_batches=counts,
    all_handed_out=st.booleans(),
)
thresholds = st.builds(
    Thresholds,
    error_threshold=limits,
    mini_batch_error_threshold=limits,
    allowed_failed_count=st.none() | limits,
    allowed_failed_percent=st.none() | st.floats(0, 100),
    append_row=st.booleans(),
)


def said(limit: Thresholds, tally: Tally) -> str:
    return limit.exceeded(tally) or "go on"


# 1.5: error_threshold is a sum over the whole input; the job ends when the sum goes above it; -1 ignores.


@pytest.mark.parametrize(
    ("threshold", "failed", "stops"),
    [(-1, 10**6, False), (0, 0, False), (0, 1, True), (5, 5, False), (5, 6, True)],
)
def test_failed_items_end_a_job_above_error_threshold(threshold: int, failed: int, stops: bool) -> None:
    word = said(Thresholds(error_threshold=threshold), replace(HEALTHY, failed_items=failed))
    assert ("error_threshold" in word) == stops


# 1.5: mini_batch_error_threshold counts mini-batches that were given up, and short ones where items are checked.


@pytest.mark.parametrize(
    ("threshold", "given_up", "stops"),
    [(-1, 10**6, False), (0, 0, False), (0, 1, True), (5, 5, False), (5, 6, True)],
)
def test_mini_batches_given_up_end_a_job_above_their_threshold(threshold: int, given_up: int, stops: bool) -> None:
    limit = Thresholds(mini_batch_error_threshold=threshold)
    word = said(limit, replace(HEALTHY, given_up_mini_batches=given_up))
    assert ("mini_batch_error_threshold" in word) == stops


def test_a_short_return_fails_its_mini_batch_where_items_are_checked() -> None:
    tally = replace(HEALTHY, short_mini_batches=3, given_up_mini_batches=2)
    assert Thresholds(error_threshold=0).failed_mini_batches(tally) == 5


def test_a_short_return_fails_no_mini_batch_where_items_are_not_checked() -> None:
    tally = replace(HEALTHY, short_mini_batches=3, given_up_mini_batches=2)
    assert Thresholds(error_threshold=-1).failed_mini_batches(tally) == 2


def test_the_oj_sales_sample_completes() -> None:
    """99 partitions, [] from each run(), error_threshold -1, mini_batch_error_threshold 5, no append_row."""
    limit = Thresholds(error_threshold=-1, mini_batch_error_threshold=5, append_row=False)
    tally = Tally(99 * 121, 99, failed_items=99 * 121, succeeded_mini_batches=99, short_mini_batches=99)
    assert limit.at_the_end(tally) is None


def test_short_returns_count_towards_mini_batch_error_threshold() -> None:
    limit = Thresholds(error_threshold=100, mini_batch_error_threshold=5)
    tally = replace(HEALTHY, short_mini_batches=6, failed_items=6)
    assert "6 mini-batches failed, more than mini_batch_error_threshold allows (5)" in said(limit, tally)


# 1.5: allowed_failed_count looks at what is failing at present, between tries.


@pytest.mark.parametrize(
    ("allowed", "failing", "stops"),
    [(None, 10**6, False), (-1, 10**6, False), (0, 0, False), (0, 1, True), (5, 5, False), (5, 6, True)],
)
def test_mini_batches_between_tries_end_a_job_above_allowed_failed_count(
    allowed: int | None, failing: int, stops: bool
) -> None:
    word = said(Thresholds(allowed_failed_count=allowed), replace(HEALTHY, failing_mini_batches=failing))
    assert ("allowed_failed_count" in word) == stops


def test_mini_batches_given_up_and_failing_add_up_for_allowed_failed_count() -> None:
    tally = replace(HEALTHY, failing_mini_batches=3, given_up_mini_batches=3)
    assert "6 mini-batches are failing" in said(Thresholds(allowed_failed_count=5), tally)


@given(thresholds, tallies)
def test_mini_batches_between_tries_matter_to_allowed_failed_count_alone(limit: Thresholds, tally: Tally) -> None:
    limit = replace(limit, allowed_failed_count=None)
    assert limit.exceeded(tally) == limit.exceeded(replace(tally, failing_mini_batches=0))


# 1.5: allowed_failed_percent is checked once all mini-batches have been handed out.


@pytest.mark.parametrize(
    ("allowed", "failed", "stops"),
    [(None, 10, False), (0, 0, False), (0, 1, True), (30, 3, False), (30, 4, True), (29.9, 3, True), (100, 10, False)],
)
def test_failed_mini_batches_end_a_job_above_allowed_failed_percent(
    allowed: float | None, failed: int, stops: bool
) -> None:
    tally = replace(HEALTHY, given_up_mini_batches=failed, all_handed_out=True)
    assert ("allowed_failed_percent" in said(Thresholds(allowed_failed_percent=allowed), tally)) == stops


def test_allowed_failed_percent_waits_until_all_are_handed_out() -> None:
    tally = replace(HEALTHY, given_up_mini_batches=10, all_handed_out=False)
    assert Thresholds(allowed_failed_percent=0).exceeded(tally) is None


def test_any_limit_that_is_passed_ends_the_job() -> None:
    limit = Thresholds(1000, 1000, allowed_failed_count=1000, allowed_failed_percent=0)
    assert limit.exceeded(replace(HEALTHY, given_up_mini_batches=1, all_handed_out=True))


# Laws of them all.


@given(tallies)
def test_nothing_ends_a_job_without_limits(tally: Tally) -> None:
    assert Thresholds().exceeded(tally) is None


@given(
    thresholds,
    tallies,
    st.sampled_from(["failed_items", "short_mini_batches", "given_up_mini_batches", "failing_mini_batches"]),
)
def test_more_failures_never_let_a_job_go_on(limit: Thresholds, tally: Tally, grown: str) -> None:
    more = replace(tally, **{grown: getattr(tally, grown) + 1})
    assert limit.exceeded(tally) is None or limit.exceeded(more) is not None


@given(
    thresholds,
    tallies,
    st.sampled_from(["error_threshold", "mini_batch_error_threshold", "allowed_failed_count"]),
    limits,
)
def test_ignoring_a_limit_never_ends_a_job(limit: Thresholds, tally: Tally, name: str, value: int) -> None:
    ignored = replace(limit, **{name: -1})
    assert ignored.exceeded(tally) is None or replace(limit, **{name: value}).exceeded(tally) is not None


# 1.6: with nothing to append the job fails.


def test_append_row_fails_when_no_item_succeeded() -> None:
    tally = Tally(10, 2, failed_items=10, succeeded_mini_batches=2, short_mini_batches=2)
    assert Thresholds().at_the_end(tally) == NOTHING_SUCCEEDED


def test_summary_only_fails_when_no_mini_batch_succeeded() -> None:
    tally = Tally(10, 2, failed_items=10, given_up_mini_batches=2)
    assert Thresholds(append_row=False).at_the_end(tally) == NOTHING_SUCCEEDED


def test_the_sentence_is_the_one_that_users_search_for() -> None:
    assert NOTHING_SUCCEEDED.startswith("There is no succeeded mini batch item returned from run().")


def test_a_limit_that_only_the_last_outcome_passed_still_fails_the_job() -> None:
    tally = replace(HEALTHY, failed_items=1)
    assert "error_threshold" in (Thresholds(error_threshold=0).at_the_end(tally) or "")


@pytest.mark.parametrize("append_row", [True, False])
def test_a_job_within_its_limits_is_completed(append_row: bool) -> None:
    assert Thresholds(0, 0, 0, 0.0, append_row=append_row).at_the_end(HEALTHY) is None


# How a tally grows.


@given(tallies, st.integers(1, 9), st.integers(0, 9))
def test_the_items_of_a_segment_have_succeeded_or_failed(tally: Tally, succeeded: int, failed: int) -> None:
    after = tally.with_segment(_segment(1, items=succeeded + failed, failed=failed))
    assert (after.succeeded_items - tally.succeeded_items, after.failed_items - tally.failed_items) == (
        succeeded,
        failed,
    )


@given(tallies, st.integers(1, 9))
def test_all_mini_batches_of_a_segment_have_succeeded(tally: Tally, size: int) -> None:
    after = tally.with_segment(_segment(size, items=10))
    assert after.succeeded_mini_batches == tally.succeeded_mini_batches + size


@pytest.mark.parametrize(("failed", "short"), [(0, 0), (1, 1), (7, 1)])
def test_a_mini_batch_with_failed_items_is_short_once(failed: int, short: int) -> None:
    assert HEALTHY.with_segment(_segment(1, items=10, failed=failed)).short_mini_batches == short


def test_all_items_of_a_mini_batch_given_up_are_failed_items() -> None:
    after = HEALTHY.with_given_up(7)
    assert (after.failed_items, after.given_up_mini_batches) == (7, 1)


@given(tallies, counts, counts)
def test_a_new_chance_undoes_giving_up(tally: Tally, items: int, mini_batches: int) -> None:
    assert tally.with_given_up(items, mini_batches).with_given_up(-items, -mini_batches) == tally


def _segment(size: int, *, items: int, failed: int = 0) -> Segment:
    return Segment(0, size, "part", 0, 0, rows=items, items=items, failed_items=failed)
