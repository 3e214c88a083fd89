"""What a worker keeps from one task to the next where no run says when it is over: until it idles, or the worker closes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from distributed import Reschedule, Worker, WorkerPlugin, get_worker

from daskscore.errors import RunError

IDLE_SECONDS = 60.0
"""What no task has used for this long is closed."""

ANSWER_SECONDS = 30.0
"""How long a worker's event loop may take to note a plugin."""

NAME = "daskscore-keeper"


class Kept(Protocol):
    def close(self) -> None:
        """End its processes, and remove its files."""
        ...


T = TypeVar("T", bound=Kept)


@dataclass(slots=True)
class _Entry:
    thing: Any = None
    users: int = 0
    idle_since: float = 0.0
    making: threading.Lock = field(default_factory=threading.Lock)


class Keeper(WorkerPlugin):
    """One per worker; where there is no worker, as with Dask's other schedulers, one per process."""

    name = NAME

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._closing = threading.Event()
        self._watching = False

    async def teardown(self, worker: Worker) -> None:
        await asyncio.to_thread(self.close)

    @property
    def closed(self) -> bool:
        return self._closing.is_set()

    @contextmanager
    def use(self, name: str, make: Callable[[], T]) -> Iterator[T]:
        """What is kept under this name, made by the first who asks for it."""
        with self._lock:
            self.check()
            entry = self._entries.setdefault(name, _Entry())
            entry.users += 1
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._end_the_idle, name="daskscore-keeper", daemon=True).start()
        try:
            with entry.making:
                if entry.thing is None:
                    entry.thing = make()
            yield entry.thing
        finally:
            with self._lock:
                entry.users -= 1
                entry.idle_since = time.monotonic()
                late = self.closed and not entry.users
            if late:
                _close(entry)  # made while the worker was closing

    def drop(self, thing: Kept) -> None:
        """It is not as it should be: nobody is given it again, and it closes in its own time."""
        with self._lock:
            name = next((name for name, entry in self._entries.items() if entry.thing is thing), None)
            entry = self._entries.pop(name) if name is not None else None
        if entry is not None:
            threading.Thread(target=_close, args=(entry,), name="daskscore-closing", daemon=True).start()

    def check(self) -> None:
        """Have a task done elsewhere that a closing worker cannot do."""
        if not self.closed:
            return
        try:
            get_worker()
        except ValueError:
            raise RunError("this process ends, and its scorers have ended") from None
        raise Reschedule

    def close(self) -> None:
        """Whatever still uses something sees it end."""
        self._closing.set()
        with self._lock:
            entries, self._entries = self._entries, {}
        closing = [threading.Thread(target=_close, args=(entry,)) for entry in entries.values()]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()

    def _end_the_idle(self) -> None:
        while not self._closing.wait(IDLE_SECONDS / 4):
            with self._lock:
                before = time.monotonic() - IDLE_SECONDS
                idle = [name for name, one in self._entries.items() if not one.users and one.idle_since < before]
                entries = [self._entries.pop(name) for name in idle]
                self._watching = bool(self._entries)
                over = not self._watching
            for entry in entries:
                _close(entry)
            if over:
                return


def _close(entry: _Entry) -> None:
    with entry.making:
        thing, entry.thing = entry.thing, None
    if thing is not None:
        thing.close()


_HERE: dict[int, Keeper] = {}
"""By process, because a fork has none yet."""
_MAKING = threading.Lock()


def keeper() -> Keeper:
    """Of the worker that runs this task, or of this process."""
    try:
        worker = get_worker()
    except ValueError:
        with _MAKING:
            return _HERE.setdefault(os.getpid(), Keeper())
    with _MAKING:
        found = worker.plugins.get(NAME)
        if not isinstance(found, Keeper):
            found = Keeper()
            adding = asyncio.run_coroutine_threadsafe(worker.plugin_add(found, NAME), worker.loop.asyncio_loop)  # type: ignore[attr-defined]  # tornado's loop is asyncio's
            adding.result(ANSWER_SECONDS)
        return found
