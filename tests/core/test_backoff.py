from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.backoff import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(attempts=10, seconds=100, first_pause=1, longest_pause=5)
    assert [backoff.pause(failures, 0, 1.0) for failures in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]


def test_chance_spreads_a_pause_over_its_second_half() -> None:
    backoff = Backoff(first_pause=1)
    assert [backoff.pause(1, 0, chance) for chance in (0.0, 0.5, 1.0)] == [0.5, 0.75, 1.0]


@pytest.mark.parametrize(("failures", "elapsed"), [(3, 0), (4, 0), (1, 10), (1, 11)])
def test_the_budget_is_attempts_and_seconds(failures: int, elapsed: float) -> None:
    assert Backoff(attempts=3, seconds=10).pause(failures, elapsed, 0.5) is None


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_no_pause_is_longer_than_the_longest(failures: int, chance: float) -> None:
    pause = Backoff(attempts=10**10).pause(failures, 0, chance)
    assert pause is not None
    assert 0 < pause <= 20.0
