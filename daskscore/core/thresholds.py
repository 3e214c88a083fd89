"""When a job has failed too much to go on (or to count as Completed)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from daskscore.core.model import Segment

NOTHING_SUCCEEDED = (
    "There is no succeeded mini batch item returned from run(). "
    "Please check 'response: run()' in https://aka.ms/batch-inference-documentation"
)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the ledger has counted so far."""

    total_items: int
    total_mini_batches: int
    succeeded_items: int = 0
    failed_items: int = 0
    succeeded_mini_batches: int = 0
    """Gave rows and are committed, short ones included."""
    short_mini_batches: int = 0
    """Of these, the ones that went well and have at least one failed item."""
    isolated_mini_batches: int = 0
    """Of these, the ones that failed as a whole, and whose items were then tried in shares: some of them failed again."""
    given_up_mini_batches: int = 0
    """Failed on their last try."""
    failing_mini_batches: int = 0
    """Failed at least once, and have tries left."""
    all_handed_out: bool = False
    """Each mini-batch has been with a worker once, or is settled; it stays true when one waits for its next try."""

    def with_segment(self, segment: Segment) -> Tally:
        """After the rows of a segment were committed."""
        return replace(
            self,
            succeeded_items=self.succeeded_items + segment.items - segment.failed_items,
            failed_items=self.failed_items + segment.failed_items,
            succeeded_mini_batches=self.succeeded_mini_batches + segment.size,
            short_mini_batches=self.short_mini_batches + bool(segment.failed_items),
        )

    def with_isolated(self, mini_batches: int) -> Tally:
        """After the segments of mini-batches were counted that have failed items since they were divided."""
        return replace(
            self,
            short_mini_batches=self.short_mini_batches - mini_batches,
            isolated_mini_batches=self.isolated_mini_batches + mini_batches,
        )

    def without(self, mini_batches: int, *, items: int, failed_items: int, short: bool = False) -> Tally:
        """Before mini-batches that were divided, or are `short`, get a new chance."""
        return replace(
            self,
            succeeded_items=self.succeeded_items - items + failed_items,
            failed_items=self.failed_items - failed_items,
            succeeded_mini_batches=self.succeeded_mini_batches - mini_batches,
            short_mini_batches=self.short_mini_batches - (mini_batches if short else 0),
            isolated_mini_batches=self.isolated_mini_batches - (0 if short else mini_batches),
        )

    def with_given_up(self, items: int, mini_batches: int = 1) -> Tally:
        """After mini-batches with that many items were given up (or, negative, get a new chance)."""
        return replace(
            self,
            failed_items=self.failed_items + items,
            given_up_mini_batches=self.given_up_mini_batches + mini_batches,
        )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits of one job; -1 or None ignores that kind of failure."""

    error_threshold: int = -1
    mini_batch_error_threshold: int = -1
    allowed_failed_count: int | None = None
    allowed_failed_percent: float | None = None
    append_row: bool = True

    def failed_mini_batches(self, tally: Tally) -> int:
        """A short return makes a failed mini-batch only where items are checked at all."""
        short = tally.short_mini_batches if self.error_threshold >= 0 else 0
        return tally.given_up_mini_batches + tally.isolated_mini_batches + short

    def exceeded(self, tally: Tally) -> str | None:
        """Why the job must stop now, or None."""
        if 0 <= self.error_threshold < tally.failed_items:
            return (
                f"{tally.failed_items} items failed, more than error_threshold allows ({self.error_threshold}). "
                "failed_items.jsonl names them"
            )
        failed = self.failed_mini_batches(tally)
        if 0 <= self.mini_batch_error_threshold < failed:
            return (
                f"{failed} mini-batches failed, more than mini_batch_error_threshold allows "
                f"({self.mini_batch_error_threshold}). failed_items.jsonl names their items"
            )
        count = self.allowed_failed_count
        failing = failed + tally.failing_mini_batches
        if count is not None and 0 <= count < failing:
            return f"{failing} mini-batches are failing, more than allowed_failed_count allows ({count})"
        percent = self.allowed_failed_percent
        if percent is not None and tally.all_handed_out and failed * 100 > percent * tally.total_mini_batches:
            return (
                f"{failed} of {tally.total_mini_batches} mini-batches failed, "
                f"more than allowed_failed_percent allows ({percent:g} %)"
            )
        return None

    def at_the_end(self, tally: Tally) -> str | None:
        """Why a run with nothing left to do has failed all the same, or None."""
        succeeded = tally.succeeded_items
        if not self.append_row:
            succeeded += tally.succeeded_mini_batches - tally.isolated_mini_batches
        if succeeded == 0:
            return NOTHING_SUCCEEDED
        return self.exceeded(tally)
