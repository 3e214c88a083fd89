"""Bring one object, or ranges of it, to a local path, whole or not at all; in the worker, on fsspec's event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from daskscore.inputs.addresses import Address
from daskscore.inputs.storages import Body, Changed, Range, Storage
from daskscore.inputs.troubles import Stalled, Truncated, Unwritable

LONGEST_NAME = 255


async def fetch(
    storage: Storage,
    address: Address,
    target: Path,
    *,
    incoming: Path,
    silence_seconds: float,
    reserve: Callable[[int], None] = lambda size: None,
) -> int:
    """One attempt; gives the object's size. `incoming` is written first, on the same disk as `target`.

    `reserve` is called with the size before the bytes that need it are written, and may raise.
    """
    try:
        async with _unless_silent(silence_seconds) as heard, storage.open(address) as body:
            reserve(body.size or 0)
            with _Incoming(incoming) as file:

                def keep(data: bytes) -> None:
                    reserve(file.size + len(data))
                    file.write(data)

                await _pour(body, keep, heard)
        _move(incoming, target)
    finally:
        with suppress(OSError):
            incoming.unlink()
    return file.size


async def fetch_ranges(
    storage: Storage,
    address: Address,
    ranges: Sequence[Range],
    target: Path,
    *,
    size: int | None = None,
    incoming: Path,
    silence_seconds: float,
    reserve: Callable[[int], None] = lambda size: None,
) -> int:
    """Like `fetch`, of these bytes alone. With the object's `size` they stand in their places, and else at the beginning.

    Raises Changed where the object is not as long any more, or becomes another one meanwhile.
    """
    reserve(sum(stop - start for start, stop in ranges))
    version = ""
    try:
        async with _unless_silent(silence_seconds) as heard:
            with _Incoming(incoming) as file:
                if size is not None:
                    file.stretch(size)
                for wanted in ranges:
                    async with storage.open(address, wanted) as body:
                        if size is not None and body.total not in (None, size):
                            raise Changed(address.uri, f"it has {body.total} bytes and had {size}")
                        if version and body.version != version:
                            raise Changed(address.uri, "it has become another one while it was read")
                        version = body.version
                        if size is not None:
                            file.seek(wanted[0])
                        await _pour(body, file.write, heard)
        _move(incoming, target)
    finally:
        with suppress(OSError):
            incoming.unlink()
    return file.size


async def read_range(
    storage: Storage, address: Address, wanted: Range, *, silence_seconds: float
) -> tuple[bytes, int | None]:
    """Some of an object's bytes, in memory, and how long the whole object is, where the storage says so."""
    found = bytearray()
    async with _unless_silent(silence_seconds) as heard, storage.open(address, wanted) as body:
        await _pour(body, found.extend, heard)
    return bytes(found), body.total


@asynccontextmanager
async def _unless_silent(seconds: float) -> AsyncIterator[Callable[[], None]]:
    """Raises Stalled when what it gives was not called for so long."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds) as limit:
            yield lambda: limit.reschedule(loop.time() + seconds)
    except TimeoutError:
        if limit.expired():
            raise Stalled(f"nothing came for {seconds:g} s") from None
        raise


async def _pour(body: Body, write: Callable[[bytes], None], heard: Callable[[], None]) -> None:
    """Every byte of a body that is wanted, in order; raises Truncated where some do not come."""
    skip, size = body.skip or 0, 0
    while (body.skip is None or size != body.size) and (data := await body.chunk()):
        heard()
        if body.skip is not None:
            skip, data = max(skip - len(data), 0), data[skip:]
            data = data if body.size is None else data[: body.size - size]
        size += len(data)
        write(data)
    if body.size is not None and size != body.size:
        raise Truncated(f"{size} of {body.size} bytes came")


class _Incoming:
    """A new file, whose errors are told from those of the storage."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0
        """What was written, without holes."""

    def __enter__(self) -> _Incoming:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None
        self.size += len(data)

    def stretch(self, size: int) -> None:
        """Make it so long, with nothing but a hole in it."""
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise Unwritable(error.errno, error.strerror) from None

    def seek(self, position: int) -> None:
        """What is written next begins here."""
        os.lseek(self._fd, position, os.SEEK_SET)


def _move(incoming: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(target)
    except OSError as error:
        raise Unwritable(error.errno, error.strerror) from None


def is_file_name(name: str) -> bool:
    """Whether a part of an object's name can be one of a local path."""
    return name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= LONGEST_NAME
