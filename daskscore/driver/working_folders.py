"""The folders of this machine that stand for outputs in storages: where they are, whose, and what is known of each."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from daskscore.driver.remote_folder import RemoteFolder
from daskscore.errors import OutputError

RECORD = "record.json"


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where daskscore keeps on this machine what would be lost, or slow, without it."""
    if named := environment.get("DASKSCORE_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(named)))
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "daskscore"


def home_of(remote: RemoteFolder, cache: Path) -> Path:
    """One per remote folder; buckets of one name may stand at several endpoints, but not at Amazon."""
    endpoint = "" if ".amazonaws.com" in remote.endpoint else remote.endpoint
    return cache / "outputs" / hashlib.sha256(f"{remote.uri}\n{endpoint}".encode()).hexdigest()[:16]


@dataclass(slots=True)
class Record:
    """What is known here about the remote folder, kept beside the working folder."""

    uri: str
    token: str
    """Of our lock, so that it is known for ours after the driver was killed."""
    base: str | None = None
    """The edition that the working folder goes on from."""
    next: str | None = None
    """The edition whose publication has begun."""
    clear: bool = False
    """The remote folder may still hold the run that was overwritten."""
    unpublished: bool = False
    """The working folder holds what the remote one does not."""
    stand_in: bool = False
    """The rows in the working folder are an empty file that stands for those of the storage."""

    @classmethod
    def load(cls, home: Path, uri: str) -> Record:
        try:
            return cls(**json.loads((home / RECORD).read_text()))
        except (OSError, ValueError, TypeError):
            return cls(uri, secrets.token_hex(16))

    def save(self, home: Path) -> None:
        path = home / RECORD
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(self), indent=1) + "\n")
        unfinished.replace(path)


@contextmanager
def alone(home: Path, uri: str) -> Iterator[None]:
    """No other driver on this machine has the working folder; one that is given up leaves nothing."""
    path = home.with_suffix(".lock")
    with usable(home, uri):
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace") or "another process"
            raise OutputError(
                f"output {uri} is in use by {holder}. Wait for it, or name another folder with --output"
            ) from None
        if not path.exists() or os.stat(lock).st_ino != path.stat().st_ino:
            raise OutputError(f"output {uri} was in use until just now. Run the same command once more")
        with usable(home, uri):
            os.truncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            home.mkdir(mode=0o700, exist_ok=True)
        try:
            yield
        finally:
            if not home.exists():
                path.unlink(missing_ok=True)
    finally:
        os.close(lock)


@contextmanager
def usable(home: Path, uri: str) -> Iterator[None]:
    """What the disk of this machine refuses before a run begins."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"output {uri} needs a working folder on this machine, and {error.filename or home} cannot be written: "
            f"{error.strerror}. Make room there, or set DASKSCORE_CACHE to another folder"
        ) from None
