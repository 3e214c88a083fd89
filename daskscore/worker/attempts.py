"""The worker's share of a process's log: who it is, what it could no longer write itself, and how it ended."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from daskscore.core.attempts import HEADER, Recent, failed_line, failed_status, iso
from daskscore.core.layout import node_log
from daskscore.core.model import Failure, Segment
from daskscore.core.planning import count_items


@dataclass(slots=True)
class Sums:
    """What a process has done, as far as its supervisor has heard of it."""

    attempts: int = 0
    done: int = 0
    items: int = 0
    failed_items: int = 0

    def scored(self, segment: Segment) -> None:
        self.attempts += segment.size
        self.done += segment.size
        self.items += segment.items
        self.failed_items += segment.failed_items

    def failed(self, items: int) -> None:
        self.attempts += 1
        self.items += items
        self.failed_items += items

    @property
    def text(self) -> str:
        return (
            f"{self.attempts} mini-batches: {self.done} done, {self.attempts - self.done} failed; "
            f"{self.items} items: {self.items - self.failed_items} succeeded, {self.failed_items} failed"
        )


class AttemptFile:
    """`<process>.txt`, which its scorer appends to. The worker does while the scorer has no work, or is gone."""

    def __init__(self, path: Path, node: str, process: str, recent: Recent) -> None:
        self.path = path
        self.name = f"{node}/{process}"
        self.sums = Sums()
        self._recent = recent
        self._closed = False

    def begin(self, pid: int) -> None:
        name, address = host()
        process = self.name.partition("/")[2]
        self._append(
            f"# {process} on node {self.name.partition('/')[0]}: host {name} ({address}), PID {pid}, ".encode()
        )
        self._append(f"started {now()}\n{HEADER}".encode())

    def failed(self, failure: Failure, tries: int, line: bytes, seconds: float, *, loading: bool) -> None:
        """Of an attempt that the scorer did not come to, or did not survive."""
        items = count_items(line) if line else 1
        self.sums.failed(items)
        told = failed_line(
            failure.index,
            tries,
            self.name,
            time.time() - seconds,
            items,
            failed_status(failure.kind, loading=loading),
            failure.kind,
            failure.message,
            line.decode("ascii").rstrip("\n"),
            elapsed=seconds,
            run_seconds=0.0 if loading else seconds,
        )
        self._append(told)

    def rescue(self, unsettled: int) -> None:
        """Write what the dead had not; not the last line where that is about the mini-batch that is not settled."""
        lines = self._unwritten().splitlines(keepends=True)
        if lines and lines[-1].startswith(b"%d," % unsettled):
            lines.pop()
        self._append(b"".join(lines))
        self._recent.begin(self._size())

    def close(self, why: str) -> None:
        """The process is gone."""
        if self._closed:
            return
        self._closed = True
        self._append(self._unwritten())
        self._append(f"# {self.sums.text}\n# ended {now()}: {why}\n".encode(errors="backslashreplace"))
        self._recent.memory.close()

    def _unwritten(self) -> bytes:
        return self._recent.unwritten(self._size())

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def _append(self, data: bytes) -> None:
        append(self.path, data)


class NodeLog:
    """`_main.txt`: what a worker did, a line for each event."""

    def __init__(self, output: Path, node: str) -> None:
        self._path = output / node_log(node)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()

    def say(self, text: str, level: str = "INFO") -> None:
        text = text.replace("\r", "\\r").replace("\n", "\\n")
        line = f"{now()}|{level}|{os.getpid()}|{threading.get_ident()}|{text}\n"
        with self._lock:
            append(self._path, line.encode(errors="backslashreplace"))


def append(path: Path, data: bytes) -> None:
    """In one piece; on a full disk it is lost, and the next row ends the run with the cause."""
    if not data:
        return
    with contextlib.suppress(OSError):
        # A script may have put a pipe in the place of its log: nobody waits for one who reads it.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def now() -> str:
    return iso(time.time())


@cache
def host() -> tuple[str, str]:
    """Name and address of this machine, without asking anybody else."""
    name = socket.gethostname()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unsent:
            unsent.connect(("192.0.2.1", 9))  # nothing is sent: only the route is looked up
            return name, str(unsent.getsockname()[0])
    except OSError:
        return name, "127.0.0.1"
