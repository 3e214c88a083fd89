"""The plan as it is kept with the run: written while the inputs are listed, and read line by line meanwhile."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from daskscore.core.model import Span
from daskscore.core.planning import Content, Named, PlanHeader, count_items, fingerprint, names_in, share_of, sources_in
from daskscore.errors import InputError

LINES, INDEX, HEADER, READINGS = "mini_batches.jsonl", "mini_batches.index", "plan.json", "readings.json"
_OFFSET = struct.Struct("<Q")

PUBLISH_SECONDS = 0.1
"""How old a planned mini-batch may be before it can be scored."""

Lines = Iterator[tuple[bytes, int]]
"""Mini-batches as lines, and how many items each has."""


class Planned(NamedTuple):
    """How far the plan has come."""

    mini_batches: int = 0
    items: int = 0
    complete: bool = False


class Planner:
    """Writes a plan, in a thread of its own if the listing takes long; memory does not grow with its length."""

    def __init__(
        self, folder: Path, lines: Lines, *, content: Content, shape: dict[str, Any], readings: tuple[str, ...] = ()
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.planned = Planned()
        """What can be read now."""
        self.error: BaseException | None = None
        self._lines = lines
        self.content = content
        self._digest = fingerprint({**shape, "readings": readings})
        # The folder gets another name when the run begins, and the plan may not be complete by then.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        (folder / READINGS).write_text(json.dumps(readings))
        self._over = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="daskscore-planner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether the plan is complete, or has failed, within these seconds."""
        return self._over.wait(seconds)

    def check(self) -> None:
        """Raises what has ended the listing before its end."""
        if self.error is not None:
            raise self.error

    def stop(self, seconds: float = 5.0) -> None:
        """Write nothing more; a listing that waits for its storage is left to itself."""
        self._stopping.set()
        self._over.wait(seconds)

    def _work(self) -> None:
        try:
            self._write()
        except BaseException as error:  # noqa: BLE001 - it is raised where the plan is waited for
            self.error = error
        finally:
            os.close(self._folder)
            self._over.set()

    def _write(self) -> None:
        mini_batches = items = offset = 0
        published = time.monotonic()
        with self._open(LINES) as lines, self._open(INDEX) as index:
            index.write(_OFFSET.pack(0))
            for text, number in self._lines:
                self._digest.update(text)
                lines.write(text)
                offset += len(text)
                index.write(_OFFSET.pack(offset))
                mini_batches += 1
                items += number
                if (now := time.monotonic()) - published > PUBLISH_SECONDS or mini_batches == 1:
                    if self._stopping.is_set():
                        return
                    lines.flush()
                    index.flush()
                    self.planned = Planned(mini_batches, items)
                    published = now
        header = PlanHeader(mini_batches, items, self._digest.hexdigest(), self.content)
        _write_header(self._open, header)
        self.planned = Planned(mini_batches, items, complete=True)

    def _open(self, name: str) -> Any:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return open(name, "wb", opener=lambda path, _: os.open(path, flags, 0o666, dir_fd=self._folder))


def write_rank_plan(folder: Path, count: int, *, shape: dict[str, Any]) -> PlanHeader:
    """A plan of mini-batches that have a number and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    header = PlanHeader(count, count, fingerprint(shape).hexdigest(), Content.RANK)
    _write_header(lambda name: (folder / name).open("wb"), header)
    return header


def _write_header(opened: Callable[[str], Any], header: PlanHeader) -> None:
    with opened(HEADER) as file:
        file.write(json.dumps(asdict(header), indent=1).encode())


def read_header(folder: Path) -> PlanHeader | None:
    """Of a complete plan; None where the driver ended before it was."""
    try:
        found = json.loads((folder / HEADER).read_text())
    except FileNotFoundError:
        return None
    return PlanHeader(**{**found, "content": Content(found["content"])})


class Plan:
    """Mini-batches by index; nothing of them is kept in memory."""

    def __init__(self, folder: Path, planner: Planner | None = None) -> None:
        self._planner = planner
        self._planned = Planned()
        self._lines = self._index = -1
        header = read_header(folder)
        if header is not None:
            self._planned = Planned(header.mini_batches, header.items, complete=True)
        elif planner is None:
            raise InputError(
                f"{folder / HEADER} is gone: the plan of this run is damaged. Start it anew with --overwrite"
            )
        self.content = Content.FILES if header is None else header.content
        if planner is not None:
            self.content = planner.content
        if self.content is not Content.RANK:
            self._lines, self._index = (os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC) for name in (LINES, INDEX))
            if self._planned.complete and os.fstat(self._lines).st_size == 0:
                raise InputError(
                    f"{folder / LINES} is empty: the plan of this run is damaged. Start it anew with --overwrite"
                )

    def __del__(self) -> None:
        for fd in (self._lines, self._index):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)

    @property
    def planned(self) -> Planned:
        """How much of it there is by now."""
        if self._planner is not None and not self._planned.complete:
            self._planned = self._planner.planned
        return self._planned

    @property
    def error(self) -> BaseException | None:
        """What has ended the listing before its end."""
        return self._planner.error if self._planner is not None else None

    @property
    def line_bytes(self) -> int:
        """How long a line is on average."""
        return os.fstat(self._lines).st_size // max(self._planned.mini_batches, 1) if self._lines >= 0 else 0

    def lines(self, spans: Iterable[Span]) -> bytes:
        """The lines of these mini-batches, in order, as they travel to the scorer."""
        if self._lines < 0:
            return b""
        return b"".join(self._read(span) for span in spans)

    def share(self, index: int, start: int, stop: int) -> bytes:
        """The line of a mini-batch with only these of its items, as it travels to the scorer."""
        return share_of(self._read(Span(index, 1)), start, stop)

    def items(self, index: int, start: int = 0, stop: int | None = None) -> list[Named]:
        """The items of one mini-batch, or some of them, by name; a rank mini-batch is its own item."""
        if self._lines < 0:
            return [Named(f"rank {index}")]
        return names_in(self._read(Span(index, 1)) if stop is None else self.share(index, start, stop))

    def count_items(self, index: int) -> int:
        return count_items(self._read(Span(index, 1))) if self._lines >= 0 else 1

    def _read(self, span: Span) -> bytes:
        start = self._offset(span.first)
        return _pread(self._lines, self._offset(span.stop) - start, start)

    def _offset(self, index: int) -> int:
        found = os.pread(self._index, _OFFSET.size, index * _OFFSET.size)
        if len(found) < _OFFSET.size:
            raise InputError("the plan of this run is damaged: its index is cut. Start it anew with --overwrite")
        offset: int = _OFFSET.unpack(found)[0]
        return offset


def _pread(fd: int, length: int, offset: int) -> bytes:
    found = os.pread(fd, length, offset)
    while len(found) < length and (more := os.pread(fd, length - len(found), offset + len(found))):
        found += more
    return found


def readings_in(folder: Path) -> tuple[str, ...]:
    """How the records of each input are read, as it was decided when the plan was made."""
    return tuple(json.loads((folder / READINGS).read_text()))


def first_difference(old: Path, new: Path) -> str | None:
    """In what two plans of the same job differ, in the words of their items; the old one may have been left unfinished."""
    finished = read_header(old) is not None
    with (old / LINES).open("rb") as one, (new / LINES).open("rb") as other:
        for index, (left, right) in enumerate(zip_longest(one, other, fillvalue=b"")):
            if left == right:
                continue
            if not finished and not left.endswith(b"\n"):
                return None  # where its driver was stopped
            for was, now in zip_longest(_sources(left), _sources(right)):
                if was == now:
                    continue
                if was is not None and not _names(new, was):
                    return f"{was} is gone (it was in mini-batch {index})"
                if now is not None and not _names(old, now):
                    return f"{now} is new (in mini-batch {index})"
                return f"the items of mini-batch {index} are in another order"
            return f"{_sources(left)[0]} has changed (mini-batch {index} was cut in another way)"
    return None


def _sources(text: bytes) -> list[str]:
    return sources_in(text) if text else []


def _names(plan: Path, item: str) -> bool:
    with (plan / LINES).open("rb") as lines:
        return any(item in sources_in(text) for text in lines if text.endswith(b"\n"))
