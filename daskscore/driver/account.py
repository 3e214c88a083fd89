"""The run as its journal tells it: what is done, what was given up, and where the rows stand."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from daskscore.core.ledger import GivenUp, Settlement
from daskscore.core.model import Failure, Kind, Segment, Status
from daskscore.core.planning import Named
from daskscore.core.thresholds import Tally
from daskscore.driver import journal

SEGMENT = 5
"""Numbers that are kept of a segment."""

ROWS_AT_HAND = 4096

RECORDS_AT_HAND = 4
"""Of the journal, while failed items are named: neighbours in the plan mostly stand in the same few records."""


@dataclass(slots=True)
class Account:
    """Read back from a journal, once at a resume and once at the end; a few bytes per committed segment."""

    path: Path
    tally: Tally
    rows: int = 0
    attempts: int = 0
    lost_attempts: int = 0
    seconds: float = 0.0
    status: Status | None = None
    first_trouble: tuple[str, str] | None = None
    """What went wrong first in the script (a traceback, if there was one), and its log."""
    headers: list[tuple[int, str]] = field(default_factory=list)
    _seconds_before: float = 0.0
    """Of the sessions before the present one."""
    _parts: dict[str, int] = field(default_factory=dict)
    _segments: array[int] = field(default_factory=lambda: array("q"))
    _given_up: array[int] = field(default_factory=lambda: array("q"))
    """Index and place in the journal, one after the other."""
    _item_failures: array[int] = field(default_factory=lambda: array("q"))

    def settled(self) -> list[tuple[int, int]]:
        """(first, count) of what needs no further attempt, in plan order, neighbours joined."""
        given_up = _by_index(self._given_up, width=2)
        given_up[:, 1] = 1
        spans = np.concatenate([_by_index(self._segments, width=SEGMENT)[:, :2], given_up])
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

    def failed_items(self, items_in: Callable[[int], Sequence[Named]]) -> Iterator[dict[str, Any]]:
        """The lines of failed_items.jsonl, in plan order."""
        failures_at = lru_cache(maxsize=RECORDS_AT_HAND)(partial(_failures_at, self.path))
        for index, place in _rows(_by_index(self._item_failures + self._given_up, width=2)):
            failures = failures_at(place)[index]
            for item in failures.items:
                yield _line(Named(item["item"], item.get("items", 1)), index, item["attempts"], item)
            if given_up := failures.given_up:
                for named in items_in(index):
                    yield _line(named, index, given_up["attempts"], given_up["failure"])

    def forget_failures(self, count_items: Callable[[int], int]) -> None:
        """A failed run that is resumed gives what it gave up a new chance."""
        indices = self._given_up[::2]
        self.tally = self.tally.with_given_up(-sum(map(count_items, indices)), -len(indices))
        self._given_up = array("q")

    def _add(
        self, place: int, record: journal.Record, count_items: Callable[[int], int], sizes: dict[str, int] | None
    ) -> None:
        missing: set[int] = set()
        for values in record["segments"]:
            segment = Segment(*values)
            if sizes is not None and segment.length and sizes.get(segment.part, 0) < segment.offset + segment.length:
                missing.add(segment.first)
                continue
            part = self._parts.setdefault(segment.part, len(self._parts))
            self._segments.extend((segment.first, segment.size, part, segment.offset, segment.length))
            self._count(segment)
        short = {item["index"] for item in record["item_failures"]} - missing
        for index in sorted(short):
            self._item_failures.extend((index, place))
        for given_up in record["given_up"]:
            index = given_up["failure"]["index"]
            self._given_up.extend((index, place))
            self.tally = self.tally.with_given_up(count_items(index))
        self.attempts += record["attempts"]
        self.lost_attempts += record["lost_attempts"]
        self.seconds = self._seconds_before + record["seconds"]

    def _count(self, segment: Segment) -> None:
        self.tally = self.tally.with_segment(segment)
        self.rows += segment.rows
        if segment.header is not None:
            self.headers.append((segment.first, segment.header))


Table = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def _by_index(values: array[int], *, width: int) -> Table:
    """Rows of `width` numbers, in the order of the first."""
    table = np.array(values, dtype=np.int64).reshape(-1, width)
    return table[np.argsort(table[:, 0], kind="stable")]


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
    account = _read(Account(path, nothing), count_items, sizes)
    if account.status is Status.COMPLETED:
        account = _read(Account(path, nothing), count_items, None)  # its parts became the output and are gone
    return account


def _read(account: Account, count_items: Callable[[int], int], sizes: dict[str, int] | None) -> Account:
    for place, record in journal.read(account.path):
        match record["record"]:
            case "commit":
                account._add(place, record, count_items, sizes)
            case "trouble":
                account.first_trouble = (record["traceback"], record["log"])
            case "resume":
                account.status = account.first_trouble = None
                account._seconds_before = account.seconds
                if record["forget_failures"]:
                    account.forget_failures(count_items)
            case "end":
                account.status = Status(record["status"])
    return account


@dataclass(slots=True)
class _Failures:
    """What one record says about one mini-batch."""

    items: list[dict[str, Any]] = field(default_factory=list)
    given_up: dict[str, Any] | None = None


def _failures_at(path: Path, place: int) -> dict[int, _Failures]:
    record = journal.read_at(path, place)
    found: defaultdict[int, _Failures] = defaultdict(_Failures)
    for item in record["item_failures"]:
        found[item["index"]].items.append(item)
    for given_up in record["given_up"]:
        found[given_up["failure"]["index"]].given_up = given_up
    return found


def commit_record(settlement: Settlement, *, seconds: float) -> journal.Record:
    """A settlement as it stands in the journal."""
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
            }
            for f in settlement.item_failures
        ],
        "given_up": [_given_up(final) for final in settlement.given_up],
        "attempts": settlement.attempts,
        "lost_attempts": settlement.lost_attempts,
        "seconds": round(seconds, 3),
    }


def _given_up(final: GivenUp) -> dict[str, Any]:
    failure: Failure = final.failure
    return {
        "attempts": final.attempts,
        "failure": {
            "index": failure.index,
            "kind": failure.kind,
            "message": failure.message,
            "log": failure.log,
            "seconds": round(failure.seconds, 3),
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
    }
