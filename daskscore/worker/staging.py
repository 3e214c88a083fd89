"""Bring items of mini-batches, or parts of them, to local paths, several at a time and ahead of the scorer.

One `Stager` per worker, used by all its slots; one `Ahead` per bundle. Whatever changes here, changes on fsspec's event
loop, where the objects come in: so there is no lock, and no thread of our own. Who is first:

    1. the mini-batches that a slot waits for, in the order in which their bundles began
    2. those that come soonest in bundles that a slot works on
    3. the others

What several bundles want is brought once, at one path. It stays when its last bundle has ended, as others may follow.

Scratch space is bounded. What does not fit waits. What stays though nobody wants it goes for whatever may come, the
least recently used first. The first mini-batch that a slot waits for may also drop what was brought for later ones, and
one that is larger than the limit comes when nothing else is held. So there is always one that gets on. What one
mini-batch has used and others of its bundle will is not dropped for a bundle that began later: it would have to come
again for each of them.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from daskscore.errors import RunError
from daskscore.inputs.addresses import Address
from daskscore.inputs.patience import Patience
from daskscore.inputs.storages import Changed, Storage, event_loop
from daskscore.inputs.stores import Stores
from daskscore.inputs.troubles import Cause, Trouble, explain
from daskscore.worker.fetching import fetch, fetch_ranges
from daskscore.worker.items import Batch, Common, Item, NotStaged, Queue, State, Wanted, problem_of

T = TypeVar("T")

STAGING_LIMIT = 2 << 30
WORKERS = 16
PATIENCE = Patience()
GRACE_SECONDS = 30.0
"""How much longer than asked for the event loop may take for an answer."""


@dataclass(frozen=True, slots=True)
class Staged:
    """One mini-batch: what has come, and what has not."""

    position: int
    """In the bundle, from 0."""
    items: list[str]
    """What has come, by the names of the plan."""
    paths: list[str]
    """Where each of these is now."""
    failures: list[NotStaged]


class Stager:
    """Scratch space of one worker, and those who fill it."""

    def __init__(
        self,
        scratch: Path,
        stores: Stores,
        *,
        limit_bytes: int = STAGING_LIMIT,
        workers: int = WORKERS,
        patience: Patience = PATIENCE,
    ) -> None:
        self.scratch = scratch
        self.stores = stores
        self.limit_bytes = limit_bytes
        self.workers = workers
        self.patience = patience
        self.held_bytes = 0
        self.most_held_bytes = 0
        self.brought_items = 0
        self.brought_bytes = 0
        self.retries = 0
        self._loop = event_loop()
        self._numbers = count()
        self._names = count()
        self._queues: list[Queue] = []
        self._common = Common(scratch)
        self._coming: set[Item] = set()
        self._bug: BaseException | None = None
        self._closed = False

    def __enter__(self) -> Stager:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, mini_batches: Iterable[Sequence[Wanted]]) -> Ahead:
        """Start to bring the items of a bundle's mini-batches, in order; called in any thread, once per bundle."""
        # Here and not on the event loop, of which a generator may want something itself.
        bundle = list(mini_batches)
        return Ahead(self, self.ask(self._begin(bundle)))

    def close(self) -> None:
        """Stop everything and remove it; those who wait in `next` are told so."""
        self.ask(self._close())
        shutil.rmtree(self.scratch, ignore_errors=True)

    def ask(self, question: Coroutine[Any, Any, T], wait_seconds: float = 0.0) -> T:
        """The answer of a coroutine on the event loop, to another thread."""
        future = asyncio.run_coroutine_threadsafe(question, self._loop)
        try:
            return future.result(wait_seconds + GRACE_SECONDS)
        finally:
            future.cancel()

    # What follows is called on the event loop alone.

    async def _begin(self, mini_batches: Sequence[Sequence[Wanted]]) -> Queue:
        if self._closed:
            raise RunError("staging has ended")
        number = next(self._numbers)
        queue = Queue(number, self.scratch / f"{number}", mini_batches, self._common)
        self._queues.append(queue)
        self.fill()
        return queue

    async def _close(self) -> None:
        self._closed = True
        for queue in list(self._queues):
            await self.end(queue)
        if self._coming:  # for bundles that their slots are ending just now
            await asyncio.wait([item.task for item in self._coming if item.task is not None])
        while (item := self._common.least_recently_used) is not None:
            self._forget(item)

    async def end(self, queue: Queue) -> None:
        """Give back all that was brought for a bundle, but for what others want or may want."""
        if queue not in self._queues:
            return
        self._queues.remove(queue)
        for batch in queue.batches:
            self.drop(batch)
        items = [item for batch in queue.batches for item in batch.items if not item.batches]
        tasks = [item.task for item in items if item.task is not None]
        if tasks:
            await asyncio.wait(tasks)
        shutil.rmtree(queue.folder, ignore_errors=True)
        self.fill()

    def drop(self, batch: Batch) -> None:
        """Nobody needs a mini-batch any more."""
        if batch.over:
            return
        batch.over = True
        batch.changed.set()
        for item in dict.fromkeys(batch.items):
            item.batches.remove(batch)
            if not item.batches:
                self._unwanted(item)
        shutil.rmtree(batch.folder, ignore_errors=True)

    def _unwanted(self, item: Item) -> None:
        """Nobody wants an item any more, or at present."""
        if item.task is not None:
            item.task.cancel()  # looked at again when it has ended
        elif item.state is State.HERE and item.may_be_wanted_again:
            self._common.keep(item)
            if self._common.overfull and (oldest := self._common.least_recently_used) is not None:
                self._forget(oldest)
        else:
            self._forget(item)

    def _forget(self, item: Item) -> None:
        self._common.forget(item)
        self._release(item)
        if item.folder is not None:
            shutil.rmtree(item.folder, ignore_errors=True)

    def check(self) -> None:
        """Raises what is no trouble with a storage but a mistake of ours."""
        if self._bug is not None:
            raise self._bug

    def fill(self) -> None:
        """Let as many items come as may; called whenever something has changed."""
        while self._bug is None and len(self._coming) < self.workers and (item := self._pick()) is not None:
            item.state = State.COMING
            self._coming.add(item)
            item.task = self._loop.create_task(self._bring(item))
            # Not at the end of the task itself: one that is cancelled before it begins has none.
            item.task.add_done_callback(partial(self._ended, item))

    def _pick(self) -> Item | None:
        """The most urgent item, if it may come now."""
        now = self.patience.clock()
        ready = [item for queue in self._queues if (item := queue.ready(now)) is not None]
        first = self._first_needed()
        if first is not None and first.wants_room:
            ready = [item for item in ready if first in item.batches]
        item = min(ready, key=lambda item: item.urgency, default=None)
        return item if item is not None and self._seems_to_fit(item) else None

    def _seems_to_fit(self, item: Item) -> bool:
        """Before its size is known an item is taken for an average one; it is looked at again when it comes."""
        first = self._first_needed()
        if first in item.batches:
            self._make_room(first, self.held_bytes + item.size - self.limit_bytes)
            return self.held_bytes + item.size <= self.limit_bytes or self.held_bytes == first.held
        average = self.brought_bytes // self.brought_items if self.brought_items else 0
        coming = sum(max(one.size - one.held, 0 if one.held else average) for one in self._coming)
        held = self.held_bytes - self._common.spare_bytes
        return held + coming + (item.size or average) <= self.limit_bytes

    def _first_needed(self) -> Batch | None:
        """Of the mini-batches that a slot waits for, that of the bundle that began first."""
        return next((batch for queue in self._queues if (batch := queue.needed) is not None), None)

    async def _bring(self, item: Item) -> None:
        """One attempt."""
        assert item.address is not None
        if not item.failures:
            item.first_asked = self.patience.clock()
        try:
            storage = self.stores.opened(item.address)
            if storage is None:
                storage = await asyncio.to_thread(self.stores.storage, item.address)
            await self._fetch(storage, item.address, item)
        except _NoRoom as refused:
            item.size = refused.size
            self._put_back(item)
        except Changed as changed:
            self._give_up(item, NotStaged(item.name, str(changed), True))
        except Exception as error:  # a storage library may raise anything
            trouble = explain(error)
            if trouble is None:
                raise  # a mistake of ours
            self._failed(item, trouble)
        else:
            item.state = State.HERE
            item.failures = 0
            self.brought_items += 1
            self.brought_bytes += item.held

    async def _fetch(self, storage: Storage, address: Address, item: Item) -> None:
        target = Path(item.path)
        incoming = self.scratch / f"incoming-{next(self._names)}"
        silence = self.patience.silence_seconds
        reserve = partial(self._reserve, item)
        if item.part is None:
            await fetch(storage, address, target, incoming=incoming, silence_seconds=silence, reserve=reserve)
        else:
            ranges, size = item.part.ranges, item.part.size
            await fetch_ranges(
                storage, address, ranges, target, size=size, incoming=incoming, silence_seconds=silence, reserve=reserve
            )

    def _ended(self, item: Item, task: asyncio.Task[None]) -> None:
        """However it ended."""
        item.task = None
        self._coming.discard(item)
        if task.cancelled():
            self._put_back(item)
        elif (error := task.exception()) is not None:
            self._bug = error
            for batch in (batch for queue in self._queues for batch in queue.batches):
                batch.changed.set()
        if not item.batches:
            self._unwanted(item)
        for batch in (batch for batch in item.batches if batch.settled):
            batch.changed.set()
        self.fill()

    def _failed(self, item: Item, trouble: Trouble) -> None:
        item.failures += 1
        self._release(item)
        pause = None
        if trouble.may_pass or trouble.cause is Cause.LOCAL:
            pause = self.patience.pause(item.failures, item.first_asked)
        if pause is None:
            seconds = self.patience.clock() - item.first_asked
            self._give_up(item, problem_of(item.name, trouble, item.failures, seconds, self.scratch))
            return
        self.retries += 1
        item.not_before = self.patience.clock() + pause
        self._put_back(item)
        self._loop.call_later(pause, self.fill)

    def _give_up(self, item: Item, problem: NotStaged) -> None:
        self._release(item)
        self._common.forget(item)
        item.state = State.FAILED
        item.problem = problem._replace(message=self.stores.mask(problem.message))

    def _put_back(self, item: Item) -> None:
        """It has to come again, unless nobody wants it any more."""
        self._release(item)
        item.state = State.WAITING
        for queue in {batch.queue for batch in item.batches}:
            queue.put_back(item)

    def _release(self, item: Item) -> None:
        self._hold(item, -item.held)

    def _hold(self, item: Item, more: int) -> None:
        item.held += more
        self.held_bytes += more

    def _reserve(self, item: Item, size: int) -> None:
        """Room for an item that is `size` bytes long, as far as is known; raises _NoRoom."""
        more = size - item.held
        if more <= 0:
            return
        excess = self.held_bytes + more - self.limit_bytes
        first = self._first_needed()
        if first in item.batches:
            self._make_room(first, excess)
            if self.held_bytes + more > self.limit_bytes and self.held_bytes > first.held:
                raise _NoRoom(size)
        else:
            # What was refused to the first one is kept for it: or others might take it again and again.
            excess += sum(max(one.size - one.held, 0) for one in self._coming if first in one.batches)
            if excess > self._common.spare_bytes:
                raise _NoRoom(size)
            self._drop_spare(excess)
        self._hold(item, more)
        self.most_held_bytes = max(self.most_held_bytes, self.held_bytes)

    def _drop_spare(self, wanted: int) -> int:
        """Drop what nobody wants, the least recently used first; gives what is still wanted after that."""
        while wanted > 0 and (item := self._common.least_recently_used) is not None:
            wanted -= item.held
            self._forget(item)
        return wanted

    def _make_room(self, needed: Batch, wanted: int) -> None:
        """Drop what nobody wants, and then what was brought for later, the least urgent first; that comes again."""
        wanted = self._drop_spare(wanted)
        if wanted <= 0:
            return
        items = dict.fromkeys(item for queue in self._queues for batch in queue.batches for item in batch.items)
        others = [item for item in items if item.held and item.batches and item.may_make_room_for(needed)]
        for item in sorted(others, key=lambda item: item.urgency, reverse=True):
            if wanted <= 0:
                return
            wanted -= item.held
            if item.task is not None:
                item.task.cancel()
            else:
                Path(item.path).unlink(missing_ok=True)
                item.size = item.held
                self._put_back(item)


class _NoRoom(Exception):
    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class Ahead:
    """The mini-batches of one bundle on their way, for the slot that scores them. Closed by whoever began it."""

    def __init__(self, stager: Stager, queue: Queue) -> None:
        self._stager = stager
        self._queue = queue
        self._next = 0

    def __len__(self) -> int:
        return len(self._queue.batches)

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self, wait_seconds: float) -> Staged | None:
        """The next mini-batch, in order, once each of its items has come or cannot; None: not yet, ask again."""
        try:
            staged = self._stager.ask(self._staged(self._next, wait_seconds), wait_seconds)
        except TimeoutError:
            return None
        self._next += staged is not None
        return staged

    def done(self, position: int) -> None:
        """A mini-batch that was handed out is scored: its files may go."""
        with suppress(TimeoutError):  # it is done as soon as the event loop gets to it
            self._stager.ask(self._done(position))

    def close(self) -> None:
        """The bundle is over: all its files may go, and what is still to come stays away."""
        self._stager.ask(self._stager.end(self._queue))

    def missing(self) -> list[str]:
        """What the next mini-batch still waits for, for messages."""
        batches = self._queue.batches[self._next :][:1]
        return [item.name for batch in batches for item in batch.items if not item.settled]

    async def _staged(self, position: int, wait_seconds: float) -> Staged | None:
        """May be asked again: an answer that came too late for the one who asked is not lost."""
        batch = self._queue.batches[position]
        self._queue.asked = position
        try:
            async with asyncio.timeout(wait_seconds):
                while not self._is_there(batch):
                    batch.changed.clear()
                    self._stager.fill()
                    await batch.changed.wait()
        except TimeoutError:
            return None
        batch.handed_out = True
        self._queue.handed_out = position + 1
        self._queue.used.update(item for item in batch.items if item.common is not None)
        self._stager.fill()
        here = [item for item in batch.items if item.state is State.HERE]
        return Staged(
            position=position,
            items=[item.name for item in here],
            paths=[item.path for item in here],
            failures=[item.problem for item in batch.items if item.problem is not None],
        )

    def _is_there(self, batch: Batch) -> bool:
        self._stager.check()
        if batch.over:
            raise RunError("staging has ended")
        return batch.settled

    async def _done(self, position: int) -> None:
        self._stager.drop(self._queue.batches[position])
        self._stager.fill()
