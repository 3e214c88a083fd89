"""Bundles that are out twice, and mini-batches that rest until what made them fail has passed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.backoff import Backoff
from daskscore.core.ledger import LONGEST_REST, NOTHING, RESTS, Ledger, Settlement
from daskscore.core.model import Failure, Kind, Outcome, Segment, Span

ITEMS = 4


def ledger(mini_batches: int, *, isolates: bool = False, max_try: int = 3, backoff: Backoff = RESTS) -> Ledger:
    return Ledger(
        mini_batches,
        mini_batches * ITEMS,
        max_try,
        items_in=lambda index: ITEMS,
        isolates=isolates,
        backoff=backoff,
        chance=lambda: 1.0,
    )


def scored(first: int, size: int = 1) -> Segment:
    return Segment(first, size, "part", 0, 10 * size, rows=size * ITEMS, items=size * ITEMS)


def well(bundle: int, first: int, size: int = 1) -> Outcome:
    return Outcome(bundle, "node", segments=(scored(first, size),))


def failing(bundle: int, index: int, retry_after: float | None = None) -> Outcome:
    failure = Failure(index, Kind.RAISE, "no luck", log="", retry_after=retry_after)
    return Outcome(bundle, "node", failures=(failure,))


def settled(settlement: Settlement | None) -> Settlement:
    assert settlement is not None
    return settlement


@given(st.booleans())
def test_the_first_of_two_counts_and_the_other_is_dropped(backup_first: bool) -> None:
    one = ledger(3)
    bundle, _, _ = one.hand_out(3)
    twin = one.back_up(bundle)
    assert twin is not None
    assert twin.spans == (Span(0, 3),)
    first, second = (twin.bundle, bundle) if backup_first else (bundle, twin.bundle)
    assert settled(one.settle(well(first, 0, 3))).dropped == second
    assert one.settle(well(second, 0, 3)) is None
    assert (one.finished, one.rows, one.tally.succeeded_mini_batches) == (True, 12, 3)


def test_there_is_one_backup_and_none_of_what_is_over() -> None:
    one = ledger(1)
    bundle, *_ = one.hand_out(1)
    twin = one.back_up(bundle)
    assert twin is not None
    assert one.back_up(bundle) is None
    assert one.back_up(twin.bundle) is None
    one.settle(well(bundle, 0))
    assert one.back_up(bundle) is None


def test_what_a_twin_has_not_started_waits_for_the_other() -> None:
    one = ledger(2)
    bundle, *_ = one.hand_out(2)
    twin = one.back_up(bundle)
    assert twin is not None
    assert one.settle(Outcome(bundle, "node", unstarted=(Span(0, 2),))) == NOTHING
    assert (one.waiting, one.running) == (0, 1)
    assert settled(one.settle(well(twin.bundle, 0, 2))).dropped is None
    assert one.finished


def test_a_lost_twin_is_charged_to_nobody() -> None:
    one = ledger(1)
    bundle, *_ = one.hand_out(1)
    for _ in range(20):
        twin = one.back_up(bundle)
        assert twin is not None
        assert one.lose(twin.bundle, "gone") == Settlement(lost_attempts=1)
    assert one.settle(well(bundle, 0)) is not None
    assert one.finished


def test_a_backup_of_a_share_is_one_attempt_at_it() -> None:
    one = ledger(1, isolates=True, max_try=1)
    one.settle(failing(one.hand_out(1)[0], 0))
    bundle, _, share = one.hand_out(1)
    twin = one.back_up(bundle)
    assert twin is not None
    assert twin.share == share
    assert one.tally.failing_mini_batches == 1
    settled(one.settle(well(twin.bundle, 0)))
    assert one.settle(well(bundle, 0)) is None
    while not one.finished:
        handed = one.hand_out(1)
        one.settle(well(handed.bundle, 0))
    assert one.tally.succeeded_items == ITEMS
    assert one.share_attempts == 3


def test_what_passes_by_itself_is_no_try_and_waits_without_a_slot() -> None:
    one = ledger(1, max_try=1)
    one.settle(failing(one.hand_out(1)[0], 0, retry_after=7.0), 100.0)
    assert (one.waiting, one.running, one.resting, one.finished) == (0, 0, 1, False)
    assert not one.wake(106.9)
    assert one.wake(107.0)
    handed = one.hand_out(1)
    assert handed.spans == (Span(0, 1, tries=0),)
    one.settle(well(handed.bundle, 0))
    assert one.finished
    assert one.tally.given_up_mini_batches == 0


def test_nobody_waits_longer_than_an_hour_because_a_service_says_so() -> None:
    one = ledger(1)
    one.settle(failing(one.hand_out(1)[0], 0, retry_after=1e9), 0.0)
    assert one.wake(LONGEST_REST)


def test_what_does_not_pass_counts_as_a_try_in_the_end() -> None:
    one = ledger(1, max_try=2, backoff=Backoff(attempts=3, seconds=1e9, first_pause=1.0))
    now, attempts = 0.0, 0
    while not one.finished:
        if not one.waiting:
            now += 1000
            assert one.wake(now)
        one.settle(failing(one.hand_out(1)[0], 0, retry_after=0.0), now)
        attempts += 1
    assert attempts == 2 + 2  # two rests, then the two tries
    assert one.tally.given_up_mini_batches == 1


def test_a_share_rests_too() -> None:
    one = ledger(1, isolates=True, max_try=1)
    one.settle(failing(one.hand_out(1)[0], 0))
    bundle, _, share = one.hand_out(1)
    one.settle(failing(bundle, 0, retry_after=1.0), 0.0)
    assert (one.resting, one.waiting, one.tally.failing_mini_batches) == (1, 0, 1)
    assert one.wake(100.0)
    assert one.hand_out(1).share == share


@pytest.mark.parametrize("number", [1, 50])
def test_those_that_rest_longest_come_last(number: int) -> None:
    one = ledger(number)
    for index in range(number):
        one.settle(failing(one.hand_out(1)[0], index, retry_after=float(100 + number - index)), 0.0)
    found = []
    for now in range(100, 101 + number):
        if one.wake(float(now)):
            found.append(one.hand_out(1).spans[0].first)
    assert found == list(reversed(range(number)))
