"""Logs of scripts stay within a limit: the beginning and the newest end are kept, and a line says what is not.

A script writes to its log files itself, and so do its children, by descriptors that append. Nothing stands between
them and the file: a pipe would cost each line two more copies, hold the script up when its reader is late, and lose
lines with its reader. Instead the worker looks at the files some times a second, and gives the disk blocks in the
middle of a long one back. The offsets of all other bytes stay, so no writer and no reader is disturbed and no line is
lost that is to be kept. When the process has ended, the hole is closed and a line put in its place.

Where the file system knows no holes, the middle is cut out while the script goes on; lines that are printed in that
moment may then be missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from daskscore.core.layout import entry_script_logs, error_log, stderr_log, stdout_log

LOOK_SECONDS = 0.25
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02
_BLOCK = 4096
_NO_HOLES = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Caps:
    """The logs of a node's living scorers; safe to use from all slots' threads."""

    def __init__(self, output: Path, node: str, limit: int) -> None:
        self.limit = limit
        self.head, self.tail = limit // 4, limit // 2
        """What is kept at least. The last quarter is room until the next cut."""
        self._output = output
        self._node = node
        self._living: dict[str, dict[Path, int]] = {}
        """Of each process, where the holes of its files end."""
        self._lock = threading.Lock()
        self.shorten = True
        """Files are put in order when their process has ended; not where they are shipped, by offset."""

    def watch(self, process: str) -> None:
        """A scorer was started."""
        with self._lock:
            self._living[process] = {}

    def ended(self, process: str) -> None:
        """All that could write to its logs is gone."""
        with self._lock:
            self._living.pop(process, None)
        if self.shorten:
            for path in self._files(process):
                with contextlib.suppress(OSError):
                    self._close(path)

    def lives(self, path: Path) -> bool:
        """Whether this log may still grow."""
        return path.name.partition(".")[0] in self._living

    def covers(self, path: Path) -> bool:
        """Whether this is a log that has a limit."""
        return path in self._files(path.name.partition(".")[0])

    def look(self) -> None:
        """Called some times a second."""
        with self._lock:
            living = list(self._living.items())
        for process, holes in living:
            for path in self._files(process):
                with contextlib.suppress(OSError):
                    self._cap(path, holes)

    def _files(self, process: str) -> tuple[Path, ...]:
        node, output = self._node, self._output
        names = (stdout_log(node, process), stderr_log(node, process), error_log(node, process))
        return (*(output / name for name in names), output / entry_script_logs(node) / f"{process}.log.txt")

    def _cap(self, path: Path, holes: dict[Path, int]) -> None:
        size = os.stat(path).st_size
        begin = -(-self.head // _BLOCK) * _BLOCK
        done = holes.get(path, begin)
        stop = (size - self.tail) // _BLOCK * _BLOCK
        if size - done + self.head <= self.limit or stop <= done:
            return
        try:
            _punch(path, done, stop - done)
        except OSError as error:
            if error.errno not in _NO_HOLES:
                raise
            _cut_out(path, self.head, size - self.tail)
            return
        holes[path] = stop

    def _close(self, path: Path) -> None:
        size = os.stat(path).st_size
        if size > self.limit:
            shorten(path, self.head, size - self.tail)


def close_hole(path: Path) -> None:
    """Of a log whose worker was killed: put it in order, as that would have done."""
    if not path.is_file():  # a pipe that a script has put there would never open
        return
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0 or not hasattr(os, "SEEK_HOLE"):
            return
        begin = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        if begin >= size:
            return
        try:
            end = os.lseek(file.fileno(), begin, os.SEEK_DATA)
        except OSError:  # it has no data to its end
            return
    if begin:
        shorten(path, begin, end)


def dropped(size: int) -> bytes:
    """The line that stands for what is not kept."""
    return b"... %d bytes are left out here: the log is longer than log_file_limit allows ...\n" % size


def line_after(path: Path, position: int) -> int:
    """Where the first line begins that is complete from `position` on."""
    with path.open("rb") as file:
        return _line_end_after(file, position)


def shorten(path: Path, head: int, tail: int) -> None:
    """A new file in place of it: whole lines up to `head`, what is left out, and whole lines from `tail` on."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with path.open("rb") as old, unfinished.open("wb") as new:
            head = _line_end_before(old, head)
            tail = _line_end_after(old, tail)
            old.seek(0)
            _copy(old, new, head)
            new.write(_line_break_at(old, head) + dropped(tail - head))
            old.seek(tail)
            shutil.copyfileobj(old, new)
        unfinished.chmod(path.stat().st_mode & 0o777)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _cut_out(path: Path, head: int, tail: int) -> None:
    """In place, while others append."""
    with path.open("r+b") as file:
        end = _line_end_before(file, head)
        start = _line_end_after(file, tail)
        note = _line_break_at(file, end) + dropped(start - end)
        file.seek(start)
        kept = file.read()
        file.truncate(end)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(fd, note + kept)
    finally:
        os.close(fd)


def _line_end_before(file: BinaryIO, position: int) -> int:
    """Where the last line ends that is complete there; `position` itself in the middle of a very long one."""
    start = max(0, position - (1 << 16))
    file.seek(start)
    found = file.read(position - start).rfind(b"\n")
    return position if found < 0 else start + found + 1


def _line_break_at(file: BinaryIO, position: int) -> bytes:
    """What ends the line that is cut there, if one is."""
    file.seek(max(0, position - 1))
    return b"" if file.read(1) == b"\n" or not position else b"\n"


def _line_end_after(file: BinaryIO, position: int) -> int:
    """Where the first line begins that is complete from there on; `position` itself in a very long one."""
    file.seek(position)
    found = file.read(1 << 16).find(b"\n")
    return position if found < 0 else position + found + 1


def _copy(old: BinaryIO, new: BinaryIO, size: int) -> None:
    while size > 0 and (data := old.read(min(size, 1 << 20))):
        new.write(data)
        size -= len(data)


def _punch(path: Path, offset: int, size: int) -> None:
    """Give the blocks of this range back; it reads as zeros from now on."""
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        where, length = ctypes.c_int64(offset), ctypes.c_int64(size)
        fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
        if fallocate(fd, _KEEP_SIZE_PUNCH_HOLE, where, length):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(fd)
