"""`logs/sys/job_report`: the attempts of all processes in one table, and their sums, live while the run goes on.

Each process has its own file of attempts, which is whole after any ending; what stands here is copied from those, and
made anew when a run is resumed. Memory depends on how many processes there were, not on what they did.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO

import numpy as np

from daskscore.core.attempts import COLUMNS, HEADER
from daskscore.core.layout import Layout

LOOK_SECONDS = 2.0
SUMMARY_SECONDS = 10.0
SHARE = 20
"""One look takes no more than this part of the driver's time."""
CHUNK = 1 << 20

SUMS = "Mini-batches,Done,Failed Mini-batches,Total,Succeeded,Failed,Elapsed Seconds,Process Seconds,Run Method Seconds"
_WHO = re.compile(rb"# .*: host (\S+) \((\S+)\), PID (\d+), started (\S+)")
_ATTEMPT = re.compile(rb"\d+,\d+,[^,]+,[^,]+,\d+,\d+,\d+,[\d.]*,[\d.]*,[\d.]*,[A-Z_]+,\w*,.*,.*\n")

TOTAL, STATUS = COLUMNS.index("Total"), COLUMNS.index("Status")
WHOLE = [10.0**place for place in range(18)]
SECONDS = [10.0**place for place in range(-6, 0)] + [0.0] + [10.0**place for place in range(12)]
"""What a digit counts, from the last one on; seconds have six places, and a point."""

Bytes = np.ndarray[tuple[int], np.dtype[np.uint8]]
Places = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(slots=True)
class _Process:
    """How far the file of one process is copied, and what it came to."""

    path: Path
    node: str
    name: str
    copied: int = 0
    host: str = ""
    pid: str = ""
    started: str = ""
    attempts: int = 0
    done: int = 0
    total: int = 0
    succeeded: int = 0
    failed: int = 0
    elapsed: float = 0.0
    process: float = 0.0
    run: float = 0.0

    def add(self, lines: bytes) -> bool:
        """Whole lines of attempts; False, and nothing is added, where one is not what it should be.

        Digit by digit, for all lines at once: to split them would cost ten times as much.
        """
        text = np.frombuffer(lines, dtype=np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        commas = np.flatnonzero(text == ord(","))
        first = np.searchsorted(commas, np.concatenate(([0], ends[:-1] + 1)))
        if np.diff(first, append=len(commas)).min() < len(COLUMNS) - 1:
            return False
        borders = commas[first[:, np.newaxis] + np.arange(TOTAL - 1, STATUS)]
        columns = [(borders[:, i] + 1, borders[:, i + 1]) for i in range(STATUS - TOTAL)]
        try:
            total, succeeded, failed = (_sum(text, *column, WHOLE) for column in columns[:3])
            elapsed, process, run = (_sum(text, *column, SECONDS) for column in columns[3:])
        except ValueError:
            return False
        self.attempts += len(ends)
        self.done += int(np.count_nonzero(text[borders[:, -1] + len("RUN_D")] == ord("D")))
        self.total += int(total)
        self.succeeded += int(succeeded)
        self.failed += int(failed)
        self.elapsed += elapsed
        self.process += process
        self.run += run
        return True


@dataclass(slots=True)
class JobReport:
    """Open for one session of a run."""

    layout: Layout
    clock: Callable[[], float] = time.monotonic
    _processes: dict[str, _Process] = field(default_factory=dict)
    """By path."""
    _next_look: float = 0.0
    _next_summary: float = 0.0

    def begin(self) -> None:
        """With all that earlier sessions have left."""
        folder = self.layout.job_report
        folder.mkdir(parents=True, exist_ok=True)
        self._table.write_text(HEADER)
        self.look()

    def follow(self) -> None:
        """Called several times a second; looks every two."""
        began = self.clock()
        if began < self._next_look:
            return
        self.look()
        now = self.clock()
        self._next_look = now + max(LOOK_SECONDS, SHARE * (now - began))
        if now >= self._next_summary:
            self.sum_up()
            self._next_summary = now + SUMMARY_SECONDS

    def look(self) -> None:
        """Copy the lines that have come since."""
        with self._table.open("ab", buffering=0) as table:
            for node in _entries(self.layout.node_logs):
                for entry in _entries(node):
                    if not entry.name.startswith("process"):
                        continue
                    known = self._processes.get(entry.path)
                    if known is None:
                        name = entry.name.removesuffix(".txt")
                        known = self._processes[entry.path] = _Process(Path(entry.path), Path(node.path).name, name)
                    if entry.stat().st_size > known.copied:
                        _copy(known, table)

    def sum_up(self) -> None:
        """Write the two tables of sums."""
        processes = sorted(self._processes.values(), key=lambda known: (known.node, len(known.name), known.name))
        lines = [f"Process,Host,PID,Start Time,{SUMS}\n"]
        lines += [f"{p.node}/{p.name},{p.host},{p.pid},{p.started},{_sums([p])}\n" for p in processes]
        _replace(self.layout.job_report / "process_summary.csv", lines)
        lines = [f"Node,Hosts,Processes,{SUMS}\n"]
        for node, found in groupby(processes, key=attrgetter("node")):
            all_of_it = list(found)
            hosts = " ".join(sorted({p.host for p in all_of_it if p.host}))
            lines.append(f"{node},{hosts},{len(all_of_it)},{_sums(all_of_it)}\n")
        _replace(self.layout.job_report / "node_summary.csv", lines)

    @property
    def _table(self) -> Path:
        return self.layout.job_report / "processed_mini-batches.csv"


def _copy(known: _Process, table: BinaryIO) -> None:
    """Whole lines only; what else stands in the file is for people."""
    with known.path.open("rb") as file:
        file.seek(known.copied)
        while data := file.read(CHUNK):
            end = data.rfind(b"\n") + 1
            if not end:
                return
            known.copied += end
            file.seek(known.copied)
            data = data[:end]
            if data.startswith(b"#") or b"\n#" in data:
                data = _attempts_in(data.splitlines(keepends=True), known)
            if data and not known.add(data):  # a disk was full, or somebody has changed the file
                data = b"".join(line for line in data.splitlines(keepends=True) if _ATTEMPT.match(line))
                known.add(data or b"\n")
            table.write(data)


def _attempts_in(lines: list[bytes], known: _Process) -> bytes:
    """Without what is for people; and who the process was."""
    for line in lines:
        if line.startswith(b"# ") and (who := _WHO.match(line)):
            known.host, known.pid = who[1].decode(errors="replace"), who[3].decode()
            known.started = known.started or who[4].decode()
    return b"".join(line for line in lines if line[:1].isdigit())


def _sums(processes: Iterable[_Process]) -> str:
    found = list(processes)
    whole = ("attempts", "done", "total", "succeeded", "failed")
    attempts, done, *items = (sum(getattr(p, name) for p in found) for name in whole)
    seconds = (sum(getattr(p, name) for p in found) for name in ("elapsed", "process", "run"))
    numbers = [str(number) for number in (attempts, done, attempts - done, *items)]
    return ",".join([*numbers, *(f"{number:.6f}" for number in seconds)])


def _sum(text: Bytes, starts: Places, stops: Places, weights: Sequence[float]) -> float:
    """Of the numbers that stand there, if there are any; ValueError where something else does."""
    total = 0.0
    for distance, weight in enumerate(weights, 1):
        digits = stops - distance
        digits = digits[digits >= starts]
        if not len(digits):
            break
        values = text[digits] - np.uint8(ord("0"))
        if weight and values.max() > 9:
            raise ValueError("no number")
        total += weight * float(values.sum())
    return total


def _entries(folder: Path | os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    try:
        found = sorted(os.scandir(folder), key=attrgetter("name"))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from found


def _replace(path: Path, lines: Iterable[str]) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(lines)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
