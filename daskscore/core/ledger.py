"""What waits, runs, is done or given up, and what is next.

Events in (a bundle was handed out, an outcome came, a machine was lost), instructions out (what to commit, what was
given up). No clock, no I/O; memory depends on what is in flight, not on how many mini-batches there are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from daskscore.core.model import Failure, ItemFailure, Kind, Outcome, Segment, Span
from daskscore.core.pacing import after_losses
from daskscore.core.thresholds import Tally
from daskscore.errors import InternalError

LOSSES_ALLOWED = 5
"""A mini-batch that was in flight on this many lost machines is given up: it may be what kills them."""


class Waiting(NamedTuple):
    """A span that may be handed out, ordered as in the plan."""

    first: int
    size: int
    tries: int
    losses: int


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A mini-batch that will not be tried again, and the failure of its last try."""

    failure: Failure
    attempts: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an event settled for good: the driver commits it before anything else happens."""

    segments: tuple[Segment, ...] = ()
    item_failures: tuple[ItemFailure, ...] = ()
    given_up: tuple[GivenUp, ...] = ()
    attempts: int = 0
    lost_attempts: int = 0


@dataclass(slots=True)
class Ledger:
    """The account of one run. Every mini-batch is in exactly one place: waiting, running, done or given up."""

    mini_batches: int
    items: int
    max_try: int
    items_in: Callable[[int], int]
    """How many items a mini-batch has; asked only for those that failed."""
    complete: bool = True
    """No mini-batches will be added."""

    rows: int = 0
    _waiting: list[Waiting] = field(default_factory=list)
    _waiting_count: int = 0
    _running: dict[int, tuple[Waiting, ...]] = field(default_factory=dict)
    _failing: int = 0
    _all_handed_out: bool = False
    _next_bundle: int = 0
    _tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self._tally = Tally(total_items=self.items, total_mini_batches=self.mini_batches)
        if self.mini_batches:
            self._wait(Waiting(0, self.mini_batches, 0, 0))

    @property
    def waiting(self) -> int:
        """Mini-batches that could be handed out now."""
        return self._waiting_count

    @property
    def running(self) -> int:
        """Bundles that are out."""
        return len(self._running)

    @property
    def finished(self) -> bool:
        return self.complete and not self._waiting and not self._running

    @property
    def tally(self) -> Tally:
        all_handed_out = self._all_handed_out or (self.complete and not self._waiting)
        return replace(self._tally, failing_mini_batches=self._failing, all_handed_out=all_handed_out)

    def restore(self, settled: Iterable[tuple[int, int]], tally: Tally, rows: int) -> None:
        """Continue where an earlier driver stopped: `settled` are (first, count) of what is done or given up."""
        self._waiting.clear()
        self._waiting_count = 0
        self._tally = tally
        self.rows = rows
        start = 0
        for first, count in sorted(settled):
            if first < start:
                raise InternalError(f"mini-batch {first} is settled twice in the journal")
            if first > start:
                self._wait(Waiting(start, first - start, 0, 0))
            start = first + count
        if start < self.mini_batches:
            self._wait(Waiting(start, self.mini_batches - start, 0, 0))

    def extend(self, mini_batches: int, items: int, *, complete: bool) -> None:
        """The plan has grown: so many there are by now in all."""
        if more := mini_batches - self.mini_batches:
            self._wait(Waiting(self.mini_batches, more, 0, 0))
        self.mini_batches, self.items, self.complete = mini_batches, items, complete
        self._tally = replace(self._tally, total_items=items, total_mini_batches=mini_batches)

    def hand_out(self, size: int) -> tuple[int, tuple[Span, ...]]:
        """The next mini-batches in plan order, at most `size`: the id of their bundle, and their spans."""
        taken: list[Waiting] = []
        losses = self._waiting[0].losses
        room = after_losses(size, losses)
        while room and self._waiting and self._waiting[0].losses == losses:
            span = heapq.heappop(self._waiting)
            if span.size > room:
                heapq.heappush(self._waiting, Waiting(span.first + room, span.size - room, span.tries, losses))
                span = span._replace(size=room)
            taken.append(span)
            room -= span.size
            self._waiting_count -= span.size
        self._all_handed_out |= self.complete and not self._waiting
        self._next_bundle += 1
        self._running[self._next_bundle] = tuple(taken)
        return self._next_bundle, tuple(Span(span.first, span.size, span.tries) for span in taken)

    def settle(self, outcome: Outcome) -> Settlement | None:
        """Account for an outcome; None for the late word of a bundle that was replaced meanwhile."""
        sent = self._running.pop(outcome.bundle, None)
        if sent is None:
            return None
        parts = [_Part(segment.first, segment.size) for segment in outcome.segments]
        parts += [_Part(failure.index, 1, failure=failure) for failure in outcome.failures]
        parts += [_Part(span.first, span.size, started=False) for span in outcome.unstarted]
        given_up: list[GivenUp] = []
        tries: dict[int, int] = {}
        for part, source in _match(sent, sorted(parts, key=lambda part: part.first)):
            if part.failure is not None:
                if final := self._failed(part.failure, source):
                    given_up.append(final)
            elif not part.started:
                self._wait(Waiting(part.first, part.size, source.tries, source.losses))
            elif source.tries:
                self._failing -= part.size
                tries[part.first] = source.tries
        self._scored(outcome.segments)
        attempts = sum(segment.size for segment in outcome.segments) + len(outcome.failures)
        # A mini-batch with failed items is a segment of its own, so its index is where its part begins.
        short = tuple(replace(item, attempts=tries.get(item.index, 0) + 1) for item in outcome.item_failures)
        return Settlement(outcome.segments, short, tuple(given_up), attempts=attempts)

    def lose(self, bundle: int, message: str) -> Settlement | None:
        """The machine that had this bundle is gone: that is charged to the machine, not as a try."""
        sent = self._running.pop(bundle, None)
        if sent is None:
            return None
        given_up: list[GivenUp] = []
        for span in sent:
            if span.losses + 1 < LOSSES_ALLOWED:
                self._wait(span._replace(losses=span.losses + 1))
                continue
            for index in range(span.first, span.first + span.size):
                self._give_up(index, was_failing=span.tries > 0)
                failure = Failure(index, Kind.LOST, message, log="")
                given_up.append(GivenUp(failure, attempts=span.tries + span.losses + 1))
        return Settlement(given_up=tuple(given_up), lost_attempts=sum(span.size for span in sent))

    def _wait(self, span: Waiting) -> None:
        heapq.heappush(self._waiting, span)
        self._waiting_count += span.size

    def _failed(self, failure: Failure, source: Waiting) -> GivenUp | None:
        tries = source.tries + 1
        if tries < self.max_try and (failure.kind is not Kind.INPUT or failure.may_pass):
            self._failing += source.tries == 0
            self._wait(Waiting(failure.index, 1, tries, source.losses))
            return None
        self._give_up(failure.index, was_failing=source.tries > 0)
        return GivenUp(failure, attempts=tries)

    def _give_up(self, index: int, *, was_failing: bool) -> None:
        self._failing -= was_failing
        self._tally = self._tally.with_given_up(self.items_in(index))

    def _scored(self, segments: tuple[Segment, ...]) -> None:
        for segment in segments:
            self._tally = self._tally.with_segment(segment)
            self.rows += segment.rows


class _Part(NamedTuple):
    """What an outcome says about consecutive mini-batches: scored, failed, or not started."""

    first: int
    size: int
    failure: Failure | None = None
    started: bool = True


def _match(sent: tuple[Waiting, ...], parts: list[_Part]) -> list[tuple[_Part, Waiting]]:
    """Cut `parts` at the borders of what was sent; each piece with the span it belongs to, nothing missing or extra."""
    pieces: list[tuple[_Part, Waiting]] = []
    todo = parts[::-1]
    for span in sent:
        at, stop = span.first, span.first + span.size
        while at < stop:
            part = todo.pop() if todo else None
            if part is None or part.first != at or part.size < 1:
                raise InternalError(f"the outcome of a bundle does not say what became of mini-batch {at}, once")
            length = min(part.size, stop - at)
            pieces.append((part._replace(size=length), span))
            at += length
            if part.size > length:
                todo.append(part._replace(first=at, size=part.size - length))
    if todo:
        raise InternalError(f"the outcome of a bundle names mini-batch {todo[-1].first}, which was not in it")
    return pieces
