"""One driver at a time in an output of a storage: an object that names the driver, and is renewed while it lives."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from daskscore.driver.remote_folder import RemoteFolder
from daskscore.errors import DaskscoreError, OutputError

LOCK = ".daskscore/lock"
PROBE = ".daskscore/probe-"
TRIES = 5


@dataclass(frozen=True, slots=True)
class Lease:
    """How long a lock counts without a sign of life."""

    renew_seconds: float = 30.0
    stale_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who says that the output is theirs."""

    token: str
    words: str
    """Like `process 17 on node-3`."""
    time: datetime | None
    """By the holder's own clock."""


def probe(folder: RemoteFolder) -> datetime:
    """What time it is for the storage, which must let us write and remove; asked before any work."""
    name = f"{PROBE}{secrets.token_hex(8)}"
    folder.write(name, b"daskscore tries whether it may write here\n")
    now = folder.written(name)
    folder.remove([name])
    return now or datetime.now(UTC)


class RemoteLock:
    """Taken, renewed in a thread, and released by the driver; `token` is known to no other one."""

    def __init__(
        self,
        folder: RemoteFolder,
        token: str,
        *,
        lease: Lease,
        say: Callable[[str], None],
        on_loss: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._token = token
        self._lease = lease
        self._say = say
        self._on_loss = on_loss
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="daskscore-lock", daemon=True)

    def take(self, now: datetime) -> None:
        """Hold it, or raise an OutputError that names who does; `now` is by the clock of the storage."""
        for _ in range(TRIES):
            if self._folder.create(LOCK, self._text()):
                break
            holder = self.holder()
            if holder is None:
                continue  # released just now
            if holder.token == self._token:  # ours, from before this driver's predecessor was killed
                self._folder.write(LOCK, self._text())
                break
            silent = self._silent_seconds(now, holder)
            if silent < self._lease.stale_seconds:
                raise self._in_use(holder, silent)
            self._say(
                f"output {self._folder.uri} was in use by {holder.words}, which gave no sign of life for {silent:.0f} s: "
                "taken over"
            )
            self._folder.remove([LOCK])
        self.confirm()
        self._thread.start()

    def confirm(self) -> None:
        """Raise an OutputError if somebody else holds it by now."""
        holder = self.holder()
        if holder is not None and holder.token != self._token:
            raise self._in_use(holder, None)

    def holder(self) -> Holder | None:
        """Who holds it, as the storage says."""
        text = self._folder.read(LOCK)
        return None if text is None else _parse(text)

    def release(self) -> None:
        """Best effort: what cannot be removed goes stale."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(self._lease.renew_seconds)
        try:
            holder = self.holder()
            if holder is not None and holder.token == self._token:
                self._folder.remove([LOCK])
        except DaskscoreError as error:
            self._say(f"{error}. {self._folder.uri_of(LOCK)} stays until it is {self._lease.stale_seconds:g} s old")

    def _keep_renewing(self) -> None:
        while not self._over.wait(self._lease.renew_seconds):
            with suppress(DaskscoreError):  # there are some more tries before the lock is stale
                holder = self.holder()
                if holder is not None and holder.token != self._token:
                    self._say(f"output {self._folder.uri} was taken over by {holder.words}")
                    self._on_loss()
                    return
                if not self._over.is_set():
                    self._folder.write(LOCK, self._text())

    def _silent_seconds(self, now: datetime, holder: Holder) -> float:
        written = self._folder.written(LOCK) or holder.time or now
        return max(0.0, (_aware(now) - _aware(written)).total_seconds())

    def _in_use(self, holder: Holder, silent: float | None) -> OutputError:
        heard = "" if silent is None else f" (its last sign of life: {silent:.0f} s ago)"
        stale = self._lease.stale_seconds
        return OutputError(
            f"output {self._folder.uri} is in use by {holder.words}{heard}. Wait for it, or name another folder with "
            f"--output; if it is dead, the output is free {stale:g} s after its last sign of life"
        )

    def _text(self) -> bytes:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        words = {"host": socket.gethostname(), "process": os.getpid(), "time": now, "token": self._token}
        return (json.dumps(words) + "\n").encode()


def _parse(text: bytes) -> Holder:
    """A lock that cannot be read is somebody's, too."""
    try:
        words = json.loads(text)
        time = datetime.fromisoformat(words["time"])
        return Holder(str(words["token"]), f"process {words['process']} on {words['host']}", time)
    except (ValueError, TypeError, KeyError):
        return Holder("", "another process", None)


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
