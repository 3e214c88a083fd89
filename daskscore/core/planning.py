"""How items become mini-batches, and what makes two plans the same.

A plan is one line per mini-batch: a JSON list of its items. The driver passes lines on as bytes; only the scorer
turns one into a list, and the driver itself when a mini-batch has failed and its items must be named.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: json.dumps would make an encoder for each line

DEFAULT_ITEMS = 10
"""Items per mini-batch where the job does not say."""


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """What is known of a plan without reading it."""

    mini_batches: int
    items: int
    fingerprint: str
    rank: bool = False
    """Mini-batches have no items: each is given its number alone and counts as one item."""
    files: bool = True
    """Items are paths of local files, so that one that is gone can be told from a script that failed."""


def cut(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Mini-batches of `size` items in order, the last one shorter; nothing lost, nothing twice."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def line(items: list[str]) -> bytes:
    """A mini-batch's line in the plan; any file name survives, newlines and bytes that are no UTF-8 included."""
    return _encode(items).encode("ascii") + b"\n"


def items_of(plan_line: bytes) -> list[str]:
    """What `line` was made from."""
    items: list[str] = json.loads(plan_line)
    return items


def fingerprint(shape: dict[str, Any]) -> hashlib._Hash:
    """A hash that knows the settings that shape the plan; the plan's lines are added to it as they are written."""
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode())
