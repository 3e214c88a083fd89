"""The plan as it is kept with the run: written once, then read line by line through the page cache."""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from daskscore.core.model import Span
from daskscore.core.planning import PlanHeader, cut, fingerprint, items_of, line
from daskscore.errors import InputError

LINES, INDEX, HEADER = "mini_batches.jsonl", "mini_batches.index", "plan.json"
_OFFSET = struct.Struct("<Q")


def write_plan(
    folder: Path, inputs: Iterable[Iterable[str]], *, size: int, files: bool, shape: dict[str, Any]
) -> PlanHeader:
    """Cut each input by itself into mini-batches; memory does not grow with their number."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = fingerprint(shape)
    mini_batches = items = offset = 0
    with (folder / LINES).open("wb") as lines, (folder / INDEX).open("wb") as index:
        for batch in chain.from_iterable(cut(items_in_input, size) for items_in_input in inputs):
            text = line(batch)
            digest.update(text)
            lines.write(text)
            index.write(_OFFSET.pack(offset))
            offset += len(text)
            mini_batches += 1
            items += len(batch)
        index.write(_OFFSET.pack(offset))
    return _write_header(folder, PlanHeader(mini_batches, items, digest.hexdigest(), files=files))


def write_rank_plan(folder: Path, count: int, *, shape: dict[str, Any]) -> PlanHeader:
    """A plan of mini-batches that have a number and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    return _write_header(folder, PlanHeader(count, count, fingerprint(shape).hexdigest(), rank=True, files=False))


def _write_header(folder: Path, header: PlanHeader) -> PlanHeader:
    (folder / HEADER).write_text(json.dumps(asdict(header), indent=1))
    return header


class Plan:
    """Mini-batches by index; nothing of them is kept in memory."""

    def __init__(self, folder: Path) -> None:
        self.header = PlanHeader(**json.loads((folder / HEADER).read_text()))
        self._lines: mmap.mmap | None = None
        if not self.header.rank:
            self._lines = _map(folder / LINES)
            self._index = _map(folder / INDEX)

    @property
    def line_bytes(self) -> int:
        """How long a line is on average."""
        return len(self._lines) // max(self.header.mini_batches, 1) if self._lines is not None else 0

    def lines(self, spans: Iterable[Span]) -> bytes:
        """The lines of these mini-batches, in order, as they travel to the scorer."""
        if self._lines is None:
            return b""
        return b"".join(self._lines[self._offset(span.first) : self._offset(span.stop)] for span in spans)

    def items(self, index: int) -> list[str]:
        """The items of one mini-batch, by name; a rank mini-batch is its own item."""
        if self._lines is None:
            return [f"rank {index}"]
        return items_of(self.lines([Span(index, 1)]))

    def count_items(self, index: int) -> int:
        return len(self.items(index))

    def _offset(self, index: int) -> int:
        offset: int = _OFFSET.unpack_from(self._index, index * _OFFSET.size)[0]
        return offset


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise InputError(f"{path} is empty: the plan of this run is damaged. Start it anew with --overwrite")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def first_difference(old: Path, new: Path) -> str:
    """In what two plans of the same job differ, in the words of their items."""
    with (old / LINES).open("rb") as one, (new / LINES).open("rb") as other:
        for index, (left, right) in enumerate(zip_longest(one, other, fillvalue=line([]))):
            for was, now in zip_longest(items_of(left), items_of(right)):
                if was == now:
                    continue
                if was is not None and not _names(new, was):
                    return f"{was} is gone (it was in mini-batch {index})"
                if now is not None and not _names(old, now):
                    return f"{now} is new (in mini-batch {index})"
                return f"the items of mini-batch {index} are in another order"
    return "their settings differ"


def _names(plan: Path, item: str) -> bool:
    with (plan / LINES).open("rb") as lines:
        return any(item in items_of(text) for text in lines)
