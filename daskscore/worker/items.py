"""Items on their way to local paths: what is known of each, where it will be, and which one is next. No effects.

Most items are one mini-batch's own. Parts of objects, and objects that several mini-batches read from, are one item for
all mini-batches that want the same, whichever bundles these are of.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count, pairwise
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from daskscore.errors import InputError
from daskscore.inputs.addresses import Address, is_remote, parse
from daskscore.inputs.storages import Range
from daskscore.inputs.troubles import Cause, Trouble
from daskscore.worker.fetching import is_file_name

SPARE_ITEMS = 256
"""No more than this are kept for later bundles: what these want again are the few that are large."""


class NotStaged(NamedTuple):
    """An item that did not come."""

    item: str
    message: str
    permanent: bool
    """Another attempt would end the same way: the object is gone, or may not be read."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a remote object, to be read and not to be changed."""

    uri: str
    ranges: tuple[Range, ...]
    """In order; at least one."""
    size: int | None = None
    """Of the object: the local file is as long, with the ranges in their places. None: it is the one range."""

    def __post_init__(self) -> None:
        borders = [border for wanted in self.ranges for border in wanted]
        ordered = all(one < other for one, other in pairwise(borders)) and all(border >= 0 for border in borders[:1])
        fitting = len(self.ranges) == 1 if self.size is None else bool(borders) and borders[-1] <= self.size
        if not ordered or not fitting:
            raise ValueError(f"{self.uri}: {self.ranges} are no ranges of an object of {self.size} bytes")
        if local_path(self.uri) is not None:
            raise ValueError(f"{self.uri} is on this machine, where it is read in its place")


@dataclass(frozen=True, slots=True)
class Shared:
    """A whole object that other mini-batches may want, too, to be read and not to be changed."""

    uri: str


Wanted: TypeAlias = "str | Part | Shared | NotStaged"
"""A local path or the URI of an object; what is known not to come is handed on as it is."""


class State(Enum):
    WAITING = auto()
    COMING = auto()
    HERE = auto()
    FAILED = auto()


@dataclass(slots=True, eq=False)
class Item:
    name: str
    """In the plan."""
    address: Address | None
    """None: it is on this machine already."""
    path: str
    """Where it is, or will be."""
    state: State = State.WAITING
    problem: NotStaged | None = None
    common: Part | Shared | None = None
    """What is wanted, where others may want the same."""
    folder: Path | None = None
    """Its own, then."""
    batches: list[Batch] = field(default_factory=list)
    """Those that want it: not those that are over."""
    held: int = 0
    """Bytes of scratch space."""
    size: int = 0
    """0 until it is known, which is when there was no room for it."""
    failures: int = 0
    first_asked: float = 0.0
    not_before: float = 0.0
    task: asyncio.Task[None] | None = None

    @property
    def part(self) -> Part | None:
        """What of it is wanted; None: all."""
        return self.common if isinstance(self.common, Part) else None

    @property
    def may_be_wanted_again(self) -> bool:
        """By a later bundle: the bytes of a piece of text are one mini-batch's, but it may share all else."""
        return self.common is not None and (self.part is None or self.part.size is not None)

    @property
    def awaited(self) -> bool:
        """It is still to come, and somebody wants it."""
        return self.state is State.WAITING and bool(self.batches)

    @property
    def urgency(self) -> tuple[int, int, int]:
        """Smaller is more urgent."""
        return min(batch.urgency for batch in self.batches)

    def may_make_room_for(self, needed: Batch) -> bool:
        """For a mini-batch that a slot waits for."""
        return not any(
            batch is needed
            or batch.handed_out
            or (self in batch.queue.used and batch.queue.number < needed.queue.number)
            for batch in self.batches
        )

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
    handed_out: bool = False
    over: bool = False
    """Nobody needs it any more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def held(self) -> int:
        """Bytes of scratch space, those of items that others want, too, among them."""
        return sum(item.held for item in dict.fromkeys(self.items))

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


class Common:
    """The items that any bundle may want: one for all who want the same.

    What nobody wants at present is spare: it stays as long as nothing else wants its room, and there is not too much of it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = count()
        self._items: dict[Part | Shared, Item] = {}
        self._spare: dict[Item, None] = {}
        """In the order in which they became it: the least recently used first."""
        self.spare_bytes = 0

    def item(self, wanted: Part | Shared) -> Item:
        """The one that there is already, or a new one."""
        item = self._items.get(wanted)
        if item is None:
            folder = self._folder / f"common-{next(self._names)}"
            item = _made(wanted.uri, folder, 0, _Places())
            if item.state is State.WAITING:
                item.common, item.folder = wanted, folder
                self._items[wanted] = item
        elif item in self._spare:
            self._take(item)
        return item

    def keep(self, item: Item) -> None:
        """Nobody wants it at present."""
        self._spare[item] = None
        self.spare_bytes += item.held

    def forget(self, item: Item) -> None:
        """Whoever wants the same from now on gets another one."""
        if item in self._spare:
            self._take(item)
        if item.common is not None and self._items.get(item.common) is item:
            del self._items[item.common]

    @property
    def overfull(self) -> bool:
        """There are more spare items than are worth their place in memory."""
        return len(self._spare) > SPARE_ITEMS

    @property
    def least_recently_used(self) -> Item | None:
        """Of those that are spare."""
        return next(iter(self._spare), None)

    def _take(self, item: Item) -> None:
        del self._spare[item]
        self.spare_bytes -= item.held


class Queue:
    """The mini-batches of one bundle, and those of their items that are still to come."""

    def __init__(self, number: int, folder: Path, mini_batches: Iterable[Sequence[Wanted]], common: Common) -> None:
        self.number = number
        self.folder = folder
        self.asked = -1
        """The mini-batch that a slot waits for, or waited for last."""
        self.handed_out = 0
        self.used: set[Item] = set()
        """Of those that others may want, what was handed out."""
        self._common = common
        self.batches = [self._batch(position, wanted) for position, wanted in enumerate(mini_batches)]
        waiting = dict.fromkeys(item for batch in self.batches for item in batch.items if item.state is State.WAITING)
        self._fresh = deque(waiting)
        self._again = {item: None for item in waiting if item.failures}

    def _batch(self, position: int, wanted: Sequence[Wanted]) -> Batch:
        batch = Batch(self, position, self.folder / f"{position}")
        places = _Places()
        batch.items = [self._item(one, batch, number, places) for number, one in enumerate(wanted)]
        for item in dict.fromkeys(batch.items):
            item.batches.append(batch)
        return batch

    def _item(self, wanted: Wanted, batch: Batch, number: int, places: _Places) -> Item:
        match wanted:
            case NotStaged():
                return Item(wanted.item, None, "", State.FAILED, wanted)
            case str():
                return _made(wanted, batch.folder, number, places)
            case Part() | Shared():
                return self._common.item(wanted)

    @property
    def needed(self) -> Batch | None:
        """The mini-batch that a slot waits for. Even a complete one: until it is handed out, nobody takes its room."""
        if not 0 <= self.asked < len(self.batches):
            return None
        batch = self.batches[self.asked]
        return batch if batch.needed else None

    def ready(self, now: float) -> Item | None:
        """The item that should come next, if any may come now."""
        # Another bundle may have had it brought, or tried that.
        while self._fresh and (not self._fresh[0].awaited or self._fresh[0] in self._again):
            self._fresh.popleft()
        self._again = {item: None for item in self._again if item.awaited}
        may_come = [item for item in self._again if item.not_before <= now]
        if self._fresh:
            may_come.append(self._fresh[0])
        return min(may_come, key=lambda item: item.urgency, default=None)

    def put_back(self, item: Item) -> None:
        """It has to come once more."""
        self._again[item] = None


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


def local_path(name: str) -> str | None:
    """Of an item that is on this machine already; None for one that has to come."""
    if not is_remote(name):
        return name
    return name[len("file://") :] if name.lower().startswith("file://") else None


def _made(name: str, folder: Path, number: int, places: _Places) -> Item:
    if (path := local_path(name)) is not None:
        return Item(name, None, path, State.HERE)
    try:
        address = parse(name)
    except InputError as error:
        return Item(name, None, "", State.FAILED, NotStaged(name, str(error), True))
    path = unquote(address.path.partition("?")[0]) if address.protocol == "http" else address.path
    place = places.place(path, number)
    if place is None:
        text = f"{name} ends with {os.path.basename(path)!r}, which cannot be the name of a local file. Rename it"
        return Item(name, address, "", State.FAILED, NotStaged(name, text, True))
    return Item(name, address, str(folder / place))


def problem_of(name: str, trouble: Trouble, attempts: int, seconds: float, scratch: Path = Path()) -> NotStaged:
    """What is said of an item after its last attempt; secrets are still to be masked."""
    words = trouble.words
    permanent = True
    match trouble.cause:
        case Cause.MISSING:
            text = f"{name} is not there any more ({words}). It was when the run was planned"
        case Cause.FORBIDDEN | Cause.NO_CREDENTIALS:
            text = f"{name} may not be read: {words}. Check the credentials on the workers"
        case Cause.OTHER:
            text = f"{name} cannot be read: {words}"
        case Cause.LOCAL:
            permanent = False
            text = f"{name} cannot be kept in {scratch}: {words}. Free some space, or lower staging_limit"
        case Cause.REFUSED | Cause.UNKNOWN_HOST | Cause.SILENT | Cause.PASSING:
            permanent = False
            times = f"{attempts} attempts over {seconds:.0f} s" if attempts > 1 else "one attempt"
            text = f"{name} could not be read in {times}: {words}. Check the storage"
    return NotStaged(name, text, permanent)
