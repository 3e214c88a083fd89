"""What a Dask worker keeps for one run: its scorers, where they write, and how they are ended."""

from __future__ import annotations

import asyncio
import os
import queue
import re
import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Worker, WorkerPlugin

from daskscore.core.layout import Layout
from daskscore.core.model import Bundle, InitFailure, Kind, Outcome
from daskscore.core.protocol import Head
from daskscore.core.tables import Reading
from daskscore.worker.capping import Caps, dropped, line_after
from daskscore.worker.monitor import Monitor
from daskscore.worker.nursery import Nursery, passing_folder, shared_folder
from daskscore.worker.process import Desk, Limits
from daskscore.worker.shares import Gpus, gpus_here, threads_each
from daskscore.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from daskscore.inputs.stores import Stores
    from daskscore.worker.environments import Recipe
    from daskscore.worker.feeding import Staging
    from daskscore.worker.rooms import Readiness, Room
    from daskscore.worker.side_inputs import SideInputs
    from daskscore.worker.sources import Code, CodeFolder

IDLE_SECONDS = 60.0
"""A scorer without work for this long is ended, so that a run whose driver has vanished leaves nothing running."""

LOG_BYTES_PER_OUTCOME = 1 << 20
"""How much of its logs a worker without a shared disk sends along with one outcome."""

LAST_LOG_BYTES = 16 << 20
"""How much in one answer, when the run is over."""


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
    stores: Stores | None = None
    """What opens the items that are in storages; None: all are files that the worker sees itself."""
    side_inputs: Mapping[str, str] = field(default_factory=dict)
    """Addresses of what each scorer needs besides its mini-batches, by the names in `settings`."""
    side_stores: Stores | None = None
    staging_limit: int = 0
    """Bytes of these that a worker keeps on its disk."""
    code: Code | None = None
    """The script's folder, which comes from the driver where the worker does not see it; None: all see it."""
    recipe: Recipe | None = None
    """Of the environment that the scorers run in; None: the worker's own."""


def plugin_name(run: str) -> str:
    return f"daskscore-{run}"


class Session(WorkerPlugin):
    """Called by Dask when a worker joins (setup) and when the run is over (teardown)."""

    def __init__(self, assignment: Assignment) -> None:
        self.assignment = assignment
        self.name = plugin_name(assignment.run)

    def setup(self, worker: Worker) -> None:
        self._nursery_lock = threading.Lock()
        self._nursery: Nursery | None = None
        self._stopping = threading.Event()
        self._scoring: Nursery | None = None
        """Of the job's own environment; the scorers of others are the nursery's."""
        self._room: Room | None = None
        self._staging: Staging | None = None
        self._shipping: _Shipping | None = None
        self._node = re.sub(r"[^\w.-]+", "_", str(worker.name))
        self._trouble: InitFailure | None = None
        """Why this worker can score nothing."""
        try:
            self._set_up(worker)
        except OSError as error:  # of this machine alone: the others go on
            what = f"{error.strerror or error}: {error.filename or 'a file'}"
            self._trouble = InitFailure(Kind.CRASH, f"the worker cannot take part: {what}", "")
            self._stopping.set()
            self._close_room()
            self._close_nursery()

    def _set_up(self, worker: Worker) -> None:
        assignment = self.assignment
        if assignment.own_cluster and threading.current_thread() is threading.main_thread():
            # Ctrl-C in a terminal reaches all its processes; only the driver decides what it means.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._worker = worker
        self._slots = slots = assignment.slots or worker.state.nthreads
        self._scratch = "" if _is_shared(assignment) else passing_folder()
        self._side_folder = shared_folder(assignment.run) if assignment.side_inputs else ""
        self._staging_folder = passing_folder() if assignment.stores is not None else ""
        self._model_view = passing_folder() if assignment.settings["place"]["model_folder"] else ""
        for folder in filter(None, (self._scratch, self._staging_folder, self._model_view)):
            self._living_nursery()
            os.mkdir(folder, 0o700)
        self._staging = self._make_staging()
        self._side_inputs = self._make_side_inputs()
        self._room = self._open_room()
        output = Path(self._scratch or assignment.output)
        node = self._node
        desk = Desk(
            node=node,
            settings=assignment.settings,
            output=output,
            parts=Layout(output).parts,
            limits=assignment.limits,
            token=secrets.token_hex(4),
            side_inputs=self._side_inputs,
            room=self._room,
            model_view=self._model_view,
            gpus=Gpus(gpus_here(assignment.limits.gpus_per_node), assignment.limits.gpus_per_process),
        )
        desk.parts.mkdir(parents=True, exist_ok=True)
        self._supervisors = [Supervisor(desk, self._scorers_nursery, self._stopping.is_set) for _ in range(slots)]
        self._free: queue.LifoQueue[Supervisor] = queue.LifoQueue()
        for supervisor in self._supervisors:
            self._free.put(supervisor)
        desk.caps.shorten = not self._scratch
        self._shipping = _Shipping(Layout(output), desk.caps) if self._scratch else None
        self._log = desk.log
        self._log.say(f"The worker {worker.name} has {slots} slots.")
        self._monitor = Monitor(output, node, self._scorers, desk.caps, assignment.limits.monitor_seconds)
        threading.Thread(target=self._end_idle_scorers, name="daskscore-idle", daemon=True).start()

    async def teardown(self, worker: Worker) -> None:
        await asyncio.to_thread(self.close)

    def __getstate__(self) -> dict[str, Any]:
        return {"assignment": self.assignment, "name": self.name}

    @contextmanager
    def _slot(self, avoid: tuple[str, ...]) -> Iterator[Supervisor]:
        supervisor, passed = self._free.get(), []
        with suppress(queue.Empty):
            while supervisor.place in avoid:
                other = self._free.get_nowait()
                passed.append(supervisor)
                supervisor = other
        for one in passed:
            self._free.put(one)
        try:
            yield supervisor
        finally:
            self._free.put(supervisor)

    def score(self, bundle: Bundle) -> Outcome:
        """In a free slot; with the rows and logs that the driver could not read otherwise."""
        if self._trouble is not None:
            return Outcome(bundle.id, self._node, unstarted=bundle.spans, init_failure=self._trouble)
        try:
            feed = self._staging.feed(bundle, self._stopping.is_set) if self._staging is not None else None
            with self._slot(bundle.avoid) as supervisor:
                outcome = supervisor.score(bundle, feed)
                if self._shipping is not None:
                    outcome = self._shipping.add(outcome)
                    supervisor.rows_taken(set(outcome.shipped or ()))
                return outcome
        finally:
            if self._staging is not None:
                self._staging.over(bundle)

    def last_logs(self) -> dict[str, bytes]:
        """Logs that no outcome has brought; called when the run is over, until there are none."""
        if self._shipping is None:
            return {}
        self._end_scorers()
        self._monitor.close()
        return self._shipping.new_log_bytes(LAST_LOG_BYTES)

    def drop(self, bundle: int) -> None:
        """Kill the scorer that has this bundle: it is scored elsewhere."""
        for supervisor in self._supervisors:
            supervisor.drop(bundle)

    def stop(self) -> None:
        """Finish the mini-batches in hand, start no other."""
        self._stopping.set()

    def close(self) -> None:
        """End all scorers, their guards, the nursery, and what they have started."""
        if self._trouble is not None:
            return
        with ExitStack() as steps:  # each is taken, whatever becomes of those before it; the last one first
            for folder in filter(None, (self._scratch, self._staging_folder, self._model_view)):
                steps.callback(shutil.rmtree, folder, ignore_errors=True)
            steps.callback(self._close_nursery)
            steps.callback(self._close_room)
            if self._side_inputs is not None:
                steps.callback(self._side_inputs.close)
            if self._staging is not None:
                steps.callback(self._staging.close)
            steps.callback(self._monitor.close)
            self._end_scorers()
            self._log.say("The worker is done with the run.")

    def _close_nursery(self) -> None:
        with self._nursery_lock:
            for nursery in filter(None, (self._scoring, self._nursery)):
                nursery.close()
            self._scoring = self._nursery = None

    def _close_room(self) -> None:
        if self._room is not None:
            self._room.close()

    @property
    def readiness(self) -> Readiness | None:
        """Whether a scorer could start at once; None where nothing has to be there first."""
        return self._room.readiness(self._node) if self._room is not None else None

    @property
    def code(self) -> CodeFolder | None:
        """The script's folder, where it may have to come from the driver."""
        return self._room.code if self._room is not None else None

    def _end_scorers(self) -> None:
        self.stop()
        supervisors = [self._free.get() for _ in self._supervisors]
        with ThreadPoolExecutor(len(supervisors)) as pool:
            list(pool.map(Supervisor.end, supervisors))
        for supervisor in supervisors:
            self._free.put(supervisor)  # for a bundle that comes late: it is handed back, and its thread set free

    def _scorers(self) -> dict[str, int]:
        return dict(filter(None, (supervisor.scorer for supervisor in self._supervisors)))

    def transition(self, key: object, start: str, finish: str, **_: Any) -> None:
        """Called by Dask on the worker's event loop: a bundle that waits here for a slot is brought meanwhile."""
        if self._staging is None or not str(key).startswith(f"daskscore-{self.assignment.run}-"):
            return
        task = self._worker.state.tasks.get(str(key))
        arguments = getattr(task.run_spec, "args", ()) if task is not None else ()
        bundle = next((found for found in arguments if isinstance(found, Bundle)), None)
        if bundle is not None and finish == "ready":
            self._staging.expect(bundle)
        elif bundle is not None and start == "ready" and finish != "executing":
            self._staging.forget(bundle)

    def _make_side_inputs(self) -> SideInputs | None:
        assignment = self.assignment
        if not assignment.side_inputs:
            return None
        from daskscore.worker.side_inputs import SideInputs  # here, because it loads fsspec

        return SideInputs(assignment.side_inputs, assignment.side_stores, Path(self._side_folder))

    def _make_staging(self) -> Staging | None:
        assignment = self.assignment
        if assignment.stores is None:
            return None
        from daskscore.worker.feeding import Staging  # here, because it loads fsspec

        readings = [Reading.from_json(text) for text in assignment.settings["readings"]]
        return Staging(Path(self._staging_folder) / "items", assignment.stores, readings, assignment.staging_limit)

    def _open_room(self) -> Room | None:
        assignment = self.assignment
        if assignment.code is None and assignment.recipe is None:
            return None
        from daskscore.worker.rooms import open_room

        def ask() -> None:
            self._worker.log_event(plugin_name(assignment.run), {"wants_code": self._worker.address})

        return open_room(assignment.code, assignment.recipe, assignment.run, stopping=self._stopping.is_set, ask=ask)

    def _scorers_nursery(self) -> Nursery:
        """Of the job's own environment, once that is made; the other one goes on to remove folders in the end."""
        interpreter = self._room.interpreter() if self._room is not None else None
        nursery = self._living_nursery()
        if interpreter is None:
            return nursery
        with self._nursery_lock:
            if self._scoring is not None and not self._scoring.alive:
                self._scoring.close()
                self._scoring = None
            if self._scoring is None:
                environment = interpreter.environment(os.environ) | threads_each(self._slots)
                self._scoring = Nursery(
                    environment=environment | self.assignment.environment, python=interpreter.python
                )
            return self._scoring

    def _living_nursery(self) -> Nursery:
        with self._nursery_lock:
            if self._nursery is not None and not self._nursery.alive:
                self._nursery.close()
                self._nursery = None
            if self._nursery is None:
                folders = (self._scratch, self._staging_folder, self._model_view, self._side_folder)
                doomed = [(folder, 0) for folder in folders if folder]
                if self.assignment.scratch:
                    doomed.append((self.assignment.scratch, self.assignment.driver))
                environment = {**os.environ, **threads_each(self._slots), **self.assignment.environment}
                self._nursery = Nursery(environment=environment, remove_at_end=doomed)
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
    caps: Caps
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
                name = str(path.relative_to(self.layout.output))
                while limit > 0 and (data := self._new(path, limit)):
                    new[name] = new.get(name, b"") + data
                    limit -= len(data)
        return new

    def _new(self, path: Path, limit: int) -> bytes:
        """Of a log that has a limit the beginning; the newest end once it is known what that is."""
        sent, size = self._sent.get(path, 0), path.stat().st_size
        note = b""
        if self.caps.covers(path):
            if self.caps.lives(path):
                size = min(size, self.caps.head)
            elif size > self.caps.limit and sent < size - self.caps.tail:
                if sent < self.caps.head:
                    size = self.caps.head
                else:
                    start = line_after(path, size - self.caps.tail)
                    note, sent = b"\n" + dropped(start - sent), start
        if size <= sent:
            return b""
        with path.open("rb") as file:
            file.seek(sent)
            data = file.read(min(limit, size - sent))
        self._sent[path] = sent + len(data)
        return note + data


def _is_shared(assignment: Assignment) -> bool:
    """Whether this worker reads what the driver wrote in the output folder, and can write there."""
    layout = Layout(Path(assignment.output))
    try:
        return layout.shared.read_text() == assignment.token and os.access(layout.state, os.W_OK)
    except OSError:
        return False
