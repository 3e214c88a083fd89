"""Carry bundles to Dask and outcomes to the ledger until the ledger says stop."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from distributed import Future

from daskscore.core.alike import Alike
from daskscore.core.fingerprints import fingerprint
from daskscore.core.health import Health
from daskscore.core.layout import Layout
from daskscore.core.ledger import Handed, Ledger, Settlement
from daskscore.core.model import Bundle, Failure, Kind, Outcome, Segment, Span, Status
from daskscore.core.pacing import BOX_SECONDS, LIMIT_BYTES, Pacing
from daskscore.core.stragglers import needs_backup
from daskscore.core.thresholds import Thresholds
from daskscore.driver.account import commit_record
from daskscore.driver.journal import Journal
from daskscore.driver.logs import Logs
from daskscore.driver.plan import Plan
from daskscore.driver.progress import Progress
from daskscore.driver.workers import STOP_SECONDS, Workers
from daskscore.errors import DaskscoreError, InternalError, RunError

BUNDLES_PER_SLOT = 3
"""In flight: one that runs, and enough behind it to hide Dask's round trip."""

LOOK_SECONDS = 0.25
COUNT_SECONDS = 1.0
"""How often the slots are counted."""

QUEUE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the run waits, and for what."""

    first_worker_seconds: float
    progress_seconds: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a failed run shows the user: the first thing that went wrong in the script."""

    message: str
    traceback: str
    log: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the engine ended."""

    status: Status
    message: str = ""


@dataclass(slots=True)
class Engine:
    """One session of one run: from what the journal says is left to the last commit."""

    workers: Workers
    plan: Plan
    layout: Layout
    ledger: Ledger
    journal: Journal
    pacing: Pacing
    thresholds: Thresholds
    health: Health
    alike: Alike
    patience: Patience
    progress: Progress
    logs: Logs
    interrupted: Callable[[], bool]
    backs_up: bool = True
    """Near the end, start a second attempt at what takes long."""
    clock: Callable[[], float] = time.monotonic
    ask_queue: Callable[[], str] | None = None
    """What is said of workers that are asked for and not there; nothing where all have come."""
    lost: int = 0
    """Items that failed before there were mini-batches."""
    first_trouble: Trouble | None = None
    _arrived: queue.SimpleQueue[tuple[int, Future[Outcome]]] = field(default_factory=queue.SimpleQueue)
    _futures: dict[int, Future[Outcome]] = field(default_factory=dict)
    _said: str = ""
    _idle_since: float = 0.0
    """So long a slot has had nothing to do while nothing waited."""
    _failed_in: dict[int, str] = field(default_factory=dict)
    """The process in which a mini-batch has failed last."""
    _slots: dict[str, int] = field(default_factory=dict)
    """Of each worker, by address."""
    _nodes: dict[str, str] = field(default_factory=dict)
    """The node of each worker that has been heard of, by address."""
    _told_aside: set[str] = field(default_factory=set)
    """Nodes that get no more work, as the user knows."""
    _queued: str = ""
    _queue_asked: float = -1e9
    _counted: float = -1e9
    _began: float = 0.0
    _ready: bool = False
    """Some scorer has got through init()."""
    _moved: float = 0.0
    """When something was last settled."""
    _broken: str = ""
    """Why the script is thought to fail at everything."""

    def run(self) -> Verdict:
        """Until nothing is left, a threshold is passed, nothing can move any more, or the user interrupts."""
        self._began = self._moved = self.clock()
        try:
            verdict = self._work()
            self._end_flight()
            if verdict.status is Status.FAILED:
                for settlement in self.ledger.end_divisions("the run ended before all of its mini-batch was tried"):
                    self._commit(settlement)
        finally:
            for future in self._futures.values():
                future.release()
            self._futures.clear()
            self.progress.finish(self.ledger)
        return verdict

    def _work(self) -> Verdict:
        while not self.ledger.finished:
            if error := self.plan.error:
                return self._listing_failed(error)
            self._grow()
            if self.ledger.wake(self.clock()):
                self._moved = self.clock()
            self._fill()
            self._take(LOOK_SECONDS)
            self.progress.show(self.ledger)
            self.logs.progress(self.ledger.tally)
            if self.interrupted():
                return Verdict(Status.CANCELED, "interrupted")
            if reason := self.thresholds.exceeded(self.ledger.tally) or self._broken or self._cannot_move():
                return Verdict(Status.FAILED, reason)
        if reason := self.thresholds.at_the_end(self.ledger.tally):
            return Verdict(Status.FAILED, reason)
        return Verdict(Status.COMPLETED)

    def _grow(self) -> None:
        """Take over what the listing of the inputs has brought."""
        planned = self.plan.planned
        if not self.ledger.complete and (planned.complete or planned.mini_batches != self.ledger.mini_batches):
            if not self.ledger.waiting and not self.ledger.running:
                self._moved = self.clock()
            self.ledger.extend(planned.mini_batches, planned.items + self.lost, complete=planned.complete)
            if planned.complete:
                self.logs.scheduled(planned.mini_batches, planned.items)

    def _listing_failed(self, error: BaseException) -> Verdict:
        if not isinstance(error, DaskscoreError):
            raise InternalError(f"the inputs could not be listed: {error!r}") from error
        return Verdict(
            Status.FAILED,
            f"the inputs could not be listed to their end: {error}. What is committed is kept: run the same command with "
            "--resume",
        )

    def _fill(self) -> None:
        """Keep the window full, no more."""
        self._count_slots()
        self._tell_of_queue()
        usable = {address: slots for address, slots in self._slots.items() if not self._set_aside(address)}
        for node in {self._nodes[address] for address in self._slots if address not in usable} - self._told_aside:
            self._told_aside.add(node)
            self.progress.say(f"node {node} gets no more work: everything fails there")
            self.logs.event(f"Node {node} gets no more work: everything fails there.", level="WARNING")
        slots = sum(usable.values())
        by_bytes = max(1, LIMIT_BYTES // max(self.plan.line_bytes, 1))
        while self.ledger.waiting and self.ledger.running < BUNDLES_PER_SLOT * slots:
            size = min(self.pacing.size(waiting=self.ledger.waiting, slots=slots), by_bytes)
            self._submit(self.ledger.hand_out(size), usable)
        self._back_up(usable)

    def _back_up(self, usable: dict[str, int]) -> None:
        """Near the end, what is much slower than its peers is tried a second time where a slot has nothing to do."""
        now = self.clock()
        idle = sum(usable.values()) - self.ledger.running
        if not self.backs_up or self.ledger.waiting or not self.ledger.complete or idle <= 0:
            self._idle_since = now
            return
        for number in list(self._futures)[:idle]:
            if needs_backup(
                idle_seconds=now - self._idle_since,
                size=self.ledger.size(number),
                seconds_each=self.pacing.seconds_each,
                finished=self.ledger.tally.succeeded_mini_batches,
            ) and (handed := self.ledger.back_up(number)):
                self.logs.event(f"Mini batch {handed.spans[0].first} takes long: another slot tries it too.")
                self._submit(handed, usable)

    def _submit(self, handed: Handed, usable: dict[str, int]) -> None:
        number, spans, share = handed
        lines = self.plan.lines(spans) if share is None else self.plan.share(spans[0].first, *share)
        avoid = self._avoided(spans)
        bundle = Bundle(number, spans, lines, BOX_SECONDS, avoid=avoid)
        future = self.workers.submit(bundle, self._addresses(usable, spans, avoid))
        self._futures[number] = future
        future.add_done_callback(lambda done, number=number: self._arrived.put((number, done)))

    def _avoided(self, spans: tuple[Span, ...]) -> tuple[str, ...]:
        """Processes in which these mini-batches have failed last."""
        if not self._failed_in:
            return ()
        found = {self._failed_in.get(span.first, "") for span in spans if span.tries}
        return tuple(sorted(found - {""}))

    def _addresses(self, usable: dict[str, int], spans: tuple[Span, ...], avoid: tuple[str, ...]) -> list[str] | None:
        """Where a bundle may go; None: anywhere. What another process could not score either goes to another node."""
        addresses = list(usable)
        if avoid and any(span.tries > 1 for span in spans):
            nodes = {place.partition("/")[0] for place in avoid}
            addresses = [address for address in usable if self._nodes.get(address) not in nodes] or addresses
        return addresses if len(addresses) < len(self._slots) else None

    def _take(self, seconds: float) -> None:
        """Wait for an outcome, and settle all that have come."""
        try:
            arrived = [self._arrived.get(timeout=seconds)]
        except queue.Empty:
            return
        while not self._arrived.empty():
            arrived.append(self._arrived.get())
        finished = [future for _, future in arrived if future.status == "finished"]
        outcomes = self.workers.outcomes(finished) if finished else {}
        for number, future in arrived:
            self._futures.pop(number, None)
            if outcome := outcomes.get(number):
                self._settle(outcome)
            else:
                self._lose(number, future)
            future.release()

    def _settle(self, outcome: Outcome) -> None:
        self._nodes[outcome.address] = outcome.node
        if outcome.initialized:
            self.health.initialized(outcome.node)
        if failure := outcome.init_failure:
            self.health.init_failed(outcome.node)
            self._say_once(f"node {outcome.node}: {failure.message}")
            self.logs.not_ready(failure)
            self._note_trouble(Trouble(failure.message, failure.traceback, failure.log))
        self.keep_logs(outcome.logs or {})
        outcome = self._keep_rows(outcome)
        share = self.ledger.share_of(outcome.bundle)
        settlement = self.ledger.settle(outcome, self.clock())
        if settlement is None:
            return
        if (dropped := settlement.dropped) is not None and (unwanted := self._futures.pop(dropped, None)) is not None:
            self.workers.drop(dropped, unwanted)
        if settlement.attempts or (outcome.initialized and not self._ready):
            self._ready = True
            self._moved = self.clock()
        for failed in outcome.failures:
            self.logs.failed(failed, partial(self.plan.items, failed.index, *(share or ())))
            message = f"mini-batch {failed.index}: {failed.message}"
            self._note_trouble(Trouble(message, failed.traceback, failed.log))
            self._failed_in[failed.index] = failed.place
        for short in outcome.item_failures[:1]:
            self._note_trouble(Trouble(f"{short.item}: {short.message}", "", short.log))
        for segment in outcome.segments if self._failed_in else ():
            for index in [index for index in self._failed_in if segment.first <= index < segment.stop]:
                del self._failed_in[index]
        for final in settlement.given_up:
            self._failed_in.pop(final.failure.index, None)
        self.health.tried(outcome.node, scored=len(outcome.segments), failed=len(outcome.failures))
        if share is None:
            scored = sum(segment.size for segment in outcome.segments)
            self.pacing.learn(scored + len(outcome.failures), outcome.seconds)
            self._compare(scored, outcome.failures)
        self._commit(settlement)

    def _lose(self, number: int, future: Future[Outcome]) -> None:
        """A bundle without outcome: its worker is gone, or daskscore itself made a mistake."""
        if future.status == "error":
            error = future.exception()
            if isinstance(error, RunError):
                raise error
            if type(error).__name__ not in ("KilledWorker", "CancelledError", "CommClosedError", "SessionGone"):
                raise InternalError(f"a worker could not score bundle {number}: {error!r}") from error
        settlement = self.ledger.lose(number, "the worker that had it was lost, several times")
        if settlement is not None:
            self.progress.lost(settlement.lost_attempts)
            self.logs.event(
                f"A worker was lost with {settlement.lost_attempts} mini batches in flight.", level="WARNING"
            )
            self._commit(settlement)

    def _commit(self, settlement: Settlement) -> None:
        if settlement.segments or settlement.given_up or settlement.attempts or settlement.lost_attempts:
            self.journal.append(commit_record(settlement, seconds=self.clock() - self._began))

    def _compare(self, scored: int, failures: tuple[Failure, ...]) -> None:
        """Do the first attempts nearly all fail, and alike?"""
        self.alike.went_well(scored)
        for failure in failures if self.alike.watching and not self._broken else ():
            if failure.kind in (Kind.INPUT, Kind.LOST) or failure.retry_after is not None:
                continue
            if self.alike.has_failed(failure.index, fingerprint(failure.message, failure.traceback)):
                alike = self.alike
                self._broken = (
                    f"{alike.limit} of the first {alike.failed + alike.scored} attempts failed alike: {failure.message}. "
                    f"Mend what is to blame and run the same command with --resume, or raise alike_failures_limit "
                    f"({alike.limit}; -1: any number)"
                )
                return

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.progress.say(text)

    def _note_trouble(self, trouble: Trouble) -> None:
        """The first thing that goes wrong, and the first that goes wrong with a traceback, are for the report."""
        known = self.first_trouble
        if known is None or (trouble.traceback and not known.traceback):
            self.first_trouble = trouble
            text = trouble.traceback.rstrip()
            if not text or text.rpartition("\n")[2] not in trouble.message:  # where it stood says not why it was ended
                text = f"{text}\n\n{trouble.message}".lstrip()
            self.journal.append({"record": "trouble", "traceback": text, "log": trouble.log})

    def _keep_rows(self, outcome: Outcome) -> Outcome:
        """Rows that rode back with the outcome become a part of their own, here."""
        if not outcome.shipped:
            return outcome
        moved: list[Segment] = []
        places: dict[str, tuple[str, int]] = {}
        for part, data in outcome.shipped.items():
            path = self.layout.part(f"shipped-{part}")
            first = min(segment.offset for segment in outcome.segments if segment.part == part)
            with path.open("ab") as file:
                places[part] = (path.name, file.tell() - first)
                file.write(data)
        for segment in outcome.segments:
            name, shift = places[segment.part]
            moved.append(segment._replace(part=name, offset=segment.offset + shift))
        return replace(outcome, segments=tuple(moved), shipped=None)

    def keep_logs(self, logs: dict[str, bytes]) -> None:
        """Of workers that cannot write here themselves."""
        for name, data in logs.items():
            path = self.layout.output / name
            if not path.resolve().is_relative_to(self.layout.logs.resolve()):
                raise InternalError(f"a worker sent a log for {name}, which is no place for logs")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)

    def _count_slots(self) -> None:
        now = self.clock()
        if now - self._counted >= COUNT_SECONDS or not self._slots:
            self._counted = now
            self._slots = self.workers.slots()

    def _tell_of_queue(self) -> None:
        """Waiting for nodes is told, and when it has an end."""
        now = self.clock()
        if self.ask_queue is None or now - self._queue_asked < QUEUE_SECONDS:
            return
        self._queue_asked = now
        if (said := self.ask_queue()) != self._queued:
            self._queued = said
            if said:
                self.progress.say(said)
                self.logs.event(said)

    def _set_aside(self, address: str) -> bool:
        node = self._nodes.get(address)
        return node is not None and self.health.set_aside(node)

    def _cannot_move(self) -> str | None:
        now = self.clock()
        nodes = {self._nodes.get(address, address) for address in self._slots}
        if self.health.hopeless(nodes, seconds=now - self._began):
            return f"init() keeps failing: {self.health.total} times, on every node"
        if not self._slots:
            limit = self.patience.first_worker_seconds
            if now - max(self._moved, self._began) > limit:
                queued = f". {self._queued}" if self._queued else ""
                return f"no Dask worker has come to {self.workers.address} within {limit:g} s{queued}"
        elif not self.ledger.resting and now - self._moved > self.patience.progress_seconds:
            limit = self.patience.progress_seconds
            return f"No progress update in {limit:g} seconds: {self.ledger.running} bundles are with the workers"
        return None

    def _end_flight(self) -> None:
        """Ask the workers to stop, and commit what they still bring."""
        if not self._futures:
            return
        if not self.workers.ask_to_stop():
            self.progress.say("some workers do not answer; what they have in hand is left to a later --resume")
        deadline = self.clock() + STOP_SECONDS
        while self._futures and self.clock() < deadline:
            self._take(LOOK_SECONDS)
