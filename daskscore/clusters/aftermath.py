"""A process that outlives the driver: it takes the jobs of one that was killed out of the queue.

Its contract with the driver, over its standard input:

    first line   {"kind": kind of the queue, "name": text, "folder": path}: the name that all jobs of the run and no
                 others have (or nothing, where there is no such name); the folder goes with them
    +12          a job was asked for
    -12          it is no longer in the queue
    .            the driver has taken out all of them: there is nothing left to do
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from daskscore.clusters.queues import QUEUES, CommandFailed, Queue, command

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
CANCEL_SECONDS = 30.0
"""How long a command may take that cancels jobs."""

STEPS = (0, 1, 2, 5)
"""Seconds before each command: what was just being asked for when the driver died comes into the queue after it."""
MORE_STEPS = (20, 60, 120, 300, 600)
"""Where the queue gave no answer."""


class Aftermath:
    """The driver's side."""

    def __init__(self, kind: str, name: str, folder: str) -> None:
        code = f"import sys; sys.path.append({PACKAGE_ROOT!r}); from daskscore.clusters.aftermath import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._say(json.dumps({"kind": kind, "name": name, "folder": folder}))

    def asked_for(self, number: str) -> None:
        self._say(f"+{number}")

    def gone(self, number: str) -> None:
        self._say(f"-{number}")

    def close(self, *, all_gone: bool) -> None:
        """It ends now where all jobs are gone, and otherwise when they are."""
        assert self._process.stdin is not None
        if all_gone:
            self._say(".")
        with suppress(OSError):
            self._process.stdin.close()
        if all_gone:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        else:
            self._process.returncode = 0  # it is meant to outlive us: Python shall not warn of it

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # somebody has killed it: the driver does its work all the same
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()


def main() -> None:
    """In the process: until the driver says that it is done, or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    first = sys.stdin.readline()
    if not first:
        return
    told = json.loads(first)
    numbers: dict[str, None] = {}
    for line in sys.stdin:
        word = line.strip()
        if word == ".":
            break
        if word.startswith("+"):
            numbers[word[1:]] = None
        else:
            numbers.pop(word[1:], None)
    else:
        _cancel(QUEUES[told["kind"]], told["name"], list(numbers))
    shutil.rmtree(told["folder"], ignore_errors=True)


def _cancel(queue: Queue, name: str, numbers: list[str]) -> None:
    orders = [[*queue.cancel, *numbers]] if numbers else []
    orders += [queue.named(name)] if name else []
    gone = False
    for wait in (*STEPS, *MORE_STEPS):
        if gone and wait in MORE_STEPS:
            return
        time.sleep(wait)
        for words in orders:
            with suppress(CommandFailed):  # it may be that there is nothing left to cancel
                command(words, CANCEL_SECONDS)
        try:
            gone = not set(queue.standings()) & set(numbers)
        except (CommandFailed, ValueError):
            gone = False
