"""Carry bundles to Dask and outcomes to the ledger until the ledger says stop."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distributed import Client, Future

from daskscore.core.health import Health
from daskscore.core.layout import Layout
from daskscore.core.ledger import Ledger, Settlement
from daskscore.core.model import Bundle, Outcome, Segment, Status
from daskscore.core.pacing import BOX_SECONDS, LIMIT_BYTES, Pacing
from daskscore.core.thresholds import Thresholds
from daskscore.driver.account import commit_record
from daskscore.driver.journal import Journal
from daskscore.driver.plan import Plan
from daskscore.driver.progress import Progress
from daskscore.errors import InternalError, RunError
from daskscore.worker.task import ask_to_stop, score_bundle

BUNDLES_PER_SLOT = 3
"""In flight: one that runs, and enough behind it to hide Dask's round trip."""

LOOK_SECONDS = 0.25
WORKERS_SECONDS = 1.0
"""How often the workers are counted."""

STOP_SECONDS = 15.0
"""How long the bundles in flight may take to come back once the run is to end."""

CALL_SECONDS = 30.0
"""How long a question to the scheduler may take."""


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

    client: Client
    run_id: str
    plan: Plan
    layout: Layout
    ledger: Ledger
    journal: Journal
    pacing: Pacing
    thresholds: Thresholds
    health: Health
    patience: Patience
    progress: Progress
    slots_per_worker: int | None
    interrupted: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    first_trouble: Trouble | None = None
    _arrived: queue.SimpleQueue[tuple[int, Future[Outcome]]] = field(default_factory=queue.SimpleQueue)
    _futures: dict[int, Future[Outcome]] = field(default_factory=dict)
    _workers: dict[str, int] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)
    """The node of each worker that has been heard of, by address."""
    _counted: float = -1e9
    _began: float = 0.0
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
            self._fill()
            self._take(LOOK_SECONDS)
            self.progress.show(self.ledger)
            if self.interrupted():
                return Verdict(Status.CANCELED, "interrupted")
            if reason := self.thresholds.exceeded(self.ledger.tally) or self._cannot_move():
                return Verdict(Status.FAILED, reason)
        if reason := self.thresholds.at_the_end(self.ledger.tally):
            return Verdict(Status.FAILED, reason)
        return Verdict(Status.COMPLETED)

    def _fill(self) -> None:
        """Keep the window full, no more."""
        self._count_workers()
        usable = {address: slots for address, slots in self._workers.items() if not self._set_aside(address)}
        slots = sum(usable.values())
        restricted = list(usable) if len(usable) < len(self._workers) else None
        by_bytes = max(1, LIMIT_BYTES // max(self.plan.line_bytes, 1))
        while self.ledger.waiting and self.ledger.running < BUNDLES_PER_SLOT * slots:
            size = min(self.pacing.size(waiting=self.ledger.waiting, slots=slots), by_bytes)
            self._submit(size, restricted)

    def _submit(self, size: int, workers: list[str] | None) -> None:
        number, spans = self.ledger.hand_out(size)
        bundle = Bundle(number, spans, self.plan.lines(spans), BOX_SECONDS)
        key = f"daskscore-{self.run_id}-{number}"
        future = self.client.submit(score_bundle, self.run_id, bundle, key=key, pure=False, retries=0, workers=workers)
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
        finished = [number for number, future in arrived if future.status == "finished"]
        outcomes = self._gather(finished)
        for number, future in arrived:
            self._futures.pop(number, None)
            if outcome := outcomes.get(number):
                self._settle(outcome)
            else:
                self._lose(number, future)
            future.release()

    def _gather(self, numbers: list[int]) -> dict[int, Outcome]:
        """What came back; a worker that died between the word and its result leaves a gap."""
        if not numbers:
            return {}
        futures = [self._futures[number] for number in numbers]
        try:
            results = self.client.sync(self.client._gather, futures, errors="skip", callback_timeout=CALL_SECONDS)
        except (TimeoutError, OSError):
            return {}
        return {outcome.bundle: outcome for outcome in results}

    def _settle(self, outcome: Outcome) -> None:
        self._moved = self.clock()
        self._nodes[outcome.address] = outcome.node
        if outcome.initialized:
            self.health.initialized(outcome.node)
        if failure := outcome.init_failure:
            self.health.init_failed(outcome.node)
            self.progress.say(f"node {outcome.node}: {failure.message}")
            self._note_trouble(Trouble(failure.message, failure.traceback, failure.log))
        self._keep_logs(outcome.logs or {})
        outcome = self._keep_rows(outcome)
        settlement = self.ledger.settle(outcome)
        if settlement is None:
            return
        for failed in outcome.failures:
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
            if type(error).__name__ not in ("KilledWorker", "CancelledError", "CommClosedError", "KeyError"):
                raise InternalError(f"a worker could not score bundle {number}: {error!r}") from error
        settlement = self.ledger.lose(number, "the worker that had it was lost, several times")
        if settlement is not None:
            self.progress.lost(settlement.lost_attempts)
            self._commit(settlement)

    def _commit(self, settlement: Settlement) -> None:
        if settlement.segments or settlement.given_up or settlement.attempts or settlement.lost_attempts:
            self.journal.append(commit_record(settlement, seconds=self.clock() - self._began))

    def _note_trouble(self, trouble: Trouble) -> None:
        """Of the first thing that goes wrong with a traceback, and until then of the first thing at all."""
        known = self.first_trouble
        if known is None or (trouble.traceback and not known.traceback):
            self.first_trouble = trouble

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

    def _keep_logs(self, logs: dict[str, bytes]) -> None:
        for name, data in logs.items():
            path = self.layout.output / name
            if not path.resolve().is_relative_to(self.layout.logs.resolve()):
                raise InternalError(f"a worker sent a log for {name}, which is no place for logs")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)

    def _count_workers(self) -> None:
        now = self.clock()
        if now - self._counted < WORKERS_SECONDS and self._workers:
            return
        self._counted = now
        try:
            ask: Any = self.client.scheduler
            threads = self.client.sync(ask.ncores, workers=None, callback_timeout=CALL_SECONDS)
        except (TimeoutError, OSError) as error:
            raise RunError(
                f"the Dask scheduler at {_address(self.client)} does not answer: {str(error) or 'no word in 30 s'}. "
                "What is committed is kept: run the same command with --resume"
            ) from error
        most = self.slots_per_worker
        self._workers = {address: min(n, most) if most else n for address, n in threads.items()}

    def _set_aside(self, address: str) -> bool:
        node = self._nodes.get(address)
        return node is not None and self.health.set_aside(node)

    def _cannot_move(self) -> str | None:
        now = self.clock()
        nodes = {self._nodes.get(address, address) for address in self._workers}
        if self.health.hopeless(nodes, seconds=now - self._began):
            return f"init() keeps failing: {self.health.total} times, on every node"
        if not self._workers:
            limit = self.patience.first_worker_seconds
            if now - max(self._moved, self._began) > limit:
                return f"no Dask worker has come to {_address(self.client)} within {limit:g} s"
        elif now - self._moved > self.patience.progress_seconds:
            limit = self.patience.progress_seconds
            return f"No progress update in {limit:g} seconds: {self.ledger.running} bundles are with the workers"
        return None

    def _end_flight(self) -> None:
        """Ask the workers to stop, and commit what they still bring."""
        if not self._futures:
            return
        try:
            call: Any = self.client._run
            self.client.sync(call, ask_to_stop, self.run_id, on_error="ignore", callback_timeout=STOP_SECONDS)
        except (TimeoutError, OSError):
            self.progress.say("some workers do not answer; what they have in hand is left to a later --resume")
        deadline = self.clock() + STOP_SECONDS
        while self._futures and self.clock() < deadline:
            self._take(LOOK_SECONDS)


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler is not None else "its address"


def write_shared_token(layout: Layout, token: str) -> Path:
    """What tells a worker that it sees the driver's own folder, and not one of the same name."""
    path = layout.state / "shared"
    path.write_text(token)
    return path
