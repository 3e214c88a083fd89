"""The processes between a worker and its scorers: they say how scorers end, and leave nothing of them behind.

    worker ── nursery ──┬── guard ── scorer ── what the script starts
       one per worker   └── guard ── scorer    one guard for each scorer

No code of the user runs in nursery and guard. Their contract with the worker, over a socket to each of them:

    worker → nursery   first {"remove": [[folder, pid], …]}, the folders to remove when the worker is gone (those with
                       a pid only when that process is gone too); then START for each scorer, with four descriptors:
                       the socket of its guard, and its own commands, words and mark; in the end END
    guard → worker     {"started": pid, "guard": pid}
                       {"ended": status, "peak": bytes}, when all that the script has started is gone
    worker → guard     STACKS: the scorer is to write where it stands, and to end with that
                       it closes the socket: the scorer is to end now, without a word

A worker's sockets close when it is gone, however it ended; nursery and guards then end what is below them, and go. That
the nursery is gone its guards know by the lifeline, a pipe on which nobody ever writes.

What a script starts can leave its session and forget its environment, but it cannot choose who inherits it: nursery and
guards are subreapers (Linux), so that orphans become children of the guard or, where the script has killed that too, of
the nursery. These know whom they have forked, and kill the others.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from typing import Any, Protocol

from daskscore.scorer import stacks

START, END, STACKS = b"S", b"E", b"W"

_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"

_STUBBORN_SECONDS = 3.0
"""How long the killed are waited for: one that hangs in the kernel goes later."""

_DYING_SECONDS = 1.0
"""Where a worker, or a driver, was killed, others die with it that may still write into its folders."""


class Role(Protocol):
    """What a process does until it ends, or forks: the child goes on with the role that comes back."""

    def __call__(self) -> Role | None: ...


def main() -> None:
    """Serve one worker as its nursery; in the forks, as a guard and as a scorer."""
    worker = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    role: Role | None = Nursery(worker).serve
    while role is not None:
        role = role()


class _Parent:
    """A process that knows whom it has forked, and kills the orphans that come to it."""

    def __init__(self, worker: socket.socket) -> None:
        self.worker = worker
        self.forked: set[int] = set()
        self._wake, self._wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _prctl(_SET_CHILD_SUBREAPER, 1)

    def _sleep(self, *descriptors: int, seconds: float | None = None) -> list[int]:
        """Until one of them can be read, or a child has ended: which ones can."""
        ready, _, _ = select.select([*descriptors, self._wake], [], [], seconds)
        if self._wake in ready:
            ready.remove(self._wake)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
        return ready

    def _reap(self) -> bool:
        """Take in the children that have ended; whether there are others."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if os.WIFSTOPPED(status):
                continue  # traced by a program of the script, and not at its end
            self.forked.discard(pid)
            self._ended(pid, os.waitstatus_to_exitcode(status), usage.ru_maxrss * (1024 if _LINUX else 1))

    def _ended(self, pid: int, status: int, peak: int) -> None:
        """A child of ours, or an orphan, has been reaped."""

    def _kill_orphans(self) -> None:
        for pid in _children() - self.forked:
            _kill(pid)

    def _kill_all(self) -> None:
        """Until no child is left, nor any of theirs that comes to us."""
        deadline = time.monotonic() + _STUBBORN_SECONDS
        while self._reap() and time.monotonic() < deadline:
            for pid in _children() | self.forked:
                _kill(pid)
            self._sleep(seconds=0.05)

    def _leave(self) -> None:
        """In a child just forked: what was ours is not its own."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (self._wake, self._wake_write):
            os.close(fd)
        self.worker.close()


class Nursery(_Parent):
    """The parent of a worker's guards."""

    def __init__(self, worker: socket.socket) -> None:
        super().__init__(worker)
        self.lifeline, self._lifeline_write = os.pipe()
        self._doomed: list[tuple[str, int]] = []

    def serve(self) -> Role | None:
        from daskscore.scorer import __main__  # noqa: F401 - once, so that no scorer has to do it

        role, orderly = None, False
        with contextlib.suppress(ConnectionError):
            self._doomed = self._hello()
            role, orderly = self._follow()
        if role is None:
            self._kill_all()
            self._remove(orderly)
        return role

    def _follow(self) -> tuple[Role | None, bool]:
        """Until the worker is gone (whether it said so), or in a fork."""
        while True:
            if self._sleep(self.worker.fileno()):
                word, descriptors, _, _ = socket.recv_fds(self.worker, 1, 4)
                if word != START:
                    return None, word == END
                if role := self._start(descriptors):
                    return role, False
            self._reap()
            self._kill_orphans()

    def _start(self, descriptors: list[int]) -> Role | None:
        try:
            pid = os.fork()
        except OSError:
            pid = -1  # Out of processes: the worker knows by the guard's socket, which closes.
        if pid == 0:
            self._leave()
            os.close(self._lifeline_write)
            os.setsid()
            return Guard(socket.socket(fileno=descriptors[0]), self.lifeline, descriptors[1:]).serve
        for fd in descriptors:
            os.close(fd)
        if pid > 0:
            self.forked.add(pid)
        return None

    def _hello(self) -> list[tuple[str, int]]:
        """The worker's first line."""
        text = b""
        while not text.endswith(b"\n"):
            byte = self.worker.recv(1)
            if not byte:
                return []
            text += byte
        return [(folder, owner) for folder, owner in json.loads(text)["remove"]]

    def _remove(self, orderly: bool) -> None:
        deadline = time.monotonic() + (0 if orderly else _DYING_SECONDS)
        while True:
            for folder, owner in self._doomed:
                if not owner or not _alive(owner):
                    _remove_folder(folder)
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)


def _remove_folder(folder: str) -> None:
    """Unless another worker of this machine needs it, too: then that one's nursery does it."""
    import fcntl
    import shutil

    try:
        users = os.open(os.path.join(folder, ".users"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:  # nobody shares it
        shutil.rmtree(folder, ignore_errors=True)
        return
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = f"{folder}.gone-{os.getpid()}"
        os.rename(folder, gone)  # at once and with the lock: nobody takes what is left of it for the whole
        shutil.rmtree(gone, ignore_errors=True)
    except OSError:
        return
    finally:
        os.close(users)


class Guard(_Parent):
    """The parent of one scorer."""

    def __init__(self, worker: socket.socket, lifeline: int, descriptors: list[int]) -> None:
        super().__init__(worker)
        self.lifeline = lifeline
        self.descriptors = descriptors
        self._scorer = -1
        self._ending: dict[str, int | None] = {"ended": None, "peak": 0}

    def serve(self) -> Role | None:
        guard = os.getpid()
        try:
            self._scorer = os.fork()
        except OSError:
            return None
        if self._scorer == 0:
            return self._become_scorer(guard)
        for fd in self.descriptors:
            os.close(fd)
        self.forked.add(self._scorer)
        with contextlib.suppress(ConnectionError):
            self._say({"started": self._scorer, "guard": guard})
            while self.forked and not self._told_to_end():
                self._reap()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._scorer, signal.SIGKILL)
        self._kill_all()
        with contextlib.suppress(ConnectionError):
            self._say(self._ending)
        return None

    def _told_to_end(self) -> bool:
        ready = self._sleep(self.worker.fileno(), self.lifeline)
        if ready == [self.worker.fileno()] and self.worker.recv(1) == STACKS:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self._scorer, stacks.SIGNAL)  # it is not yet reaped: the PID is nobody else's
            return False
        return bool(ready)

    def _ended(self, pid: int, status: int, peak: int) -> None:
        if pid == self._scorer:
            self._ending = {"ended": status, "peak": peak}

    def _say(self, word: dict[str, Any]) -> None:
        self.worker.sendall(json.dumps(word).encode() + b"\n")

    def _become_scorer(self, guard: int) -> Role:
        """In the forked child: forget the guard, and tie our life to it."""
        os.setsid()
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        self._leave()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if _LINUX:
            os.close(self.lifeline)
        else:
            threading.Thread(target=_end_with, args=(self.lifeline, guard), daemon=True).start()
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
        from daskscore.scorer.__main__ import main as score

        return lambda: score(*self.descriptors)


def _end_with(lifeline: int, guard: int) -> None:
    """Where prctl is missing: the nursery's end and the guard's are seen soon enough."""
    while os.getppid() == guard and not select.select([lifeline], [], [], 0.5)[0]:
        pass
    os.killpg(0, signal.SIGKILL)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _children() -> set[int]:
    """The children of this process, orphans that came to it included (Linux; elsewhere they do not come)."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children") as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        pass
    with contextlib.suppress(FileNotFoundError):
        return {int(entry) for entry in os.listdir("/proc") if entry.isdigit() and _stat(entry)[1:2] == [str(me)]}
    return set()


def _stat(pid: str | int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: state, parent, group, session, …"""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _stat(pid)[:1] != ["Z"]


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
