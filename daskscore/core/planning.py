"""How items become mini-batches, and what makes two plans the same.

A plan is one line per mini-batch, which is JSON:

    ["a.png", "b.png"]                                          files, or words that only the script understands
    {"files": ["u1/a.wav"], "keys": {"user": "u1"}}             the files of one key
    {"pieces": [piece, …]}                                      records of a table, see `tables.Piece`
    {"pieces": [piece, …], "keys": {"store": 2}}                the records of one key

A mini-batch that Python objects make up, and that no plan has, is a line of its own kind:

    {"pickle": "/tmp/…/7", "items": 100}                        a list or a DataFrame, in a file that a worker has written

The driver passes lines on as bytes; only the scorer turns one into items, and the driver itself when a mini-batch has
failed and its items must be named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any, NamedTuple

from daskscore.core.tables import Piece

_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps would make an encoder for each line

DEFAULT_ITEMS = 10
"""Files per mini-batch where the job does not say."""

Keys = Mapping[str, Any]
"""What the items of one mini-batch have in common, where a job has partition_keys."""


class Content(StrEnum):
    """What the mini-batches of a job are made of."""

    RANK = "rank"
    """Nothing: each is given its number alone and counts as one item."""
    FILES = "files"
    """Paths that the scorer can open, so that one that is gone can be told from a script that failed."""
    WORDS = "words"
    """What only the script understands."""
    RECORDS = "records"
    """Rows of tables."""
    OBJECTS = "objects"
    """Python objects that come from another Dask task."""


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What is known of a whole plan without reading it."""

    mini_batches: int
    items: int
    fingerprint: str
    content: Content = Content.FILES


class Named(NamedTuple):
    """An item, or records of a table that stand one after the other."""

    name: str
    items: int = 1


def cut(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Mini-batches of `size` items in order, the last one shorter; nothing lost, nothing twice."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def line(items: Sequence[str], keys: Keys | None = None) -> bytes:
    """A mini-batch's line in the plan; any file name survives, newlines and bytes that are no UTF-8 included."""
    found = items if keys is None else {"files": items, "keys": keys}
    return _encode(found).encode("ascii") + b"\n"


def line_of_pieces(pieces: Sequence[Piece], keys: Keys | None = None) -> bytes:
    """The line of a mini-batch of records."""
    found = {"pieces": pieces} if keys is None else {"pieces": pieces, "keys": keys}
    return _encode(found).encode("ascii") + b"\n"


def line_of_pickle(path: str, items: int, keys: Keys | None = None) -> bytes:
    """The line of a mini-batch of Python objects."""
    found = {"pickle": path, "items": items} if keys is None else {"pickle": path, "items": items, "keys": keys}
    return _encode(found).encode("ascii") + b"\n"


def names_in(plan_line: bytes) -> list[Named]:
    """The items of a line; records that stand one after the other under one name."""
    found = json.loads(plan_line)
    if isinstance(found, list):
        return [Named(item) for item in found]
    if "files" in found:
        return [Named(item) for item in found["files"]]
    if "pickle" in found:
        return [Named(found["pickle"], found["items"])]
    names = []
    for piece, (start, stop) in zip(found["pieces"], records_wanted(found), strict=True):
        source, row = source_of(piece, found.get("keys", {}))
        names.append(Named(name_of_rows(source, row + start, stop - start), stop - start))
    return names


def share_of(plan_line: bytes, start: int, stop: int) -> bytes:
    """The line of a mini-batch that has only these items of another; what cannot be cut is read whole, and less given."""
    found = json.loads(plan_line)
    if isinstance(found, list):
        return line(found[start:stop])
    if "files" in found:
        return line(found["files"][start:stop], found.get("keys"))
    pieces: list[Piece] = []
    before, (outer, _) = 0, found.get("only", (0, 0))
    start, stop = outer + start, outer + stop
    for piece in found["pieces"]:
        first = before
        before += piece["items"]
        if before <= start or first >= stop:
            continue
        if not pieces:
            start, stop, before = start - first, stop - first, before - first
        pieces.append(piece)
    return _encode({**found, "pieces": pieces, "only": [start, stop]}).encode("ascii") + b"\n"


def records_wanted(found: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Of each piece of a line: which of its records are meant, counted from the piece's first."""
    start, stop = found.get("only", (0, None))
    wanted, before = [], 0
    for piece in found["pieces"]:
        number = piece["items"]
        last = number if stop is None else min(number, stop - before)
        wanted.append((max(0, start - before), last))
        before += number
    return wanted


def source_of(piece: Piece, keys: Keys) -> tuple[str, int]:
    """Where a piece comes from, and its first row there; of records that were sorted, their keys."""
    if piece["file"].startswith("/") or "://" in piece["file"]:
        return piece["file"], piece["row"]
    return ", ".join(f"{name}={value}" for name, value in keys.items()), 0


def name_of_rows(file: str, first: int, number: int) -> str:
    """Like `data/a.csv rows 100-199`, counted from 0."""
    return f"{file} row {first}" if number == 1 else f"{file} rows {first}-{first + number - 1}"


def count_items(plan_line: bytes) -> int:
    """How many items a line has."""
    return sum(named.items for named in names_in(plan_line))


def sources_in(plan_line: bytes) -> list[str]:
    """The files, or words, that a line is made from, each as often as it is named."""
    found = json.loads(plan_line)
    if isinstance(found, list):
        return found
    return found["files"] if "files" in found else [piece["file"] for piece in found["pieces"]]


def fingerprint(shape: dict[str, Any]) -> hashlib._Hash:
    """A hash that knows the settings that shape the plan; the plan's lines are added to it as they are written."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode())
