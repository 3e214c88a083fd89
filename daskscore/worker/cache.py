"""What a node keeps between runs for one user: folders by the hash of their content, whole or not at all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daskscore.errors import InputError

LOOK_SECONDS = 0.05
UNUSED_SECONDS = 14 * 24 * 3600.0
"""What no run has used for so long is removed when something new comes."""

Note = dict[str, Any]


class Stopped(Exception):
    """The run was stopped while it waited."""


@dataclass(frozen=True, slots=True)
class Held:
    """A kept folder that nobody removes until `close`."""

    path: Path
    note: Note
    """What its maker had to say."""
    _lock: int

    def close(self) -> None:
        os.close(self._lock)


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry, as it is listed."""

    path: Path
    note: Note
    used: float
    """When a run has last begun with it, in seconds since the epoch."""


def cache_folder(kind: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder for one kind of things, made if need be, and nobody else's; raises InputError."""
    candidates = list(_roots(environment))
    for root in candidates:
        with suppress(OSError):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = root / kind
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                raise InputError(f"{folder} belongs to somebody else. Set DASKSCORE_CACHE to a folder of your own")
            if stat.S_IMODE(found.st_mode) & 0o077:
                folder.chmod(0o700)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    raise InputError(
        f"nothing can be kept in {' or '.join(map(str, candidates))}. Set DASKSCORE_CACHE to a folder that can be written"
    )


def _roots(environment: Mapping[str, str]) -> Iterator[Path]:
    if named := environment.get("DASKSCORE_CACHE"):
        yield Path(os.path.abspath(os.path.expanduser(named)))
        return
    home = environment.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    yield Path(home) / "daskscore"
    yield Path(tempfile.gettempdir()) / f"daskscore-cache-{os.geteuid()}"


def hold(
    folder: Path,
    name: str,
    make: Callable[[Path, int], Note],
    *,
    what: str,
    stopping: Callable[[], bool],
    seconds: float,
) -> Held:
    """The entry of that name; the first who asks for it makes it, and others wait for that.

    `make` is given the place, where there is nothing yet, and the lock: a process that inherits it keeps others waiting.
    """
    place, deadline = folder / name, time.monotonic() + seconds
    while True:
        lock = os.open(_lock_of(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if (note := _take(place, lock, make)) is not None:
                return Held(place, note, lock)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        if stopping():
            raise Stopped
        if time.monotonic() > deadline:
            raise InputError(
                f"{what} was not there after {seconds:g} s: another process of this node is at it. See its log, or start "
                "the job again"
            )
        time.sleep(LOOK_SECONDS)


def held(folder: Path, name: str) -> Held | None:
    """The entry of that name, if it is there."""
    place = folder / name
    if _note(place) is None:
        return None
    lock = os.open(_lock_of(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if (note := _take(place, lock, None)) is not None:
        return Held(place, note, lock)
    os.close(lock)
    return None


def entries(folder: Path) -> list[Kept]:
    """All that are whole, the last used first."""
    found = []
    for path in folder.glob("*.json"):
        place = path.with_suffix("")
        with suppress(OSError):
            if (note := _note(place)) is not None:
                found.append(Kept(place, note, path.stat().st_mtime))
    return sorted(found, key=lambda kept: kept.used, reverse=True)


def prune(folder: Path, *, unused_seconds: float = UNUSED_SECONDS, now: float | None = None) -> list[Kept]:
    """Remove what no run uses, or has used for so long, and what is left of what was never finished."""
    now = time.time() if now is None else now
    whole = {kept.path.name: kept for kept in entries(folder)}
    removed = []
    for path in sorted(folder.glob("*.lock")):
        kept = whole.get(path.stem)
        with suppress(OSError):
            if now - (kept.used if kept else path.stat().st_mtime) < unused_seconds:
                continue
            lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _locked(lock, fcntl.LOCK_EX) and _same(lock, path):
                    _remove(path.with_suffix(""))
                    for beside in folder.glob(f"{path.stem}.*"):
                        beside.unlink()
                    removed += [kept] if kept else []
            finally:
                os.close(lock)
    return removed


def _take(place: Path, lock: int, make: Callable[[Path, int], Note] | None) -> Note | None:
    """Its note, with a lock that keeps it; None when another process has it in hand."""
    path = _lock_of(place)
    if _note(place) is None and make is not None and _locked(lock, fcntl.LOCK_EX) and _same(lock, path):
        if _note(place) is None:
            _remove(place)  # what one that was killed has left
            try:
                _write_note(place, make(place, lock))
            except BaseException:
                _remove(place)
                raise
        fcntl.flock(lock, fcntl.LOCK_SH)
    elif not (_locked(lock, fcntl.LOCK_SH) and _same(lock, path)):
        return None
    note = _note(place)
    if note is not None:
        with suppress(OSError):
            os.utime(_note_of(place))
    return note


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(lock: int, path: Path) -> bool:
    """It may have been removed just before it was locked."""
    try:
        return os.fstat(lock).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _remove(place: Path) -> None:
    _note_of(place).unlink(missing_ok=True)
    for path in (place, *place.parent.glob(f"{place.name}.*")):
        if path.is_dir():  # what makes one may have folders beside it
            shutil.rmtree(path, ignore_errors=True)


def _lock_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


def _note_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _note(place: Path) -> Note | None:
    try:
        note: Note = json.loads(_note_of(place).read_text())
    except (OSError, ValueError):
        return None
    return note


def _write_note(place: Path, note: Note) -> None:
    unfinished = place.with_name(f"{place.name}.unfinished")
    unfinished.write_text(json.dumps(note))
    unfinished.replace(_note_of(place))
