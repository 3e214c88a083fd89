"""The worker's side of nursery and guards: start scorers, hear how they ended, end them."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from daskscore.errors import RunError
from daskscore.scorer.guard import END, STACKS, START

CLOSE_SECONDS = 15.0
"""How long a nursery may take to end in order; one that was stopped never does."""

START_SECONDS = 60.0
"""How long a fork may take; only a machine in trouble needs more than some milliseconds."""

KILL_SECONDS = 5.0
"""How long a guard may take to end its scorer before it is ended itself."""

STACKS_SECONDS = 0.5
"""How long a scorer may take to write where its threads stand; one that was stopped never does."""

FOLDER_PREFIX = "daskscore-"

PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])

ROOM = f"""
import sys
from importlib.machinery import PathFinder
class Room:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, [{PACKAGE_ROOT!r}]) if name == "daskscore" else None
sys.meta_path.insert(0, Room)
"""
"""In a Python of the job's own, `daskscore` is the worker's, and nothing else that is installed beside it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a scorer ended: its exit code, or minus the signal; None where its guard could not tell."""

    status: int | None
    peak_bytes: int = 0


STARTS = 3
"""How often a nursery, or a guard, that is killed before its first word is started again."""


class NurseryGone(Exception):
    """The nursery was killed: another one has to be started."""


class GuardGone(Exception):
    """The guard of a scorer was killed before its first word, and the nursery lives."""


class Nursery:
    """The nursery process of one worker; safe to use from all slots' threads."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str],
        remove_at_end: Sequence[tuple[str, int]] = (),
        python: str | None = None,
    ) -> None:
        """`python`: of the job's own environment; None: the worker's."""
        room = f"import sys; sys.path.append({PACKAGE_ROOT!r})" if python is None else ROOM
        code = f"{room}\nfrom daskscore.scorer.guard import main; main()"
        self._asking = threading.Lock()
        words = json.dumps({"remove": list(remove_at_end)}).encode() + b"\n"
        for attempt in range(STARTS):
            self._socket, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [python or sys.executable, "-P", "-c", code],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=dict(environment),
                    start_new_session=True,
                    close_fds=True,
                )
            try:
                self._socket.sendall(words)
                return
            except OSError as error:  # it was killed at once
                self.close()
                if attempt == STARTS - 1:
                    raise RunError(
                        f"the process that starts the scorers ended {STARTS} times at once ({error}). Does something on "
                        "this machine kill processes?"
                    ) from error

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, commands: int, words: int, mark: int) -> Guard:
        """A new scorer on these descriptors."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, self._asking:
                socket.send_fds(self._socket, [START], [theirs.fileno(), commands, words, mark])
            return Guard(ours)
        except OSError as error:
            ours.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
                raise NurseryGone from error
            if isinstance(error, ConnectionError):
                raise GuardGone from error
            raise RunError(
                f"no scorer process could be started ({error}). Is this machine out of processes?"
            ) from error

    def close(self) -> None:
        """End the nursery, its guards, their scorers and all they started, and wait until they are gone."""
        with suppress(OSError):
            self._socket.sendall(END)
        self._socket.close()
        try:
            self._process.wait(timeout=CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its guards know by the lifeline
            self._process.wait()


def passing_folder() -> str:
    """A name for a folder that a nursery shall remove: tell it, then make the folder, so that a kill leaves nothing."""
    wanted = os.environ.get("TMPDIR") or "/tmp"
    # gettempdir() tries a folder with a file that a kill at that moment would leave there.
    usable = os.path.isdir(wanted) and os.access(wanted, os.W_OK | os.X_OK)
    return os.path.join(
        os.path.abspath(wanted) if usable else tempfile.gettempdir(), f"{FOLDER_PREFIX}{secrets.token_hex(6)}"
    )


def shared_folder(run: str) -> str:
    """The same for all workers of a run on this machine, and unknown to others until it is made."""
    return os.path.join(os.path.dirname(passing_folder()), f"{FOLDER_PREFIX}{run}-side-inputs")


class Guard:
    """One scorer's guard; used by one thread at a time. Can be waited for in `select`, like a file."""

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._heard = b""
        self._ending: Ending | None = None
        started = self._hear(START_SECONDS)
        if started is None:
            raise TimeoutError(f"no answer within {START_SECONDS:.0f} s")
        if not started:
            raise ConnectionError("the guard is gone")
        self.scorer: int = started["started"]
        self.pid: int = started["guard"]

    def fileno(self) -> int:
        return self._socket.fileno()

    def wait(self, seconds: float) -> Ending | None:
        """How the scorer ended; None while it has not. Nothing that it has started is left then."""
        if self._ending is None and (word := self._hear(seconds)) is not None:
            self._ending = Ending(word.get("ended"), word.get("peak") or 0)
        return self._ending

    def end_with_stacks(self) -> Ending:
        """Like `end`, after the scorer has written where its threads stand, if it does so at once."""
        with suppress(OSError):
            self._socket.send(STACKS)
        return self.wait(STACKS_SECONDS) or self.end()

    def end(self) -> Ending:
        """Now, with all that the scorer has started."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        if ending := self.wait(KILL_SECONDS):
            return ending
        # The script has stopped its guard. What they leave behind is the nursery's to end.
        for kill, pid in ((os.killpg, self.scorer), (os.kill, self.pid)):
            with suppress(ProcessLookupError):
                kill(pid, signal.SIGKILL)
        return self.wait(KILL_SECONDS) or Ending(None)

    def close(self) -> None:
        self._socket.close()

    def _hear(self, seconds: float) -> dict[str, int] | None:
        """The guard's next word, an empty one when it is gone, None when it said nothing for so long."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._heard:
            if not ready([self._socket.fileno()], max(0.0, deadline - time.monotonic())):
                return None
            try:
                data = self._socket.recv(4096)
            except ConnectionError:
                data = b""
            if not data:
                return {}
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        word: dict[str, int] = json.loads(line)
        return word


def ready(descriptors: Sequence[int], seconds: float, *, event: int = select.POLLIN) -> set[int]:
    """Which of them can be read (or written), after so long at most; unlike `select`, with any number of them."""
    poll = select.poll()
    for fd in descriptors:
        poll.register(fd, event)
    return {fd for fd, _ in poll.poll(seconds * 1000)}


def resident_bytes(pid: int) -> int:
    """How much memory a process holds now; 0 where this cannot be known."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
