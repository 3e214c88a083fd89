"""The words between a worker, its guard and its scorers.

Worker and scorer talk through two pipes in frames: two lengths, a JSON head, and bytes that need no parsing. What
would be too dear to say for every mini-batch (which one has started, what has safely reached the part) stands in the
`Mark`, a page of memory that both sides see and that survives the scorer.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

_LENGTHS = struct.Struct("<II")

Head = dict[str, Any]


def frame(head: Head, body: bytes = b"") -> bytes:
    """The bytes of one frame."""
    text = json.dumps(head, separators=(",", ":")).encode("ascii")
    return b"".join((_LENGTHS.pack(len(text), len(body)), text, body))


def send(fd: int, head: Head, body: bytes = b"") -> None:
    """Write one frame; blocks while the reader is busy."""
    view = memoryview(frame(head, body))
    while view:
        view = view[os.write(fd, view) :]


class Frames:
    """Frames out of a pipe, whether one byte or ten frames come at a time."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._buffer = bytearray()

    def read(self) -> tuple[Head, bytes] | None:
        """The next frame, waiting for it; None when the writer is gone."""
        while True:
            if frame := self.pop():
                return frame
            if not self.fill():
                return None

    def fill(self) -> bool:
        """Take what the pipe has, waiting for at least a byte; False when the writer is gone."""
        data = os.read(self.fd, 1 << 18)
        self._buffer += data
        return bool(data)

    def pop(self) -> tuple[Head, bytes] | None:
        """A frame that has arrived whole, or None."""
        buffer = self._buffer
        if len(buffer) < _LENGTHS.size:
            return None
        head_size, body_size = _LENGTHS.unpack_from(buffer)
        start = _LENGTHS.size + head_size
        stop = start + body_size
        if len(buffer) < stop:
            return None
        head: Head = json.loads(bytes(buffer[_LENGTHS.size : start]))
        body = bytes(buffer[start:stop])
        del buffer[:stop]
        return head, body


class Progress(NamedTuple):
    """What a scorer has done of its bundle since it last sent word, and what it is doing."""

    words: int
    """How many words the scorer had sent; where the supervisor has more, the rest of the record is old news."""
    position: int
    """Which mini-batch of the bundle is in `run()`, counted from 0; -1: none."""
    started: float
    """When it was started, on the monotonic clock."""
    done: int
    """How many, since the last word, have their rows in the part."""
    rows: int
    items: int
    length: int
    """Bytes of these rows in the part."""


_RECORD = struct.Struct("<qqdqqqq")
_TURN = struct.Struct("<Q")
_TURN_AT = slice(0, 8)
_STOP = 8
_SLOTS = (64, 128)
MARK_BYTES = mmap.PAGESIZE


@dataclass(slots=True)
class Mark:
    """The page that a scorer writes and its supervisor reads.

    A record is written beside the current one and then switched to with one aligned store, so that a scorer killed
    at any instruction leaves a whole record behind.
    """

    memory: mmap.mmap
    turn: int = 0

    @classmethod
    def open(cls, fd: int) -> Mark:
        return cls(mmap.mmap(fd, MARK_BYTES))

    def write(self, words: int, position: int, started: float, done: int, rows: int, items: int, length: int) -> None:
        """Called in the scorer, once per mini-batch."""
        turn = self.turn + 1
        _RECORD.pack_into(self.memory, _SLOTS[turn & 1], words, position, started, done, rows, items, length)
        # Not `pack_into`, which clears the bytes first: a reader could see turn 0 twice, and a torn record between.
        self.memory[_TURN_AT] = _TURN.pack(turn)
        self.turn = turn

    def read(self) -> Progress:
        """Called in the worker, some times a second and once after the scorer's end."""
        while True:
            (turn,) = _TURN.unpack_from(self.memory, 0)
            progress = Progress(*_RECORD.unpack_from(self.memory, _SLOTS[turn & 1]))
            if _TURN.unpack_from(self.memory, 0)[0] == turn:
                return progress

    def ask_to_stop(self) -> None:
        """Called in the worker: hand back what is not started."""
        self.memory[_STOP] = 1

    def go_on(self) -> None:
        self.memory[_STOP] = 0

    @property
    def stop_asked(self) -> bool:
        return self.memory[_STOP] != 0


def shared_page() -> int:
    """A descriptor of one zeroed page that has no name in any folder."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("daskscore-mark", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, MARK_BYTES)
    return fd
