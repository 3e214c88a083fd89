"""Items on their way to local paths: what is known of each, where it will be, and which one is next. No effects."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from daskscore.errors import InputError
from daskscore.inputs.addresses import Address, is_remote, parse
from daskscore.worker.fetching import is_file_name


class NotStaged(NamedTuple):
    """An item that did not come."""

    item: str
    message: str
    permanent: bool
    """Another attempt would end the same way: the object is gone, or may not be read."""


class State(Enum):
    WAITING = auto()
    COMING = auto()
    HERE = auto()
    FAILED = auto()


@dataclass(slots=True, eq=False)
class Item:
    name: str
    """In the plan."""
    batch: Batch
    address: Address | None
    """None: it is on this machine already."""
    path: str
    """Where it is, or will be."""
    state: State = State.WAITING
    problem: NotStaged | None = None
    held: int = 0
    """Bytes of scratch space."""
    size: int = 0
    """0 until it is known, which is when there was no room for it."""
    failures: int = 0
    first_asked: float = 0.0
    not_before: float = 0.0
    task: asyncio.Task[None] | None = None

    @property
    def queue(self) -> Queue:
        return self.batch.queue

    @property
    def settled(self) -> bool:
        return self.state in (State.HERE, State.FAILED)


@dataclass(slots=True, eq=False)
class Batch:
    """A mini-batch: it is handed out when all its items are settled."""

    queue: Queue
    position: int
    folder: Path
    items: list[Item] = field(default_factory=list)
    held: int = 0
    handed_out: bool = False
    over: bool = False
    """Nobody needs it any more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def settled(self) -> bool:
        return all(item.settled for item in self.items)

    @property
    def wants_room(self) -> bool:
        """Something of it was refused for want of room."""
        return any(item.state is State.WAITING and item.size for item in self.items)

    @property
    def needed(self) -> bool:
        """A slot waits for it."""
        return self.queue.asked == self.position and not self.handed_out and not self.over

    @property
    def urgency(self) -> tuple[int, int, int]:
        """Smaller is more urgent."""
        queue = self.queue
        if self.needed:
            return 0, queue.number, 0
        return 1 if queue.asked >= 0 else 2, self.position - queue.handed_out, queue.number


class Queue:
    """The mini-batches of one bundle, and those of their items that are still to come."""

    def __init__(self, number: int, folder: Path, mini_batches: Iterable[Sequence[str]]) -> None:
        self.number = number
        self.folder = folder
        self.asked = -1
        """The mini-batch that a slot waits for, or waited for last."""
        self.handed_out = 0
        self.batches = [self._batch(position, names) for position, names in enumerate(mini_batches)]
        waiting = (item for batch in self.batches for item in batch.items if item.state is State.WAITING)
        self._fresh = deque(waiting)
        self._again: list[Item] = []

    def _batch(self, position: int, names: Sequence[str]) -> Batch:
        batch = Batch(self, position, self.folder / f"{position}")
        places = _Places()
        batch.items = [_made(name, batch, number, places) for number, name in enumerate(names)]
        return batch

    @property
    def needed(self) -> Batch | None:
        """The mini-batch that a slot waits for. Even a complete one: until it is handed out, nobody takes its room."""
        if not 0 <= self.asked < len(self.batches):
            return None
        batch = self.batches[self.asked]
        return batch if batch.needed else None

    def ready(self, now: float) -> Item | None:
        """The item that should come next, if any may come now."""
        again = (item for item in self._again if item.not_before <= now)
        first = min(again, key=lambda item: item.batch.position, default=None)
        fresh = self._fresh[0] if self._fresh else None
        if first is None or fresh is None:
            return first or fresh
        return fresh if fresh.batch.position < first.batch.position else first

    def take(self, item: Item) -> None:
        if self._fresh and self._fresh[0] is item:
            self._fresh.popleft()
        else:
            self._again.remove(item)

    def put_back(self, item: Item) -> None:
        """It has to come once more."""
        self._again.append(item)


class _Places:
    """Local paths of one mini-batch, as the storage spells them; what cannot stand beside the others gets a folder."""

    def __init__(self) -> None:
        self._files: set[PurePosixPath] = set()
        self._folders: set[PurePosixPath] = set()

    def place(self, path: str, number: int) -> PurePosixPath | None:
        """Relative to the mini-batch's folder, with the object's own base name; None where that is no file name."""
        parts = path.split("/")
        if not is_file_name(parts[-1]):
            return None
        if all(is_file_name(part) for part in parts) and self._take(wanted := PurePosixPath(*parts)):
            return wanted
        folders = (f".{number}" + "-" * more for more in count())
        return next(wanted for folder in folders if self._take(wanted := PurePosixPath(folder, parts[-1])))

    def _take(self, wanted: PurePosixPath) -> bool:
        # Compared without capitals: some disks do not tell them apart.
        folded = PurePosixPath(str(wanted).casefold())
        if folded in self._files or folded in self._folders or not self._files.isdisjoint(folded.parents):
            return False
        self._files.add(folded)
        self._folders.update(folded.parents)
        return True


def _made(name: str, batch: Batch, number: int, places: _Places) -> Item:
    if not is_remote(name) or name.lower().startswith("file://"):
        path = name[len("file://") :] if is_remote(name) else name
        return Item(name, batch, None, path, State.HERE)
    try:
        address = parse(name)
    except InputError as error:
        return Item(name, batch, None, "", State.FAILED, NotStaged(name, str(error), True))
    path = unquote(address.path.partition("?")[0]) if address.protocol == "http" else address.path
    place = places.place(path, number)
    if place is None:
        text = f"{name} ends with {os.path.basename(path)!r}, which cannot be the name of a local file. Rename it"
        return Item(name, batch, address, "", State.FAILED, NotStaged(name, text, True))
    return Item(name, batch, address, str(batch.folder / place))
