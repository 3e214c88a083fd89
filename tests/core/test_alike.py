"""When nearly all first attempts fail alike, and when they do not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.alike import CAUSES, NEARLY_ALL, Alike


def test_twenty_alike_at_ten_mini_batches_are_enough() -> None:
    alike = Alike(20)
    answers = [alike.has_failed(number // 2, "cause") for number in range(20)]
    assert answers == [False] * 19 + [True]


def test_a_few_mini_batches_that_are_tried_again_and_again_are_not() -> None:
    alike = Alike(20)
    assert not any(alike.has_failed(number % 9, "cause") for number in range(100))


def test_different_causes_are_not_one_failure() -> None:
    alike = Alike(20)
    assert not any(alike.has_failed(number, f"cause {number % 2}") for number in range(200))
    assert not any(alike.has_failed(number, f"cause {number}") for number in range(CAUSES + 200))
    assert not alike.watching


def test_what_is_switched_off_says_nothing() -> None:
    assert not any(Alike(limit).has_failed(number, "cause") for limit in (-1, 0) for number in range(100))


@given(st.lists(st.booleans(), max_size=400), st.integers(1, 40))
def test_it_stops_only_where_nearly_all_have_failed(attempts: list[bool], limit: int) -> None:
    alike = Alike(limit)
    scored = 0
    for index, well in enumerate(attempts):
        if well:
            scored += 1
            alike.went_well(1)
        elif alike.has_failed(index, "cause"):
            failed = index + 1 - scored
            assert failed >= limit
            assert failed >= NEARLY_ALL * (failed + scored)
            return
    assert len(attempts) - scored < max(limit, 5) or scored > 0


@given(st.integers(20, 1000))
def test_many_that_went_well_first_mean_that_the_script_is_not_broken(scored: int) -> None:
    alike = Alike(20)
    alike.went_well(scored)
    assert not any(alike.has_failed(index, "cause") for index in range(1000))
