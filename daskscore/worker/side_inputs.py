"""Bring what every scorer of a node needs to a local path, once for all of them, whole or not at all."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from daskscore.errors import ConfigError, InputError
from daskscore.inputs.addresses import Address, is_remote, parse
from daskscore.inputs.patience import Patience
from daskscore.inputs.remote import RemoteFiles
from daskscore.inputs.storages import Storage, event_loop
from daskscore.inputs.stores import Stores
from daskscore.inputs.troubles import explain
from daskscore.worker.fetching import fetch, is_file_name

AT_A_TIME = 16
LISTED_AT_A_TIME = 1024
LOCK_SECONDS = 3600.0
"""How long to wait for another process of this node that brings the same."""

LOOK_SECONDS = 0.05
USERS = ".users"
"""Each worker that needs the folder holds a shared lock of this file; `scorer.guard` knows its name, too."""
PATIENCE = Patience()


def stage_side_input(
    uri: str,
    folder: Path,
    stores: Stores,
    *,
    patience: Patience = PATIENCE,
    lock_seconds: float = LOCK_SECONDS,
) -> Path:
    """The local path of a file or folder, with its own base name; raises InputError when it cannot be brought.

    Called by each worker of a node with the same `folder`: the first one brings it, the others wait for that.
    """
    if not is_remote(uri) or uri.lower().startswith("file://"):
        return Path(uri[len("file://") :] if is_remote(uri) else uri)
    address = parse(uri)
    digest = hashlib.sha256(address.uri.encode()).hexdigest()[:16]
    name = _name(address)
    place = folder / digest
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(folder / f"{digest}.lock", lock_seconds, address.uri):
            if not place.exists():
                incoming = folder / f"{digest}.incoming"
                shutil.rmtree(incoming, ignore_errors=True)
                try:
                    _Bringing(address, incoming, name, stores, patience).run()
                    incoming.replace(place)
                finally:
                    shutil.rmtree(incoming, ignore_errors=True)
    return place / name


@dataclass(slots=True)
class _Bringing:
    """All objects of one address, a number of them at a time."""

    address: Address
    folder: Path
    name: str
    stores: Stores
    patience: Patience
    _storage: Storage = field(init=False)

    def run(self) -> None:
        self._storage = self.stores.storage(self.address)
        listing = RemoteFiles(self.address.uri, everything=True, stores=self.stores).items()
        while uris := list(islice(listing, LISTED_AT_A_TIME)):
            asyncio.run_coroutine_threadsafe(self._bring(uris), event_loop()).result()

    async def _bring(self, uris: list[str]) -> None:
        wanted = iter([parse(uri) for uri in uris])
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(AT_A_TIME):
                    group.create_task(self._bring_some(wanted, self.folder / f".incoming-{number}"))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _bring_some(self, wanted: Iterator[Address], incoming: Path) -> None:
        for one in wanted:
            await self._bring_one(one, incoming)

    async def _bring_one(self, one: Address, incoming: Path) -> None:
        target = self._target(one)
        began = self.patience.clock()
        failures = 0
        while True:
            try:
                await fetch(
                    self._storage, one, target, incoming=incoming, silence_seconds=self.patience.silence_seconds
                )
                return
            except Exception as error:
                trouble = explain(error)
                if trouble is None:
                    raise
            failures += 1
            pause = self.patience.pause(failures, began) if trouble.may_pass else None
            if pause is None:
                tried = f" (tried {failures} times)" if failures > 1 else ""
                raise InputError(
                    f"side input {self.address.uri}: {one.uri} cannot be brought to {self.folder.parent}{tried}: "
                    f"{self.stores.mask(trouble.words)}. Check that it is there, its rights, and the space on the disk"
                )
            await asyncio.sleep(pause)

    def _target(self, one: Address) -> Path:
        if one.path == self.address.path:
            return self.folder / self.name
        parts = one.path.removeprefix(self.address.path.rstrip("/")).lstrip("/").split("/")
        if not all(map(is_file_name, parts)):
            raise InputError(
                f"side input {self.address.uri}: {one.uri} has no name that a local file can have. Rename it"
            )
        return self.folder.joinpath(self.name, *parts)


def _name(address: Address) -> str:
    """A folder is called what it is called in the storage, too."""
    name = address.base_name or address.path.rstrip("/").rpartition("/")[2] or address.container or "side_input"
    if not is_file_name(name):
        raise InputError(f"side input {address.uri} ends with {name!r}, which cannot be the name of a local file")
    return name


@contextmanager
def _lock(path: Path, seconds: float, what: str) -> Iterator[None]:
    """Held by one process and thread at a time; it is free again when its holder has ended, however that was."""
    deadline = time.monotonic() + seconds
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(
                        f"side input {what} was not there after {seconds:g} s: another worker of this node is bringing it. "
                        "See its log, or start the job again"
                    ) from None
                time.sleep(LOOK_SECONDS)
        yield
    finally:
        os.close(fd)


@dataclass(slots=True)
class SideInputs:
    """All that a run's scorers need of this kind; brought when the first scorer of the worker starts."""

    wanted: Mapping[str, str]
    """Addresses, by whatever name the settings of a scorer have for them."""
    stores: Stores | None
    folder: Path
    """The same for all workers of this machine; see `shared_folder`."""
    _paths: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _users: int = -1

    def paths(self) -> dict[str, str]:
        """Where each is now; raises InputError for what cannot be brought."""
        with self._lock:
            if self.wanted and not self._paths:
                assert self.stores is not None
                if self._users < 0:
                    self._users = use_folder(self.folder)
                try:
                    self._paths = {
                        name: str(stage_side_input(uri, self.folder, self.stores)) for name, uri in self.wanted.items()
                    }
                except ConfigError as error:  # a variable of storage_options that only this machine lacks
                    raise InputError(str(error)) from error
            return self._paths

    def close(self) -> None:
        """This worker needs them no more; whoever is the last one, removes them."""
        with self._lock:
            self._paths = {}
            if self._users >= 0:
                os.close(self._users)
                self._users = -1
        if self.stores is not None:
            self.stores.close()


def use_folder(folder: Path) -> int:
    """Make a folder that workers of one machine share; it stays while one of them keeps the descriptor open."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        try:
            if folder.stat().st_uid != os.geteuid():
                raise InputError(
                    f"side inputs cannot be kept in {folder}: it belongs to somebody else. Set TMPDIR to one of your own"
                )
            users = os.open(folder / USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the last one has just removed it
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            if os.stat(folder / USERS).st_ino == os.fstat(users).st_ino:
                return users
        except FileNotFoundError:
            pass
        os.close(users)
