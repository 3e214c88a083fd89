"""One law per rule of the ledger; `test_ledger_machine` tries their mixtures."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.ledger import LOSSES_ALLOWED, GivenUp, Ledger, Settlement
from daskscore.core.model import Failure, ItemFailure, Kind, Outcome, Segment, Span
from daskscore.core.thresholds import Tally
from daskscore.errors import InternalError

ITEMS = 3
"""Of each mini-batch here."""

RETRIED = [kind for kind in Kind if kind is not Kind.INPUT]


def ledger(mini_batches: int, max_try: int = 3) -> Ledger:
    return Ledger(mini_batches, mini_batches * ITEMS, max_try, items_in=lambda index: ITEMS)


def scored(first: int, size: int = 1, failed_items: int = 0) -> Segment:
    items = size * ITEMS
    return Segment(first, size, "part", 0, 10 * size, rows=items - failed_items, items=items, failed_items=failed_items)


def failed(index: int, kind: Kind = Kind.RAISE) -> Failure:
    return Failure(index, kind, "no luck", log="log")


def indices(spans: tuple[Span, ...]) -> list[int]:
    return [index for span in spans for index in range(span.first, span.stop)]


def fail(one: Ledger, index: int = 0, kind: Kind = Kind.RAISE) -> Settlement | None:
    """Hand out the next mini-batch, which is `index`, and let it fail."""
    bundle, spans, _ = one.hand_out(1)
    assert indices(spans) == [index]
    return one.settle(Outcome(bundle, "node", failures=(failed(index, kind),)))


def lose_until(one: Ledger, losses: int) -> Settlement | None:
    """Lose the machine of the first mini-batch that often."""
    settlement = None
    for _ in range(losses):
        settlement = one.lose(one.hand_out(1)[0], "gone")
    return settlement


# Handing out.


@given(st.integers(0, 50), st.lists(st.integers(1, 60), max_size=60))
def test_mini_batches_are_handed_out_once_and_in_plan_order(mini_batches: int, sizes: list[int]) -> None:
    one, out = ledger(mini_batches), []
    for size in [*sizes, 50]:
        if one.waiting:
            out += indices(one.hand_out(size)[1])
    assert out == list(range(mini_batches))


@given(st.integers(1, 50), st.integers(1, 60))
def test_a_bundle_has_the_size_asked_for_while_enough_wait(mini_batches: int, size: int) -> None:
    assert len(indices(ledger(mini_batches).hand_out(size)[1])) == min(size, mini_batches)


def test_each_bundle_has_a_number_of_its_own() -> None:
    one = ledger(3)
    assert len({one.hand_out(1)[0] for _ in range(3)}) == 3


def test_what_failed_goes_out_again_before_what_stands_behind_it_in_the_plan() -> None:
    one = ledger(4)
    fail(one, 0)
    assert one.hand_out(2)[1] == (Span(0, 1, tries=1), Span(1, 1, tries=0))


def test_a_million_untouched_mini_batches_are_one_span() -> None:
    one = ledger(1_000_000)
    assert one.hand_out(1_000_000)[1] == (Span(0, 1_000_000, tries=0),)


@pytest.mark.parametrize("mini_batches", [1_000, 1_000_000])
def test_memory_does_not_depend_on_how_many_mini_batches_there_are(mini_batches: int) -> None:
    one = ledger(mini_batches)
    tracemalloc.start()
    while one.waiting > mini_batches // 4:
        bundle, spans, _ = one.hand_out(1000)
        failures = tuple(failed(span.first) for span in spans)
        segments = tuple(scored(span.first + 1, span.size - 2) for span in spans if span.size > 2)
        unstarted = tuple(Span(span.stop - 1, 1) for span in spans if span.size > 1)
        one.settle(Outcome(bundle, "node", segments=segments, failures=failures, unstarted=unstarted))
    gc.collect()
    ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/daskscore/core/*")])
    tracemalloc.stop()
    assert sum(trace.size for trace in ours.traces) < 10_000


# Settling what went well.


def test_rows_and_items_of_a_segment_are_counted() -> None:
    one = ledger(5)
    one.settle(Outcome(one.hand_out(2)[0], "node", segments=(scored(0, 2),)))
    assert (one.rows, one.tally.succeeded_items, one.tally.succeeded_mini_batches) == (6, 6, 2)


def test_what_was_scored_is_to_be_committed() -> None:
    one = ledger(5)
    segments = (scored(0, 2), scored(2, 1, failed_items=1))
    item_failures = (ItemFailure(2, "c", Kind.BAD_OUTPUT, "short", "log"),)
    outcome = Outcome(one.hand_out(3)[0], "node", segments=segments, item_failures=item_failures)
    assert one.settle(outcome) == Settlement(segments, item_failures, attempts=3)


def test_a_short_return_is_not_retried() -> None:
    """CONTRACT 1.5: 99 partitions that return [] would be seen to be scored three times."""
    one = ledger(1)
    one.settle(Outcome(one.hand_out(1)[0], "node", segments=(scored(0, failed_items=ITEMS),)))
    assert one.finished


def test_what_was_not_started_waits_again_and_is_no_attempt() -> None:
    one = ledger(5)
    outcome = Outcome(one.hand_out(5)[0], "node", segments=(scored(0, 2),), unstarted=(Span(2, 3),))
    settlement = one.settle(outcome)
    assert (one.waiting, settlement and settlement.attempts) == (3, 2)


def test_what_was_not_started_keeps_its_tries() -> None:
    one = ledger(1)
    fail(one)
    one.settle(Outcome(one.hand_out(1)[0], "node", unstarted=(Span(0, 1, tries=1),)))
    assert one.hand_out(1)[1] == (Span(0, 1, tries=1),)


def test_a_segment_may_reach_over_mini_batches_that_were_tried_before() -> None:
    one = ledger(3)
    fail(one, 0)
    one.settle(Outcome(one.hand_out(3)[0], "node", segments=(scored(0, 3),)))
    assert (one.finished, one.tally.failing_mini_batches) == (True, 0)


# Failures and tries (CONTRACT 1.7).


@pytest.mark.parametrize("kind", RETRIED)
@pytest.mark.parametrize("max_try", [1, 2, 3])
def test_a_mini_batch_is_tried_as_often_as_run_max_try_says(kind: Kind, max_try: int) -> None:
    one, tries = ledger(1, max_try), 0
    while one.waiting:
        settlement = fail(one, kind=kind)
        tries += 1
    assert tries == max_try
    assert settlement == Settlement(given_up=(GivenUp(failed(0, kind), attempts=max_try),), attempts=1)


def test_unreadable_input_is_not_tried_again() -> None:
    one = ledger(1)
    settlement = fail(one, kind=Kind.INPUT)
    assert settlement is not None
    assert settlement.given_up == (GivenUp(failed(0, Kind.INPUT), attempts=1),)


def test_a_failure_that_is_retried_settles_nothing() -> None:
    assert fail(ledger(1)) == Settlement(attempts=1)


def test_a_mini_batch_says_how_often_it_was_tried_when_it_goes_out_again() -> None:
    one = ledger(1)
    fail(one)
    fail(one)
    assert one.hand_out(1)[1] == (Span(0, 1, tries=2),)


def test_a_failure_costs_its_neighbours_no_try() -> None:
    one = ledger(3)
    outcome = Outcome(one.hand_out(3)[0], "node", segments=(scored(0),), failures=(failed(1),), unstarted=(Span(2, 1),))
    one.settle(outcome)
    assert one.hand_out(3)[1] == (Span(1, 1, tries=1), Span(2, 1, tries=0))


def test_items_of_an_earlier_try_are_not_summed_twice() -> None:
    one = ledger(1, max_try=2)
    fail(one)
    assert one.tally.failed_items == 0
    fail(one)
    assert one.tally.failed_items == ITEMS


def test_a_mini_batch_is_failing_between_its_tries() -> None:
    one = ledger(2)
    fail(one)
    fail(one)
    assert one.tally.failing_mini_batches == 1


@pytest.mark.parametrize("max_try", [1, 2])
def test_a_mini_batch_that_is_given_up_is_failed_and_no_longer_failing(max_try: int) -> None:
    one = ledger(1, max_try)
    for _ in range(max_try):
        fail(one)
    assert (one.tally.given_up_mini_batches, one.tally.failing_mini_batches) == (1, 0)


def test_a_mini_batch_that_a_retry_heals_is_neither_failed_nor_failing() -> None:
    one = ledger(1)
    fail(one)
    one.settle(Outcome(one.hand_out(1)[0], "node", segments=(scored(0),)))
    assert one.tally == Tally(ITEMS, 1, succeeded_items=ITEMS, succeeded_mini_batches=1, all_handed_out=True)


# Late and wrong words.


def test_a_late_word_from_a_bundle_that_was_replaced_is_ignored() -> None:
    one = ledger(1)
    bundle, *_ = one.hand_out(1)
    one.lose(bundle, "gone")
    assert one.settle(Outcome(bundle, "node", segments=(scored(0),))) is None
    assert (one.waiting, one.rows) == (1, 0)


def test_the_same_outcome_twice_is_committed_once() -> None:
    one = ledger(1)
    outcome = Outcome(one.hand_out(1)[0], "node", segments=(scored(0),))
    one.settle(outcome)
    assert one.settle(outcome) is None


def test_a_bundle_that_has_come_back_cannot_be_lost() -> None:
    one = ledger(1)
    bundle, *_ = one.hand_out(1)
    one.settle(Outcome(bundle, "node", segments=(scored(0),)))
    assert one.lose(bundle, "gone") is None


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param({"segments": (scored(1, 2),)}, id="the first is missing"),
        pytest.param({"segments": (scored(1), scored(3))}, id="one between is missing"),
        pytest.param({"segments": (scored(1, 2),), "unstarted": (Span(2, 2),)}, id="one twice"),
        pytest.param({"segments": (scored(0, 2),), "failures": (failed(1),), "unstarted": (Span(2, 1),)}, id="both"),
        pytest.param({"segments": (scored(1, 3),)}, id="all, but shifted by one"),
        pytest.param({"segments": (scored(0, 4),)}, id="one too many"),
        pytest.param({"segments": (scored(0, 3),), "failures": (failed(7),)}, id="one from elsewhere"),
        pytest.param({"segments": (scored(0, 3), scored(3, 0))}, id="an empty segment at the end"),
        pytest.param({"segments": (scored(0), scored(1, 0), scored(1, 2))}, id="an empty segment between"),
        pytest.param({}, id="nothing"),
    ],
)
def test_an_outcome_that_does_not_name_each_mini_batch_once_is_a_bug(outcome: dict[str, tuple[object, ...]]) -> None:
    one = ledger(5)
    bundle, *_ = one.hand_out(3)
    with pytest.raises(InternalError, match="the outcome of a bundle"):
        one.settle(Outcome(bundle, "node", **outcome))


# Lost machines.


def test_a_lost_machine_costs_no_try() -> None:
    one = ledger(1)
    lose_until(one, 1)
    assert one.hand_out(1)[1] == (Span(0, 1, tries=0),)


def test_a_lost_machine_is_counted_for_each_mini_batch_in_flight() -> None:
    one = ledger(5)
    assert one.lose(one.hand_out(3)[0], "gone") == Settlement(lost_attempts=3)


def test_a_mini_batch_that_was_on_too_many_lost_machines_is_given_up() -> None:
    one = ledger(1)
    settlement = lose_until(one, LOSSES_ALLOWED)
    final = GivenUp(Failure(0, Kind.LOST, "gone", log=""), attempts=LOSSES_ALLOWED)
    assert settlement == Settlement(given_up=(final,), lost_attempts=1)
    assert one.finished


def test_a_mini_batch_has_another_chance_until_then() -> None:
    one = ledger(1)
    lose_until(one, LOSSES_ALLOWED - 1)
    assert one.waiting == 1


def test_tries_and_losses_are_both_named_when_the_machine_is_to_blame() -> None:
    one = ledger(1)
    fail(one)
    settlement = lose_until(one, LOSSES_ALLOWED)
    assert settlement is not None
    assert settlement.given_up[0].attempts == 1 + LOSSES_ALLOWED


def test_a_mini_batch_given_up_with_its_machine_is_no_longer_failing() -> None:
    one = ledger(1)
    fail(one)
    lose_until(one, LOSSES_ALLOWED)
    assert (one.tally.given_up_mini_batches, one.tally.failing_mini_batches, one.tally.failed_items) == (1, 0, ITEMS)


def test_losses_are_remembered_over_a_try() -> None:
    one = ledger(1)
    lose_until(one, LOSSES_ALLOWED - 1)
    fail(one)
    assert lose_until(one, 1) != Settlement(lost_attempts=1)


def test_losses_are_remembered_where_nothing_was_started() -> None:
    one = ledger(1)
    lose_until(one, LOSSES_ALLOWED - 1)
    one.settle(Outcome(one.hand_out(1)[0], "node", unstarted=(Span(0, 1),)))
    assert lose_until(one, 1) != Settlement(lost_attempts=1)


def test_what_was_lost_goes_out_in_smaller_bundles() -> None:
    one = ledger(64)
    one.lose(one.hand_out(64)[0], "gone")
    assert len(indices(one.hand_out(64)[1])) == 4


def test_what_was_lost_is_not_mixed_with_what_was_not() -> None:
    one = ledger(64)
    one.lose(one.hand_out(2)[0], "gone")
    assert indices(one.hand_out(64)[1]) == [0, 1]


def test_one_mini_batch_that_kills_machines_takes_no_other_with_it() -> None:
    one, given_up = ledger(1000), []
    while one.waiting:
        bundle, spans, _ = one.hand_out(1000)
        if 500 in indices(spans):
            settlement = one.lose(bundle, "gone")
            given_up += [final.failure.index for final in settlement.given_up] if settlement else []
        else:
            one.settle(Outcome(bundle, "node", segments=tuple(scored(span.first, span.size) for span in spans)))
    assert given_up == [500]


def test_a_ledger_counts_what_waits_and_the_bundles_that_are_out() -> None:
    one = ledger(5)
    one.hand_out(2)
    one.hand_out(1)
    assert (one.waiting, one.running) == (2, 2)


def test_a_run_is_not_finished_while_a_bundle_is_out() -> None:
    one = ledger(1)
    one.hand_out(1)
    assert not one.finished


def test_a_run_is_not_finished_while_something_waits() -> None:
    assert not ledger(1).finished


def test_all_are_handed_out_when_the_last_one_is() -> None:
    one = ledger(2)
    one.hand_out(1)
    assert not one.tally.all_handed_out
    one.hand_out(1)
    assert one.tally.all_handed_out


def test_all_stay_handed_out_while_one_waits_for_its_next_try() -> None:
    one = ledger(1)
    fail(one)
    assert one.tally.all_handed_out


def test_a_run_without_mini_batches_is_finished() -> None:
    assert ledger(0).finished


# Resuming.


def resumed(settled: list[tuple[int, int]], mini_batches: int = 10) -> Ledger:
    one = ledger(mini_batches)
    one.restore(settled, Tally(mini_batches * ITEMS, mini_batches), rows=0)
    return one


@given(st.sets(st.integers(0, 19)))
def test_a_resumed_run_hands_out_just_what_is_not_settled(settled: set[int]) -> None:
    one = resumed([(index, 1) for index in settled], mini_batches=20)
    out = indices(one.hand_out(20)[1]) if one.waiting else []
    assert out == sorted(set(range(20)) - settled)


@given(st.permutations([(0, 2), (3, 1), (4, 3), (9, 1)]))
def test_what_is_settled_may_come_in_any_order(settled: list[tuple[int, int]]) -> None:
    assert indices(resumed(settled).hand_out(10)[1]) == [2, 7, 8]


def test_a_resumed_run_counts_on_from_what_was_committed() -> None:
    one = ledger(2)
    one.restore([(0, 1)], Tally(2 * ITEMS, 2, succeeded_items=ITEMS, succeeded_mini_batches=1), rows=7)
    one.settle(Outcome(one.hand_out(1)[0], "node", segments=(scored(1),)))
    assert (one.tally.succeeded_items, one.rows) == (2 * ITEMS, 7 + ITEMS)


def test_a_run_with_nothing_left_is_finished_as_soon_as_it_is_resumed() -> None:
    one = resumed([(0, 10)])
    assert (one.finished, one.tally.all_handed_out) == (True, True)


def test_a_journal_that_settles_a_mini_batch_twice_is_a_bug() -> None:
    with pytest.raises(InternalError, match="mini-batch 2 is settled twice"):
        resumed([(0, 3), (2, 1)])


def test_an_item_that_failed_on_a_later_try_counts_the_earlier_ones() -> None:
    one = ledger(1)
    fail(one)
    short = ItemFailure(0, "c", Kind.BAD_OUTPUT, "short", "log")
    segment = Segment(0, 1, "part", 0, 4, 2, 3, failed_items=1)
    settlement = one.settle(Outcome(one.hand_out(1)[0], "node", segments=(segment,), item_failures=(short,)))
    assert settlement is not None
    assert [item.attempts for item in settlement.item_failures] == [2]
