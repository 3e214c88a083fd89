"""The run as its journal tells it: what is done, what was given up, and where the rows stand."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from daskscore.core.isolation import Divided
from daskscore.core.ledger import GivenUp, Settlement
from daskscore.core.model import Failure, Kind, Segment, Status
from daskscore.core.planning import Named
from daskscore.core.thresholds import Tally
from daskscore.driver import failures as failing
from daskscore.driver import journal
from daskscore.driver.second_chances import attempts_at, divided_in

SEGMENT = 5
"""Numbers that are kept of a segment."""

ISOLATED = 4

ROWS_AT_HAND = 4096

RECORDS_AT_HAND = 4
"""Of the journal, while failed items are named: neighbours in the plan mostly stand in the same few records."""


class ItemsIn(Protocol):
    """What names the items of a mini-batch, or those from one to another."""

    def __call__(self, index: int, start: int = 0, stop: int | None = None, /) -> Sequence[Named]: ...


@dataclass(slots=True)
class Account:
    """Read back from a journal, once at a resume and once at the end; a few bytes per committed segment."""

    path: Path
    tally: Tally
    rows: int = 0
    attempts: int = 0
    share_attempts: int = 0
    lost_attempts: int = 0
    seconds: float = 0.0
    status: Status | None = None
    first_trouble: tuple[str, str] | None = None
    """What went wrong first in the script (a traceback, if there was one), and its log."""
    headers: list[tuple[int, str]] = field(default_factory=list)
    retrying: bool = False
    """What had failed was given another chance, and that has not come to its end."""
    divided: dict[int, Divided] = field(default_factory=dict)
    """By index, mini-batches of which a retry has not yet settled the items that had failed."""
    _attempts_before: dict[int, int] = field(default_factory=dict)
    """At mini-batches that were tried again as a whole, by index."""
    _searched_before: int = 0
    """Attempts at shares before the last retry."""
    _seconds_before: float = 0.0
    """Of the sessions before the present one."""
    _parts: dict[str, int] = field(default_factory=dict)
    _segments: array[int] = field(default_factory=lambda: array("q"))
    _given_up: array[int] = field(default_factory=lambda: array("q"))
    """Index and place in the journal, one after the other."""
    _item_failures: array[int] = field(default_factory=lambda: array("q"))
    """The same, of mini-batches that have rows but not for all of their items."""
    _isolated: array[int] = field(default_factory=lambda: array("q"))
    """Of those that were divided, and have failed items: index, items, failed items, rows."""

    @property
    def has_failures(self) -> bool:
        """Some items have no result, and could be scored again."""
        return bool(self._given_up or self._item_failures)

    @property
    def searched(self) -> int:
        """Attempts at shares that count for isolation_attempts: a retry has as many again."""
        return self.share_attempts - self._searched_before

    def settled(self) -> list[tuple[int, int]]:
        """(first, count) of what needs no further attempt, in plan order, neighbours joined."""
        given_up = _by_index(self._given_up, width=2)
        given_up[:, 1] = 1
        scored = _by_index(self._segments, width=SEGMENT)[:, :2]
        spans = np.concatenate([scored[scored[:, 1] > 0], given_up])
        spans = spans[np.argsort(spans[:, 0], kind="stable")]
        stops = spans.sum(axis=1)
        begins = np.append(True, spans[1:, 0] != stops[:-1])[: len(spans)]
        ends = np.append(begins[1:], True)[: len(spans)]
        firsts = spans[begins, 0]
        return list(zip(firsts.tolist(), (stops[ends] - firsts).tolist(), strict=True))

    def pieces(self) -> Iterator[tuple[str, int, int]]:
        """(part, offset, length) of all rows, in plan order, neighbours joined."""
        names = list(self._parts)
        part, offset, length = -1, 0, 0
        for _, _, next_part, next_offset, next_length in _rows(_by_index(self._segments, width=SEGMENT)):
            if next_part == part and next_offset == offset + length:
                length += next_length
                continue
            if length:
                yield names[part], offset, length
            part, offset, length = next_part, next_offset, next_length
        if length:
            yield names[part], offset, length

    def failed_items(self, items_in: ItemsIn) -> Iterator[dict[str, Any]]:
        """The lines of failed_items.jsonl, in plan order."""
        failures_at = lru_cache(maxsize=RECORDS_AT_HAND)(partial(_failures_at, self.path))
        for index, place in _rows(_by_index(self._item_failures + self._given_up, width=2)):
            failures = failures_at(place)[index]
            before = self._attempts_before.get(index, 0)
            for item in failures.items:
                yield _line(Named(item["item"], item.get("items", 1)), index, before + item["attempts"], item)
            for given_up in failures.given_up:
                for named in items_in(index, *given_up.get("share", ())):
                    yield _line(named, index, before + given_up["attempts"], given_up["failure"])

    def forget_failures(self, count_items: Callable[[int], int]) -> None:
        """A failed run that is resumed gives what it gave up a new chance."""
        indices = self._given_up[::2]
        self.tally = self.tally.with_given_up(-sum(map(count_items, indices)), -len(indices))
        self._given_up = array("q")
        self._forget_isolated()

    def _forget_isolated(self) -> None:
        """They are scored anew as a whole."""
        table = _by_index(self._isolated, width=ISOLATED)
        again = table[:, 0]
        self.tally = self.tally.without(len(again), items=int(table[:, 1].sum()), failed_items=int(table[:, 2].sum()))
        self.rows -= int(table[:, 3].sum())
        self._segments = _without(self._segments, again, width=SEGMENT)
        self._item_failures = _without(self._item_failures, again, width=2)
        self.headers = [header for header in self.headers if header[0] not in again]
        self._isolated = array("q")

    def _retry(self, record: journal.Record, count_items: Callable[[int], int]) -> None:
        """All that has failed gets a new chance; rows that became the output stand in one part now."""
        self.retrying = True
        self._searched_before = self.share_attempts
        if record["part"] is not None:
            self._move(record["part"], record["header_bytes"])
        again = self._failed_with_rows(shares=record["shares"])
        record_at = lru_cache(maxsize=RECORDS_AT_HAND)(partial(journal.read_at, self.path))
        for index, place in _rows(_by_index(self._given_up, width=2)):
            self._tried_before(index, record_at(place))
            self.tally = self.tally.with_given_up(-count_items(index), -1)
        self._segments = _without(self._segments, np.array(sorted(again), dtype=np.int64), width=SEGMENT)
        self.headers = [header for header in self.headers if header[0] not in again]
        self._given_up, self._item_failures, self._isolated = array("q"), array("q"), array("q")

    def _move(self, part: str, header_bytes: int) -> None:
        """All segments, in plan order, to one part."""
        table = _by_index(self._segments, width=SEGMENT)
        table[:, 2] = 0
        table[:, 3] = header_bytes + np.cumsum(table[:, 4]) - table[:, 4]
        self._segments = array("q", table.tobytes())
        self._parts = {part: 0}

    def _failed_with_rows(self, *, shares: bool) -> set[int]:
        """They count no more. With `shares`, rows of those that were divided stay at hand, for their other items."""
        names, table = list(self._parts), _by_index(self._segments, width=SEGMENT)
        isolated = set(self._isolated[::ISOLATED])
        record_at = lru_cache(maxsize=RECORDS_AT_HAND)(partial(journal.read_at, self.path))
        found = set()
        for index, place in _rows(_by_index(self._item_failures, width=2)):
            record = record_at(place)
            start, stop = np.searchsorted(table[:, 0], [index, index + 1])
            own = [
                Segment(*values)._replace(part=names[part], offset=offset)
                for values, (_, _, part, offset, _) in zip(
                    (values for values in record["segments"] if values[0] == index),
                    table[start:stop].tolist(),
                    strict=True,
                )
            ]
            if shares and (divided := divided_in(record, index, own)):
                self.divided[index] = divided
            else:
                self._tried_before(index, record)
            self.tally = self.tally.without(
                1, items=own[0].items, failed_items=own[0].failed_items, short=index not in isolated
            )
            self.rows -= sum(segment.rows for segment in own)
            found.add(index)
        return found

    def _tried_before(self, index: int, record: journal.Record) -> None:
        self._attempts_before[index] = self._attempts_before.get(index, 0) + attempts_at(record, index)

    def _add(
        self, place: int, record: journal.Record, count_items: Callable[[int], int], sizes: dict[str, int] | None
    ) -> None:
        segments = [Segment(*values) for values in record["segments"]]
        missing = {segment.first for segment in segments if sizes is not None and _is_missing(segment, sizes)}
        for segment in segments:
            if segment.first not in missing:
                self.divided.pop(segment.first, None)
                part = self._parts.setdefault(segment.part, len(self._parts))
                self._segments.extend((segment.first, segment.size, part, segment.offset, segment.length))
                self._count(segment)
        isolated = {given_up["failure"]["index"] for given_up in record["given_up"] if "share" in given_up} - missing
        for index in sorted({item["index"] for item in record["item_failures"]} - missing | isolated):
            self._item_failures.extend((index, place))
        for index in sorted(isolated):
            own = [segment for segment in segments if segment.first == index]
            counts = (own[0].items, own[0].failed_items, sum(segment.rows for segment in own))
            self._isolated.extend((index, *counts))
        self.tally = self.tally.with_isolated(len(isolated))
        for given_up in record["given_up"]:
            if "share" not in given_up:
                index = given_up["failure"]["index"]
                self._given_up.extend((index, place))
                self.tally = self.tally.with_given_up(count_items(index))
        self.attempts += record["attempts"]
        self.share_attempts += record.get("share_attempts", 0)
        self.lost_attempts += record["lost_attempts"]
        self.seconds = self._seconds_before + record["seconds"]

    def _count(self, segment: Segment) -> None:
        self.tally = self.tally.with_segment(segment)
        self.rows += segment.rows
        if segment.header is not None:
            self.headers.append((segment.first, segment.header))


def _is_missing(segment: Segment, sizes: dict[str, int]) -> bool:
    """The rows did not reach the disk, or are gone."""
    return segment.length > 0 and sizes.get(segment.part, 0) < segment.offset + segment.length


Table = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def _by_index(values: array[int], *, width: int) -> Table:
    """Rows of `width` numbers, in the order of the first."""
    table = np.array(values, dtype=np.int64).reshape(-1, width)
    return table[np.argsort(table[:, 0], kind="stable")]


def _without(values: array[int], indices: np.ndarray[tuple[int], np.dtype[np.int64]], *, width: int) -> array[int]:
    """Those of other mini-batches."""
    table = np.array(values, dtype=np.int64).reshape(-1, width)
    return array("q", table[~np.isin(table[:, 0], indices)].tobytes())


def _rows(table: Table) -> Iterator[list[int]]:
    """Row by row, without a Python object for each number of the table at the same time."""
    for start in range(0, len(table), ROWS_AT_HAND):
        yield from table[start : start + ROWS_AT_HAND].tolist()


def load(
    path: Path, *, parts: Path, items: int, mini_batches: int, count_items: Callable[[int], int], lost: int = 0
) -> Account:
    """The account of all sessions so far; rows that did not reach the disk count as not scored.

    `lost` are items that failed before there were mini-batches, and that `items` does not count.
    """
    sizes = {part.name: part.stat().st_size for part in parts.iterdir()} if parts.is_dir() else {}
    nothing = Tally(total_items=items + lost, total_mini_batches=mini_batches, failed_items=lost)
    account = _read(path, nothing, count_items, sizes)
    if account.status is Status.COMPLETED:
        account = _read(path, nothing, count_items, None)  # its parts became the output and are gone
    return account


def _read(
    path: Path,
    nothing: Tally,
    count_items: Callable[[int], int],
    sizes: dict[str, int] | None,
    moved: int = -1,
    sizes_before: dict[str, int] | None = None,
) -> Account:
    """Rows that were committed before `moved` stand in one part since."""
    account = Account(path, nothing)
    for place, record in journal.read(path):
        match record["record"]:
            case "commit":
                account._add(place, record, count_items, sizes_before if place < moved else sizes)
            case "retry":
                part = record["part"]
                if part is not None and place > moved and sizes is not None:
                    whole = sizes.get(part, 0) >= record["bytes"]
                    return _read(path, nothing, count_items, sizes, place, None if whole else {})
                account.status = account.first_trouble = None
                account._seconds_before = account.seconds
                account._retry(record, count_items)
            case "trouble":
                account.first_trouble = (record["traceback"], record["log"])
            case "resume":
                account.status = account.first_trouble = None
                account._seconds_before = account.seconds
                if record["forget_failures"]:
                    account.forget_failures(count_items)
            case "end":
                account.status = Status(record["status"])
                account.retrying &= account.status is Status.CANCELED
    return account


@dataclass(slots=True)
class _Failures:
    """What one record says about one mini-batch."""

    items: list[dict[str, Any]] = field(default_factory=list)
    given_up: list[dict[str, Any]] = field(default_factory=list)


def _failures_at(path: Path, place: int) -> dict[int, _Failures]:
    record = journal.read_at(path, place)
    found: defaultdict[int, _Failures] = defaultdict(_Failures)
    for item in record["item_failures"]:
        found[item["index"]].items.append(item)
    for given_up in record["given_up"]:
        failure = failing.with_frames(given_up["failure"], record)
        found[failure["index"]].given_up.append({**given_up, "failure": failure})
    return found


def commit_record(settlement: Settlement, *, seconds: float) -> journal.Record:
    """A settlement as it stands in the journal."""
    frames = failing.Frames()
    given_up = [_given_up(final, frames) for final in settlement.given_up]
    return {
        "record": "commit",
        "segments": [list(segment) for segment in settlement.segments],
        "item_failures": [
            {
                "index": f.index,
                "item": f.item,
                "items": f.items,
                "attempts": f.attempts,
                "kind": f.kind,
                "message": f.message,
                "log": f.log,
                **failing.kept(f, frames),
            }
            for f in settlement.item_failures
        ],
        "given_up": given_up,
        **({"frames": texts} if (texts := frames.texts) else {}),
        "attempts": settlement.attempts,
        **({"share_attempts": settlement.share_attempts} if settlement.share_attempts else {}),
        **({"shares": [list(share) for share in settlement.shares]} if settlement.shares is not None else {}),
        "lost_attempts": settlement.lost_attempts,
        "seconds": round(seconds, 3),
    }


def _given_up(final: GivenUp, frames: failing.Frames) -> dict[str, Any]:
    failure: Failure = final.failure
    return {
        "attempts": final.attempts,
        **({"share": list(final.share)} if final.share is not None else {}),
        "failure": {
            "index": failure.index,
            "kind": failure.kind,
            "message": failure.message,
            "log": failure.log,
            **failing.kept(failure, frames),
        },
    }


def _line(named: Named, index: int, attempts: int, failure: dict[str, Any]) -> dict[str, Any]:
    return {
        "item": named.name,
        **({"items": named.items} if named.items > 1 else {}),
        "mini_batch": index,
        "attempts": attempts,
        "kind": Kind(failure["kind"]).value,
        "message": failure["message"],
        "log": failure["log"],
        **failing.told(failure),
    }
