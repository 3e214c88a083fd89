"""How each kind of storage is asked: pages of a listing, whether an object is there, one object's bytes.

Everything is asked once: whoever asks decides whether to ask again, and how long to wait. Paths go to the storage as
they are; fsspec's own functions read `?`, `#` and `*` in a name as something else.
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from fsspec.asyn import get_loop

from daskscore.errors import InputError
from daskscore.inputs.addresses import Address

ONCE = {"retry_total": 0}
"""For Azure's own client: do not ask again by yourself."""

CHUNK_BYTES = 256 << 10
RANGE_BYTES = 4 << 20
"""What is asked for at once where an object comes in ranges; as much is held in memory."""


class Found(NamedTuple):
    """One object of a listing."""

    path: str
    size: int
    is_folder: bool = False
    """The storage keeps it to remember that a folder exists."""


class Page(NamedTuple):
    """Objects in the storage's order, and how to ask for those after them; None: there are none."""

    found: list[Found]
    next: Any = None


@dataclass(frozen=True, slots=True)
class Body:
    """An object on its way."""

    size: int | None
    """None where the storage does not say."""
    chunk: Callable[[], Awaitable[bytes]]
    """The next bytes; b"" at the end."""


class Storage(Protocol):
    """One account; its coroutines run on fsspec's event loop."""

    endpoint: str
    """Who is asked, for messages; without secrets."""
    can_list: bool

    async def connect(self) -> None:
        """Make ready to ask; nothing is asked yet."""
        ...

    async def look(self, address: Address) -> Found | None:
        """The object of this very name; None if there is none."""
        ...

    async def page(self, address: Address, after: Any = None) -> Page:
        """Objects whose path begins with that of the address, whatever follows."""
        ...

    def open(self, address: Address) -> AbstractAsyncContextManager[Body]:
        """An object's bytes, from its beginning."""
        ...


class S3:
    """S3 and what speaks its language; goes to the client below s3fs, whose own calls retry and cache."""

    can_list = True

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self.endpoint = fs.endpoint_url or "S3"

    async def connect(self) -> None:
        client = await self._fs.set_session()
        self.endpoint = client.meta.endpoint_url

    async def look(self, address: Address) -> Found | None:
        client = await self._fs.set_session()
        try:
            answer = await client.head_object(Bucket=address.container, Key=address.path, **self._fs.req_kw)
        except client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise
        return Found(address.path, answer["ContentLength"])

    async def page(self, address: Address, after: Any = None) -> Page:
        client = await self._fs.set_session()
        more = {"ContinuationToken": after} if after else {}
        answer = await client.list_objects_v2(Bucket=address.container, Prefix=address.path, **more, **self._fs.req_kw)
        found = [Found(one["Key"], one["Size"], one["Key"].endswith("/")) for one in answer.get("Contents", ())]
        return Page(found, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None)

    @asynccontextmanager
    async def open(self, address: Address) -> AsyncIterator[Body]:
        client = await self._fs.set_session()
        answer = await client.get_object(Bucket=address.container, Key=address.path, **self._fs.req_kw)
        stream = answer["Body"]
        async with stream:  # what it gives here differs between versions of aiobotocore
            yield Body(answer["ContentLength"], lambda: stream.read(CHUNK_BYTES))


class Azure:
    """Azure Blob Storage; goes to the client below adlfs, whose downloads wait 15 s before they try again."""

    can_list = True

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self.endpoint = fs.service_client.primary_hostname
        # A download begins with one request for this much, all of which is held in memory.
        configuration = getattr(fs.service_client, "_config", None)
        if configuration is not None and hasattr(configuration, "max_single_get_size"):
            configuration.max_single_get_size = RANGE_BYTES

    async def connect(self) -> None:
        """Credentials are asked for with the first request."""

    async def look(self, address: Address) -> Found | None:
        blob = self._fs.service_client.get_blob_client(address.container, address.path)
        try:
            properties = await blob.get_blob_properties(**ONCE)
        except Exception as error:
            if getattr(error, "status_code", None) == 404 and _code(error) != "ContainerNotFound":
                return None
            raise
        return Found(address.path, properties.size, _is_azure_folder(properties))

    async def page(self, address: Address, after: Any = None) -> Page:
        container = self._fs.service_client.get_container_client(address.container)
        blobs = container.list_blobs(name_starts_with=address.path or None, include=["metadata"], **ONCE)
        pages = blobs.by_page(continuation_token=after)
        try:
            page = await anext(pages)
        except StopAsyncIteration:
            return Page([])
        found = [Found(blob.name, blob.size or 0, _is_azure_folder(blob)) async for blob in page]
        return Page(found, pages.continuation_token or None)

    @asynccontextmanager
    async def open(self, address: Address) -> AsyncIterator[Body]:
        blob = self._fs.service_client.get_blob_client(address.container, address.path)
        answers: list[Any] = []

        def note(answer: Any) -> None:
            answers[:] = [answer.http_response.internal_response]

        try:
            stream = await blob.download_blob(max_concurrency=1, raw_response_hook=note, **ONCE)
            chunks = stream.chunks()
            yield Body(stream.size, lambda: anext(chunks, b""))
        finally:
            # The client leaves an answer open whose reading was cancelled, and its connection with it.
            for answer in answers:
                answer.close()


class Web:
    """Single files of any web server."""

    can_list = False

    def __init__(self, fs: Any, address: Address, secrets: dict[str, str]) -> None:
        self._fs = fs
        self._secrets = secrets
        self.endpoint = address.root.rstrip("/")

    async def connect(self) -> None:
        """The first request connects."""

    async def look(self, address: Address) -> Found | None:
        # Not HEAD: a signed address allows GET alone, and many servers know nothing else.
        async with self._get(address) as response:
            if response.status in (404, 410):
                return None
            response.raise_for_status()
            return Found(address.path, response.content_length or 0)

    async def page(self, address: Address, after: Any = None) -> Page:
        raise NotImplementedError("a web server does not say what it has")

    @asynccontextmanager
    async def open(self, address: Address) -> AsyncIterator[Body]:
        async with self._get(address) as response:
            response.raise_for_status()
            packed = response.headers.get("Content-Encoding", "identity") != "identity"
            yield Body(None if packed else response.content_length, lambda: response.content.read(CHUNK_BYTES))

    @asynccontextmanager
    async def _get(self, address: Address) -> AsyncIterator[Any]:
        url = address.uri
        if userinfo := self._secrets.get("url_userinfo"):
            url = url.replace("://", f"://{userinfo}@", 1)
        if query := self._secrets.get("url_query"):
            url += ("&" if "?" in url else "?") + query
        session = await self._fs.set_session()
        options = dict(self._fs.kwargs)
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {})}
        try:
            request = session.get(self._fs.encode_url(url), headers=headers, **options)
        except TypeError as error:
            raise InputError(f"storage_options of {address.uri} are not usable: {error}") from None
        async with request as response:
            yield response


class Other:
    """Any storage that fsspec can reach, by what all of them can do."""

    can_list = True

    def __init__(self, fs: Any, address: Address) -> None:
        self._fs = fs
        self._root = address.root
        self.endpoint = address.root.rstrip("/")

    async def connect(self) -> None:
        """Made ready when it was made."""

    async def look(self, address: Address) -> Found | None:
        try:
            info = await self._ask("info", self._place(address))
        except FileNotFoundError:
            return None
        return Found(address.path, info["size"] or 0, info["type"] == "directory")

    async def page(self, address: Address, after: Any = None) -> Page:
        folder = address.path.rpartition("/")[0]
        top = self._fs._strip_protocol(self._root + folder)
        try:
            infos = await self._ask("find", top, detail=True)
        except FileNotFoundError:
            return Page([])
        start = f"{folder}/" if folder else ""
        found = (Found(start + name[len(top) :].lstrip("/"), info["size"] or 0) for name, info in infos.items())
        return Page(sorted(one for one in found if one.path.startswith(address.path)))

    @asynccontextmanager
    async def open(self, address: Address) -> AsyncIterator[Body]:
        place = self._place(address)
        size = (await self._ask("info", place))["size"]
        yield Body(size, self._ranges(place, size))

    def _ranges(self, place: str, size: int | None) -> Callable[[], Awaitable[bytes]]:
        at = 0

        async def chunk() -> bytes:
            nonlocal at
            if size is None or at < size:
                stop = at + RANGE_BYTES if size is None else min(at + RANGE_BYTES, size)
                data: bytes = await self._ask("cat_file", place, start=at, end=stop)
                at += len(data)
                return data
            return b""

        return chunk

    def _place(self, address: Address) -> str:
        return str(self._fs._strip_protocol(address.uri))

    async def _ask(self, name: str, *arguments: Any, **options: Any) -> Any:
        if self._fs.async_impl:
            return await getattr(self._fs, f"_{name}")(*arguments, **options)
        if self._fs.protocol == "memory":
            # One object is one file with one position: two threads must not read it at a time.
            return getattr(self._fs, name)(*arguments, **options)
        return await asyncio.to_thread(getattr(self._fs, name), *arguments, **options)


def event_loop() -> AbstractEventLoop:
    """Where the coroutines of all storages run: fsspec's own loop, in a thread of this process."""
    loop: AbstractEventLoop = get_loop()
    return loop


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", "")
    return str(getattr(code, "value", code) or "")


def _is_azure_folder(blob: Any) -> bool:
    """How a hierarchical namespace shows its folders to those who ask for blobs."""
    marked = str((blob.metadata or {}).get("hdi_isfolder", "")).lower() == "true"
    return marked or str(blob.name).endswith("/")
