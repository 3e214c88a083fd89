"""Records of an input as mini-batches by the values of some columns: sorted on the workers, into files of their own.

    pieces ──▶ worker/sorting.sort_records ──▶ spills, and a sorted list of the keys of each
                      the lists are merged here, in little memory, which tells where each key's rows will stand
    mini-batches ◀── worker/sorting.join_spills ──▶ 00000.arrow, 00001.arrow, …

What comes of it depends on the records alone. The folder must be on a disk that the driver and all workers share.
"""

from __future__ import annotations

import heapq
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from distributed import Client

from daskscore.core.sorted_rows import SortedFile, Value, batch_rows, is_as_json, order_of
from daskscore.core.tables import FLOATS, INTEGERS, Format, Piece, Reading
from daskscore.driver.flight import SILENCE_SECONDS, Flight
from daskscore.errors import InternalError
from daskscore.inputs.stores import Stores
from daskscore.inputs.text_files import Opener
from daskscore.worker.nursery import Nursery
from daskscore.worker.sorting import (
    BAD,
    KEYS,
    SPILL_BYTES,
    SPILLS,
    TOKEN,
    Sorting,
    Spill,
    Stretch,
    join_spills,
    sort_records,
)

BAD_RECORDS = "bad_records.jsonl"
"""In the folder, where some were skipped or kept: a line for each with `file`, `row`, `place` and `reason`."""
READ_BYTES = 16 << 10
"""Of each list of keys at a time."""


@dataclass(frozen=True, slots=True)
class Shuffle:
    """One input that is to be sorted by its keys, and who does it."""

    client: Client
    reading: Reading
    keys: tuple[str, ...]
    folder: Path
    """New, and for nothing else."""
    opener: Opener
    number: int = 0
    """Of the input in the job."""
    stores: Stores | None = None
    interrupted: Callable[[], bool] = lambda: False
    silence_seconds: float = SILENCE_SECONDS
    """So long no task need be done."""
    part_bytes: int = SPILL_BYTES
    """About so large are shares of the work, and the files that come of it; a key is never divided."""

    def mini_batches(self, pieces: Iterable[Piece]) -> Iterator[tuple[dict[str, Value], list[Piece]]]:
        """Each key's records, in the order of the keys, missing ones last; to be read as `sorted_reading` says.

        The files are complete when the iterator has ended. If it does not get there, the folder is removed.
        """
        spills = self.folder / SPILLS
        _remove(self.folder)
        spills.mkdir(parents=True)
        keeper = Nursery(environment=os.environ, remove_at_end=[(str(spills), 0)])
        complete = False
        try:
            first = next(rest := iter(pieces), None)
            if first is not None:
                yield from self._sorted(first, chain([first], rest))
            complete = True
        finally:
            _remove(spills if complete else self.folder)
            keeper.close()

    def _sorted(self, first: Piece, pieces: Iterable[Piece]) -> Iterator[tuple[dict[str, Value], list[Piece]]]:
        token = secrets.token_hex(16)
        (self.folder / TOKEN).write_text(token)
        types = _types(first["file"], self.reading, self.opener)
        sorting = Sorting(str(self.folder), token, self.reading, self.keys, types, self.stores, self.part_bytes)
        with closing(self._flight()) as flight:
            for number, share in enumerate(_shares(pieces, self.reading, self.part_bytes)):
                flight.give(sort_records, sorting, number, share)
            answers = flight.finish()
        spills: list[Spill] = [spill for spills in answers for spill in spills]
        self._keep_bad_records(sorting, len(answers))
        if spills:
            with closing(self._flight()) as flight:
                yield from self._joined(sorting, spills, flight)

    def _joined(
        self, sorting: Sorting, spills: Sequence[Spill], flight: Flight
    ) -> Iterator[tuple[dict[str, Value], list[Piece]]]:
        row_bytes = sum(spill.bytes for spill in spills) / sum(spill.rows for spill in spills)
        volume = _Volume(0, [0] * len(spills))
        lists = (_keys_of(sorting.spills / f"{spill.name}{KEYS}", n) for n, spill in enumerate(spills))
        sent: list[int] = []
        for _, group in groupby(heapq.merge(*lists), key=itemgetter(0)):
            found = [(spill, values, rows) for _, spill, values, rows in group]
            rows = sum(rows for _, _, rows in found)
            if volume.rows and (volume.rows + rows) * row_bytes > self.part_bytes:
                sent.append(self._join(sorting, spills, volume, row_bytes, flight))
                volume = _Volume(volume.number + 1, volume.stops)
            file = SortedFile(str(self.folder / volume.name), batch_rows(row_bytes))
            yield (
                dict(zip(self.keys, found[0][1], strict=True)),
                [file.piece(volume.rows, rows, self.number)],
            )
            volume.add((spill, rows) for spill, _, rows in found)
        sent.append(self._join(sorting, spills, volume, row_bytes, flight))
        written = flight.finish()
        if written != sent:
            raise InternalError(f"records were lost while they were sorted: {written} in place of {sent}")

    def _join(
        self, sorting: Sorting, spills: Sequence[Spill], volume: _Volume, row_bytes: float, flight: Flight
    ) -> int:
        stretches = [
            Stretch(spills[number].name, start, volume.stops[number]) for number, start in sorted(volume.starts.items())
        ]
        flight.give(join_spills, sorting, volume.name, stretches, batch_rows(row_bytes), one_key=volume.keys == 1)
        return volume.rows

    def _flight(self) -> Flight:
        return Flight(self.client, self.interrupted, self.silence_seconds)

    def _keep_bad_records(self, sorting: Sorting, shares: int) -> None:
        paths = [sorting.spills / f"{number:06}{BAD}" for number in range(shares)]
        found = [path for path in paths if path.stat().st_size]
        if found:
            with (self.folder / BAD_RECORDS).open("wb") as target:
                for path in found:
                    with path.open("rb") as source:
                        shutil.copyfileobj(source, target)


class _Entry(NamedTuple):
    """A key of a spill; they are compared by the first two, which no two have in common."""

    order: tuple[tuple[int, Any], ...]
    spill: int
    values: list[Value]
    rows: int


@dataclass(slots=True)
class _Volume:
    """A file that is about to be written: some keys, and where their rows are."""

    number: int
    stops: list[int]
    """Of each spill: how many of its rows are in this file or those before."""
    starts: dict[int, int] = field(default_factory=dict)
    """Of each spill that has rows for it."""
    rows: int = 0
    keys: int = 0

    @property
    def name(self) -> str:
        return f"{self.number:05}.arrow"

    def add(self, key: Iterable[tuple[int, int]]) -> None:
        """One more key: how many rows each spill has of it."""
        self.keys += 1
        for spill, rows in key:
            self.starts.setdefault(spill, self.stops[spill])
            self.stops[spill] += rows
            self.rows += rows


def _types(file: str, reading: Reading, opener: Opener) -> bytes:
    """Those columns that have no dtype, with the types that the first file has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bare = [column for column in reading.stored if not column.dtype and not is_as_json(reading, column)]
    if not bare:
        return b""
    with opener(file) as opened:
        found = pq.read_schema(opened) if reading.format is Format.PARQUET else pa.ipc.open_file(opened).schema
    types = {column.name: found.field(column.name).type for column in bare}
    plain = {name: type.value_type if pa.types.is_dictionary(type) else type for name, type in types.items()}
    return bytes(pa.schema(plain).serialize())


def _shares(pieces: Iterable[Piece], reading: Reading, most: int) -> Iterator[list[Piece]]:
    """Consecutive pieces of about so many bytes. A file that must be read from its start is not divided."""
    numbers = (*INTEGERS, *FLOATS)
    row_bytes = sum(8 if column.dtype in numbers else 32 for column in reading.columns)
    share: list[Piece] = []
    gathered = 0
    for piece in pieces:
        continues = bool(share) and "decoded" in piece and share[-1]["file"] == piece["file"]
        if gathered >= most and not continues:
            yield share
            share, gathered = [], 0
        share.append(piece)
        start, stop = piece.get("bytes") or piece.get("decoded") or (0, 0)
        gathered += max(stop - start, piece["items"] * row_bytes)
    if share:
        yield share


def _keys_of(path: Path, spill: int) -> Iterator[_Entry]:
    """The keys of a spill in order; of many lists, few bytes are in memory and none is open."""
    offset = 0
    while True:
        with path.open("rb") as file:
            file.seek(offset)
            lines = file.readlines(READ_BYTES)
            offset = file.tell()
        if not lines:
            return
        for line in lines:
            values, rows = json.loads(line)
            yield _Entry(order_of(values), spill, values, rows)


def _remove(folder: Path) -> None:
    """A task that still writes there finds nothing any more: the name is gone at once."""
    gone = folder.with_name(f".{folder.name}-removed-{secrets.token_hex(4)}")
    try:
        folder.rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)
