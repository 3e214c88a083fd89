"""A folder in a storage that a driver writes to: each request is asked again while it may help, and told in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from daskscore.core.backoff import Backoff
from daskscore.driver.remote_writing import AzureWriter, OtherWriter, S3Writer, Writer, all_of
from daskscore.errors import DaskscoreError, InputError, OutputError
from daskscore.inputs.addresses import Address
from daskscore.inputs.patience import Patience
from daskscore.inputs.storages import Page, event_loop
from daskscore.inputs.stores import CONNECT_SECONDS, REQUESTS, Stores
from daskscore.inputs.troubles import Cause, Trouble, explain
from daskscore.worker.fetching import fetch, is_file_name

T = TypeVar("T")

BEFORE_WORK = Patience(backoff=Backoff(attempts=4, seconds=60.0))
"""Somebody sits there and waits to hear that an address is wrong."""

FILES_AT_A_TIME = 32
SLOWEST_BYTES_PER_SECOND = 64 << 10


class RemoteTrouble(OutputError):
    """The storage did not do what it was asked."""

    def __init__(self, what: str, advice: str, trouble: Trouble) -> None:
        super().__init__(f"{what}. {advice}")
        self.what = what
        self.advice = advice
        self.trouble = trouble


class RemoteFolder:
    """Names are relative to the folder. Called in any thread but that of the event loop."""

    def __init__(
        self, uri: str, storage_options: Mapping[str, Any] | None = None, *, patience: Patience = BEFORE_WORK
    ) -> None:
        self.patience = patience
        try:
            address, self._stores = Stores.of(uri, storage_options)
            if address.protocol == "http":
                raise OutputError(
                    f"output {address.uri} is on a web server, which takes no files. Name a storage, like s3://bucket/out/"
                )
            path = address.path.rstrip("/")
            self.address = replace(address, path=f"{path}/" if path else "")
            self._storage = self._stores.storage(self.address)
            self._writer = _writer(self.address, self._stores, storage_options)
        except InputError as error:
            raise OutputError(str(error).replace("input ", "output ", 1)) from None

    @property
    def uri(self) -> str:
        return self.address.uri

    @property
    def endpoint(self) -> str:
        """Who is asked."""
        return self._storage.endpoint

    def uri_of(self, name: str) -> str:
        return self._address(name).uri

    def has(self, name: str) -> bool:
        return bool(self.present([name]))

    def present(self, names: Iterable[str]) -> list[str]:
        """Those of the names under which there is an object."""
        names = list(names)
        found: set[str] = set()

        async def look(name: str) -> None:
            one = await self._again(lambda: self._storage.look(self._address(name)))
            if one is not None and not one.is_folder:
                found.add(name)

        self._wait(all_of(names, look, at_a_time=FILES_AT_A_TIME))
        return [name for name in names if name in found]

    def files(self, below: str) -> list[str]:
        """The names of all objects below a folder of ours, like `logs/`."""
        return self._wait(self._files(below))

    def any_file(self, below: str) -> str | None:
        return next(iter(self._wait(self._files(below, first_page=True))), None)

    def read(self, name: str) -> bytes | None:
        """A small object; None if there is none."""
        return self._wait(self._again(lambda: self._read(name)))

    def written(self, name: str) -> datetime | None:
        return self._wait(self._again(lambda: self._writer.written(self._path(name))))

    def write(self, name: str, data: bytes) -> None:
        self._wait(self._again(lambda: self._writer.write(self._path(name), data)))

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that must not be there yet; False if it is."""
        return self._wait(self._again(lambda: self._writer.create(self._path(name), data)))

    def remove(self, names: Iterable[str]) -> None:
        async def remove(name: str) -> None:
            await self._again(lambda: self._writer.remove(self._path(name)))

        self._wait(all_of(names, remove, at_a_time=FILES_AT_A_TIME))

    def upload(self, names: Iterable[str], source: Path) -> None:
        """Files of a local folder, each whole or not at all."""

        async def upload(name: str) -> None:
            await self._writer.upload(self._path(name), source / name, self._again)

        self._wait(all_of(names, upload, at_a_time=FILES_AT_A_TIME))

    def download(self, names: Iterable[str], target: Path, *, incoming: Path) -> None:
        """Into a local folder; what is no file name here is left out."""

        async def download(number_and_name: tuple[int, str]) -> None:
            number, name = number_and_name
            address = self._address(name)
            await self._again(
                lambda: fetch(
                    self._storage,
                    address,
                    target / name,
                    incoming=incoming / str(number),
                    silence_seconds=self.patience.silence_seconds,
                ),
                None,
            )

        known = (name for name in names if all(map(is_file_name, name.split("/"))))
        self._wait(all_of(enumerate(known), download, at_a_time=FILES_AT_A_TIME))

    def _path(self, name: str) -> str:
        return self.address.path + name

    def _address(self, name: str) -> Address:
        return replace(self.address, path=self._path(name))

    async def _read(self, name: str) -> bytes | None:
        try:
            async with self._storage.open(self._address(name)) as body:
                chunks = []
                while chunk := await body.chunk():
                    chunks.append(chunk)
                return b"".join(chunks)
        except Exception as error:
            trouble = explain(error)
            if trouble is None or trouble.cause is not Cause.MISSING:
                raise
            return None

    async def _files(self, below: str, *, first_page: bool = False) -> list[str]:
        start = self._address(below)
        names: list[str] = []
        after: Any = None
        while True:
            page: Page = await self._again(lambda: self._storage.page(start, after))  # noqa: B023 - asked at once
            names += [found.path[len(self.address.path) :] for found in page.found if not found.is_folder]
            after = page.next
            if after is None or (first_page and names):
                return names

    def _wait(self, answer: Coroutine[Any, Any, T]) -> T:
        """When it is given up, by Ctrl-C for example, it ends on fsspec's loop, too."""
        future = asyncio.run_coroutine_threadsafe(answer, event_loop())
        try:
            return future.result()
        finally:
            future.cancel()

    async def _again(self, question: Callable[[], Awaitable[T]], sent: int | None = 0) -> T:
        """Until it is answered; `sent` bytes need their time, and None has its own limit."""
        patience = self.patience
        limit = None if sent is None else patience.silence_seconds + sent / SLOWEST_BYTES_PER_SECOND
        began = patience.clock()
        failures = 0
        while True:
            try:
                return await asyncio.wait_for(question(), limit)
            except DaskscoreError:
                raise
            except Exception as error:  # a storage library may raise anything
                trouble = explain(error)
                if trouble is None:
                    raise  # a mistake of ours
            failures += 1
            pause = patience.pause(failures, began) if trouble.may_pass else None
            if pause is None:
                raise self._trouble(trouble, failures)
            await asyncio.sleep(pause)

    def _trouble(self, trouble: Trouble, tries: int) -> RemoteTrouble:
        address = self.address
        kind = "bucket" if address.protocol in ("s3", "gs") else "container"
        host = self.endpoint
        words = self._stores.mask(trouble.words) + (f", {tries} times" if tries > 1 else "")
        match trouble.cause:
            case Cause.MISSING:
                what = f"there is no {kind} {address.container} at {host} ({words})" if address.container else words
                advice = f"Make the {kind}, or check its name and the account"
            case Cause.FORBIDDEN:
                what = f"it may not be written: {host} says {words}"
                advice = _RIGHTS.get(address.protocol, "Check the credentials in storage_options")
            case Cause.NO_CREDENTIALS:
                what = words
                advice = _LOGIN.get(address.protocol, "Give credentials in storage_options")
            case Cause.REFUSED | Cause.UNKNOWN_HOST | Cause.SILENT:
                what = f"{host} cannot be reached: {words}"
                advice = "Check the network, the account's name and endpoint_url"
            case Cause.PASSING:
                what, advice = f"{host} is in trouble: {words}", "Try again later"
            case Cause.LOCAL:
                what, advice = f"what it holds cannot be brought here: {words}", "Make room on this machine"
            case Cause.OTHER:
                what, advice = f"{host} says {words}", f"Check the name of the {kind} and storage_options"
        return RemoteTrouble(f"output {address.uri}: {what}", advice, trouble)


def _writer(address: Address, stores: Stores, storage_options: Mapping[str, Any] | None) -> Writer:
    if address.protocol == "s3":
        fs, _ = Stores.of(address.uri, _asked_once(storage_options))[1].filesystem(address.uri)
        return S3Writer(fs, address.container)
    fs, _ = stores.filesystem(address.uri)
    if address.protocol == "abfs":
        return AzureWriter(fs, address.container)
    return OtherWriter(fs, address.root, whole=address.protocol in ("gs", "memory") or fs.async_impl)


def _asked_once(storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """For S3's own client: do not ask again by yourself."""
    options = dict(storage_options or {})
    once = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_SECONDS,
        "max_pool_connections": REQUESTS,
    }
    with suppress(TypeError):  # options that are not usable are told of by who opens the storage
        options["config_kwargs"] = {**once, **options.get("config_kwargs", {})}
    return options


_RIGHTS = {
    "s3": "Check the credentials, and that they allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject",
    "abfs": "Check the credentials, and that they allow to list, read, write and delete blobs "
    "(Storage Blob Data Contributor)",
}
_LOGIN = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give storage_options "
    "{key: ${env:NAME}, secret: ${env:NAME}}",
    "abfs": "Log in with az login, set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or give storage_options "
    "{account_key: ${env:NAME}} or {sas_token: ${env:NAME}}",
}
