"""How far the run is, in words, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from daskscore.core.ledger import Ledger

TERMINAL_SECONDS, PLAIN_SECONDS = 0.2, 10.0


@dataclass(slots=True)
class Progress:
    """One line that is rewritten on a terminal; a line each 10 s elsewhere; nothing when quiet."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    quiet: bool = False
    clock: Callable[[], float] = time.monotonic
    _began: float = -1.0
    _shown: float = -1e9
    _width: int = 0

    def show(self, ledger: Ledger) -> None:
        """Called several times a second; says something only when it is time."""
        now = self.clock()
        if self._began < 0:
            self._began = self._shown = now
        terminal = self.stream.isatty()
        if self.quiet or now - self._shown < (TERMINAL_SECONDS if terminal else PLAIN_SECONDS):
            return
        self._shown = now
        self._write(self._line(ledger, now), keep=not terminal)

    def finish(self, ledger: Ledger) -> None:
        if self._width:
            self._write(self._line(ledger, self.clock()), keep=True)

    def say(self, text: str) -> None:
        """An event worth a line of its own."""
        if not self.quiet:
            self._write(text, keep=True)

    def lost(self, attempts: int) -> None:
        self.say(f"a worker was lost; its {attempts} mini-batches in flight are tried elsewhere")

    def _line(self, ledger: Ledger, now: float) -> str:
        tally = ledger.tally
        done = tally.succeeded_mini_batches + tally.given_up_mini_batches
        seconds = max(now - self._began, 1e-9)
        failed = f", {tally.failed_items} items failed" if tally.failed_items else ""
        return f"Processed {done} of {tally.total_mini_batches} mini-batches in {seconds:.0f} s{failed}."

    def _write(self, text: str, *, keep: bool) -> None:
        padding = " " * max(0, self._width - len(text))
        start = "\r" if self._width else ""
        self.stream.write(f"{start}{text}{padding}" + ("\n" if keep else ""))
        self.stream.flush()
        self._width = 0 if keep else len(text)
