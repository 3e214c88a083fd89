"""Bring one object to a local path, whole or not at all; in the worker, on fsspec's event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from daskscore.inputs.addresses import Address
from daskscore.inputs.storages import Storage
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
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(silence_seconds) as limit:
            async with storage.open(address) as body:
                reserve(body.size or 0)
                size = 0
                with _Incoming(incoming) as file:
                    while data := await body.chunk():
                        limit.reschedule(loop.time() + silence_seconds)
                        size += len(data)
                        reserve(size)
                        file.write(data)
                if body.size is not None and size != body.size:
                    raise Truncated(f"{size} of {body.size} bytes came")
        _move(incoming, target)
    except TimeoutError:
        if limit.expired():
            raise Stalled(f"nothing came for {silence_seconds:g} s") from None
        raise
    finally:
        with suppress(OSError):
            incoming.unlink()
    return size


class _Incoming:
    """A new file, whose errors are told from those of the storage."""

    def __init__(self, path: Path) -> None:
        self._path = path

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


def _move(incoming: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        incoming.replace(target)
    except OSError as error:
        raise Unwritable(error.errno, error.strerror) from None


def is_file_name(name: str) -> bool:
    """Whether a part of an object's name can be one of a local path."""
    return name not in ("", ".", "..") and "\0" not in name and len(os.fsencode(name)) <= LONGEST_NAME
