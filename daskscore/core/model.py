"""What flows between driver, worker and scorer: bundles out, outcomes back.

A run can have millions of mini-batches, so nothing here stands for a single one that went well: mini-batches are
named by their index in the plan, and those that went well one after the other travel as one `Segment`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Why an attempt, or an item, failed; the words of `failed_items.jsonl`."""

    RAISE = "raise"
    CRASH = "crash"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    BAD_OUTPUT = "bad_output"
    INPUT = "input"
    LOST = "lost"


class Status(StrEnum):
    """How a run ended."""

    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELED = "Canceled"


class Span(NamedTuple):
    """Consecutive mini-batches that have been tried (and failed) equally often."""

    first: int
    size: int
    tries: int = 0

    @property
    def stop(self) -> int:
        return self.first + self.size


class Segment(NamedTuple):
    """Consecutive mini-batches whose rows stand one after the other in one part.

    A segment of several mini-batches has no failed item; a mini-batch with failed items is a segment of its own.
    """

    first: int
    size: int
    part: str
    offset: int
    length: int
    rows: int
    items: int
    failed_items: int = 0
    header: str | None = None

    @property
    def stop(self) -> int:
        return self.first + self.size


@dataclass(frozen=True, slots=True)
class Bundle:
    """Attempts sent to a slot as one Dask task; `lines` holds the plan's line of each mini-batch, in order."""

    id: int
    spans: tuple[Span, ...]
    lines: bytes = b""
    box_seconds: float = 1.0
    """After this long the scorer hands back what it has not started."""
    avoid: tuple[str, ...] = ()
    """Node and process of scorers that should not have it, where there is another."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt at one mini-batch that gave no rows."""

    index: int
    kind: Kind
    message: str
    log: str
    """Where the traceback or the last words stand, relative to the output folder."""
    traceback: str = ""
    seconds: float = 0.0
    may_pass: bool = False
    """Of kind input: another try may find a storage, or a disk, that is well again."""
    retry_after: float | None = None
    """It passes by itself, after so many seconds at least: another try, later, is none of `run_max_try`."""
    place: str = ""
    """Node and process, as in processed_mini-batches.csv."""
    peak_memory: int = 0
    """The most bytes that the process has held; 0: not known."""
    signal: int | None = None
    exit_code: int | None = None
    """Which of the two has ended the process, of kind crash."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """An item without a result inside a mini-batch that did give rows."""

    index: int
    item: str
    kind: Kind
    message: str
    log: str
    items: int = 1
    """How many they are, where records of a table that stand one after the other are named together."""
    attempts: int = 1
    """How often the mini-batch was tried, this one included; only the ledger knows."""
    seconds: float = 0.0
    """What the attempt took; 0: not known."""
    place: str = ""
    peak_memory: int = 0


@dataclass(frozen=True, slots=True)
class InitFailure:
    """A scorer that could not be made ready: the script did not load, or init() did not return."""

    kind: Kind
    message: str
    log: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a slot has to say about one bundle; together its parts name each mini-batch of the bundle once."""

    bundle: int
    node: str
    address: str = ""
    """Of the Dask worker."""
    segments: tuple[Segment, ...] = ()
    failures: tuple[Failure, ...] = ()
    item_failures: tuple[ItemFailure, ...] = ()
    unstarted: tuple[Span, ...] = ()
    init_failure: InitFailure | None = None
    initialized: bool = False
    """A scorer on this node has got through init()."""
    seconds: float = 0.0
    """How long the scorer was busy with the mini-batches it finished."""
    shipped: dict[str, bytes] | None = None
    """Rows of parts that the driver cannot read where they were written, by part."""
    logs: dict[str, bytes] | None = None
    """New bytes of log files that the driver cannot read where they were written, by path in the output folder."""
