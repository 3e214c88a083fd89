"""The jobs of one run in a queue: a thread of the driver asks for them, watches them, replaces them and ends them."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daskscore.clusters.aftermath import Aftermath
from daskscore.clusters.fleet import Ended, Fleet, Load
from daskscore.clusters.queues import CommandFailed, Queue, Standing, command
from daskscore.errors import RunError

LOOK_SECONDS = 2.0
"""How often the queue is asked."""

SUBMIT_SECONDS = 60.0
"""How long the batch scheduler may take to accept a job, or to cancel some."""

SUBMITTERS = 8
"""So many jobs are asked for at once."""

LOG_LINES = 15
LOG_SECONDS = 5.0
"""How long the log of a job that has failed may take to be seen here."""


@dataclass(slots=True)
class Jobs:
    """From the first job that is asked for to the last that is cancelled."""

    cluster: Any
    """dask-jobqueue's, without workers of its own: it has the scheduler, and knows how to ask for a job."""
    queue: Queue
    fleet: Fleet
    aftermath: Aftermath
    name: str
    logs: Path
    """Where jobs write what they print."""
    clock: Callable[[], float] = time.monotonic
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _error: Exception | None = None
    _said: str = ""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """Ask for the first jobs. Where none is accepted, the words of the batch scheduler are raised."""
        self._ask_for(self.fleet.missing(self.clock()))
        if not self.fleet.asked:
            raise RunError(f"no job could be asked for: {self.fleet.trouble}")
        self._said = self.fleet.sentence(self.clock())
        self._thread = threading.Thread(target=self._watch, name="daskscore-jobs", daemon=True)
        self._thread.start()

    def waiting(self) -> str:
        """What is not there yet, as it was a moment ago; raises what ends the run."""
        if self._error is not None:
            raise self._error
        return self._said

    def end(self) -> None:
        """Cancel all that are left; what the queue does not hear now, another process tells it later."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._cancel(list(self.fleet.asked))
            all_gone = True
        except CommandFailed:
            all_gone = self._none_is_left()
        self.aftermath.close(all_gone=all_gone)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS) and self._error is None:
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - it is raised in the driver's own thread
                self._error = error

    def _look(self) -> None:
        standings = self._standings()
        for ended in self.fleet.look(self.clock(), standings, self.cluster.sync(self._loads)):
            self._forget(ended)
        self._ask_for(self.fleet.missing(self.clock()))
        self._said = self.fleet.sentence(self.clock())

    def _standings(self) -> dict[str, Standing] | None:
        try:
            found = self.queue.standings()
        except (CommandFailed, ValueError) as error:
            self.fleet.trouble = str(error)
            return None
        self.fleet.trouble = ""
        return found

    def _ask_for(self, count: int) -> None:
        names = [f"{self.name}-{next(self._numbers)}" for _ in range(count)]
        for start in range(0, count, SUBMITTERS):
            some = names[start : start + SUBMITTERS]
            for name, answer in zip(some, self.cluster.sync(self._submit, some), strict=True):
                if isinstance(answer, str):
                    self.aftermath.asked_for(answer)
                    self.fleet.submitted(answer, name, self.clock())
                elif isinstance(answer, (RuntimeError, ValueError, OSError, RunError)):
                    self.fleet.refused(str(answer).strip(), self.clock())
                    return
                else:
                    raise answer

    async def _submit(self, names: Sequence[str]) -> list[str | BaseException]:
        """The number of each job, or why there is none."""
        make, options = self.cluster.new_spec["cls"], self.cluster.new_spec["options"]
        scheduler = getattr(self.cluster.scheduler, "contact_address", None) or self.cluster.scheduler.address

        async def submit(name: str) -> str:
            return str((await make(scheduler, name=name, **options)).job_id)

        return await asyncio.gather(*map(submit, names), return_exceptions=True)

    async def _loads(self) -> dict[str, Load]:
        """Of the workers that are there, by name."""
        workers = self.cluster.scheduler.workers.values()
        return {str(worker.name): Load(len(worker.processing), worker.nthreads) for worker in workers}

    def _forget(self, ended: Ended) -> None:
        job = ended.job
        if ended.surplus:
            self.cluster.sync(self._retire, job.worker)
        if ended.failed and self.fleet.hopeless:
            self._error = RunError(self._last_words(ended))
        try:
            self._cancel([job.number])
        except CommandFailed:
            return  # it is gone already, or the process for that sees to it
        self.aftermath.gone(job.number)

    async def _retire(self, name: str) -> None:
        await self.cluster.scheduler.retire_workers(names=[name], close_workers=True, remove=True)

    def _cancel(self, numbers: list[str]) -> None:
        if numbers:
            command([*self.queue.cancel, *numbers], SUBMIT_SECONDS)

    def _none_is_left(self) -> bool:
        try:
            return not set(self.queue.standings()) & set(self.fleet.asked)
        except (CommandFailed, ValueError):
            return False

    def _last_words(self, ended: Ended) -> str:
        number, why = ended.job.number, f": {ended.why}" if ended.why else ""
        deadline = self.clock() + LOG_SECONDS
        while not (lines := _tail(self.logs, number)) and self.clock() < deadline and not self._over.wait(0.25):
            pass
        printed = "\n".join(lines) or f"(nothing; its log would be in {self.logs})"
        return (
            f"{self.fleet.failures} jobs in a row ended before their Dask worker came; the last one, job {number}{why}, "
            f"printed:\n{printed}"
        )


def _tail(folder: Path, number: str) -> list[str]:
    """The last lines that the job with this number has printed."""
    digits = re.compile(rf"(?<!\d){re.escape(number)}(?!\d)")
    found: list[str] = []
    for path in sorted(folder.rglob("*"), reverse=True):  # what stands in .err comes last
        if digits.search(path.name) and path.is_file():
            found += [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return found[-LOG_LINES:]
