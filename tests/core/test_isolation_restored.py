"""Laws of a divided mini-batch that is retried: only what failed is tried, the other rows stay where they were."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.isolation import Divided, Isolation, Poison, Share
from daskscore.core.ledger import Ledger, Settlement
from daskscore.core.model import Failure, Kind, Outcome, Segment
from daskscore.core.thresholds import Tally, Thresholds

BEFORE = 5
"""Attempts of earlier sessions."""


def failure(message: str = "run() raised ValueError", kind: Kind = Kind.RAISE) -> Failure:
    return Failure(7, kind, message, log="")


def segment(share: Share) -> Segment:
    """One row for each item, whose place in the part says which item it is."""
    return Segment(7, 1, "part", share.start, share.items, share.items, share.items)


def divided(borders: list[int], failed: set[int]) -> Divided:
    """Shares from border to border, of which those of these numbers failed."""
    shares = [Share(*border) for border in pairwise(borders)]
    scored = tuple((share, segment(share)) for number, share in enumerate(shares) if number not in failed)
    poison = [Poison(share, failure("long ago"), BEFORE) for number, share in enumerate(shares) if number in failed]
    return Divided(7, borders[-1], scored, tuple(poison))


def work(isolation: Isolation, poison: set[int]) -> list[Share]:
    """To the end; what was tried."""
    tried = []
    while not isolation.finished:
        tried.append(share := isolation.next())
        if poison & set(range(*share)):
            isolation.failed(failure())
        else:
            isolation.scored(segment(share), ())
    return tried


def rows(isolation: Isolation) -> list[int]:
    return [item for found in isolation.segments() for item in range(found.offset, found.offset + found.length)]


@given(st.data())
def test_each_item_that_had_failed_is_scored_or_fails_alone_and_no_other_is_tried(data: st.DataObject) -> None:
    items = data.draw(st.integers(1, 60))
    inner = data.draw(st.sets(st.integers(1, items - 1))) if items > 1 else set()
    borders = sorted({0, items} | inner)
    failed = data.draw(st.sets(st.integers(0, len(borders) - 2), min_size=1))
    was = divided(borders, failed)
    before = {item for found in was.failed for item in range(*found.share)}
    poison = data.draw(st.sets(st.sampled_from(sorted(before))))
    tries = data.draw(st.integers(1, 3))
    isolation = Isolation.restored(was, tries_alone=tries)
    tried = work(isolation, poison)
    assert {item for share in tried for item in range(*share)} == before
    assert rows(isolation) == [item for item in range(items) if item not in poison]
    assert [found.share for found in isolation.poison()] == [Share(item, item + 1) for item in sorted(poison)]
    assert all(tried.count(Share(item, item + 1)) == tries for item in poison)
    assert all(found.attempts >= BEFORE + tries for found in isolation.poison())
    assert isolation.segments()[0][6:8] == (items, len(poison))
    assert [share[:2] for share in isolation.shares()] == sorted(share[:2] for share in isolation.shares())


def test_a_lone_item_is_tried_as_often_as_a_mini_batch_and_its_attempts_add_up() -> None:
    isolation = Isolation.restored(divided([0, 3, 4, 8], {1}), tries_alone=3)
    assert work(isolation, {3}) == [Share(3, 4)] * 3
    assert isolation.poison()[0].attempts == BEFORE + 3


def test_an_item_that_cannot_be_read_is_tried_once() -> None:
    isolation = Isolation.restored(divided([0, 3, 4], {1}), tries_alone=3)
    isolation.next()
    isolation.failed(failure(kind=Kind.INPUT))
    assert isolation.finished


def ledger(was: Divided, **changes: int) -> Ledger:
    one = Ledger(10, 80, 1, items_in=lambda index: 8, isolates=True, **changes)  # type: ignore[arg-type]  # as named
    settled = [(0, 7), (8, 2)]
    one.restore(settled, Tally(80, 10, succeeded_items=72, succeeded_mini_batches=9), 72, 0, [was])
    return one


def settle(one: Ledger, poison: set[int]) -> Settlement:
    handed = one.hand_out(1)
    share = handed.share
    assert share is not None
    if poison & set(range(*share)):
        settlement = one.settle(Outcome(handed.bundle, "node", failures=(failure(),)))
    else:
        settlement = one.settle(Outcome(handed.bundle, "node", segments=(segment(share),)))
    assert settlement is not None
    return settlement


def test_what_is_retried_is_not_failing_before_it_fails() -> None:
    one = ledger(divided([0, 3, 4, 5, 8], {1, 3}))
    limit = Thresholds(allowed_failed_count=0)
    assert limit.exceeded(one.tally) is None
    settle(one, set())
    assert limit.exceeded(one.tally) is None
    assert settle(one, {5}).segments == ()
    assert limit.exceeded(one.tally) is not None


def test_it_ends_with_all_rows_and_is_counted_once() -> None:
    one = ledger(divided([0, 3, 4, 5, 8], {1, 3}))
    assert settle(one, set()) == Settlement(attempts=1, share_attempts=1)
    done = settle(one, set())
    assert [found.offset for found in done.segments] == [0, 3, 4, 5]
    assert done.shares == ((0, 3, 0), (3, 4, 0), (4, 5, 0), (5, 8, 0))
    assert (one.finished, one.rows) == (True, 80)
    assert (one.tally.succeeded_items, one.tally.failing_mini_batches) == (80, 0)


def test_each_known_share_is_tried_where_no_attempts_are_left_to_divide_it() -> None:
    one = ledger(divided([0, 2, 3, 8], {0, 1}), isolation_attempts=0)
    settle(one, {1})
    done = settle(one, set())
    assert [(found.share, found.attempts) for found in done.given_up] == [(Share(0, 2), BEFORE + 1)]
    assert "isolation_attempts are used up" in done.given_up[0].failure.message
    assert one.tally.failed_items == 2


def test_lost_with_its_machines_it_keeps_its_rows() -> None:
    one = ledger(divided([0, 3, 4, 8], {1}))
    for _ in range(4):
        one.lose(one.hand_out(1).bundle, "lost")
    done = one.lose(one.hand_out(1).bundle, "lost")
    assert done is not None
    assert [(found.share, found.failure.message) for found in done.given_up] == [(Share(3, 4), "long ago (lost)")]
    assert (sum(found.length for found in done.segments), one.finished, one.tally.failing_mini_batches) == (7, True, 0)
