"""How many mini-batches go into one bundle.

A bundle costs two or three milliseconds of Dask, so fast mini-batches travel by the thousand; a bundle must also be
short, so that slots finish together and Ctrl-C is quick. The run time is measured, never asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

TARGET_SECONDS = 0.5
"""How long a bundle should keep its slot busy."""

BOX_SECONDS = 1.0
"""After this long the scorer hands back what it has not started: a wrong guess costs no more than this."""

GROWTH = 32
"""A bundle is at most this many times larger than the largest one that was measured."""

LIMIT = 65_536
LIMIT_BYTES = 2**20
"""What of the plan may ride in one bundle."""

SMOOTHING = 0.5


@dataclass(slots=True)
class Pacing:
    """The measured cost of a mini-batch, and what follows from it."""

    fixed: int | None = None
    """What the user asked for with `bundle_size`; None measures."""
    seconds_each: float | None = None
    largest: int = 0

    def learn(self, count: int, seconds: float) -> None:
        """A slot has finished `count` mini-batches in `seconds`."""
        if count <= 0:
            return
        each = max(seconds, 0.0) / count
        known = self.seconds_each
        self.seconds_each = each if known is None else known + SMOOTHING * (each - known)
        self.largest = max(self.largest, count)

    def size(self, *, waiting: int, slots: int) -> int:
        """How many of the `waiting` mini-batches the next bundle takes, at least one."""
        if self.fixed is not None:
            return min(self.fixed, LIMIT, waiting)
        if self.seconds_each is None:
            return 1
        by_time = LIMIT if self.seconds_each * LIMIT <= TARGET_SECONDS else int(TARGET_SECONDS / self.seconds_each)
        fair_share = -(-waiting // (2 * max(slots, 1)))
        return max(1, min(by_time, self.largest * GROWTH, fair_share))


def after_losses(size: int, losses: int) -> int:
    """A smaller bundle for mini-batches that were lost with a machine, so that the one to blame comes to stand alone."""
    return max(1, size >> (4 * losses))
