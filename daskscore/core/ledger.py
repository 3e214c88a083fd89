"""What waits, runs, is done or given up, and what is next.

Events in (a bundle was handed out, an outcome came, a machine was lost), instructions out (what to commit, what was
given up). No clock, no I/O; memory depends on what is in flight, not on how many mini-batches there are.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from daskscore.core.backoff import Backoff
from daskscore.core.fingerprints import fingerprint
from daskscore.core.isolation import Divided, Isolation, Share
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


class _Resting(NamedTuple):
    """What failed for a reason that passes by itself, and is tried again from then on."""

    due: float
    number: int
    what: Waiting | Isolation


class Handed(NamedTuple):
    """What goes into one bundle."""

    bundle: int
    spans: tuple[Span, ...]
    share: Share | None = None
    """Not the whole mini-batch, of which there is one, but only these of its items."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A mini-batch that will not be tried again, and the failure of its last try."""

    failure: Failure
    attempts: int
    share: Share | None = None
    """Only these of its items; the others have their rows."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an event settled for good: the driver commits it before anything else happens."""

    segments: tuple[Segment, ...] = ()
    item_failures: tuple[ItemFailure, ...] = ()
    given_up: tuple[GivenUp, ...] = ()
    attempts: int = 0
    share_attempts: int = 0
    """Of these, the ones at shares of a mini-batch."""
    shares: tuple[tuple[int, int, int], ...] | None = None
    """Of a mini-batch that was divided: which of its items each segment has, and how many of them have no result."""
    lost_attempts: int = 0
    dropped: int | None = None
    """A bundle whose outcome is not wanted any more: its twin was faster."""

    @property
    def isolated(self) -> set[int]:
        """Mini-batches that have rows, and items that were given up alone."""
        return {final.failure.index for final in self.given_up if final.share is not None}


NOTHING = Settlement()
ISOLATES_AT_MOST = 1_000
"""Attempts at shares, where the job does not say; and one for each so many mini-batches: """
MINI_BATCHES_PER_SHARE = 10
RESTS = Backoff(attempts=10, seconds=900.0, first_pause=1.0, longest_pause=60.0)
LONGEST_REST = 3600.0
"""Where a service asks for more."""
NOT_ISOLATED = (Kind.INPUT, Kind.LOST)
"""Failures that come from no item, or that name theirs already."""


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
    isolates: bool = False
    """A mini-batch that keeps failing is divided until what makes it fail stands alone."""
    isolation_attempts: int | None = None
    """How many attempts at shares the whole run may make; None: by the number of mini-batches."""
    backoff: Backoff = RESTS
    """How long what passes by itself is waited for."""
    chance: Callable[[], float] = random.random

    rows: int = 0
    share_attempts: int = 0
    _waiting: list[Waiting] = field(default_factory=list)
    _waiting_count: int = 0
    _running: dict[int, tuple[Waiting, ...]] = field(default_factory=dict)
    _shares: deque[Isolation] = field(default_factory=deque)
    """Their next share may be handed out now."""
    _running_shares: dict[int, Isolation] = field(default_factory=dict)
    _alone: dict[int, int] = field(default_factory=dict)
    """Of mini-batches that are divided: how many of their items are known to have failed."""
    _fingerprints: dict[int, str] = field(default_factory=dict)
    """Of the last failure of mini-batches that have tries left."""
    _resting: list[_Resting] = field(default_factory=list)
    """A heap: the next one due is the first."""
    _rests: dict[int, tuple[int, float]] = field(default_factory=dict)
    """How often a mini-batch has rested, and since when."""
    _failing: int = 0
    _all_handed_out: bool = False
    _twins: dict[int, int] = field(default_factory=dict)
    """Of two bundles with the same mini-batches each names the other."""
    _next_bundle: int = 0
    _tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self._tally = Tally(total_items=self.items, total_mini_batches=self.mini_batches)
        if self.mini_batches:
            self._wait(Waiting(0, self.mini_batches, 0, 0))

    @property
    def waiting(self) -> int:
        """Mini-batches that could be handed out now."""
        return self._waiting_count + len(self._shares)

    @property
    def running(self) -> int:
        """Bundles that are out."""
        return len(self._running) + len(self._running_shares)

    @property
    def finished(self) -> bool:
        return self.complete and not self.waiting and not self.running and not self._resting

    @property
    def resting(self) -> int:
        """Mini-batches that wait until what made them fail has passed."""
        return len(self._resting)

    @property
    def tally(self) -> Tally:
        all_handed_out = self._all_handed_out or (self.complete and not self._waiting)
        return replace(
            self._tally,
            failed_items=self._tally.failed_items + sum(self._alone.values()),
            failing_mini_batches=self._failing,
            all_handed_out=all_handed_out,
        )

    @property
    def most_share_attempts(self) -> int:
        """How many attempts at shares there may be in all."""
        if self.isolation_attempts is not None:
            return self.isolation_attempts if self.isolation_attempts >= 0 else sys.maxsize
        return ISOLATES_AT_MOST + self.mini_batches // MINI_BATCHES_PER_SHARE

    def restore(
        self,
        settled: Iterable[tuple[int, int]],
        tally: Tally,
        rows: int,
        share_attempts: int = 0,
        divided: Iterable[Divided] = (),
    ) -> None:
        """Continue where an earlier driver stopped: `settled` are (first, count) of what is done or given up.

        Of what is `divided`, only some items are left to be tried.
        """
        self._waiting.clear()
        self._waiting_count = 0
        self._tally = tally
        self.rows = rows
        self.share_attempts = share_attempts
        self._shares = deque(Isolation.restored(one, tries_alone=self.max_try) for one in divided)
        self._alone = {one.index: one.failed_items for one in self._shares if one.failed_items}
        start = 0
        for first, count in sorted([*settled, *((isolation.index, 1) for isolation in self._shares)]):
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

    def wake(self, now: float) -> bool:
        """What has rested long enough may be handed out; whether there was anything."""
        woken = 0
        while self._resting and self._resting[0].due <= now:
            what = heapq.heappop(self._resting).what
            if isinstance(what, Isolation):
                self._shares.append(what)
            else:
                self._wait(what)
            woken += 1
        return woken > 0

    def hand_out(self, size: int) -> Handed:
        """The next mini-batches in plan order, at most `size`, or a share of one."""
        self._next_bundle += 1
        if self._shares:
            return self._hand_out_share(self._next_bundle, self._shares.popleft())
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
        self._running[self._next_bundle] = tuple(taken)
        return Handed(self._next_bundle, tuple(Span(span.first, span.size, span.tries) for span in taken))

    def share_of(self, bundle: int) -> Share | None:
        """What a bundle was that is out, if it was no whole mini-batches."""
        isolation = self._running_shares.get(bundle)
        return isolation.next() if isolation is not None else None

    def back_up(self, bundle: int) -> Handed | None:
        """The same once more, for another slot: the first outcome of the two counts. None for what has a twin already."""
        if bundle in self._twins or (bundle not in self._running and bundle not in self._running_shares):
            return None
        self._next_bundle = twin = self._next_bundle + 1
        self._twins |= {bundle: twin, twin: bundle}
        if isolation := self._running_shares.get(bundle):
            return self._hand_out_share(twin, isolation)
        self._running[twin] = sent = self._running[bundle]
        return Handed(twin, tuple(Span(span.first, span.size, span.tries) for span in sent))

    def size(self, bundle: int) -> int:
        """How many mini-batches a bundle has that is out."""
        return sum(span.size for span in self._running.get(bundle, ())) or 1

    def settle(self, outcome: Outcome, now: float = 0.0) -> Settlement | None:
        """Account for an outcome; None for the late word of a bundle that was replaced meanwhile."""
        twin = self._part_from_twin(outcome.bundle)
        if twin is not None:
            if not outcome.segments and not outcome.failures:
                self._take_back(outcome.bundle)
                return NOTHING
            self._take_back(twin)
        settlement = self._settle(outcome, now)
        return settlement if settlement is None or twin is None else replace(settlement, dropped=twin)

    def _settle(self, outcome: Outcome, now: float) -> Settlement | None:
        if isolation := self._running_shares.pop(outcome.bundle, None):
            return self._settle_share(isolation, outcome, now)
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
                if self._rest(part.failure, source, now):
                    continue
                if final := self._failed(part.failure, source):
                    given_up.append(final)
            elif not part.started:
                self._wait(Waiting(part.first, part.size, source.tries, source.losses))
            elif source.tries:
                self._failing -= part.size
                tries[part.first] = source.tries
                self._forget(part.first)
            elif self._rests:
                self._rests.pop(part.first, None)
        self._scored(outcome.segments)
        attempts = sum(segment.size for segment in outcome.segments) + len(outcome.failures)
        # A mini-batch with failed items is a segment of its own, so its index is where its part begins.
        short = tuple(replace(item, attempts=tries.get(item.index, 0) + 1) for item in outcome.item_failures)
        return Settlement(outcome.segments, short, tuple(given_up), attempts=attempts)

    def lose(self, bundle: int, message: str) -> Settlement | None:
        """The machine that had this bundle is gone: that is charged to the machine, not as a try."""
        if self._part_from_twin(bundle) is not None:
            lost = self.size(bundle)
            self._take_back(bundle)
            return Settlement(lost_attempts=lost)
        if isolation := self._running_shares.pop(bundle, None):
            isolation.losses += 1
            if isolation.losses < LOSSES_ALLOWED:
                self._shares.append(isolation)
                return Settlement(lost_attempts=1)
            isolation.give_up(message)
            return replace(self._finish(isolation), lost_attempts=1)
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

    def end_divisions(self, why: str) -> list[Settlement]:
        """The run fails: of mini-batches in which items have failed alone, these are named, and what was not tried too."""
        left = [*self._shares, *self._running_shares.values(), *(rest.what for rest in self._resting)]
        found = {one.index: one for one in left if isinstance(one, Isolation) and one.failed_items}
        self._shares = deque(one for one in self._shares if one.index not in found)
        self._running_shares = {bundle: one for bundle, one in self._running_shares.items() if one.index not in found}
        self._resting = [rest for rest in self._resting if rest.number not in found]
        heapq.heapify(self._resting)
        for isolation in found.values():
            isolation.give_up(why)
        return [self._finish(isolation) for isolation in found.values()]

    def _hand_out_share(self, bundle: int, isolation: Isolation) -> Handed:
        self._running_shares[bundle] = isolation
        tries = isolation.tries + isolation.attempts
        return Handed(bundle, (Span(isolation.index, 1, tries),), isolation.next())

    def _part_from_twin(self, bundle: int) -> int | None:
        """Which bundle has the same mini-batches; from now on each stands for itself."""
        twin = self._twins.pop(bundle, None)
        if twin is not None:
            del self._twins[twin]
        return twin

    def _take_back(self, bundle: int) -> None:
        """It is out no more, and its twin has all that was in it."""
        self._running.pop(bundle, None)
        self._running_shares.pop(bundle, None)

    def _wait(self, span: Waiting) -> None:
        heapq.heappush(self._waiting, span)
        self._waiting_count += span.size

    def _rest(self, failure: Failure, what: Waiting | Isolation, now: float) -> bool:
        """Try it again later, if it passes by itself and has not been waited for long enough."""
        if failure.retry_after is None:
            return False
        rests, since = self._rests.get(failure.index, (0, now))
        pause = self.backoff.pause(rests + 1, now - since, self.chance())
        if pause is None:
            return False
        self._rests[failure.index] = rests + 1, since
        if isinstance(what, Waiting):
            what = what._replace(first=failure.index, size=1)
        pause = max(pause, min(failure.retry_after, LONGEST_REST))
        heapq.heappush(self._resting, _Resting(now + pause, failure.index, what))
        return True

    def _forget(self, index: int) -> None:
        """What was noted about its failures: it has come to its end."""
        self._fingerprints.pop(index, None)
        self._rests.pop(index, None)
        self._alone.pop(index, None)

    def _failed(self, failure: Failure, source: Waiting) -> GivenUp | None:
        tries = source.tries + 1
        left = tries < self.max_try and (failure.kind is not Kind.INPUT or failure.may_pass)
        if self.isolates and failure.kind not in NOT_ISOLATED:
            cause = fingerprint(failure.message, failure.traceback)
            if not left or self._fingerprints.get(failure.index) == cause:
                items = self.items_in(failure.index)
                if items > 1 and self.share_attempts + len(self._shares) < self.most_share_attempts:
                    self._failing += source.tries == 0
                    self._shares.append(Isolation(failure.index, items, failure, tries))
                    return None
            self._fingerprints[failure.index] = cause
        if left:
            self._failing += source.tries == 0
            self._wait(Waiting(failure.index, 1, tries, source.losses))
            return None
        self._give_up(failure.index, was_failing=source.tries > 0)
        return GivenUp(failure, attempts=tries)

    def _settle_share(self, isolation: Isolation, outcome: Outcome, now: float) -> Settlement:
        """One attempt more at some of its items; when that was the last one, all of the mini-batch is settled."""
        if not outcome.segments and not outcome.failures:
            self._shares.append(isolation)
            return NOTHING
        if outcome.failures and self._rest(outcome.failures[0], isolation, now):
            return Settlement(attempts=1)
        if outcome.segments:
            isolation.scored(outcome.segments[0], outcome.item_failures)
        else:
            self._failing += not isolation.counts
            isolation.failed(outcome.failures[0])
        if isolation.failed_items:
            self._alone[isolation.index] = isolation.failed_items
        self.share_attempts += 1
        if isolation.searching and self.share_attempts >= self.most_share_attempts:
            isolation.stop_searching(
                "which of its items is to blame was not searched to the end: isolation_attempts are used up"
            )
        if isolation.hopeless:
            isolation.give_up("its first items failed alike, each alone, and this one was not tried alone")
        if isolation.finished:
            return replace(self._finish(isolation), attempts=1, share_attempts=1)
        self._shares.append(isolation)
        return Settlement(attempts=1, share_attempts=1)

    def _finish(self, isolation: Isolation) -> Settlement:
        poison = isolation.poison()
        only_together = isolation.tries and not poison
        if isolation.failure.kind is Kind.BAD_OUTPUT and only_together:
            self._give_up(isolation.index, was_failing=isolation.counts)
            return Settlement(given_up=(GivenUp(isolation.failure, isolation.tries),))
        self._failing -= isolation.counts
        self._forget(isolation.index)
        segments = isolation.segments()
        given_up = tuple(GivenUp(found.failure, found.attempts, found.share) for found in poison)
        settlement = Settlement(segments, isolation.item_failures(), given_up, shares=isolation.shares())
        self._scored(segments)
        self._tally = self._tally.with_isolated(len(settlement.isolated))
        return settlement

    def _give_up(self, index: int, *, was_failing: bool) -> None:
        self._forget(index)
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
