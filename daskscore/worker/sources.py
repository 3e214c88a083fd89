"""The script's folder on a node: where it is seen it is used in place, elsewhere it is unpacked once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, cast

from daskscore.errors import InputError
from daskscore.worker import cache
from daskscore.worker.cache import Held, Stopped, cache_folder, hold

KIND = "code"
LIMIT_BYTES = 300 << 20
HASHED_BYTES = 1 << 20
"""Files up to this size are compared by their content, larger ones by size and time."""

READ_BYTES = 1 << 20
ASK_SECONDS = 5.0
"""How often a worker asks for the folder again: the driver may have been busy, or away."""

WAIT_SECONDS = 600.0
"""How long it waits after the last word of the driver."""

UNPACK_SECONDS = 600.0


class Witness(NamedTuple):
    """A file of the folder, as the driver sees it."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    sha256: str
    """Empty for one that is too large to be read for this."""


@dataclass(frozen=True, slots=True)
class Code:
    """The script's folder as the driver knows it."""

    folder: str
    witnesses: tuple[Witness, ...]
    """Its first files; a folder in which these are the same is the same."""
    folders: Mapping[str, int]
    """The inodes of the folders that these are in, by their relative paths."""
    taken_ns: int
    """When they were looked at."""


def is_here(code: Code) -> bool:
    """Whether this machine has the folder at the same place with the same content."""
    return os.path.isdir(code.folder) and all(_agrees(code, witness) for witness in code.witnesses)


def _agrees(code: Code, witness: Witness) -> bool:
    path = os.path.join(code.folder, witness.path)
    try:
        found = os.stat(path)
        if found.st_ino == witness.inode and found.st_mtime_ns > code.taken_ns:
            return True  # the script has written to its own folder since
        if not stat.S_ISREG(found.st_mode) or found.st_size != witness.size:
            return _is_replaced(code, witness)
        same = digest_of(path) == witness.sha256 if witness.sha256 else found.st_mtime_ns == witness.mtime_ns
        return same or _is_replaced(code, witness)
    except FileNotFoundError:
        return _is_replaced(code, witness)
    except OSError:
        return False


def _is_replaced(code: Code, witness: Witness) -> bool:
    """The driver's own folder has lost the file, or got another one, since it was looked at: logs and the like do."""
    name = witness.path
    while name:
        name = os.path.dirname(name)
        try:
            found = os.stat(os.path.join(code.folder, name))
        except FileNotFoundError:
            continue
        return found.st_ino == code.folders.get(name) and found.st_mtime_ns > code.taken_ns
    return False


def digest_of(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class CodeFolder:
    """The folder on one worker; safe to use from all threads."""

    def __init__(self, code: Code, stopping: Callable[[], bool]) -> None:
        self._code = code
        self._stopping = stopping
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._place = ""
        self._failure = ""
        self._held: Held | None = None
        self._package: IO[bytes] | None = None
        self._heard = time.monotonic()
        self.looked = False
        """It is known whether the folder is here."""

    def look(self) -> None:
        """See whether it is here; reads files, and so is called in a thread."""
        if is_here(self._code):
            self._settle(self._code.folder)
        self.looked = True

    @property
    def wanted(self) -> bool:
        return self.looked and not self._settled.is_set()

    def place(self, ask: Callable[[], None]) -> str:
        """Its path, once it is here; `ask` lets the driver know that it is wanted."""
        asked = 0.0
        self._heard = time.monotonic()
        while not self._settled.wait(cache.LOOK_SECONDS):
            now = time.monotonic()
            if self._stopping():
                raise Stopped
            if now - self._heard > WAIT_SECONDS:
                raise InputError(
                    f"the script's folder {self._code.folder} is not on this machine, and did not come from the driver within "
                    f"{WAIT_SECONDS:g} s. Put source_directory on a disk that all machines share, or see whether the driver lives"
                )
            if self.looked and now - asked > ASK_SECONDS:
                asked = now
                ask()
        if self._failure:
            raise InputError(self._failure)
        return self._place

    def find(self, digest: str) -> str:
        """Take it from the cache; where it is not, the name of that cache, of which each needs it once."""
        try:
            folder = cache_folder(KIND)
            with self._lock:
                self._heard = time.monotonic()
                if self._settled.is_set():
                    return ""
                if (kept := cache.held(folder, digest)) is not None:
                    self._keep(kept)
                    return ""
            found = folder.stat()
            return f"{socket.gethostname()} {found.st_dev} {found.st_ino}"
        except (OSError, InputError) as error:
            self.refuse(_words(error))
            return ""

    def take(self, offset: int, data: bytes) -> None:
        """Some bytes of the package, in order; what comes twice counts once."""
        with self._lock:
            self._heard = time.monotonic()
            try:
                if self._package is None or offset == 0:
                    self._package = _nameless_file(cache_folder(KIND))
                self._package.seek(offset)
                self._package.write(data)
            except (OSError, InputError) as error:
                self._fail(_words(error))

    def unpack(self, digest: str) -> None:
        """All bytes are here."""
        with self._lock:
            package, self._package = self._package, None
            if self._settled.is_set() or package is None:
                return
            try:
                with package:
                    folder = cache_folder(KIND)
                    cache.prune(folder)
                    kept = hold(
                        folder,
                        digest,
                        lambda place, _: unpacked(package, place, digest, self._code.folder),
                        what=f"the script's folder {self._code.folder}",
                        stopping=self._stopping,
                        seconds=UNPACK_SECONDS,
                    )
                self._keep(kept)
            except Stopped:
                return
            except (OSError, InputError, tarfile.TarError, zlib.error) as error:
                self._fail(_words(error))

    def refuse(self, message: str) -> None:
        """The driver cannot send it, or this machine cannot keep it."""
        with self._lock:
            self._fail(message)

    def close(self) -> None:
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None
            if self._package is not None:
                self._package.close()
                self._package = None

    def _keep(self, kept: Held) -> None:
        self._held = kept
        self._settle(str(kept.path))

    def _fail(self, message: str) -> None:
        if not self._settled.is_set():
            self._failure = f"the script's folder {self._code.folder} cannot be brought to this machine: {message}"
            self._settled.set()

    def _settle(self, place: str) -> None:
        self._place = place
        self._settled.set()


def _nameless_file(folder: Path) -> IO[bytes]:
    """Of a worker that is killed nothing is left."""
    return cast(IO[bytes], tempfile.TemporaryFile(dir=folder))


def unpacked(package: IO[bytes], place: Path, digest: str, source: str) -> cache.Note:
    """Unpack a compressed tar file; its content has that SHA-256, and every name is below the place."""
    incoming = place.with_name(f"{place.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        incoming.mkdir(mode=0o700)
        stream = _Plain(package)
        links: list[tuple[str, str]] = []
        files = 0
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", errorlevel=1) as tar:
            for member in tar:
                _check_name(member.name)
                path = incoming.joinpath(*member.name.split("/"))
                if member.isdir():
                    path.mkdir(mode=0o700, exist_ok=True)
                elif member.issym():
                    links.append((member.name, member.linkname))
                elif member.isreg():
                    files += 1
                    _write(path, cast(IO[bytes], tar.extractfile(member)), member.mode)
                else:
                    raise InputError(f"its package holds {member.name!r}, which is no file, folder or link")
        stream.drain()
        if stream.sha256.hexdigest() != digest:
            raise InputError("its package did not arrive as it was sent. Start the job again")
        for name, target in links:  # last of all, so that nothing is written through one
            if leads_out(name, target):
                raise InputError(f"its package holds the link {name!r} to {target!r}, which leads out of the folder")
            incoming.joinpath(*name.split("/")).symlink_to(target)
        incoming.rename(place)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return {"source": source, "files": files, "bytes": stream.bytes}


def leads_out(name: str, target: str) -> bool:
    """Whether a link's target, as it is written, is not below the folder that the name starts in."""
    joined = os.path.normpath(os.path.join(os.path.dirname(name), target))
    return os.path.isabs(target) or joined == ".." or joined.startswith("../")


def _check_name(name: str) -> None:
    if name.startswith("/") or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise InputError(f"its package holds {name!r}, which is no name of a file in a folder")


def _write(path: Path, content: IO[bytes], mode: int) -> None:
    """Read-only: another run may use it at the same time."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o500 if mode & 0o100 else 0o400), "wb") as file:
        shutil.copyfileobj(content, file, READ_BYTES)


class _Plain:
    """A package's content as it was before it was compressed, hashed on its way."""

    def __init__(self, package: IO[bytes]) -> None:
        package.seek(0)
        self.sha256 = hashlib.sha256()
        self.bytes = 0
        self._rest = b""
        self._pieces = self._read_pieces(package)

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._rest += piece
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def drain(self) -> None:
        for _ in self._pieces:
            pass

    def _read_pieces(self, package: IO[bytes]) -> Iterator[bytes]:
        unzip = zlib.decompressobj()
        while compressed := package.read(READ_BYTES):
            while compressed:
                piece = unzip.decompress(compressed, READ_BYTES)
                compressed = unzip.unconsumed_tail
                if piece:
                    yield self._counted(piece)
        if piece := unzip.flush():
            yield self._counted(piece)

    def _counted(self, piece: bytes) -> bytes:
        self.sha256.update(piece)
        self.bytes += len(piece)
        if self.bytes > 2 * LIMIT_BYTES:  # with room for the names of many small files
            raise InputError(f"its package is larger than {2 * LIMIT_BYTES >> 20} MiB")
        return piece


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        with suppress(InputError):
            return f"{error.strerror}: {error.filename or cache_folder(KIND)}"
    return str(error)
