"""What is committed. A mini-batch is done when, and only when, its record stands here.

One line per record: a checksum and JSON. A line that was not written to its end (the driver was killed, the disk was
full) fails its checksum; it and all that follows never happened.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daskscore.errors import RunError

Record = dict[str, Any]


class Journal:
    """An open journal; only the driver of the run has one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _cut_torn_end(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._fd).st_size

    def append(self, record: Record) -> None:
        """Commit; when this returns, `kill -9` of the driver does not undo it."""
        text = json.dumps(record, separators=(",", ":")).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        try:
            view = memoryview(line)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            os.ftruncate(self._fd, self._size)
            raise RunError(
                f"{error.strerror}: {self.path}. What was committed before is kept: free some space and run "
                "the same command with --resume"
            ) from error
        self._size += len(line)

    def sync(self) -> None:
        """Survive a power cut, too."""
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def read(path: Path) -> Iterator[tuple[int, Record]]:
    """The records in the order of their commits, each with its place in the file."""
    offset = 0
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            record = _parse(line)
            if record is None:
                return
            yield offset, record
            offset += len(line)


def read_at(path: Path, offset: int) -> Record:
    """The record at a place that `read` named."""
    with path.open("rb") as file:
        file.seek(offset)
        record = _parse(file.readline())
    if record is None:
        raise RunError(f"{path} was changed while it was read. Is another program writing there?")
    return record


def _parse(line: bytes) -> Record | None:
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    if not text or not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(text):
        return None
    record: Record = json.loads(text)
    return record


def _cut_torn_end(path: Path) -> None:
    if not path.exists():
        return
    end = 0
    with path.open("rb") as file:
        for line in file:
            if _parse(line) is None:
                break
            end += len(line)
    os.truncate(path, end)
