"""Ctrl-C and SIGTERM: the first ends the run in good order, the second ends it now."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Whether somebody wants the run to end."""

    def __init__(self) -> None:
        self._asked = False
        self._in_good_order = False

    def __call__(self) -> bool:
        return self._asked

    def ask(self) -> None:
        """What the first Ctrl-C does; also for programs that run daskscore in a thread."""
        self._asked = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In the main thread only: elsewhere Python delivers no signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._hear) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def in_good_order(self) -> Iterator[None]:
        """From here on there is something to commit; before, an interrupt simply stops the work."""
        before, self._in_good_order = self._in_good_order, True
        try:
            yield
        finally:
            self._in_good_order = before

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            _say("\nEnded at once. What was committed is kept: --resume continues.\n")
            os._exit(EXIT_CODE)
        self._asked = True
        if not self._in_good_order:
            raise KeyboardInterrupt
        _say("\nStopping: what is done is being committed. Once more ends at once.\n")


def _say(text: str) -> None:
    """Only where nobody has to wait: a terminal or pager that stands still must not hold up an interrupt."""
    try:
        stderr = sys.stderr.fileno()
    except (OSError, ValueError):
        sys.stderr.write(text)
        return
    if select.select([], [stderr], [], 0)[1]:
        os.write(stderr, text.encode())
