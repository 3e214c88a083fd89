"""The parent of all scorers of one worker: forks them, says how they ended, and leaves nothing of them behind.

It runs no code of the user. Its contract with the worker, over the socket that is its standard input:

    worker → guard    b"F" and three descriptors (commands, words, mark)    fork a scorer on them
                      b"K" and a pid                                        end that scorer and what it started
    guard → worker    {"started": pid}                                      the answer to F
                      {"ended": pid, "status": …, "peak": bytes}            once for each scorer, strays killed before

When the socket closes, however the worker ended, every process below the guard is killed and the guard goes too, after
removing the folders that the worker named in its first line. A scorer is a session of its own, so that `killpg` reaches
what its script started; what has left the session comes to the guard as an orphan (Linux: it is a subreaper) and is
known by the mark that its environment carries.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

REQUEST = struct.Struct("<cq")
PROCESS_MARK = "DASKSCORE_PROCESS"
"""Names, in the environment of all that a script starts, the scorer it belongs to."""

_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"


def main() -> None:
    """Serve one worker until its socket closes."""
    worker = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _prctl(_SET_CHILD_SUBREAPER, 1)
    Guard(worker).serve()


class Guard:
    def __init__(self, worker: socket.socket) -> None:
        self.worker = worker
        self.scorers: dict[int, str] = {}
        """The mark of each living scorer."""
        self.forked = 0
        self.lifeline, self._lifeline_write = os.pipe()
        """Where prctl is missing, a scorer knows by this pipe's end that the guard is gone."""
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        os.set_blocking(self._wake_read, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        doomed: list[tuple[str, int]] = []
        try:
            doomed = self._hello()
            while True:
                ready, _, _ = select.select([self.worker.fileno(), self._wake_read], [], [])
                if self._wake_read in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake_read, 4096)
                    self._reap()
                if self.worker.fileno() in ready and not self._obey():
                    return
        except (ConnectionError, BrokenPipeError):
            return
        finally:
            self._end_all()
            for folder, owner in doomed:
                if not owner or not _alive(owner):
                    shutil.rmtree(folder, ignore_errors=True)

    def _hello(self) -> list[tuple[str, int]]:
        """The worker's first line: folders to remove at the end (with a pid: only if that process is gone)."""
        text = b""
        while not text.endswith(b"\n"):
            byte = self.worker.recv(1)
            if not byte:
                return []
            text += byte
        return [(folder, owner) for folder, owner in json.loads(text)["remove"]]

    def _obey(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self.worker, REQUEST.size, 3)
        if not message:
            return False
        while len(message) < REQUEST.size:
            message += self.worker.recv(REQUEST.size - len(message))
        word, pid = REQUEST.unpack(message)
        if word == b"F":
            self._fork(*descriptors)
        elif word == b"K" and pid in self.scorers:
            _kill_group(pid)
        return True

    def _fork(self, commands: int, words: int, mark: int) -> None:
        self.forked += 1
        name = f"{os.getpid()}.{self.forked}"
        pid = os.fork()
        if pid == 0:
            _become_scorer(self, name, commands, words, mark)
        for fd in (commands, words, mark):
            os.close(fd)
        self.scorers[pid] = name
        self._say({"started": pid})

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if name := self.scorers.pop(pid, None):
                _kill_group(pid)
                _kill_strays(partial(_belongs, name=name, session=pid))
                peak = usage.ru_maxrss * (1024 if _LINUX else 1)
                self._say({"ended": pid, "status": os.waitstatus_to_exitcode(status), "peak": peak})

    def _say(self, word: dict[str, Any]) -> None:
        self.worker.sendall(json.dumps(word).encode() + b"\n")

    def _end_all(self) -> None:
        for pid in self.scorers:
            _kill_group(pid)
        while True:
            _kill_strays(lambda _: True)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def _become_scorer(guard: Guard, name: str, commands: int, words: int, mark: int) -> None:
    """In the forked child: forget the guard, tie its life to it, and run the scorer."""
    status = 1
    try:
        parent = os.getppid()
        os.setsid()
        _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        guard.worker.close()
        os.close(guard._wake_read)
        os.close(guard._lifeline_write)
        if not _LINUX:
            threading.Thread(target=_end_with, args=(guard.lifeline,), daemon=True).start()
        os.environ[PROCESS_MARK] = name
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
        from daskscore.scorer.__main__ import main as score

        score(commands, words, mark)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _end_with(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _kill_strays(doomed: Callable[[int], bool]) -> None:
    """Kill the orphans that have come to this process and are doomed; their own children come next, so go round."""
    seen: set[int] = set()
    while True:
        found = {pid for pid in _children() if pid not in seen and doomed(pid)}
        if not found:
            return
        seen |= found
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    """The processes whose parent is this one (Linux; elsewhere orphans do not come to us)."""
    me = str(os.getpid())
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir("/proc"):
            if entry.isdigit() and _stat(entry)[1:2] == [me]:
                found.append(int(entry))
    return found


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


def _belongs(stray: int, *, name: str, session: int) -> bool:
    """Whether this orphan was started by the scorer of that name."""
    if _stat(stray)[3:4] == [str(session)]:
        return True
    try:
        with open(f"/proc/{stray}/environ", "rb") as file:
            return f"{PROCESS_MARK}={name}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main()
