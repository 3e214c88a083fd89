"""Laws of dividing a mini-batch that keeps failing: when it begins, what it costs, how it ends, and what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.isolation import Share
from daskscore.core.ledger import (
    ISOLATES_AT_MOST,
    LOSSES_ALLOWED,
    MINI_BATCHES_PER_SHARE,
    NOT_ISOLATED,
    Handed,
    Ledger,
    Settlement,
)
from daskscore.core.model import Failure, ItemFailure, Kind, Outcome, Segment, Span
from daskscore.core.thresholds import Tally, Thresholds

ITEMS = 8
"""Of each mini-batch here."""
FAR = 1000
"""So far apart stand the first rows of two mini-batches, so that an offset says which item a row is of."""

Poison = dict[int, set[int]]
"""The items to blame, by mini-batch."""


def ledger(mini_batches: int = 1, max_try: int = 3, items: int = ITEMS, **changes: Any) -> Ledger:
    options = {"isolates": True, "isolation_attempts": -1, **changes}
    return Ledger(mini_batches, mini_batches * items, max_try, items_in=lambda index: items, **options)


def failed(index: int, message: str = "run() raised ValueError: no luck", kind: Kind = Kind.RAISE) -> Failure:
    return Failure(index, kind, message, log="log")


def segment(index: int, share: Share) -> Segment:
    """One row for each item, whose place in the part says which item it is."""
    return Segment(index, 1, "part", index * FAR + share.start, share.items, share.items, share.items)


def outcome(handed: Handed, poison: Poison, items: int = ITEMS) -> Outcome:
    """What a slot says where just these items fail."""
    whole = Share(0, items)
    share = handed.share or whole
    segments, failures = [], []
    for index in indices(handed.spans):
        if any(item in poison.get(index, ()) for item in range(*share)):
            failures.append(failed(index))
        else:
            segments.append(segment(index, share))
    return Outcome(handed.bundle, "node", segments=tuple(segments), failures=tuple(failures))


def indices(spans: Iterable[Span]) -> list[int]:
    return [index for span in spans for index in range(span.first, span.stop)]


def settle(one: Ledger, told: Outcome) -> Settlement:
    settlement = one.settle(told)
    assert settlement is not None
    return settlement


def fail(one: Ledger, message: str = "run() raised ValueError: no luck", kind: Kind = Kind.RAISE) -> Settlement:
    """The next one that is handed out."""
    handed = one.hand_out(1)
    return settle(one, Outcome(handed.bundle, "node", failures=(failed(handed.spans[0].first, message, kind),)))


def divided(mini_batches: int = 1, max_try: int = 3, **changes: Any) -> Ledger:
    """The first mini-batch has failed so often that its first share is next."""
    one = ledger(mini_batches, max_try, **changes)
    fail(one)
    fail(one)
    return one


def work(one: Ledger, poison: Poison, size: int = 1, items: int = ITEMS) -> list[Settlement]:
    """Until nothing waits."""
    done = []
    while one.waiting:
        done.append(settle(one, outcome(one.hand_out(size), poison, items)))
    return done


def rows(settlements: Iterable[Settlement]) -> list[tuple[int, int]]:
    """(mini-batch, item) of each row, in the order of the segments."""
    return [
        divmod(offset, FAR)
        for settlement in settlements
        for found in settlement.segments
        for offset in range(found.offset, found.offset + found.length)
    ]


def given_up(settlements: Iterable[Settlement]) -> list[tuple[int, Share | None]]:
    return [(final.failure.index, final.share) for settlement in settlements for final in settlement.given_up]


# When a mini-batch is divided.


def test_one_that_fails_twice_alike_is_divided_before_its_tries_are_used_up() -> None:
    one = ledger(max_try=10)
    assert fail(one) == Settlement(attempts=1)
    assert fail(one) == Settlement(attempts=1)
    assert one.hand_out(1)[1:] == ((Span(0, 1, tries=2),), Share(0, 4))


def test_failures_that_differ_in_their_values_only_are_alike() -> None:
    one = ledger(max_try=10)
    fail(one, "run() raised KeyError: 17")
    fail(one, "run() raised KeyError: 18")
    assert one.hand_out(1).share == Share(0, 4)


def test_one_that_fails_for_another_reason_each_time_has_all_its_tries_first() -> None:
    one = ledger(max_try=3)
    for message in ("run() raised KeyError", "run() raised ValueError"):
        fail(one, message)
    assert one.hand_out(1).share is None
    one = ledger(max_try=3)
    for message in ("run() raised KeyError", "run() raised ValueError", "run() raised OSError"):
        assert fail(one, message) == Settlement(attempts=1)
    assert one.hand_out(1).share == Share(0, 4)


def test_with_one_try_it_is_divided_at_once() -> None:
    one = ledger(max_try=1)
    assert fail(one) == Settlement(attempts=1)
    assert one.hand_out(1) == Handed(2, (Span(0, 1, tries=1),), Share(0, 4))


def test_one_that_a_retry_heals_is_not_divided() -> None:
    one = ledger()
    fail(one)
    done = work(one, {})
    assert rows(done) == [(0, item) for item in range(ITEMS)]
    assert (one.share_attempts, one.tally.isolated_mini_batches) == (0, 0)


def test_a_single_item_is_never_divided() -> None:
    one = ledger(items=1)
    done = work(one, {0: {0}}, items=1)
    assert given_up(done) == [(0, None)]
    assert (len(done), done[-1].given_up[0].attempts, one.share_attempts) == (3, 3, 0)


@pytest.mark.parametrize("kind", NOT_ISOLATED)
def test_what_no_item_is_to_blame_for_is_never_divided(kind: Kind) -> None:
    one = ledger(max_try=2)
    done = [fail(one, kind=kind)]
    if one.waiting:
        done.append(fail(one, kind=kind))
    assert (given_up(done), one.finished) == ([(0, None)], True)


def test_a_lost_machine_is_no_failure_that_is_like_another() -> None:
    one = ledger()
    one.lose(one.hand_out(1).bundle, "gone")
    fail(one)
    one.lose(one.hand_out(1).bundle, "gone")
    assert one.hand_out(1).share is None


def test_a_job_that_does_not_want_it_divides_nothing() -> None:
    one = ledger(isolates=False)
    done = work(one, {0: {3}})
    assert (given_up(done), rows(done), one.tally.failed_items) == ([(0, None)], [], ITEMS)


# Its order.


def test_a_share_goes_out_before_any_mini_batch_and_alone() -> None:
    one = divided(5)
    assert one.waiting == 5
    handed = one.hand_out(1000)
    assert (handed.spans, handed.share) == ((Span(0, 1, tries=2),), Share(0, 4))
    assert one.share_of(handed.bundle) == Share(0, 4)
    other = one.hand_out(1000)
    assert (indices(other.spans), other.share, one.share_of(other.bundle)) == ([1, 2, 3, 4], None, None)
    assert (one.waiting, one.running, one.finished) == (0, 2, False)


def test_mini_batches_that_are_divided_take_turns() -> None:
    one = ledger(2)
    for _ in range(2):
        handed = one.hand_out(2)
        settle(one, outcome(handed, {0: {0}, 1: {0}}))
    assert [one.hand_out(1).spans[0].first for _ in range(2)] == [0, 1]
    assert one.waiting == 0, "one share of each is out"


def test_a_share_says_how_often_its_items_were_tried_before() -> None:
    one = divided()
    tries = [one.hand_out(1)]
    while not settle(one, outcome(tries[-1], {0: {0}})).segments:
        tries.append(one.hand_out(1))
    assert [handed.spans[0].tries for handed in tries] == list(range(2, 2 + len(tries)))


# How it ends.


@given(st.data())
def test_the_items_to_blame_fail_alone_and_each_other_one_has_its_row(data: st.DataObject) -> None:
    mini_batches = data.draw(st.integers(1, 6))
    poison = {index: data.draw(st.sets(st.integers(0, ITEMS - 1))) for index in range(mini_batches)}
    one = ledger(mini_batches, data.draw(st.integers(1, 4)))
    done = work(one, poison, data.draw(st.integers(1, 6)))
    assert sorted(rows(done)) == [
        (index, item) for index in range(mini_batches) for item in range(ITEMS) if item not in poison[index]
    ]
    alone = [(index, Share(item, item + 1)) for index in poison for item in sorted(poison[index])]
    assert sorted(given_up(done), key=str) == sorted(alone, key=str)
    assert one.finished
    assert one.tally == Tally(
        total_items=mini_batches * ITEMS,
        total_mini_batches=mini_batches,
        succeeded_items=mini_batches * ITEMS - len(alone),
        failed_items=len(alone),
        succeeded_mini_batches=mini_batches,
        isolated_mini_batches=sum(bool(items) for items in poison.values()),
        all_handed_out=True,
    )
    assert one.rows == len(rows(done))
    assert one.share_attempts == sum(settlement.share_attempts for settlement in done)
    assert all(settlement.attempts for settlement in done)


def test_nothing_of_it_is_committed_before_its_last_share() -> None:
    one = divided()
    *before, last = work(one, {0: {1, 6}})
    assert all(settlement == Settlement(attempts=1, share_attempts=1) for settlement in before)
    assert next((found.size, found.items, found.failed_items) for found in last.segments) == (1, ITEMS, 2)
    assert all((found.size, found.items, found.failed_items) == (0, 0, 0) for found in last.segments[1:])
    assert rows([last]) == [(0, item) for item in (0, 2, 3, 4, 5, 7)]
    assert (last.isolated, last.share_attempts) == ({0}, 1)


def test_one_whose_items_all_go_well_by_themselves_has_succeeded() -> None:
    one = divided()
    done = work(one, {})
    tally = one.tally
    assert rows(done) == [(0, item) for item in range(ITEMS)]
    assert (tally.succeeded_mini_batches, tally.isolated_mini_batches, tally.short_mini_batches) == (1, 0, 0)
    assert (tally.failed_items, tally.failing_mini_batches, done[-1].isolated) == (0, 0, set())


def test_one_that_is_poisoned_all_over_is_a_failed_mini_batch_without_rows() -> None:
    one = divided()
    done = work(one, {0: set(range(ITEMS))})
    assert (rows(done), one.rows, one.tally.succeeded_items) == ([], 0, 0)
    assert len(given_up(done)) == ITEMS
    assert Thresholds().at_the_end(one.tally) is not None
    assert Thresholds(append_row=False).at_the_end(one.tally) is not None


def test_items_without_a_result_in_a_share_are_failed_items_too() -> None:
    one = divided()
    handed = one.hand_out(1)
    short = ItemFailure(0, "b", Kind.BAD_OUTPUT, "short", "")
    found = segment(0, Share(0, 4))._replace(rows=3, failed_items=1)
    settle(one, Outcome(handed.bundle, "node", segments=(found,), item_failures=(short,)))
    assert one.tally.failed_items == 1
    done = work(one, {0: {7}})
    assert [(item.item, item.attempts) for item in done[-1].item_failures] == [("b", 3)]
    tally = one.tally
    assert (tally.failed_items, tally.short_mini_batches, tally.isolated_mini_batches) == (2, 0, 1)
    assert tally.succeeded_items == ITEMS - 2


def test_items_without_a_result_in_a_later_share_are_counted_once() -> None:
    one = divided()
    settle(one, outcome(one.hand_out(1), {}))
    handed = one.hand_out(1)
    assert handed.share is not None
    found = segment(0, handed.share)._replace(rows=1, failed_items=1)
    settle(one, Outcome(handed.bundle, "node", segments=(found,)))
    done = work(one, {})
    assert [part.failed_items for part in done[-1].segments] == [1, 0, 0, 0]
    assert (one.tally.failed_items, one.tally.succeeded_items) == (1, ITEMS - 1)


def test_one_with_rows_for_all_shares_but_not_for_all_items_is_short() -> None:
    one = divided()
    handed = one.hand_out(1)
    short = ItemFailure(0, "b", Kind.BAD_OUTPUT, "short", "")
    found = segment(0, Share(0, 4))._replace(rows=3, failed_items=1)
    settle(one, Outcome(handed.bundle, "node", segments=(found,), item_failures=(short,)))
    work(one, {})
    assert (one.tally.short_mini_batches, one.tally.isolated_mini_batches) == (1, 0)


# What it may cost.


def test_without_a_number_the_run_decides() -> None:
    assert ledger(1, isolation_attempts=None).most_share_attempts == ISOLATES_AT_MOST
    assert ledger(70_000, isolation_attempts=None).most_share_attempts == (
        ISOLATES_AT_MOST + 70_000 // MINI_BATCHES_PER_SHARE
    )


@pytest.mark.parametrize("most", range(1, 8))
def test_when_the_attempts_are_used_up_what_is_scored_stays_and_the_rest_fails(most: int) -> None:
    one = divided(isolation_attempts=most)
    done = work(one, {0: {1, 6}})
    assert one.share_attempts == most == len(done)
    lost = [item for _, share in given_up(done) if share is not None for item in range(*share)]
    assert sorted(lost + [item for _, item in rows(done)]) == list(range(ITEMS))
    assert {1, 6} <= set(lost)
    assert one.tally.failed_items == len(lost)
    if not_alone := [final for final in done[-1].given_up if final.share and final.share.items > 1]:
        assert all("isolation_attempts are used up" in final.failure.message for final in not_alone)
        assert all(final.failure.message.startswith("run() raised ValueError: no luck") for final in not_alone)
    assert one.tally.isolated_mini_batches == 1


def test_after_that_mini_batches_are_given_up_as_a_whole() -> None:
    one = ledger(2, isolation_attempts=1)
    done = work(one, {0: {0}, 1: {0}})
    assert given_up(done) == [(0, Share(0, 4)), (0, Share(4, 8)), (1, None)]
    assert [final.attempts for settlement in done for final in settlement.given_up][-1] == 3, "it has all its tries"
    assert (one.tally.isolated_mini_batches, one.tally.given_up_mini_batches) == (1, 1)


def test_with_none_allowed_nothing_is_divided() -> None:
    one = ledger(isolation_attempts=0)
    assert given_up(work(one, {0: {0}})) == [(0, None)]
    assert one.share_attempts == 0


def test_several_that_are_divided_share_the_attempts() -> None:
    one = ledger(2, isolation_attempts=4)
    for _ in range(2):
        settle(one, outcome(one.hand_out(2), {0: {0}, 1: {0}}))
    done = work(one, {0: {0}, 1: {0}})
    assert one.finished
    assert one.share_attempts <= 5
    assert one.tally.succeeded_items + one.tally.failed_items == 2 * ITEMS
    assert {index for index, _ in given_up(done)} == {0, 1}


# What happens meanwhile.


def test_a_share_on_a_lost_machine_is_tried_again_and_is_no_attempt() -> None:
    one = divided()
    handed = one.hand_out(1)
    assert one.lose(handed.bundle, "gone") == Settlement(lost_attempts=1)
    assert (one.share_attempts, one.hand_out(1)[1:]) == (0, handed[1:])


def test_a_share_that_was_on_too_many_lost_machines_ends_the_search() -> None:
    one = divided()
    work_on = one.hand_out(1)
    settle(one, outcome(work_on, {0: {1, 6}}))
    settlements = [one.lose(one.hand_out(1).bundle, "its machine was lost") for _ in range(LOSSES_ALLOWED)]
    assert settlements[:-1] == [Settlement(lost_attempts=1)] * (LOSSES_ALLOWED - 1)
    last = settlements[-1]
    assert last is not None
    assert (last.attempts, last.lost_attempts) == (0, 1)
    assert all("its machine was lost" in final.failure.message for final in last.given_up)
    assert sum(final.share.items for final in last.given_up if final.share) == ITEMS == one.tally.failed_items
    assert one.finished
    assert one.tally.isolated_mini_batches == 1


def test_losses_are_counted_anew_for_each_share() -> None:
    one = divided()
    for _ in range(2):
        for _ in range(LOSSES_ALLOWED - 1):
            one.lose(one.hand_out(1).bundle, "gone")
        settle(one, outcome(one.hand_out(1), {0: {0}}))
    assert not one.finished
    assert one.share_attempts == 2


def test_a_share_that_was_not_started_is_handed_out_again_and_is_no_attempt() -> None:
    one = divided()
    handed = one.hand_out(1)
    assert settle(one, Outcome(handed.bundle, "node", unstarted=(Span(0, 1, 2),))) == Settlement()
    assert (one.waiting, one.running, one.share_attempts) == (1, 0, 0)
    assert one.hand_out(1)[1:] == handed[1:]


@pytest.mark.parametrize("lost", [False, True])
def test_a_late_word_about_a_share_is_ignored(lost: bool) -> None:
    one = divided()
    handed = one.hand_out(1)
    one.lose(handed.bundle, "gone")
    late = one.lose(handed.bundle, "gone") if lost else one.settle(outcome(handed, {}))
    assert late is None
    assert (one.waiting, one.rows, one.share_attempts) == (1, 0, 0)


def test_the_plan_may_grow_meanwhile() -> None:
    one = divided(1, complete=False)
    one.extend(3, 3 * ITEMS, complete=True)
    done = work(one, {0: {3}})
    assert one.finished
    assert len(rows(done)) == 3 * ITEMS - 1


def test_a_share_of_which_nothing_can_be_read_is_not_divided_further() -> None:
    one = divided()
    handed = one.hand_out(1)
    settle(one, Outcome(handed.bundle, "node", failures=(failed(0, "4 are gone", Kind.INPUT),)))
    done = work(one, {0: {6}})
    assert given_up(done) == [(0, Share(0, 4)), (0, Share(6, 7))]
    assert [final.failure.kind for final in done[-1].given_up] == [Kind.INPUT, Kind.RAISE]


def test_a_share_that_a_storage_keeps_back_for_a_while_is_tried_in_other_shares() -> None:
    one = divided()
    handed = one.hand_out(1)
    busy = Failure(0, Kind.INPUT, "the storage is busy", log="", may_pass=True)
    settle(one, Outcome(handed.bundle, "node", failures=(busy,)))
    done = work(one, {0: {6}})
    assert given_up(done) == [(0, Share(6, 7))]


# Thresholds.


def until(one: Ledger, poison: Poison, seen: Callable[[Tally], bool]) -> Tally:
    while not seen(one.tally):
        settle(one, outcome(one.hand_out(1), poison))
    return one.tally


def test_an_item_that_has_failed_alone_counts_before_the_others_are_found() -> None:
    one = divided(max_try=10)
    tally = until(one, {0: {0, 7}}, lambda tally: tally.failed_items > 0)
    assert (tally.failed_items, one.finished) == (1, False)
    assert Thresholds(error_threshold=0).exceeded(tally) is not None
    assert Thresholds(error_threshold=1).exceeded(tally) is None
    handed = one.hand_out(1)
    assert one.tally.failed_items == 1, "while a share is out, too"
    settle(one, outcome(handed, {0: {0, 7}}))
    work(one, {0: {0, 7}})
    assert one.tally.failed_items == 2


def test_while_it_is_divided_it_is_failing_and_then_failed() -> None:
    one = divided(2)
    assert (one.tally.failing_mini_batches, Thresholds().failed_mini_batches(one.tally)) == (1, 0)
    assert Thresholds(allowed_failed_count=0).exceeded(one.tally) is not None
    assert Thresholds(mini_batch_error_threshold=0).exceeded(one.tally) is None
    work(one, {0: {3}})
    assert (one.tally.failing_mini_batches, Thresholds().failed_mini_batches(one.tally)) == (0, 1)
    for limits in (
        Thresholds(mini_batch_error_threshold=0),
        Thresholds(allowed_failed_count=0),
        Thresholds(allowed_failed_percent=49),
        Thresholds(error_threshold=0),
    ):
        assert limits.exceeded(one.tally) is not None
    assert Thresholds(1, 1, 1, 50).at_the_end(one.tally) is None


# A resume.


def test_a_run_that_goes_on_divides_anew_what_was_not_settled() -> None:
    one = divided(2)
    settle(one, outcome(one.hand_out(1), {0: {6}}))
    two = ledger(2, isolation_attempts=-1)
    two.restore([], Tally(2 * ITEMS, 2), 0, one.share_attempts)
    done = work(two, {0: {6}})
    assert sorted(rows(done)) == [(index, item) for index in (0, 1) for item in range(ITEMS) if (index, item) != (0, 6)]
    assert two.share_attempts > one.share_attempts == 1


def test_attempts_of_earlier_sessions_are_used_up() -> None:
    one = ledger(isolation_attempts=5)
    one.restore([], Tally(ITEMS, 1), 0, 5)
    assert given_up(work(one, {0: {0}})) == [(0, None)]


def test_output_that_is_bad_only_in_company_is_the_fault_of_the_whole() -> None:
    """A sum over the mini-batch looks like a result for an item, where there is one item."""
    one = ledger()
    for _ in range(2):
        fail(one, "run() returned 1 for 8", Kind.BAD_OUTPUT)
    done = []
    while one.waiting:
        handed = one.hand_out(1)
        assert handed.share is not None
        if handed.share.items > 1:
            told = Outcome(handed.bundle, "node", failures=(failed(0, "run() returned 1", Kind.BAD_OUTPUT),))
        else:
            told = Outcome(handed.bundle, "node", segments=(segment(0, handed.share),))
        done.append(settle(one, told))
    assert (given_up(done), rows(done), one.rows) == ([(0, None)], [], 0)
    assert done[-1].given_up[0].failure.message == "run() returned 1 for 8"
    assert (one.tally.failed_items, one.tally.given_up_mini_batches, one.tally.failing_mini_batches) == (ITEMS, 1, 0)


def test_a_run_that_fails_names_the_items_that_have_failed_alone_by_then() -> None:
    one = divided(2, max_try=10)
    until(one, {0: {0, 7}}, lambda tally: tally.failed_items > 0)
    done = one.end_divisions("the run was stopped")
    assert [final.share for final in done[0].given_up] == [
        Share(0, 1),
        *(final.share for final in done[0].given_up[1:]),
    ]
    assert sum(final.share.items for final in done[0].given_up if final.share) + len(rows(done)) == ITEMS
    assert (one.waiting, one.running, one.tally.failing_mini_batches) == (1, 0, 0)
    assert one.end_divisions("the run was stopped") == []
