"""A line of the plan as what `run()` is given, and what of it could not be read."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from daskscore.core.model import Kind
from daskscore.core.planning import Content, name_of_rows, records_wanted, source_of
from daskscore.core.tables import OnBadRecord, Piece, Reading
from daskscore.scorer.context import MiniBatch

if TYPE_CHECKING:
    from daskscore.scorer.tables import BadRecord, Reader, Table


class CannotRead(Exception):
    """Nothing of a mini-batch can be read, which is no fault of the script."""


class Rows(NamedTuple):
    """Records of one file that stand one after the other; `stop` is the first that is none of them."""

    file: str
    start: int
    stop: int


@dataclass(slots=True)
class Given:
    """A mini-batch: what `run()` gets, and the items that it does not get."""

    mini_batch: Any
    items: int
    """All of them."""
    present: int
    """Those that `run()` should give results for."""
    lost: list[dict[str, Any]] = field(default_factory=list)
    """Those that could not be read, as the worker is told of them."""
    keys: dict[str, Any] = field(default_factory=dict)
    rows: list[Rows] = field(default_factory=list)
    """Of a table: the records in `mini_batch`, in order."""
    names: list[str] = field(default_factory=list)
    """Of files that were brought here: what the plan calls those in `mini_batch`."""
    notes: list[str] = field(default_factory=list)
    """What somebody should read who wonders about a result."""

    def refused(self, position: int, reason: str) -> dict[str, Any]:
        """The item at that place, for which the script gives no result, as the worker is told of it."""
        if isinstance(self.mini_batch, MiniBatch):
            return _failed(self.mini_batch[position], Kind.RAISE, reason)
        for rows in self.rows:
            if position < rows.stop - rows.start:
                return _failed(name_of_rows(rows.file, rows.start + position, 1), Kind.RAISE, reason)
            position -= rows.stop - rows.start
        raise IndexError(position)

    def after(self, number: int, message: str) -> list[dict[str, Any]]:
        """The items without the first `number`, as the worker is told of them."""
        if isinstance(self.mini_batch, MiniBatch):
            return [_failed(item, Kind.BAD_OUTPUT, message) for item in self.mini_batch[number:]]
        found = []
        for rows in self.rows:
            start = min(rows.start + number, rows.stop)
            number -= start - rows.start
            if start < rows.stop:
                name = name_of_rows(rows.file, start, rows.stop - start)
                found.append(_failed(name, Kind.BAD_OUTPUT, message, items=rows.stop - start))
        return found


class Loader(Protocol):
    """One sort of mini-batches."""

    reads: bool
    """It takes its time, which is not that of `run()`."""

    def load(self, index: int, line: str) -> Given:
        """Raises CannotRead where nothing is left to give."""
        ...


def loader(content: Content, readings: Sequence[str]) -> Loader:
    """For the mini-batches of a job."""
    match content:
        case Content.RANK:
            return _Rank()
        case Content.FILES:
            return _Files()
        case Content.WORDS:
            return _Words()
        case Content.RECORDS:
            return _Records([Reading.from_json(text) for text in readings])
        case Content.OBJECTS:
            return _Objects()


class _Rank:
    reads = False

    def load(self, index: int, line: str) -> Given:
        return Given(MiniBatch([], index), items=1, present=0)


class _Words:
    reads = False

    def load(self, index: int, line: str) -> Given:
        items, keys, _ = _items_of(line)
        return Given(MiniBatch(items, index), len(items), len(items), keys=keys)


class _Files:
    reads = False

    def load(self, index: int, line: str) -> Given:
        items, keys, names = _items_of(line)
        there: list[str] = []
        called: list[str] = []
        lost: list[dict[str, Any]] = []
        for number, item in enumerate(items):
            if os.access(item, os.R_OK):
                there.append(item)
                called += names[number : number + 1]
            else:
                lost.append(_failed(item, Kind.INPUT, _cannot_read(item)))
        if lost and not there:
            raise CannotRead(lost[0]["message"])
        return Given(MiniBatch(there, index), len(items), len(there), lost, keys, names=called)


class _Records:
    reads = True

    def __init__(self, readings: list[Reading]) -> None:
        self.readings = readings
        self.reader: Reader | None = None

    def load(self, index: int, line: str) -> Given:
        from daskscore.scorer import tables  # here, because it loads pandas

        if self.reader is None:
            self.reader = tables.Reader(self.readings)
        found = json.loads(line)
        pieces: list[Piece] = found["pieces"]
        frames = []
        wanted = records_wanted(found)
        given = Given(None, items=sum(stop - start for start, stop in wanted), present=0, keys=found.get("keys", {}))
        staged = found.get("at")
        for number, piece in enumerate(pieces):
            path, first_byte = staged[number] if staged is not None else ("", 0)
            try:
                table = self.reader.read(piece, path, first_byte)
            except tables.Unreadable as error:
                raise CannotRead(str(error)) from error
            reading = self.readings[piece["input"]]
            skipped = reading.on_bad_record is OnBadRecord.SKIP
            start, stop = wanted[number]
            if stop - start < piece["items"]:
                table = _some_of(table, piece["row"], start, stop, reading)
            frames.append(table.frame)
            if skipped:
                given.lost += [_failed(bad.place, Kind.INPUT, bad.reason) for bad in table.bad]
            else:
                given.notes += [f"{bad.place}: {bad.reason}; it is kept" for bad in table.bad]
            given.rows += _rows_left(piece, given.keys, table.bad if skipped else (), start, stop)
        given.mini_batch = frames[0] if len(frames) == 1 else tables.joined(frames)
        given.present = len(given.mini_batch)
        if given.lost and not given.present:
            raise CannotRead(f"{given.lost[0]['item']}: {given.lost[0]['message']} (and so are all its records)")
        return given


class _Objects:
    reads = True

    def load(self, index: int, line: str) -> Given:
        told = json.loads(line)
        try:
            with open(told["pickle"], "rb") as file:
                found = pickle.load(file)
        except Exception as error:
            raise CannotRead(
                f"the mini-batch cannot be handed to the script: {type(error).__name__}: {error}"
            ) from error
        mini_batch = MiniBatch(found, index) if type(found) is list else found
        # Whoever gets the results sees how many they are: none is missing because there are fewer.
        return Given(mini_batch, told["items"], present=0, keys=told.get("keys", {}))


def _some_of(table: Table, row: int, start: int, stop: int, reading: Reading) -> Table:
    """The records of a piece from one to another; bad ones that were skipped are not in its frame."""
    within = [bad for bad in table.bad if start <= bad.row - row < stop]
    first, last = start, stop
    if reading.on_bad_record is OnBadRecord.SKIP:
        first -= sum(bad.row - row < start for bad in table.bad)
        last = first + stop - start - len(within)
    frame = table.frame.iloc[first:last]
    return table._replace(frame=frame.copy() if reading.index else frame.reset_index(drop=True), bad=within)


def _rows_left(piece: Piece, keys: dict[str, Any], bad: Iterable[BadRecord], first: int, last: int) -> Iterator[Rows]:
    """The records of a piece, from one to another, without the bad ones."""
    source, row = source_of(piece, keys)
    start, stop = row + first, row + last
    for record in sorted(bad):
        if record.row > start:
            yield Rows(source, start, record.row)
        start = record.row + 1
    if start < stop:
        yield Rows(source, start, stop)


def _items_of(line: str) -> tuple[list[str], dict[str, Any], list[str]]:
    """The items, what they have in common, and what the plan calls them."""
    found = json.loads(line)
    if isinstance(found, list):
        return found, {}, []
    return found["files"], found.get("keys", {}), found.get("names", [])


def _failed(item: str, kind: Kind, message: str, items: int = 1) -> dict[str, Any]:
    told = {"item": item, "kind": kind, "message": message}
    return told if items == 1 else {**told, "items": items}


def _cannot_read(item: str) -> str:
    try:
        os.stat(item)
    except OSError as error:
        return f"{item} cannot be read: {error.strerror}. It was there when the run was planned"
    return f"{item} cannot be read: Permission denied. Give this user the right to read it"
