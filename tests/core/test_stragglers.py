"""When a second attempt is started near the end of a run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daskscore.core.stragglers import FEWEST, FLOOR_SECONDS, TIMES_SLOWER, needs_backup

SECONDS = st.floats(0, 1e4)


@given(SECONDS, st.integers(1, 10_000), SECONDS, st.integers(0, 1000))
def test_only_what_is_much_slower_than_its_peers_gets_a_backup(
    idle: float, size: int, each: float, finished: int
) -> None:
    found = needs_backup(idle_seconds=idle, size=size, seconds_each=each, finished=finished)
    assert found == (finished >= FEWEST and idle > FLOOR_SECONDS and idle > TIMES_SLOWER * size * each)


@given(SECONDS, st.integers(1, 100), SECONDS, st.integers(FEWEST, 100))
def test_waiting_longer_never_takes_a_backup_away(idle: float, size: int, each: float, finished: int) -> None:
    if needs_backup(idle_seconds=idle, size=size, seconds_each=each, finished=finished):
        assert needs_backup(idle_seconds=idle + 1, size=size, seconds_each=each, finished=finished)


def test_where_nothing_is_known_there_is_none() -> None:
    assert not needs_backup(idle_seconds=1e6, size=1, seconds_each=None, finished=1000)
