"""The scorers of one `daskscore.score` in one process, and what they give back: Python objects. Runs in the worker."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from distributed import Worker, get_worker, warn
from distributed.protocol.pickle import dumps, loads

from daskscore.core.model import Bundle, Failure, InitFailure, Kind, Outcome, Span
from daskscore.core.planning import Keys, line_of_pickle
from daskscore.errors import DaskscoreError
from daskscore.worker.keeping import Keeper
from daskscore.worker.nursery import passing_folder
from daskscore.worker.session import Assignment, Session

LOST_TRIES = 5
"""How often a mini-batch may be handed back unscored, as when the script has killed the nursery."""

LAST_WORDS_BYTES = 4000


class MiniBatchError(DaskscoreError):
    """A mini-batch of a Dask collection has no results; with the script's own traceback, where there is one."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How one `daskscore.score` was called; the same for all its mini-batches."""

    id: str
    assignment: Assignment
    tries: int
    skip: bool
    """A mini-batch that failed has no results; otherwise its task fails."""
    meta: Any = None
    """An empty DataFrame or Series, as those that run() returns; None: the results go into a Bag."""

    @property
    def script(self) -> str:
        return str(self.assignment.settings["entry_script"])


class Crew:
    """A session of scorers whose results stay in this process, and the files that mini-batches are handed over in."""

    def __init__(self, assignment: Assignment, *, slots: int | None = None) -> None:
        self._folder = Path(passing_folder())
        # The session's nursery removes `scratch` when this process has gone, however it went.
        self._session = Session(replace(assignment, scratch=str(self._folder), slots=slots or assignment.slots))
        self._session.setup(_worker())
        try:
            self._folder.mkdir(0o700)
        except OSError:
            self._session.close()
            raise
        self._numbers = count()
        self._tally = _Tally(str(assignment.settings["entry_script"]))

    def close(self) -> None:
        self._session.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def handed_over(self, found: Any, keys: Keys | None) -> Iterator[bytes]:
        """A list or a DataFrame as a line that the scorers understand, for as long as they need it."""
        path = self._folder / str(next(self._numbers))
        try:
            path.write_bytes(dumps(found, protocol=5))
            yield line_of_pickle(str(path), len(found), keys)
        finally:
            path.unlink(missing_ok=True)

    def score(self, line: bytes, number: int, name: str, scoring: Scoring, keeper: Keeper) -> Any:
        """What run() returned, or None for a mini-batch that is skipped; raises MiniBatchError for one that is not."""
        tries = lost = 0
        while True:
            try:
                outcome = self._session.score(Bundle(next(self._numbers), (Span(number, 1, tries),), line))
            except KeyboardInterrupt:
                keeper.drop(self)  # a scorer has something in hand, and its answer would be taken for that of another
                raise
            _show_prints(outcome)
            if outcome.segments:
                break
            failure = outcome.init_failure or next(iter(outcome.failures), None)
            if failure is None:
                keeper.check()
                lost += 1
                failure = _GONE
            else:
                tries += 1
            if tries >= scoring.tries or lost >= LOST_TRIES:
                text = _words(failure, outcome, number, name, scoring, tries)
                if not scoring.skip or isinstance(failure, InitFailure):
                    raise MiniBatchError(text)
                self._tally.add(text)
                return None
        lost_items = [item for item in outcome.item_failures if item.kind is Kind.INPUT]
        if lost_items:
            text = f"mini-batch {number} ({name}) lacks {len(lost_items)} items: {lost_items[0].message}"
            if not scoring.skip:
                raise MiniBatchError(text)
            self._tally.add(text, items=len(lost_items))
        else:
            self._tally.well()
        assert outcome.shipped is not None
        return _result(outcome.shipped[outcome.segments[0].part], scoring)


def _result(data: bytes, scoring: Scoring) -> Any:
    try:
        return loads(data)
    except Exception as error:
        raise MiniBatchError(
            f"what run() in {scoring.script} returned cannot be read outside of it: {type(error).__name__}: {error}. "
            "Return plain values, dictionaries or DataFrames, or move the class into a module that the workers have installed"
        ) from error


_GONE = Failure(-1, Kind.LOST, "its scorers were killed, together with the process that starts them", "")


def _words(
    failure: Failure | InitFailure, outcome: Outcome, number: int, name: str, scoring: Scoring, tries: int
) -> str:
    words = f"{scoring.script}: mini-batch {number} ({name}): {failure.message}"
    if failure is not _GONE:
        words += f" (attempt {tries} of {scoring.tries})"
    trace = failure.traceback.rstrip()
    if not trace and failure.log and outcome.logs:
        trace = outcome.logs.get(failure.log, b"")[-LAST_WORDS_BYTES:].decode(errors="replace").strip()
    return f"{words}\n\n{trace}" if trace else words


def _show_prints(outcome: Outcome) -> None:
    """What the script printed, where a Dask task's own prints would be."""
    for path, data in (outcome.logs or {}).items():
        for folder, stream in (("stdout", sys.stdout), ("stderr", sys.stderr)):
            if path.startswith(f"logs/user/{folder}/"):
                with suppress(OSError, ValueError):
                    stream.write(data.decode(errors="replace"))


class _Tally:
    """Counts what is skipped, and says so: at once, and whenever it has become twice as much."""

    def __init__(self, script: str) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._all = self._skipped = self._items = 0

    def well(self) -> None:
        with self._lock:
            self._all += 1

    def add(self, text: str, items: int = 0) -> None:
        with self._lock:
            self._all += 1
            self._skipped += not items
            self._items += items
            failed = self._skipped + self._items
            if failed & (failed - 1) and not items:
                return
            what = f"{self._skipped} of {self._all} mini-batches" + (f" and {self._items} items" if self._items else "")
        warn(f"{self._script}: {what} of this worker have no results so far. The last one: {text}", stacklevel=2)


def _worker() -> Worker:
    """What a session wants to know of the worker that it is on."""
    try:
        return get_worker()
    except ValueError:
        state = SimpleNamespace(nthreads=os.cpu_count() or 1)
        return cast(Worker, SimpleNamespace(name=f"process {os.getpid()}", state=state))
