"""The script's folder, for workers that do not see it: packed once, when the first of them asks for it."""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Self, cast

from distributed import Client

from daskscore.config import JobConfig
from daskscore.driver.workers import CALL_SECONDS, within
from daskscore.errors import RunError
from daskscore.worker.session import plugin_name
from daskscore.worker.sources import HASHED_BYTES, LIMIT_BYTES, UNPACK_SECONDS, Code, Witness, digest_of, leads_out
from daskscore.worker.task import find_code, refuse_code, take_code, unpack_code

IGNORE_FILES = (".amlignore", ".gitignore")
"""The first of these that stands at the root says what does not travel."""

NEVER = (".git", "__pycache__")
WITNESSES = 1000
WITNESS_BYTES = 16 << 20
"""How many files are compared, and how much of them is read."""

CHUNK_BYTES = 4 << 20
LONGEST_LIST = 5
TIME = 315_532_800
"""Of every file in a package: its bytes depend on nothing but the folder's content. Some formats begin with 1980."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something in the folder that travels."""

    name: str
    """Relative to the folder, with slashes."""
    path: str
    mode: int


def found_in(folder: Path, output: Path | None, *, unreadable: bool = False) -> Iterator[Found]:
    """All that travels, the files of a folder before those below it; a folder that is `unreadable` may count as empty."""
    ignored = _ignored(folder)
    never = os.path.realpath(output) if output is not None else None

    def walk(path: str, prefix: str) -> Iterator[Found]:
        deeper = []
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not unreadable and not (prefix and isinstance(error, FileNotFoundError)):
                raise
            return
        for entry in entries:
            name = prefix + entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name in NEVER or ignored(f"{name}/" if is_folder else name):
                continue
            if is_folder and never == os.path.realpath(entry.path):
                continue
            try:
                yield Found(name, entry.path, entry.stat(follow_symlinks=False).st_mode)
            except FileNotFoundError:  # it has gone since
                continue
            if is_folder:
                deeper.append((entry.path, f"{name}/"))
        for below in deeper:
            yield from walk(*below)

    yield from walk(str(folder), "")


def _ignored(folder: Path) -> Callable[[str], bool]:
    for name in IGNORE_FILES:
        try:
            lines = (folder / name).read_text(errors="surrogateescape").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        from pathspec import GitIgnoreSpec

        return GitIgnoreSpec.from_lines(lines).match_file
    return lambda _: False


def seen(config: JobConfig) -> Code | None:
    """What a worker compares with what it sees; None for a folder that is only on the workers.

    Reads no more than a thousand files, and of each a megabyte at most. What cannot be read does not count.
    """
    taken = time.time_ns()
    folder = config.source_directory
    if not folder.is_dir():
        return None
    witnesses, folders, read = [], {"": os.stat(folder).st_ino}, 0
    travels = found_in(folder, _output(config), unreadable=True)
    for found in islice((one for one in travels if stat.S_ISREG(one.mode)), WITNESSES):
        parent = os.path.dirname(found.name)
        with suppress(OSError):
            folders[parent] = folders.get(parent) or os.stat(os.path.dirname(found.path)).st_ino
            of_it = os.stat(found.path)
            hashed = of_it.st_size <= min(HASHED_BYTES, WITNESS_BYTES - read)
            read += of_it.st_size if hashed else 0
            digest = digest_of(found.path) if hashed else ""
            witnesses.append(Witness(found.name, of_it.st_size, of_it.st_mtime_ns, of_it.st_ino, digest))
    return Code(str(folder), tuple(witnesses), folders, taken)


def _output(config: JobConfig) -> Path | None:
    return config.output if isinstance(config.output, Path) else None


@dataclass(frozen=True, slots=True)
class Package:
    """The folder in one file: a compressed tar file, which is called by the hash of what it holds."""

    digest: str
    file: IO[bytes]


def pack(config: JobConfig, scratch: Path) -> Package:
    """Raises RunError for a folder that is too large, or that holds what cannot travel."""
    folder = config.source_directory
    if os.path.isabs(config.entry_script):
        raise RunError(
            f"entry_script {config.entry_script} stands outside of source_directory {folder}, which is all that is sent to "
            "machines that do not see it. Name a source_directory that holds it"
        )
    try:
        found = sorted(found_in(folder, _output(config)), key=lambda one: os.fsencode(one.name))
        _check_size(folder, found)
        with ExitStack() as unless_packed:
            file = unless_packed.enter_context(_nameless_file(scratch))
            packing = _Packing(file)
            with tarfile.open(fileobj=cast(IO[bytes], packing), mode="w|", format=tarfile.GNU_FORMAT) as tar:
                for one in found:
                    with suppress(FileNotFoundError):
                        _add(tar, one, folder)
            digest = packing.end()
            unless_packed.pop_all()
        return Package(digest, file)
    except OSError as error:
        raise RunError(
            f"source_directory {folder} cannot be packed for the workers that do not see it: {error.strerror}: "
            f"{error.filename or scratch}. Check its rights, or name it in .amlignore"
        ) from None


def _nameless_file(folder: Path) -> IO[bytes]:
    """Of a driver that is killed nothing is left."""
    return cast(IO[bytes], tempfile.TemporaryFile(dir=folder))


def _check_size(folder: Path, found: Iterable[Found]) -> None:
    sizes = {}
    for one in found:
        with suppress(FileNotFoundError):  # it has gone since
            sizes[one.name] = os.lstat(one.path).st_size if stat.S_ISREG(one.mode) else 0
    if (total := sum(sizes.values())) <= LIMIT_BYTES:
        return
    largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:LONGEST_LIST]
    names = ", ".join(f"{name} ({_shown_bytes(sizes[name])})" for name in largest)
    raise RunError(
        f"source_directory {folder} holds {_shown_bytes(total)}, and at most {_shown_bytes(LIMIT_BYTES)} are sent to workers "
        f"that do not see it. The largest files are {names}. Name what the script does not need in .amlignore, and models "
        "and data in side_inputs or models"
    )


def _shown_bytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _add(tar: tarfile.TarFile, one: Found, folder: Path) -> None:
    entry = tarfile.TarInfo(one.name)
    entry.mtime = TIME
    entry.mode = 0o700 if one.mode & 0o100 else 0o600
    if stat.S_ISDIR(one.mode):
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    elif stat.S_ISLNK(one.mode):
        entry.type, entry.mode = tarfile.SYMTYPE, 0o700
        entry.linkname = _target(one, folder)
        tar.addfile(entry)
    elif stat.S_ISREG(one.mode):
        with open(one.path, "rb") as content:
            entry.size = os.fstat(content.fileno()).st_size
            tar.addfile(entry, content)
    else:
        raise RunError(
            f"source_directory {folder} holds {one.name}, which is no file, folder or link, and cannot be sent to workers "
            "that do not see it. Remove it, or name it in .amlignore"
        )


def _target(one: Found, folder: Path) -> str:
    """Relative, so that it leads to the same file on another machine."""
    target = os.readlink(one.path)
    if os.path.isabs(target):
        target = os.path.relpath(target, os.path.dirname(one.path))
    inside = os.path.realpath(one.path)
    root = os.path.realpath(folder)
    if leads_out(one.name, target) or os.path.commonpath([inside, root]) != root:
        raise RunError(
            f"source_directory {folder} holds the link {one.name} to {os.readlink(one.path)}, which is outside of it and would "
            "not be found on workers that do not see it. Copy the file there, or name the link in .amlignore"
        )
    return target


class _Packing:
    """Compresses what is written, and hashes it before."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._zip = zlib.compressobj(1)

    def write(self, data: bytes) -> int:
        self._sha256.update(data)
        self._file.write(self._zip.compress(data))
        return len(data)

    def end(self) -> str:
        self._file.write(self._zip.flush())
        self._file.flush()
        return self._sha256.hexdigest()


@dataclass(slots=True)
class Courier:
    """Sends the folder to the workers that want it: those that are there, and those that come later and ask."""

    client: Client
    run: str
    config: JobConfig
    scratch: Path
    """For the package, which goes with this process."""
    say: Callable[[str], None]
    _package: Package | None = None
    _refusal: str = ""
    _asking: queue.SimpleQueue[str | None] = field(default_factory=queue.SimpleQueue)
    _sending: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self.client.subscribe_topic(plugin_name(self.run), self._hear)
        threading.Thread(target=self._serve, name="daskscore-courier", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.unsubscribe_topic(plugin_name(self.run))
        self._asking.put(None)
        if self._sending.acquire(timeout=CALL_SECONDS):  # who does not answer is left to itself
            if self._package is not None:
                self._package.file.close()
            self._sending.release()

    def bring(self, workers: Iterable[str]) -> None:
        """Raises RunError where the folder cannot be packed."""
        with self._sending:
            wanting = list(workers)
            if self._package is None:
                self._package = self._packed()
            package = self._package
            chosen: dict[str, str] = {}
            for address, cache in self._ask(wanting, find_code, package.digest).items():
                if cache:
                    chosen.setdefault(cache, address)
            if not chosen:
                return
            one_each = list(chosen.values())
            size = package.file.seek(0, os.SEEK_END)
            nodes = "1 node" if len(one_each) == 1 else f"{len(one_each)} nodes"
            self.say(f"source_directory ({_shown_bytes(size)} packed) is sent to {nodes} where it is not seen")
            for offset in range(0, size, CHUNK_BYTES):
                data = os.pread(package.file.fileno(), CHUNK_BYTES, offset)
                self._ask(one_each, take_code, offset, data)
            self._ask(one_each, unpack_code, package.digest)
            self._ask(wanting, find_code, package.digest)

    def _packed(self) -> Package:
        if self._refusal:
            raise RunError(self._refusal)
        try:
            return pack(self.config, self.scratch)
        except RunError as error:
            self._refusal = str(error)
            raise

    def _ask(self, workers: list[str], function: Callable[..., Any], *words: Any) -> dict[str, str]:
        """Who has gone is left out, and asks again if it comes back."""
        seconds = UNPACK_SECONDS if function is unpack_code else CALL_SECONDS
        run = self.client.run
        return within(seconds, lambda: run(function, self.run, *words, workers=workers, on_error="ignore"))

    def _hear(self, event: tuple[float, dict[str, str]]) -> None:
        """Called on the client's event loop."""
        self._asking.put(event[1]["wants_code"])

    def _serve(self) -> None:
        while (first := self._asking.get()) is not None:
            asking = {first}
            while not self._asking.empty():
                if (other := self._asking.get()) is None:
                    return
                asking.add(other)
            try:
                self.bring(asking)
            except RunError as error:
                self._ask(list(asking), refuse_code, str(error))
            except (OSError, TimeoutError, ValueError):
                continue  # the scheduler is away, or a worker has gone: who still wants it asks again
