"""The worker's side of the guard: ask it for scorers, hear how they ended."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from daskscore.errors import RunError
from daskscore.scorer.guard import REQUEST

START_SECONDS = 60.0
"""How long the guard may take to fork; only a machine in trouble needs more than some milliseconds."""

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True)
class Ending:
    """How a scorer ended: its exit code, or minus the signal; None where nobody is left to tell."""

    status: int | None
    peak_bytes: int = 0


class Nursery:
    """One guard process and its socket; safe to use from all slots' threads."""

    def __init__(self, *, environment: Mapping[str, str], remove_at_end: Sequence[tuple[str, int]] = ()) -> None:
        ours, theirs = socket.socketpair()
        code = f"import sys; sys.path.append({PACKAGE_ROOT!r}); from daskscore.scorer.guard import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
            close_fds=True,
        )
        theirs.close()
        self._socket = ours
        self._asking = threading.Lock()
        self._changed = threading.Condition()
        self._started: list[int] = []
        self._endings: dict[int, Ending] = {}
        self._open = True
        ours.sendall(json.dumps({"remove": list(remove_at_end)}).encode() + b"\n")
        self._listener = threading.Thread(target=self._listen, name="daskscore-nursery", daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        return self._open

    def fork(self, commands: int, words: int, mark: int) -> int:
        """The pid of a new scorer on these descriptors."""
        with self._asking, self._changed:
            try:
                fds = array.array("i", [commands, words, mark])
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                self._socket.sendmsg([REQUEST.pack(b"F", 0)], rights)
            except OSError as error:
                raise RunError(
                    f"the guard of the scorer processes (pid {self._process.pid}) is gone: {error}"
                ) from error
            if not self._changed.wait_for(lambda: self._started or not self._open, START_SECONDS) or not self._started:
                raise RunError(
                    f"no scorer process could be started within {START_SECONDS:.0f} s; is this machine out of processes?"
                )
            return self._started.pop()

    def kill(self, pid: int) -> None:
        """End a scorer and everything it started; `ending` then tells how."""
        try:
            self._socket.sendall(REQUEST.pack(b"K", pid))
        except OSError:
            return

    def ending(self, pid: int, *, timeout: float) -> Ending:
        """Wait for a scorer's end; strays are gone by then."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._endings or not self._open, timeout)
            return self._endings.pop(pid, Ending(None))

    def close(self) -> None:
        """End the guard, its scorers and all they started, and wait until they are gone."""
        self._hang_up()
        try:
            self._process.wait(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _hang_up(self) -> None:
        """Wake the listening thread, which would keep the socket open otherwise."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._listener.join(START_SECONDS)
        self._socket.close()

    def _listen(self) -> None:
        buffer = b""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            with self._changed:
                for word in map(json.loads, lines):
                    if "started" in word:
                        self._started.append(word["started"])
                    else:
                        self._endings[word["ended"]] = Ending(word["status"], word["peak"])
                self._changed.notify_all()
        with self._changed:
            self._open = False
            self._changed.notify_all()


def resident_bytes(pid: int) -> int:
    """How much memory a process holds now; 0 where this cannot be known."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
