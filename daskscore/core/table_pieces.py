"""How the row groups of a file become pieces; text is cut in `inputs.text_pieces`, where its records are found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from daskscore.core.tables import Size


class Group(NamedTuple):
    """A row group of a Parquet file, or a record batch of an Arrow file."""

    rows: int
    bytes: float
    """Of the file; an estimate will do."""


class GroupCut(NamedTuple):
    """Consecutive rows of a file."""

    first: int
    last: int
    """Groups."""
    start: int
    stop: int
    """Rows, counted from the start of the first group."""
    row: int
    """The first row, counted from the start of the file."""


def cut_groups(groups: Sequence[Group], size: Size) -> Iterator[GroupCut]:
    """Every row once, in order. Groups are kept whole where the size is in bytes and allows it."""
    starts = [0]
    for group in groups:
        starts.append(starts[-1] + group.rows)
    borders = _every(starts[-1], size.rows) if size.rows else _near(groups, starts, size.bytes)
    first, row = 0, 0
    for stop in borders:
        while starts[first + 1] <= row:
            first += 1
        last = first
        while starts[last + 1] < stop:
            last += 1
        yield GroupCut(first, last, row - starts[first], stop - starts[first], row)
        row = stop


def _every(rows: int, step: int) -> Iterator[int]:
    yield from range(step, rows, step)
    if rows:
        yield rows


def _near(groups: Sequence[Group], starts: Sequence[int], most: int) -> Iterator[int]:
    """Small groups together up to the size, large ones in even parts of about the size."""
    gathered, last = 0.0, 0
    for number, group in enumerate(groups):
        start, stop = starts[number], starts[number + 1]
        if start > last and gathered + group.bytes > most:
            yield start
            gathered, last = 0.0, start
        parts = min(group.rows, math.ceil(group.bytes / most))
        if parts > 1:
            yield from (start + part * group.rows // parts for part in range(1, parts + 1))
            last = stop
        else:
            gathered += group.bytes
    if starts[-1] > last:
        yield starts[-1]
