"""How each kind of storage is asked: pages of a listing, whether an object is there, one object's bytes.

Everything is asked once: whoever asks decides whether to ask again, and how long to wait. Paths go to the storage as
they are; fsspec's own functions read `?`, `#` and `*` in a name as something else.
"""

from __future__ import annotations

import asyncio
import re
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from fsspec.asyn import get_loop

from daskscore.errors import InputError
from daskscore.inputs.addresses import Address

ONCE = {"retry_total": 0}
"""For Azure's own client: do not ask again by yourself."""

CHUNK_BYTES = 256 << 10
RANGE_BYTES = 4 << 20
"""What is asked for at once where an object comes in ranges; as much is held in memory."""

Range = tuple[int, int]
"""From and to: an object's first byte that is wanted, and the first one after it that is not."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Changed(InputError):
    """An object is not what it was when the run was planned."""

    def __init__(self, uri: str, how: str) -> None:
        super().__init__(f"{uri} has changed since the run was planned ({how}). Start the job anew without --resume")


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
    """An object on its way, or a range of it."""

    size: int | None
    """Of what is wanted; None where the storage does not say."""
    chunk: Callable[[], Awaitable[bytes]]
    """The next bytes; b"" at the end."""
    total: int | None = None
    """The size of the whole object."""
    version: str = ""
    """Another one where the object has changed; empty where the storage does not say."""
    skip: int | None = None
    """The server knows nothing of ranges: so many bytes come before those that are wanted, and others after them."""


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

    def open(self, address: Address, wanted: Range | None = None) -> AbstractAsyncContextManager[Body]:
        """An object's bytes, all of them or a range; raises Changed where the object ends before the range does."""
        ...

    def cuts(self, address: Address) -> bool:
        """Whether a range is sent without what is before it, as far as is known."""
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
    async def open(self, address: Address, wanted: Range | None = None) -> AsyncIterator[Body]:
        client = await self._fs.set_session()
        more = {"Range": _header(wanted)} if wanted else {}
        try:
            answer = await client.get_object(Bucket=address.container, Key=address.path, **more, **self._fs.req_kw)
        except client.exceptions.ClientError as error:
            if wanted and error.response["ResponseMetadata"]["HTTPStatusCode"] == 416:
                raise _shorter(address, wanted) from None
            raise
        stream = answer["Body"]
        async with stream:  # what it gives here differs between versions of aiobotocore
            body = Body(answer["ContentLength"], lambda: stream.read(CHUNK_BYTES), version=answer.get("ETag", ""))
            yield _cut(address, body, wanted, answer.get("ContentRange", ""))

    def cuts(self, address: Address) -> bool:
        return True


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
    async def open(self, address: Address, wanted: Range | None = None) -> AsyncIterator[Body]:
        blob = self._fs.service_client.get_blob_client(address.container, address.path)
        answers: list[Any] = []

        def note(answer: Any) -> None:
            answers[:] = [answer.http_response.internal_response]

        more = {"offset": wanted[0], "length": wanted[1] - wanted[0]} if wanted else {}
        try:
            try:
                stream = await blob.download_blob(max_concurrency=1, raw_response_hook=note, **more, **ONCE)
            except Exception as error:
                if wanted and getattr(error, "status_code", None) == 416:
                    raise _shorter(address, wanted) from None
                raise
            chunks = stream.chunks()
            body = Body(stream.size, lambda: anext(chunks, b""), version=stream.properties.etag or "")
            yield _cut(address, body, wanted, _azure_range(stream, wanted) if wanted else "")
        finally:
            # The client leaves an answer open whose reading was cancelled, and its connection with it.
            for answer in answers:
                answer.close()

    def cuts(self, address: Address) -> bool:
        return True


class Web:
    """Single files of any web server."""

    can_list = False

    def __init__(self, fs: Any, address: Address, secrets: dict[str, str]) -> None:
        self._fs = fs
        self._secrets = secrets
        self._uncut: set[str] = set()
        """Servers that have sent a whole object when a range was wanted."""
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
    async def open(self, address: Address, wanted: Range | None = None) -> AsyncIterator[Body]:
        async with self._get(address, {"Range": _header(wanted)} if wanted else {}) as response:
            if wanted and response.status == 416:
                raise _shorter(address, wanted)
            response.raise_for_status()
            packed = response.headers.get("Content-Encoding", "identity") != "identity"
            sent = response.headers.get("Content-Range", "something else") if response.status == 206 else ""
            if sent and packed:
                raise InputError(f"{address.uri} is compressed on its way, so no range can be read. Serve it as it is")
            if wanted and not sent:
                self._uncut.add(address.root)
            body = Body(None if packed else response.content_length, lambda: response.content.read(CHUNK_BYTES))
            yield _cut(address, body, wanted, sent)

    def cuts(self, address: Address) -> bool:
        return address.root not in self._uncut

    @asynccontextmanager
    async def _get(self, address: Address, more: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[Any]:
        url = address.uri
        if userinfo := self._secrets.get("url_userinfo"):
            url = url.replace("://", f"://{userinfo}@", 1)
        if query := self._secrets.get("url_query"):
            url += ("&" if "?" in url else "?") + query
        session = await self._fs.set_session()
        options = dict(self._fs.kwargs)
        headers = {"Accept-Encoding": "identity", **options.pop("headers", {}), **more}
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
    async def open(self, address: Address, wanted: Range | None = None) -> AsyncIterator[Body]:
        place = self._place(address)
        info = await self._ask("info", place)
        total = info["size"]
        if wanted and total is not None and total < wanted[1]:
            raise _shorter(address, wanted)
        start, stop = wanted or (0, total)
        size = None if stop is None else stop - start
        yield Body(size, self._ranges(place, start, stop), total, str(info.get("etag") or ""))

    def cuts(self, address: Address) -> bool:
        return True

    def _ranges(self, place: str, start: int, stop: int | None) -> Callable[[], Awaitable[bytes]]:
        at = start

        async def chunk() -> bytes:
            nonlocal at
            if stop is None or at < stop:
                end = at + RANGE_BYTES if stop is None else min(at + RANGE_BYTES, stop)
                data: bytes = await self._ask("cat_file", place, start=at, end=end)
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


def _header(wanted: Range) -> str:
    return f"bytes={wanted[0]}-{wanted[1] - 1}"


def _cut(address: Address, body: Body, wanted: Range | None, sent: str) -> Body:
    """The body of an answer as what was wanted of it; `sent` is the answer's Content-Range, empty if there is none."""
    if wanted is None:
        return replace(body, total=body.size)
    start, stop = wanted
    if not sent:
        if body.size is not None and body.size < stop:
            raise _shorter(address, wanted)
        return replace(body, size=stop - start, total=body.size, skip=start)
    found = _CONTENT_RANGE.fullmatch(sent.strip())
    total = int(found[3]) if found and found[3] != "*" else None
    if total is not None and total < stop:
        raise _shorter(address, wanted)
    if found is None or (int(found[1]), int(found[2]) + 1) != wanted:
        raise InputError(f"{address.uri}: {_header(wanted)} was asked for, and {sent} was sent. Serve it another way")
    return replace(body, size=stop - start, total=total)


def _shorter(address: Address, wanted: Range) -> Changed:
    return Changed(address.uri, f"it ends before byte {wanted[1]}")


def _azure_range(stream: Any, wanted: Range) -> str:
    """What Azure's client says of it is only what it was asked for, but the size of the object is right."""
    total = stream.properties.content_range.rpartition("/")[2]
    return f"bytes {wanted[0]}-{wanted[0] + stream.size - 1}/{total}"


def _code(error: Exception) -> str:
    code = getattr(error, "error_code", "")
    return str(getattr(code, "value", code) or "")


def _is_azure_folder(blob: Any) -> bool:
    """How a hierarchical namespace shows its folders to those who ask for blobs."""
    marked = str((blob.metadata or {}).get("hdi_isfolder", "")).lower() == "true"
    return marked or str(blob.name).endswith("/")
