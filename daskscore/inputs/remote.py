"""Objects in a storage: one, all below a folder, or those that a glob fits; listed page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from daskscore.core.backoff import Backoff
from daskscore.errors import ConfigError, InputError
from daskscore.inputs.addresses import Address
from daskscore.inputs.patience import Patience
from daskscore.inputs.selection import Glob, Patterns, Selection, is_glob
from daskscore.inputs.storages import Found, Page, Storage, event_loop
from daskscore.inputs.stores import Stores
from daskscore.inputs.troubles import Cause, Trouble, explain

T = TypeVar("T")

LISTING = Patience(backoff=Backoff(attempts=4, seconds=60.0))
"""Somebody sits there and waits to hear that an address is wrong."""


class RemoteFiles:
    """Objects by name, in the order of their names; called in the driver."""

    files = True
    """The workers bring them to local paths."""

    def __init__(
        self,
        path: str,
        storage_options: Mapping[str, Any] | None = None,
        include: Patterns = None,
        exclude: Patterns = None,
        skip: str = "",
        *,
        everything: bool = False,
        stores: Stores | None = None,
        patience: Patience = LISTING,
    ) -> None:
        if not isinstance(storage_options, Mapping | None):
            raise ConfigError("inputs: storage_options is no mapping. Write it like {anon: true}")
        self.address, own = Stores.of(path, storage_options)
        self.stores = stores or own
        self.selection = Selection.of(include, exclude)
        self.skip = skip
        self.everything = everything
        """Take hidden and marker objects too: a model may come with them."""
        self.patience = patience

    def __repr__(self) -> str:
        return f"RemoteFiles({self.address.uri!r})"

    def items(self) -> Iterator[str]:
        """URIs without secrets; the first ones are there before the last page has been asked for."""
        listing = _Listing(self.stores.storage(self.address), self.address, self.patience, self.stores.mask)
        found = self._found(listing)
        first = next(found, None)
        if first is None:
            raise InputError(self._nothing())
        yield first
        yield from found

    def _found(self, listing: _Listing) -> Iterator[str]:
        address = self.address
        folder = address.path.endswith("/") or not address.path
        if not listing.storage.can_list:
            if folder and "?" not in address.path:
                raise InputError(
                    f"input {address.uri} is a folder of a web server, which does not say what it has. Name each file"
                )
            if listing.look() is None:
                raise InputError(f"input {address.uri} does not exist ({listing.host} answers 404). Check the address")
            yield address.uri
            return
        if not folder and (one := listing.look()) is not None and not one.is_folder:
            yield address.uri
            return
        below = self._below(listing, address.path if folder else f"{address.path}/")
        first = next(below, None)
        if first is not None:
            yield first
            yield from below
        elif is_glob(address.path) and not self.everything:
            yield from self._matching(listing)

    def _below(self, listing: _Listing, prefix: str) -> Iterator[str]:
        for one in listing.objects(prefix):
            if self._is_meant(one, one.path[len(prefix) :]):
                yield self.address.uri_of(one.path)

    def _matching(self, listing: _Listing) -> Iterator[str]:
        glob = Glob.of(self.address.path)
        top = len(glob.start.rpartition("/")[0]) + 1 if "/" in glob.start else 0
        for one in listing.objects(glob.start):
            if glob.fits(one.path) and self._is_meant(one, one.path[top:], visible=True):
                yield self.address.uri_of(one.path)

    def _is_meant(self, one: Found, relative: str, *, visible: bool = False) -> bool:
        if one.is_folder or not relative or (_is_marker(one, relative) and not self.everything):
            return False
        if self.skip and self.address.uri_of(one.path).startswith(self.skip.rstrip("/") + "/"):
            return False
        return self.selection.takes(relative, visible=visible or self.everything)

    def _nothing(self) -> str:
        address = self.address
        if is_glob(address.path):
            return f"input {address.uri} matches no object (hidden ones do not count). Check the pattern"
        if address.path.endswith("/") or not address.path:
            narrowed = (
                " that include and exclude let through" if self.selection.include or self.selection.exclude else ""
            )
            return f"input {address.uri} holds no objects{narrowed} (hidden and empty marker objects do not count). Check the path"
        return (
            f"input {address.uri} does not exist, neither as an object nor as a folder. Check the path: capitals count"
        )


@dataclass(frozen=True, slots=True)
class _Listing:
    """One input's questions to its storage, each asked again while it may help, and answered in our own words."""

    storage: Storage
    address: Address
    patience: Patience
    mask: Callable[[str], str]

    @property
    def host(self) -> str:
        return self.storage.endpoint

    def look(self) -> Found | None:
        """The object of the input's name; None where there is none, or where the storage does not tell."""
        try:
            return self._ask(lambda: self.storage.look(self.address))
        except _Denied:
            if not self.storage.can_list:
                raise
            return None  # S3 says "forbidden" of what is not there to those who may not list

    def objects(self, prefix: str) -> Iterator[Found]:
        """All that begins with a prefix, page by page."""
        start = replace(self.address, path=prefix)
        page: Page = self._ask(lambda: self.storage.page(start))
        while True:
            yield from page.found
            if page.next is None:
                return
            after = page.next
            page = self._ask(lambda: self.storage.page(start, after))  # noqa: B023 - asked at once

    def _ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """When it is given up, by Ctrl-C for example, it ends on fsspec's loop, too."""
        future = asyncio.run_coroutine_threadsafe(self._answer(question), event_loop())
        try:
            return future.result()
        finally:
            future.cancel()

    async def _answer(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        patience = self.patience
        began = patience.clock()
        failures = 0
        while True:
            try:
                return await asyncio.wait_for(question(), patience.silence_seconds)
            except InputError:
                raise
            except Exception as error:  # a storage library may raise anything
                trouble = explain(error)
                if trouble is None:
                    raise  # a mistake of ours
            failures += 1
            pause = patience.pause(failures, began) if trouble.may_pass else None
            if pause is None:
                kind = _Denied if trouble.cause is Cause.FORBIDDEN else InputError
                raise kind(self._sentence(trouble, failures))
            await asyncio.sleep(pause)

    def _sentence(self, trouble: Trouble, tries: int) -> str:
        address = self.address
        name = f"input {address.uri}"
        tried = f" (tried {tries} times)" if tries > 1 else ""
        what = "bucket" if address.protocol in ("s3", "gs") else "container"
        match trouble.cause:
            case Cause.MISSING:
                if not address.container:
                    return f"{name} does not exist ({trouble.words}). Check the address"
                return f"{name}: there is no {what} {address.container} at {self.host} ({trouble.words}). Check its name and the account"
            case Cause.FORBIDDEN:
                return f"{name} may not be read: {self.host} says {trouble.words}. {_RIGHTS.get(address.protocol, _ANY_RIGHTS)}"
            case Cause.NO_CREDENTIALS:
                return f"{name}: {trouble.words}. {_LOGIN.get(address.protocol, _ANY_RIGHTS)}"
            case Cause.REFUSED:
                return f"{name}: {self.host} does not take connections{tried}: {trouble.words}. Check that it runs, and endpoint_url"
            case Cause.UNKNOWN_HOST:
                return f"{name}: {self.host} was not found{tried}: {trouble.words}. Check the account's name and endpoint_url"
            case Cause.SILENT:
                limit = self.patience.silence_seconds
                return (
                    f"{name}: {self.host} gave no answer within {limit:g} s{tried}. Check the network and endpoint_url"
                )
            case Cause.PASSING:
                return f"{name}: {self.host} is in trouble{tried}: {trouble.words}. Try again later"
            case Cause.LOCAL | Cause.OTHER:
                return f"{name} cannot be listed: {self.host} says {trouble.words}. Check the name of the {what} and storage_options"


class _Denied(InputError):
    """The storage knows who asks, and says no."""


_RIGHTS = {
    "s3": "Check the credentials, and that they allow s3:ListBucket and s3:GetObject",
    "abfs": "Check the credentials, and that they allow to list and read blobs (Storage Blob Data Reader)",
    "http": "Check the credentials and whether the signature in the address has expired",
}
_ANY_RIGHTS = "Check the credentials in storage_options"
_LOGIN = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give storage_options "
    "{key: ${env:NAME}, secret: ${env:NAME}}, or {anon: true} for public data",
    "abfs": "Log in with az login, set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET, or give storage_options "
    "{account_key: ${env:NAME}} or {sas_token: ${env:NAME}}, or {anon: true} for public data",
}


def _is_marker(one: Found, relative: str) -> bool:
    """What storages and engines write to remember a folder or a job, `_SUCCESS` for example; it is no data."""
    name = relative.rpartition("/")[2]
    return one.size == 0 and (name.startswith("_") or name.endswith("_$folder$"))
