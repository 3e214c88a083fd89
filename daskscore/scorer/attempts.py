"""What a scorer writes down of each attempt: when it was, how long it took, and what came of it.

A line goes to memory that survives the scorer, and to its file once per bundle.
"""

from __future__ import annotations

import contextlib
import os
import time

from daskscore.core.attempts import Recent, detail, failed_line, failed_status, iso, quoted
from daskscore.core.model import Kind
from daskscore.core.protocol import Head
from daskscore.scorer.descriptors import move_up

SHORT_SECONDS = 0.0001


class Attempts:
    """One file of lines, and the attempt that goes on."""

    def __init__(self, path: str, process: str, recent: Recent) -> None:
        self._process = process.encode()
        self._recent = recent
        os.makedirs(os.path.dirname(path), exist_ok=True)  # a script may remove the folder of logs
        self._fd = move_up(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        self._second, self._stamp = -1, b""
        self.begin_bundle({})

    def begin_bundle(self, command: Head) -> None:
        """The worker may have written lines of its own meanwhile."""
        self._recent.begin(os.fstat(self._fd).st_size)
        self._lost: int = command.get("lost", 0)
        self._line: str | None = command.get("line")
        self._clock = time.time() - time.monotonic()
        self._used, self._guessed = time.process_time(), 0.0

    def begin(self, index: int, tries: int, line: str, began: float) -> None:
        """An attempt is about to be made, `began` on the monotonic clock."""
        self.index, self.tries, self.began = index, tries, began
        self.line = line if self._line is None else self._line

    def done(self, items: int, failed: int, run_seconds: float, kind: Kind | None = None, message: str = "") -> None:
        """It gave rows, if not for all of its items."""
        elapsed = time.monotonic() - self.began
        used = self._processor_seconds(elapsed)
        items += self._lost
        failed += self._lost
        began = self.began + self._clock
        second = int(began)
        if second != self._second:
            self._second = second
            self._stamp = iso(second)[:-7].encode()
        line = b"%d,%d,%b,%b.%06d,%d,%d,%d,%.6f,%.6f,%.6f,RUN_DONE,%b,%b\n" % (
            self.index,
            self.tries + 1,
            self._process,
            self._stamp,
            (began - second) * 1e6,
            items,
            items - failed,
            failed,
            elapsed,
            used,
            run_seconds,
            b"," if kind is None else b"%b,%b" % (kind.encode(), quoted(message)),
            detail(self.index, items, self.line),
        )
        if not self._recent.add(line):
            self.flush()
            self._recent.add(line)

    def failed(self, items: int, run_seconds: float, kind: Kind, message: str) -> None:
        """It gave none."""
        elapsed = time.monotonic() - self.began
        line = failed_line(
            self.index,
            self.tries,
            self._process.decode(),
            self.began + self._clock,
            items + self._lost,
            failed_status(kind, loading=False),
            kind,
            message,
            self.line,
            elapsed=elapsed,
            process_seconds=self._processor_seconds(elapsed),
            run_seconds=run_seconds,
        )
        if not self._recent.add(line):
            self.flush()
            self._recent.add(line)

    def flush(self) -> None:
        """On a full disk lines are lost; the next row ends the run with the cause."""
        if data := self._recent.take():
            with contextlib.suppress(OSError):
                os.write(self._fd, data)

    def _processor_seconds(self, elapsed: float) -> float:
        """What it used of the processor. To ask for that costs as much as all the rest, so short ones are not asked."""
        if elapsed < SHORT_SECONDS:
            self._guessed += elapsed
            return elapsed
        now = time.process_time()
        used = max(0.0, now - self._used - self._guessed)
        self._used, self._guessed = now, 0.0
        return used
