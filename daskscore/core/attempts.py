"""The lines of processed_mini-batches.csv, one for each attempt, and how those of a scorer outlive it."""

from __future__ import annotations

import mmap
import re
import struct
from datetime import UTC, datetime

from daskscore.core.model import Kind
from daskscore.core.protocol import MARK_BYTES

COLUMNS = (
    "Mini-batch Id",
    "Picked Count",
    "Process",
    "Process Start Time",
    "Total",
    "Succeeded",
    "Failed",
    "Elapsed Seconds",
    "Process Seconds",
    "Run Method Seconds",
    "Status",
    "Error Category",
    "Error Message",
    "Mini-batch Detail",
)
HEADER = ",".join(COLUMNS) + "\n"

RUN_DONE, RUN_TIMEOUT, RUN_EXCEPTION = "RUN_DONE", "RUN_TIMEOUT", "RUN_EXCEPTION"
LOAD_TIMEOUT, LOAD_EXCEPTION = "LOAD_TIMEOUT", "LOAD_EXCEPTION"

MESSAGE_CHARACTERS = 1_000
DETAIL_CHARACTERS = 100
"""A mini-batch whose line of the plan is longer is named by its first item."""

RECENT_BYTES = 1 << 16
_END = slice(0, 8)
_NUMBER = struct.Struct("<Q")
_RING = 64
_ROOM = RECENT_BYTES - _RING

_OTHER_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_FIRST_ITEM = re.compile(r'(?:^\[|"files":\[|"file":)("(?:[^"\\]|\\.)*")')


def failed_status(kind: Kind, *, loading: bool) -> str:
    """The status word of an attempt that gave no rows."""
    if loading or kind is Kind.INPUT:
        return LOAD_TIMEOUT if kind is Kind.TIMEOUT else LOAD_EXCEPTION
    return RUN_TIMEOUT if kind is Kind.TIMEOUT else RUN_EXCEPTION


def detail(index: int, items: int, line: str) -> bytes:
    """What the mini-batch is made of, as a field of JSON: its line of the plan, or its first item where that is long."""
    if not line:
        return b'"{""rank"":%d}"' % index
    if len(line) <= DETAIL_CHARACTERS:
        return b'"%b"' % line.replace('"', '""').encode()
    if line.startswith('["') and "\\" not in (name := line[2 : line.find('"', 2)]):
        return b'"{""first"":""%b"",""items"":%d}"' % (name.encode(), items)
    found = _FIRST_ITEM.search(line)
    first = found[1].replace('"', '""') if found else "null"
    return b'"{""first"":%b,""items"":%d}"' % (first.encode(), items)


def quoted(text: str) -> bytes:
    """As a field of CSV that stays on its line."""
    if len(text) > MESSAGE_CHARACTERS:
        text = text[:MESSAGE_CHARACTERS] + " …"
    text = text.replace('"', '""').replace("\r", "\\r").replace("\n", "\\n")
    text = _OTHER_CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return b'"%b"' % text.encode(errors="backslashreplace")


def iso(seconds: float) -> str:
    """A time since 1970 as the log tree writes times: UTC, and no word about that."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def failed_line(
    index: int,
    tries: int,
    process: str,
    started: float,
    items: int,
    status: str,
    kind: Kind,
    message: str,
    line: str,
    *,
    elapsed: float,
    process_seconds: float | None = None,
    run_seconds: float | None = None,
) -> bytes:
    """The line of an attempt that gave no rows; `started` is seconds since 1970, `tries` those before this one."""
    used = b",".join(b"" if seconds is None else b"%.6f" % seconds for seconds in (process_seconds, run_seconds))
    return b"%d,%d,%b,%b,%d,0,%d,%.6f,%b,%b,%b,%b,%b\n" % (
        index,
        tries + 1,
        process.encode(),
        iso(started).encode(),
        items,
        items,
        elapsed,
        used,
        status.encode(),
        kind.encode(),
        quoted(message),
        detail(index, items, line),
    )


class Recent:
    """Lines that a scorer has not yet written to its file, in memory that survives it.

    The lines are one stream, whose position is also that in the file: what the file lacks, the ring still has.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory

    @classmethod
    def open(cls, fd: int) -> Recent:
        """Behind the mark, on the same descriptor, which has MARK_BYTES + RECENT_BYTES."""
        return cls(mmap.mmap(fd, RECENT_BYTES, offset=MARK_BYTES))

    def begin(self, position: int) -> None:
        """The file has so many bytes, and nothing is kept here."""
        self.end = self.written = position
        self.memory[_END] = _NUMBER.pack(position)

    def add(self, data: bytes) -> bool:
        """Keep it; False where there is no room until `take` has been called."""
        size = len(data)
        end = self.end
        if end + size - self.written > _ROOM:
            return False
        at = _RING + end % _ROOM
        if at + size <= RECENT_BYTES:
            self.memory[at : at + size] = data
        else:
            border = RECENT_BYTES - at
            self.memory[at:] = data[:border]
            self.memory[_RING : _RING + size - border] = data[border:]
        self.end = end = end + size
        self.memory[_END] = _NUMBER.pack(end)
        return True

    def take(self) -> bytes:
        """All that is kept, to be written to the file now."""
        data = self._between(self.written, self.end)
        self.written = self.end
        return data

    def unwritten(self, size: int) -> bytes:
        """Called when the scorer is gone: what its file, of this size, lacks."""
        (end,) = _NUMBER.unpack(self.memory[_END])
        return self._between(size, end) if 0 < end - size <= _ROOM else b""

    def _between(self, start: int, end: int) -> bytes:
        at = _RING + start % _ROOM
        stop = at + end - start
        if stop <= RECENT_BYTES:
            return bytes(self.memory[at:stop])
        return bytes(self.memory[at:]) + bytes(self.memory[_RING : _RING + stop - RECENT_BYTES])
