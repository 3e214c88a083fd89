"""Carry bundles to Dask and outcomes to the ledger until the ledger says stop."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from distributed import Future

from daskscore.core.health import Health
from daskscore.core.layout import Layout
from daskscore.core.ledger import Ledger, Settlement
from daskscore.core.model import Bundle, Outcome, Segment, Status
from daskscore.core.pacing import BOX_SECONDS, LIMIT_BYTES, Pacing
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
    patience: Patience
    progress: Progress
    logs: Logs
    interrupted: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    lost: int = 0
    """Items that failed before there were mini-batches."""
    first_trouble: Trouble | None = None
    _arrived: queue.SimpleQueue[tuple[int, Future[Outcome]]] = field(default_factory=queue.SimpleQueue)
    _futures: dict[int, Future[Outcome]] = field(default_factory=dict)
    _said: str = ""
    _slots: dict[str, int] = field(default_factory=dict)
    """Of each worker, by address."""
    _nodes: dict[str, str] = field(default_factory=dict)
    """The node of each worker that has been heard of, by address."""
    _counted: float = -1e9
    _began: float = 0.0
    _ready: bool = False
    """Some scorer has got through init()."""
    _moved: float = 0.0
    """When something was last settled."""

    def run(self) -> Verdict:
        """Until nothing is left, a threshold is passed, nothing can move any more, or the user interrupts."""
        self._began = self._moved = self.clock()
        try:
            verdict = self._work()
            self._end_flight()
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
            self._fill()
            self._take(LOOK_SECONDS)
            self.progress.show(self.ledger)
            self.logs.progress(self.ledger.tally)
            if self.interrupted():
                return Verdict(Status.CANCELED, "interrupted")
            if reason := self.thresholds.exceeded(self.ledger.tally) or self._cannot_move():
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
        usable = {address: slots for address, slots in self._slots.items() if not self._set_aside(address)}
        slots = sum(usable.values())
        restricted = list(usable) if len(usable) < len(self._slots) else None
        by_bytes = max(1, LIMIT_BYTES // max(self.plan.line_bytes, 1))
        while self.ledger.waiting and self.ledger.running < BUNDLES_PER_SLOT * slots:
            size = min(self.pacing.size(waiting=self.ledger.waiting, slots=slots), by_bytes)
            self._submit(size, restricted)

    def _submit(self, size: int, addresses: list[str] | None) -> None:
        number, spans = self.ledger.hand_out(size)
        future = self.workers.submit(Bundle(number, spans, self.plan.lines(spans), BOX_SECONDS), addresses)
        self._futures[number] = future
        future.add_done_callback(lambda done, number=number: self._arrived.put((number, done)))

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
        settlement = self.ledger.settle(outcome)
        if settlement is None:
            return
        if settlement.attempts or (outcome.initialized and not self._ready):
            self._ready = True
            self._moved = self.clock()
        for failed in outcome.failures:
            self.logs.failed(failed, self.plan.items)
            message = f"mini-batch {failed.index}: {failed.message}"
            self._note_trouble(Trouble(message, failed.traceback, failed.log))
        done = sum(segment.size for segment in outcome.segments) + len(outcome.failures)
        self.pacing.learn(done, outcome.seconds)
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

    def _say_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self.progress.say(text)

    def _note_trouble(self, trouble: Trouble) -> None:
        """The first thing that goes wrong, and the first that goes wrong with a traceback, are for the report."""
        known = self.first_trouble
        if known is None or (trouble.traceback and not known.traceback):
            self.first_trouble = trouble
            text = trouble.traceback or trouble.message
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
                return f"no Dask worker has come to {self.workers.address} within {limit:g} s"
        elif now - self._moved > self.patience.progress_seconds:
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
