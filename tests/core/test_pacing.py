"""How many mini-batches go into one bundle (DESIGN 4: bundles of about half a second, shrinking towards the end)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.ledger import LOSSES_ALLOWED
from daskscore.core.pacing import BOX_SECONDS, GROWTH, LIMIT, SMOOTHING, TARGET_SECONDS, Pacing, after_losses

PLENTY = 10**9

pacings = st.builds(
    Pacing,
    fixed=st.none() | st.integers(1, 10**6),
    seconds_each=st.none() | st.floats(0, 1e4),
    largest=st.integers(0, LIMIT),
)
waitings = st.integers(1, 10**7)
slots = st.integers(0, 5000)
seconds = st.floats(0, 1e4)


@given(pacings, waitings, slots)
def test_a_bundle_takes_at_least_one_and_at_most_what_waits(pacing: Pacing, waiting: int, slots: int) -> None:
    assert 1 <= pacing.size(waiting=waiting, slots=slots) <= waiting


@given(pacings, waitings, slots)
def test_no_bundle_is_larger_than_the_limit(pacing: Pacing, waiting: int, slots: int) -> None:
    assert pacing.size(waiting=waiting, slots=slots) <= LIMIT


@given(pacings, waitings, slots)
def test_less_waiting_never_makes_a_bundle_larger(pacing: Pacing, waiting: int, slots: int) -> None:
    assert pacing.size(waiting=waiting, slots=slots) <= pacing.size(waiting=waiting + 1, slots=slots)


@given(pacings, waitings, slots)
def test_more_slots_never_make_a_bundle_larger(pacing: Pacing, waiting: int, slots: int) -> None:
    assert pacing.size(waiting=waiting, slots=slots + 1) <= pacing.size(waiting=waiting, slots=slots)


@given(seconds, seconds)
def test_slower_mini_batches_never_make_a_bundle_larger(one: float, other: float) -> None:
    slow, fast = (
        Pacing(None, each, LIMIT).size(waiting=PLENTY, slots=1) for each in (max(one, other), min(one, other))
    )
    assert slow <= fast


@given(seconds)
def test_a_bundle_is_not_expected_to_take_longer_than_the_target(each: float) -> None:
    size = Pacing(None, each, LIMIT).size(waiting=PLENTY, slots=1)
    assert size == 1 or size * each <= TARGET_SECONDS


@given(st.floats(TARGET_SECONDS / LIMIT, TARGET_SECONDS))
def test_a_bundle_fills_the_target(each: float) -> None:
    size = Pacing(None, each, LIMIT).size(waiting=PLENTY, slots=1)
    assert (size + 1) * each > TARGET_SECONDS * 0.999


def test_a_bundle_that_takes_as_long_as_it_should_fits_its_box() -> None:
    assert 0.25 <= TARGET_SECONDS <= BOX_SECONDS <= 1.0


def test_mini_batches_that_take_no_time_go_up_to_the_limit() -> None:
    assert Pacing(None, 0.0, LIMIT).size(waiting=PLENTY, slots=1) == LIMIT


def test_a_slow_mini_batch_travels_alone() -> None:
    assert Pacing(None, TARGET_SECONDS, LIMIT).size(waiting=PLENTY, slots=1) == 1


def test_before_anything_is_measured_bundles_are_of_one() -> None:
    assert Pacing().size(waiting=PLENTY, slots=1) == 1


@given(st.integers(1, LIMIT))
def test_a_bundle_is_at_most_so_much_larger_than_one_that_was_measured(largest: int) -> None:
    assert Pacing(None, 0.0, largest).size(waiting=PLENTY, slots=1) == min(GROWTH * largest, LIMIT)


@pytest.mark.parametrize(("waiting", "slots", "size"), [(100, 1, 50), (101, 1, 51), (100, 5, 10), (9, 5, 1), (7, 0, 4)])
def test_towards_the_end_each_slot_gets_half_its_share(waiting: int, slots: int, size: int) -> None:
    assert Pacing(None, 0.0, LIMIT).size(waiting=waiting, slots=slots) == size


@given(st.integers(1, LIMIT), st.floats(0, 1e4), waitings, slots)
def test_a_size_that_the_user_asked_for_is_kept(fixed: int, each: float, waiting: int, slots: int) -> None:
    assert Pacing(fixed, each, 1).size(waiting=waiting, slots=slots) == min(fixed, waiting)


@given(pacings, st.integers(-5, 0), seconds)
def test_a_bundle_without_a_finished_mini_batch_teaches_nothing(pacing: Pacing, count: int, taken: float) -> None:
    before = (pacing.seconds_each, pacing.largest)
    pacing.learn(count, taken)
    assert (pacing.seconds_each, pacing.largest) == before


@given(st.integers(1, LIMIT), seconds)
def test_the_first_measure_is_believed(count: int, taken: float) -> None:
    pacing = Pacing()
    pacing.learn(count, taken)
    assert pacing.seconds_each == taken / count


def test_a_later_measure_moves_the_estimate_part_of_the_way() -> None:
    pacing = Pacing(None, 1.0, 1)
    pacing.learn(1, 3.0)
    assert pacing.seconds_each == 1.0 + SMOOTHING * 2.0


@given(seconds, st.integers(1, LIMIT), seconds)
def test_the_estimate_stays_between_what_it_was_and_what_was_measured(known: float, count: int, taken: float) -> None:
    pacing = Pacing(None, known, 1)
    pacing.learn(count, taken)
    low, high = sorted((known, taken / count))
    assert low * 0.999 <= pacing.seconds_each <= high * 1.001


def test_a_clock_that_went_back_counts_as_no_time() -> None:
    pacing = Pacing()
    pacing.learn(4, -1.0)
    assert pacing.seconds_each == 0.0


@given(st.lists(st.integers(1, LIMIT), min_size=1))
def test_the_largest_measured_bundle_is_remembered(counts: list[int]) -> None:
    pacing = Pacing()
    for done in counts:
        pacing.learn(done, 0.1)
    assert pacing.largest == max(counts)


@given(st.integers(1, 10**6))
def test_mini_batches_that_were_never_lost_travel_as_paced(size: int) -> None:
    assert after_losses(size, 0) == size


@given(st.integers(1, 10**6), st.integers(0, LOSSES_ALLOWED))
def test_each_loss_makes_bundles_smaller_until_they_are_of_one(size: int, losses: int) -> None:
    assert 1 <= after_losses(size, losses + 1) < max(2, after_losses(size, losses))


@given(pacings, waitings, slots)
def test_on_its_last_chance_a_mini_batch_stands_alone(pacing: Pacing, waiting: int, slots: int) -> None:
    assert after_losses(pacing.size(waiting=waiting, slots=slots), LOSSES_ALLOWED - 1) == 1
