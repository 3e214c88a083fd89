"""When what is slow at the end of a run is started a second time, elsewhere."""

from __future__ import annotations

FEWEST = 10
"""So many mini-batches must have gone well before it is known how long one takes."""
FLOOR_SECONDS = 0.5
TIMES_SLOWER = 2.0


def needs_backup(*, idle_seconds: float, size: int, seconds_each: float | None, finished: int) -> bool:
    """Whether a bundle that has been running at least since a slot became idle is much slower than others of its size.

    A second attempt costs nothing but an idle slot's time, so the rule may be wrong now and then; without an idle slot it
    is not asked.
    """
    if seconds_each is None or finished < FEWEST:
        return False
    return idle_seconds > max(FLOOR_SECONDS, TIMES_SLOWER * size * seconds_each)
