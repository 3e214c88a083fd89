"""What a Dask worker keeps for one run: its scorers, where they write, and how they are ended."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin

from daskscore.core.layout import Layout
from daskscore.core.model import Bundle, Outcome
from daskscore.core.protocol import Head
from daskscore.worker.nursery import Nursery, passing_folder
from daskscore.worker.process import Desk, Limits
from daskscore.worker.supervisor import Supervisor

IDLE_SECONDS = 60.0
"""A scorer without work for this long is ended, so that a run whose driver has vanished leaves nothing running."""

LOG_BYTES_PER_OUTCOME = 1 << 20
"""How much of its logs a worker without a shared disk sends along with one outcome."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the driver wants of every worker of a run."""

    run: str
    output: str
    """The output folder as the driver knows it."""
    token: str
    """What stands in the file `.daskscore/shared` there; a worker that reads it and can write works in that folder."""
    slots: int | None
    """Scorers per worker; None: as many as the worker has threads."""
    settings: Head
    environment: dict[str, str]
    limits: Limits
    own_cluster: bool = False
    """The workers were started for this run alone, on this machine."""
    driver: int = 0
    scratch: str = ""
    """On our own cluster: the folder that goes when the driver has gone."""


def plugin_name(run: str) -> str:
    return f"daskscore-{run}"


class Session(WorkerPlugin):
    """Called by Dask when a worker joins (setup) and when the run is over (teardown)."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.name = plugin_name(assignment.run)

    def setup(self, worker: Worker) -> None:
        assignment = self.assignment
        if assignment.own_cluster and threading.current_thread() is threading.main_thread():
            # Ctrl-C in a terminal reaches all its processes; only the driver decides what it means.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._nursery_lock = threading.Lock()
        self._nursery: Nursery | None = None
        self._scratch = "" if _is_shared(assignment) else passing_folder()
        if self._scratch:
            self._living_nursery()
            os.mkdir(self._scratch, 0o700)
        output = Path(self._scratch or assignment.output)
        node = re.sub(r"[^\w.-]+", "_", str(worker.name))
        desk = Desk(
            node=node,
            settings=assignment.settings,
            output=output,
            parts=Layout(output).parts,
            limits=assignment.limits,
            token=secrets.token_hex(4),
        )
        desk.parts.mkdir(parents=True, exist_ok=True)
        self._stopping = threading.Event()
        slots = assignment.slots or worker.state.nthreads
        self._supervisors = [Supervisor(desk, self._living_nursery, self._stopping.is_set) for _ in range(slots)]
        self._free: queue.LifoQueue[Supervisor] = queue.LifoQueue()
        for supervisor in self._supervisors:
            self._free.put(supervisor)
        self._shipping = _Shipping(Layout(output)) if self._scratch else None
        threading.Thread(target=self._end_idle_scorers, name="daskscore-idle", daemon=True).start()

    async def teardown(self, worker: Worker) -> None:
        await asyncio.to_thread(self.close)

    def __getstate__(self) -> dict[str, Any]:
        return {"assignment": self.assignment, "name": self.name}

    @contextmanager
    def _slot(self) -> Iterator[Supervisor]:
        supervisor = self._free.get()
        try:
            yield supervisor
        finally:
            self._free.put(supervisor)

    def score(self, bundle: Bundle) -> Outcome:
        """In a free slot; with the rows and logs that the driver could not read otherwise."""
        with self._slot() as supervisor:
            outcome = supervisor.score(bundle)
            if self._shipping is not None:
                outcome = self._shipping.add(outcome)
                supervisor.rows_taken(set(outcome.shipped or ()))
            return outcome

    def last_logs(self) -> dict[str, bytes]:
        """The logs that no outcome has brought; called when the run is over."""
        return self._shipping.new_log_bytes(sys.maxsize) if self._shipping else {}

    def stop(self) -> None:
        """Finish the mini-batches in hand, start no other."""
        self._stopping.set()

    def close(self) -> None:
        """End all scorers, their guards, the nursery, and what they have started."""
        self.stop()
        supervisors = [self._free.get() for _ in self._supervisors]
        with ThreadPoolExecutor(len(supervisors)) as pool:
            list(pool.map(Supervisor.end, supervisors))
        with self._nursery_lock:
            if self._nursery is not None:
                self._nursery.close()
                self._nursery = None
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        for supervisor in supervisors:
            self._free.put(supervisor)  # for a bundle that comes late: it is handed back, and its thread set free

    def _living_nursery(self) -> Nursery:
        with self._nursery_lock:
            if self._nursery is not None and not self._nursery.alive:
                self._nursery.close()
                self._nursery = None
            if self._nursery is None:
                doomed = [(self._scratch, 0)] if self._scratch else []
                if self.assignment.scratch:
                    doomed.append((self.assignment.scratch, self.assignment.driver))
                self._nursery = Nursery(environment={**os.environ, **self.assignment.environment}, remove_at_end=doomed)
            return self._nursery

    def _end_idle_scorers(self) -> None:
        while not self._stopping.wait(IDLE_SECONDS / 4):
            waiting = []
            try:
                while True:
                    waiting.append(self._free.get_nowait())
            except queue.Empty:
                pass
            for supervisor in reversed(waiting):
                if time.monotonic() - supervisor.idle_since > IDLE_SECONDS:
                    supervisor.end()
                self._free.put(supervisor)


@dataclass(slots=True)
class _Shipping:
    """Rows and logs of a worker whose disk the driver does not see."""

    layout: Layout
    _sent: dict[Path, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: Outcome) -> Outcome:
        rows: dict[str, bytes] = {}
        for name, segments in groupby(outcome.segments, key=attrgetter("part")):
            with self.layout.part(name).open("rb") as part:
                rows[name] = b"".join(os.pread(part.fileno(), s.length, s.offset) for s in segments)
        return replace(outcome, shipped=rows, logs=self.new_log_bytes(LOG_BYTES_PER_OUTCOME))

    def new_log_bytes(self, limit: int) -> dict[str, bytes]:
        new: dict[str, bytes] = {}
        with self._lock:
            for path in sorted(found for found in self.layout.logs.rglob("*") if found.is_file()):
                sent = self._sent.get(path, 0)
                size = min(limit, path.stat().st_size - sent)
                if size <= 0:
                    continue
                with path.open("rb") as file:
                    file.seek(sent)
                    data = file.read(size)
                new[str(path.relative_to(self.layout.output))] = data
                self._sent[path] = sent + len(data)
                limit -= len(data)
        return new


def _is_shared(assignment: Assignment) -> bool:
    """Whether this worker reads what the driver wrote in the output folder, and can write there."""
    layout = Layout(Path(assignment.output))
    try:
        return layout.shared.read_text() == assignment.token and os.access(layout.state, os.W_OK)
    except OSError:
        return False
