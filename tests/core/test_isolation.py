"""Laws of dividing a mini-batch: whatever fails, each item is scored or fails alone, and it costs little."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.isolation import Isolation, Share
from daskscore.core.model import Failure, ItemFailure, Kind, Segment

Fails = Callable[[Share], bool]


def failure(message: str = "run() raised ValueError") -> Failure:
    return Failure(7, Kind.RAISE, message, log="")


def run(items: int, fails: Fails, most: int = 100_000) -> Isolation:
    isolation = Isolation(7, items, failure("as a whole"), tries=2)
    while not isolation.finished and isolation.attempts < most:
        share = isolation.next()
        assert isolation.next() == share, "a share that was lost is handed out again"
        if fails(share):
            isolation.failed(failure(f"{share.start}-{share.stop}"))
        else:
            isolation.scored(Segment(7, 1, "part", share.start, share.items, share.items, share.items), ())
    return isolation


def scored(isolation: Isolation) -> list[int]:
    """The items of the rows, in the order of the segments; their offsets say which they are."""
    return [item for segment in isolation.segments() for item in range(segment.offset, segment.offset + segment.length)]


@given(st.data())
def test_each_item_is_scored_or_fails_alone(data: st.DataObject) -> None:
    items = data.draw(st.integers(2, 200))
    poison = data.draw(st.sets(st.integers(0, items - 1)))
    isolation = run(items, lambda share: any(item in poison for item in range(*share)))
    assert [found.share for found in isolation.poison()] == [Share(item, item + 1) for item in sorted(poison)]
    assert scored(isolation) == [item for item in range(items) if item not in poison]
    first, *rest = isolation.segments()
    assert (first.first, first.size, first.items, first.failed_items) == (7, 1, items, len(poison))
    assert all((segment.first, segment.size, segment.items, segment.failed_items) == (7, 0, 0, 0) for segment in rest)
    assert isolation.attempts <= 3 * items


@given(st.integers(2, 2000), st.integers(1, 2000), st.integers(0, 50))
def test_items_that_fail_only_in_company_are_all_scored(items: int, capacity: int, seed: int) -> None:
    isolation = run(items, lambda share: share.items > capacity)
    assert not isolation.poison()
    assert scored(isolation) == list(range(items))
    assert isolation.attempts <= 2 * ceil(log2(items) + 1) + 6 * items / capacity


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.integers(2, 60))
def test_a_script_that_fails_by_chance_ends_all_the_same(chances: list[bool], items: int) -> None:
    turns = iter(chances)
    isolation = run(items, lambda _: next(turns, False))
    alone = [found.share for found in isolation.poison()]
    assert all(share.items == 1 for share in alone)
    assert sorted(scored(isolation) + [share.start for share in alone]) == list(range(items))


@given(st.sets(st.integers(0, 999), min_size=1, max_size=3))
def test_three_among_a_thousand_cost_less_than_forty_attempts(poison: set[int]) -> None:
    isolation = run(1000, lambda share: any(item in poison for item in range(*share)))
    assert isolation.attempts <= 13 * len(poison)


@pytest.mark.parametrize("place", range(50))
def test_one_among_fifty_costs_at_most_eight(place: int) -> None:
    assert run(50, lambda share: place in range(*share)).attempts <= 8


@given(st.data())
def test_given_up_halfway_each_item_is_named_once(data: st.DataObject) -> None:
    items = data.draw(st.integers(2, 100))
    poison = data.draw(st.sets(st.integers(0, items - 1), min_size=1))
    isolation = run(items, lambda share: any(item in poison for item in range(*share)), data.draw(st.integers(0, 30)))
    over = isolation.finished
    if not over and data.draw(st.booleans()):
        isolation.next()
    isolation.give_up("because")
    assert isolation.finished
    lost = [item for found in isolation.poison() for item in range(*found.share)]
    assert sorted(lost + scored(isolation)) == list(range(items))
    assert lost == sorted(lost)
    assert set(lost) >= poison
    assert over or any("(because)" in found.failure.message for found in isolation.poison())
    assert isolation.failed_items == len(lost)


def test_attempts_are_those_that_an_item_was_in() -> None:
    isolation = run(4, lambda share: 2 in range(*share))
    # twice as a whole; 0-2 is well, so 2-4 is not tried as a whole; 2 alone
    assert [found.attempts for found in isolation.poison()] == [3]
    assert isolation.attempts == 3


def test_a_share_with_items_that_have_no_result_tells_them() -> None:
    isolation = Isolation(7, 4, failure(), tries=3)
    share = isolation.next()
    isolation.scored(
        Segment(7, 1, "part", 0, 1, 1, 2, failed_items=1), (ItemFailure(7, "b", Kind.BAD_OUTPUT, "short", ""),)
    )
    share = isolation.next()
    isolation.scored(Segment(7, 1, "part", 1, 1, 1, share.items), ())
    while not isolation.finished:
        share = isolation.next()
        isolation.scored(Segment(7, 1, "part", 2, 1, 1, share.items), ())
    assert [(item.item, item.attempts) for item in isolation.item_failures()] == [("b", 4)]
    assert isolation.segments()[0].failed_items == 1


def test_a_script_that_fails_at_everything_is_found_out() -> None:
    isolation = Isolation(7, 1000, failure(), tries=2)
    while not isolation.finished:
        isolation.next()
        isolation.failed(failure())
        if isolation.hopeless:
            isolation.give_up("no hope")
    assert isolation.attempts < 100
    assert [item for found in isolation.poison() for item in range(*found.share)] == list(range(1000))


def test_different_reasons_are_no_reason_to_give_up() -> None:
    isolation = Isolation(7, 50, failure(), tries=2)
    while not isolation.finished:
        share = isolation.next()
        isolation.failed(failure(f"run() raised Error{'ab'[share.start % 2]}"))
        assert not isolation.hopeless
    assert len(isolation.poison()) == 50
