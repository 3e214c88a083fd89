"""How each kind of storage is written to: whole objects, and large ones in parts; each request asks once.

Who calls decides whether to ask again: what goes through `ask` is asked again by itself, so that a lost part of a large
object does not cost the others.
"""

from __future__ import annotations

import asyncio
import os
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, TypeVar

from daskscore.inputs.storages import ONCE
from daskscore.inputs.troubles import Cause, explain

T = TypeVar("T")

PART_BYTES = 8 << 20
"""As much is in memory of each part on its way."""

SMALL_BYTES = 1 << 20
"""Azure's client warns of larger ones in one request, which keep its event loop busy."""

PARTS_AT_A_TIME = 8
MOST_PARTS = 9_000
"""S3 takes 10,000."""

Ask = Callable[[Callable[[], Awaitable[Any]], int], Awaitable[Any]]
"""A request that may be asked again, and how many bytes it sends."""


class Writer(Protocol):
    """One container; its coroutines run on fsspec's event loop."""

    async def write(self, path: str, data: bytes) -> None:
        """A small object, in place of one that is there."""
        ...

    async def create(self, path: str, data: bytes) -> bool:
        """A small object, where there is none; False if there is one."""
        ...

    async def upload(self, path: str, file: Path, ask: Ask) -> None:
        """A file of any size; it appears whole or not at all."""
        ...

    async def remove(self, path: str) -> None:
        """Remove an object, which may be gone already."""
        ...

    async def written(self, path: str) -> datetime | None:
        """When an object was written, by the clock of the storage; None where it does not say."""
        ...


class Uploads:
    """Files on their way; all of them together hold a few parts in memory."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(PARTS_AT_A_TIME)

    async def send(self, ask: Ask, file: Path, length: int, offset: int, request: Callable[[bytes], Awaitable[T]]) -> T:
        async with self._turns:
            data = await asyncio.to_thread(_read, file, length, offset)
            answer: T = await ask(lambda: request(data), len(data))
            return answer

    async def send_parts(
        self, ask: Ask, file: Path, size: int, request: Callable[[int, bytes], Awaitable[T]]
    ) -> list[T]:
        """All parts of a file, of equal length but for the last one; the answers in their order."""
        length = part_bytes(size)
        answers: dict[int, T] = {}

        async def part(number: int) -> None:
            answers[number] = await self.send(ask, file, length, number * length, lambda data: request(number, data))

        await all_of(range(-(-size // length)), part, at_a_time=PARTS_AT_A_TIME)
        return [answers[number] for number in sorted(answers)]


def part_bytes(size: int) -> int:
    """Of a file of this size: few enough parts for any storage, in whole MiB."""
    needed = -(-size // MOST_PARTS)
    return max(PART_BYTES, -(-needed // (1 << 20)) << 20)


async def all_of(things: Iterable[T], do: Callable[[T], Awaitable[None]], *, at_a_time: int) -> None:
    """Do it with each thing, a few at a time; the first failure ends the others."""
    waiting = iter(things)

    async def work() -> None:
        for thing in waiting:
            await do(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_a_time):
                group.create_task(work())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


class S3Writer:
    """S3 and what speaks its language."""

    def __init__(self, fs: Any, bucket: str) -> None:
        self._fs = fs
        self._fs.retries = 1
        self._bucket = bucket
        self._uploads = Uploads()

    async def write(self, path: str, data: bytes) -> None:
        await self._call("put_object", path, Body=data)

    async def create(self, path: str, data: bytes) -> bool:
        try:
            # Storages that do not know this condition write in any case.
            await self._call("put_object", path, Body=data, IfNoneMatch="*")
        except Exception as error:
            if not _is_there(error):
                raise
            return False
        return True

    async def upload(self, path: str, file: Path, ask: Ask) -> None:
        size = file.stat().st_size
        if size <= PART_BYTES:
            await self._uploads.send(ask, file, size, 0, lambda data: self.write(path, data))
            return
        begun = await ask(lambda: self._call("create_multipart_upload", path), 0)
        upload = begun["UploadId"]

        async def part(number: int, data: bytes) -> dict[str, Any]:
            sent = await self._call("upload_part", path, UploadId=upload, PartNumber=number + 1, Body=data)
            return {"PartNumber": number + 1, "ETag": sent["ETag"]}

        try:
            parts = await self._uploads.send_parts(ask, file, size, part)
            await ask(lambda: self._complete(path, upload, parts, size), 0)
        except BaseException:
            with suppress(Exception):  # what is left of it costs space, so this is tried at least
                await self._call("abort_multipart_upload", path, UploadId=upload)
            raise

    async def _complete(self, path: str, upload: str, parts: list[dict[str, Any]], size: int) -> None:
        """Asked again after a lost answer, S3 says that there is no such upload: it has become the object."""
        try:
            await self._call("complete_multipart_upload", path, UploadId=upload, MultipartUpload={"Parts": parts})
        except Exception as error:
            trouble = explain(error)
            if trouble is None or trouble.cause is not Cause.MISSING:
                raise
            if (await self._call("head_object", path))["ContentLength"] != size:
                raise

    async def remove(self, path: str) -> None:
        await self._call("delete_object", path)

    async def written(self, path: str) -> datetime | None:
        when: datetime = (await self._call("head_object", path))["LastModified"]
        return when

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        return await self._fs._call_s3(method, Bucket=self._bucket, Key=path, **options)


class AzureWriter:
    """Azure Blob Storage, with or without a hierarchical namespace."""

    def __init__(self, fs: Any, container: str) -> None:
        self._container = fs.service_client.get_container_client(container)
        self._uploads = Uploads()

    async def write(self, path: str, data: bytes) -> None:
        await self._blob(path).upload_blob(data, overwrite=True, **ONCE)

    async def create(self, path: str, data: bytes) -> bool:
        try:
            await self._blob(path).upload_blob(data, overwrite=False, **ONCE)
        except Exception as error:
            if not _is_there(error):
                raise
            return False
        return True

    async def upload(self, path: str, file: Path, ask: Ask) -> None:
        from azure.storage.blob import BlobBlock  # here, because only Azure needs its package

        size = file.stat().st_size
        if size <= SMALL_BYTES:
            await self._uploads.send(ask, file, size, 0, lambda data: self.write(path, data))
            return
        blob = self._blob(path)

        async def part(number: int, data: bytes) -> BlobBlock:
            name = b64encode(b"%08d" % number).decode()
            await blob.stage_block(name, BytesIO(data), len(data), **ONCE)
            return BlobBlock(name)

        blocks = await self._uploads.send_parts(ask, file, size, part)
        await ask(lambda: blob.commit_block_list(blocks, **ONCE), 0)

    async def remove(self, path: str) -> None:
        try:
            await self._blob(path).delete_blob(**ONCE)
        except Exception as error:
            if getattr(error, "status_code", None) != 404:
                raise

    async def written(self, path: str) -> datetime | None:
        when: datetime = (await self._blob(path).get_blob_properties(**ONCE)).last_modified
        return when

    def _blob(self, path: str) -> Any:
        return self._container.get_blob_client(path)


class OtherWriter:
    """Any storage that fsspec can write to, by what all of them can do."""

    def __init__(self, fs: Any, root: str, *, whole: bool) -> None:
        self._fs = fs
        self._root = root
        self._whole = whole
        """An object appears when all of it is there."""

    async def write(self, path: str, data: bytes) -> None:
        place = await self._ready(path)
        await self._ask("pipe_file", place, data)

    async def create(self, path: str, data: bytes) -> bool:
        if await self._ask("exists", self._place(path)):
            return False
        await self.write(path, data)
        return True

    async def upload(self, path: str, file: Path, ask: Ask) -> None:
        place = await self._ready(path)
        passing = place if self._whole else f"{place}.unfinished"

        async def put() -> None:
            await self._ask("put_file", str(file), passing)
            if passing != place:
                await self._ask("mv", passing, place)

        await ask(put, file.stat().st_size)

    async def remove(self, path: str) -> None:
        with suppress(FileNotFoundError):
            await self._ask("rm_file", self._place(path))

    async def written(self, path: str) -> datetime | None:
        try:
            when: datetime = await asyncio.to_thread(self._fs.modified, self._place(path))
        except (NotImplementedError, AttributeError, KeyError):
            return None
        return when

    async def _ready(self, path: str) -> str:
        """The place of an object, in a folder that exists where the storage has folders."""
        place = self._place(path)
        if not self._whole and "/" in place.strip("/"):
            await self._ask("makedirs", place.rpartition("/")[0], exist_ok=True)
        return place

    def _place(self, path: str) -> str:
        return str(self._fs._strip_protocol(self._root + path))

    async def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{name}")(*arguments, **options)
        return await asyncio.to_thread(getattr(self._fs, name), *arguments, **options)


def _is_there(error: Exception) -> bool:
    """Whether a storage has refused to write over an object."""
    trouble = explain(error)
    return isinstance(error, FileExistsError) or (trouble is not None and trouble.words[:3] in ("409", "412"))


def _read(file: Path, length: int, offset: int) -> bytes:
    with file.open("rb", buffering=0) as source:
        return os.pread(source.fileno(), length, offset)
