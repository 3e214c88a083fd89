"""The mini-batches of a bundle whose items are in storages, as the scorer is given them: with local paths."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from daskscore.core.model import Bundle
from daskscore.core.tables import Reading
from daskscore.errors import RunError
from daskscore.inputs.stores import Stores
from daskscore.worker.items import NotStaged, Wanted
from daskscore.worker.pieces import PieceParts, first_byte_of
from daskscore.worker.staging import Ahead, Staged, Stager

LOOK_SECONDS = 0.25
STARTING = 4
"""Bundles whose staging begins at the same time: for tables, that asks the storage how their files are laid out."""


class NotRead(NamedTuple):
    """An item that the scorer is not given."""

    item: str
    message: str


@dataclass(slots=True)
class Delivery:
    """One mini-batch that is ready to be scored, or that cannot be."""

    position: int
    line: bytes = b""
    """As a line of the plan, with local paths."""
    items: int = 0
    """That the line does not have."""
    lost: list[NotRead] = field(default_factory=list)
    failure: str = ""
    """Why nothing of it can be scored."""
    may_pass: bool = False
    """Another try may go better."""
    names: dict[str, str] = field(default_factory=dict)
    """What the plan calls each local path."""


class Feed:
    """Made as soon as it is known that a worker will score a bundle; closed when that is over."""

    def __init__(self, bundle: Bundle, stager: Stager, pieces: PieceParts, readings: Sequence[Reading]) -> None:
        self._lines = [json.loads(line) for line in bundle.lines.splitlines()]
        self._wanted = _wanted(self._lines, pieces, readings)
        self._ahead: Ahead = stager.begin(self._wanted)

    def __len__(self) -> int:
        return len(self._lines)

    def next(self, wait_seconds: float) -> Delivery | None:
        """The next mini-batch, in order; None: not yet."""
        staged = self._ahead.next(wait_seconds)
        if staged is None:
            return None
        line = self._lines[staged.position]
        if isinstance(line, dict) and "pieces" in line:
            return self._of_records(line, staged)
        return _of_files(line, staged)

    def missing(self) -> list[str]:
        """What the next mini-batch still waits for."""
        return self._ahead.missing()

    def done(self, position: int) -> None:
        """A mini-batch is scored: its files may go."""
        self._ahead.done(position)

    def close(self) -> None:
        self._ahead.close()

    def _of_records(self, line: dict[str, Any], staged: Staged) -> Delivery:
        if passing := _passing(staged):
            return passing
        if staged.failures:
            return Delivery(staged.position, failure=staged.failures[0].message)
        wanted = self._wanted[staged.position]
        firsts = [first_byte_of(one) for one in wanted if not isinstance(one, NotStaged)]
        at = [[path, first] for path, first in zip(staged.paths, firsts, strict=True)]
        return Delivery(staged.position, _encoded({**line, "at": at}))


class Staging:
    """What one worker has of items in storages: those of the bundles that it scores, and of those that wait for a slot."""

    def __init__(self, folder: Path, stores: Stores, readings: Sequence[Reading], limit_bytes: int) -> None:
        self._stores = stores
        self._stager = Stager(folder, stores, limit_bytes=limit_bytes)
        self._pieces = PieceParts(stores)
        self._readings = readings
        self._feeds: dict[int, Future[Feed]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._pool = ThreadPoolExecutor(STARTING, thread_name_prefix="daskscore-staging")

    def expect(self, bundle: Bundle) -> None:
        """Begin to bring it; does not wait for anything."""
        with self._lock:
            if bundle.id not in self._feeds and not self._closed:
                self._feeds[bundle.id] = self._pool.submit(self._begin, bundle)

    def feed(self, bundle: Bundle, stopping: Callable[[], bool]) -> Feed | None:
        """For the slot that scores it; None where the run stops meanwhile."""
        self.expect(bundle)
        with self._lock:
            beginning = self._feeds.get(bundle.id)
        while beginning is not None and not stopping():
            if wait([beginning], timeout=LOOK_SECONDS).done:
                return beginning.result()
        return None

    def over(self, bundle: Bundle) -> None:
        """It is scored, or as much of it as will be."""
        with self._lock:
            feed = self._feeds.pop(bundle.id, None)
        if feed is not None and not feed.cancel():
            feed.add_done_callback(_close)

    def forget(self, bundle: Bundle) -> None:
        """Another worker scores it; does not wait for anything."""
        with self._lock:
            feed = self._feeds.pop(bundle.id, None)
            if feed is not None and not self._closed and not feed.cancel():
                self._pool.submit(feed.add_done_callback, _close)

    def close(self) -> None:
        """Without waiting for a storage that gives no answer: what it says later is of no use."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._stager.close()
        self._stores.close()

    def _begin(self, bundle: Bundle) -> Feed:
        return Feed(bundle, self._stager, self._pieces, self._readings)


def _close(feed: Future[Feed]) -> None:
    if feed.exception() is None:
        with suppress(RunError):  # staging has ended, and with it all that was brought
            feed.result().close()


def _passing(staged: Staged) -> Delivery | None:
    """Where a storage is in trouble, or a disk full, the mini-batch is tried again, elsewhere perhaps."""
    trouble = next((failure for failure in staged.failures if not failure.permanent), None)
    return Delivery(staged.position, failure=trouble.message, may_pass=True) if trouble is not None else None


def _of_files(line: Any, staged: Staged) -> Delivery:
    if passing := _passing(staged):
        return passing
    lost = [NotRead(failure.item, failure.message) for failure in staged.failures]
    if not staged.paths:
        return Delivery(staged.position, failure=lost[0].message)
    given = {"files": staged.paths, "names": staged.items}
    if isinstance(line, dict):
        given["keys"] = line["keys"]
    names = dict(zip(staged.paths, staged.items, strict=True))
    return Delivery(staged.position, _encoded(given), len(lost), lost, names=names)


def _wanted(lines: Sequence[Any], pieces: PieceParts, readings: Sequence[Reading]) -> list[list[Wanted]]:
    """What must be brought for each of these mini-batches."""
    tables = [line["pieces"] if isinstance(line, dict) and "pieces" in line else () for line in lines]
    found = iter(pieces.all_wanted([(piece, readings[piece["input"]]) for table in tables for piece in table]))
    wanted: list[list[Wanted]] = []
    for line, table in zip(lines, tables, strict=True):
        if table:
            wanted.append(list(islice(found, len(table))))
        else:
            wanted.append(line if isinstance(line, list) else line["files"])
    return wanted


def _encoded(line: Any) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
