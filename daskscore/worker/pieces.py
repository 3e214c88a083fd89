"""What must be brought of a table's file, so that the scorer can read a piece of it here. Called in the worker."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

from daskscore.core.tables import Format, Piece, Reading
from daskscore.errors import InputError
from daskscore.inputs.addresses import Address, parse
from daskscore.inputs.parquet_ranges import TAIL_BYTES, Footer, footer_of, joined, length_of, ranges_in
from daskscore.inputs.patience import Patience
from daskscore.inputs.storages import Changed, Range, Storage, event_loop
from daskscore.inputs.stores import Stores
from daskscore.inputs.troubles import explain
from daskscore.worker.fetching import read_range
from daskscore.worker.items import NotStaged, Part, Shared, Wanted, local_path, problem_of
from daskscore.worker.staging import PATIENCE

KEPT_FOOTERS = 32
READERS = 8
"""Footers that are read at a time."""

FOOTER_BYTES = 64 << 10
"""What is read of a file's end at first; most footers are shorter."""

GAP_BYTES = 256 << 10
"""A shorter stretch between two that are wanted comes with them: it costs less than one more request."""

RUN_BYTES = 64 << 20
"""No more than this is brought at once because pieces have a row group in common."""


class CannotPlan(Exception):
    """It is not known what of its file a piece needs; the text says why and what to do."""

    def __init__(self, problem: NotStaged) -> None:
        super().__init__(problem.message)
        self.permanent = problem.permanent


class PieceParts:
    """One per worker, for all its slots. What it keeps of Parquet files changes on fsspec's event loop alone."""

    def __init__(self, stores: Stores, *, patience: Patience = PATIENCE, kept: int = KEPT_FOOTERS) -> None:
        self._stores = stores
        self._patience = patience
        self._most = kept
        self._kept: OrderedDict[str, Footer] = OrderedDict()
        self._coming: dict[str, asyncio.Task[Footer | NotStaged | None]] = {}
        self._readers = asyncio.Semaphore(READERS)

    def wanted(self, piece: Piece, reading: Reading) -> str | Part | Shared:
        """Of one piece; raises CannotPlan. For those of a bundle `all_wanted` is faster, and brings less."""
        (found,) = self.all_wanted([(piece, reading)])
        if isinstance(found, NotStaged):
            raise CannotPlan(found)
        return found

    def all_wanted(self, pieces: Iterable[tuple[Piece, Reading]]) -> list[Wanted]:
        """Of a bundle's pieces, in their order: for `Stager.begin`. Called in any thread but that of the event loop."""
        several = list(pieces)
        footers = self._footers_of(
            dict.fromkeys(piece["file"] for piece, reading in several if _is_far(piece, reading))
        )
        found: list[Wanted | _Run] = []
        run: _Run | None = None
        for piece, reading in several:
            footer = footers.get(piece["file"]) if _is_far(piece, reading) else None
            if not isinstance(footer, Footer):
                found.append(footer or self._of_text(piece))
                continue
            if run is None or not run.takes(piece, reading):
                first, last = piece["groups"]
                run = _Run(piece["file"], footer, reading, first, last)
            found.append(run)
        return [one.part if isinstance(one, _Run) else one for one in found]

    def _of_text(self, piece: Piece) -> Wanted:
        """Of a file without a footer, or of one that comes from a server that knows nothing of ranges."""
        file = piece["file"]
        if (path := local_path(file)) is not None:
            return path
        if "bytes" in piece and self._cuts(file):
            start, stop = piece["bytes"]
            return Part(file, ((start, stop),))
        return Shared(file)

    def _cuts(self, uri: str) -> bool:
        try:
            address = parse(uri)
        except InputError:
            return True  # whoever brings it says what is wrong with it
        storage = self._stores.opened(address)
        return storage is None or storage.cuts(address)

    def _footers_of(self, uris: Iterable[str]) -> dict[str, Footer | NotStaged | None]:
        async def ask() -> dict[str, Footer | NotStaged | None]:
            names = list(uris)
            return dict(zip(names, await asyncio.gather(*map(self._footer, names)), strict=True))

        future = asyncio.run_coroutine_threadsafe(ask(), event_loop())
        try:
            return future.result()  # each question to a storage has a deadline, and there are only so many
        finally:
            future.cancel()

    # What follows is called on the event loop alone.

    async def _footer(self, uri: str) -> Footer | NotStaged | None:
        """None: the server knows nothing of ranges. Slots that want the same at the same time ask once."""
        if (kept := self._kept.get(uri)) is not None:
            self._kept.move_to_end(uri)
            return kept
        coming = self._coming.get(uri)
        if coming is None:
            coming = self._coming[uri] = asyncio.get_running_loop().create_task(self._patiently(uri))
            coming.add_done_callback(lambda _: self._coming.pop(uri))
        return await asyncio.shield(coming)

    async def _patiently(self, uri: str) -> Footer | NotStaged | None:
        began = self._patience.clock()
        failures = 0
        while True:
            try:
                async with self._readers:
                    footer = await self._read(parse(uri))
                break
            except Changed as changed:
                return NotStaged(uri, self._stores.mask(str(changed)), True)
            except Exception as error:  # a storage library may raise anything
                trouble = explain(error)
                if trouble is None:
                    raise  # a mistake of ours
            failures += 1
            pause = self._patience.pause(failures, began) if trouble.may_pass else None
            if pause is None:
                problem = problem_of(uri, trouble, failures, self._patience.clock() - began)
                return problem._replace(message=self._stores.mask(problem.message))
            await asyncio.sleep(pause)
        if footer is not None:
            self._kept[uri] = footer
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return footer

    async def _read(self, address: Address) -> Footer | None:
        import pyarrow as pa  # here, because it is needed for tables alone

        storage = self._stores.opened(address)
        if storage is None:
            storage = await asyncio.to_thread(self._stores.storage, address)
        if not storage.cuts(address):
            return None
        _, size = await self._range(storage, address, (0, 4))
        if size is None or not storage.cuts(address):
            return None
        start = max(size - FOOTER_BYTES, 0)
        tail, _ = await self._range(storage, address, (start, size))
        if len(tail) > TAIL_BYTES and tail.endswith(b"PAR1") and len(tail) < (length := length_of(tail)) <= size:
            rest, _ = await self._range(storage, address, (size - length, start))
            tail = rest + tail
        try:
            return await asyncio.to_thread(footer_of, BytesIO(tail), size)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise Changed(address.uri, f"it cannot be read as a Parquet file: {error}") from None

    async def _range(self, storage: Storage, address: Address, wanted: Range) -> tuple[bytes, int | None]:
        return await read_range(storage, address, wanted, silence_seconds=self._patience.silence_seconds)


def first_byte_of(wanted: str | Part | Shared) -> int:
    """Where in the object the local file begins that was brought for it, as `Reader.read` wants to know it."""
    return wanted.ranges[0][0] if isinstance(wanted, Part) and wanted.size is None else 0


@dataclass
class _Run:
    """Pieces of a Parquet file that follow each other and have row groups in common: these are brought once."""

    file: str
    footer: Footer
    reading: Reading
    first: int
    last: int
    """Row groups."""

    def takes(self, piece: Piece, reading: Reading) -> bool:
        """Whether another piece is one of them, or is made one."""
        first, last = piece["groups"]
        if piece["file"] != self.file or reading is not self.reading or not self.first <= first <= self.last:
            return False
        if last <= self.last:
            return True
        if last < self.footer.metadata.num_row_groups and _bytes_in(self._ranges(last)) <= RUN_BYTES:
            self.last = last
            return True
        return False

    @cached_property
    def part(self) -> Part | NotStaged:
        """Known when no other piece comes."""
        size = self.footer.size
        if self.last < self.footer.metadata.num_row_groups:
            ranges = self._ranges(self.last)
            if ranges[0][0] >= 0 and ranges[-1][1] <= size:
                return Part(self.file, tuple(ranges), size)
        return NotStaged(self.file, str(Changed(self.file, "its row groups are others")), True)

    def _ranges(self, last: int) -> list[Range]:
        return joined(ranges_in(self.footer, self.reading, self.first, last), GAP_BYTES)


def _is_far(piece: Piece, reading: Reading) -> bool:
    """Only the end of its file says what of it the piece needs."""
    return reading.format is Format.PARQUET and local_path(piece["file"]) is None


def _bytes_in(ranges: Iterable[Range]) -> int:
    return sum(stop - start for start, stop in ranges)
