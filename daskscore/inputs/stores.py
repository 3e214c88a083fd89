"""Which storage options belong to which URIs, and the storages opened with them; secrets are filled in last of all."""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import fsspec

from daskscore.errors import ConfigError, InputError
from daskscore.inputs.addresses import SUPPORTED, WEB, Address, parse
from daskscore.inputs.storages import S3, Azure, Other, Storage, Web, event_loop
from daskscore.inputs.troubles import explain

CONNECT_SECONDS = 10.0
REQUESTS = 64
"""At a time, to one S3 account."""

PACKAGES = {
    "gs": "Google Cloud Storage needs the package gcsfs: pip install 'daskscore[gs]'",
    "s3": "S3 needs the package s3fs: pip install s3fs",
    "abfs": "Azure Blob Storage needs the package adlfs: pip install adlfs",
    "http": "web addresses need the package aiohttp: pip install aiohttp",
}
OPEN_TO_ALL = {
    "account_host",
    "account_name",
    "addressing_style",
    "anon",
    "client_id",
    "endpoint_url",
    "profile",
    "project",
    "region_name",
    "requester_pays",
    "signature_version",
    "tenant_id",
    "use_ssl",
}
"""Options that may be shown; whatever text stands in another one may be a secret."""

SECRET_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
)
AZURE_LOGIN = (
    "AZURE_CLIENT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_SAS_TOKEN",
    "IDENTITY_ENDPOINT",
    "MSI_ENDPOINT",
)
AZURE_SECRETS = ("account_key", "anon", "client_id", "connection_string", "credential", "sas_token")

SIGNED: tuple[str, ...] = ("url_query", "url_userinfo")
"""What was secret in a web address, kept among its options."""

SHORTEST_SECRET = 4
LONG = 12
"""Of a text with several words or values, only long ones are taken for secrets: the others may be any word."""

HIDDEN = "***"

MOST_IN_MEMORY = 256 << 20
"""Bytes of `memory://` that are sent to each worker."""
_MAGIC = re.compile(r"[*?\[]")
_REFERENCE = re.compile(r"\$\{env:([^}]*)\}")
_SIGNATURE = re.compile(
    r"(?i)\b(sig|signature|token|password|accountkey|sharedaccesskey|x-(?:amz|goog)-(?:signature|credential|security-token))"
    r"=[^&;\s'\"<>]+"
)
_IN_A_CONNECTION_STRING = re.compile(r"(?i)(?:AccountKey|SharedAccessKey|SharedAccessSignature|Password|Pwd)=([^;]+)")
_USERINFO = re.compile(r"(://)[^/@\s:]*:[^/@\s]+@")


class Stores:
    """Options by the beginning of the URIs they are for; the longest that fits counts.

    May be sent to other processes: what is filled in and opened stays here.
    """

    @classmethod
    def of(cls, uri: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Address, Stores]:
        """What a user writes: the address without what is secret in it, and the options for all that it leads to."""
        address = parse(uri)
        magic = _MAGIC.search(address.path) if address.protocol != "http" else None
        prefix = address.uri_of(address.path[: magic.start()]) if magic else address.uri
        options = {**(storage_options or {}), **address.secrets}
        stores = cls({prefix: options} if options else None)
        if address.protocol == "memory":
            stores._memory = frozenset([address.path[: magic.start()] if magic else address.path])
        return replace(address, secrets={}), stores

    def __init__(
        self, options: Mapping[str, Mapping[str, Any]] | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._options = {prefix: dict(found) for prefix, found in (options or {}).items()}
        self._start(environment)

    def _start(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._memory: frozenset[str] = frozenset()
        """The beginnings of the paths that are in the memory of this process."""
        self._lock = threading.RLock()
        self._storages: dict[tuple[str, ...], Storage] = {}
        self._filesystems: dict[tuple[str, ...], Any] = {}
        self._secrets = {text for options in self._options.values() for text in _secrets_in(options)}

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self._options, "memory": _in_memory(self._memory)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options = state["options"]
        self._start(os.environ)
        _put_in_memory(state["memory"])

    def __repr__(self) -> str:
        entries = (
            f"{prefix} ({', '.join(_described(options)) or 'no options'})" for prefix, options in self._options.items()
        )
        return f"Stores({'; '.join(entries)})"

    def joined(self, other: Stores) -> Stores:
        """Both; raises ConfigError where they disagree about a URI."""
        for prefix in self._options.keys() & other._options.keys():
            if self._options[prefix] != other._options[prefix]:
                raise ConfigError(
                    f"inputs: two of them name {prefix}, with different storage_options or signatures. Give both the same"
                )
        both = Stores(self._options | other._options, self._environment)
        both._memory = self._memory | other._memory
        return both

    def storage(self, address: Address) -> Storage:
        """To list and to read; opened once per process. Called in any thread but that of the event loop."""
        key = self._key(address)
        if (opened := self._storages.get(key)) is not None:
            return opened
        with self._lock:
            if (opened := self._storages.get(key)) is not None:
                return opened
            opened = self._open(address)
            self._storages[key] = opened
            return opened

    def opened(self, address: Address) -> Storage | None:
        """Like `storage`, but only what is open already; never waits."""
        return self._storages.get(self._key(address))

    def filesystem(self, uri: str) -> tuple[Any, str]:
        """fsspec's own file system for a URI, which retries by itself, and the path there."""
        address = parse(uri)
        key = self._key(address)
        with self._lock:
            if key not in self._filesystems:
                options, _ = self._filled(address)
                self._filesystems[key] = _filesystem(address, options, self.mask)
        path = f"{address.container}/{address.path}" if address.container else address.uri
        return self._filesystems[key], path

    def mask(self, text: str) -> str:
        """A text of somebody else's without the secrets that this process knows, and without what looks like one."""
        known = self._secrets | {self._environment.get(name, "") for name in SECRET_VARIABLES}
        for secret in sorted(known, key=len, reverse=True):
            if len(secret) >= SHORTEST_SECRET:
                text = text.replace(secret, HIDDEN)
        text = _SIGNATURE.sub(rf"\1={HIDDEN}", text)
        return _USERINFO.sub(rf"\1{HIDDEN}@", text)

    def close(self) -> None:
        """Let go of all connections; the next call opens new ones."""
        with self._lock:
            self._storages.clear()
            self._filesystems.clear()

    def _entry(self, uri: str) -> str:
        """The prefix whose options count for a URI; "" if there is none."""
        return max((prefix for prefix in self._options if uri.startswith(prefix)), key=len, default="")

    def _key(self, address: Address) -> tuple[str, ...]:
        account = address.root if address.protocol not in ("s3", "gs", "http") else ""
        return address.protocol, account, self._entry(address.uri)

    def _filled(self, address: Address) -> tuple[dict[str, Any], dict[str, str]]:
        """The options for fsspec, and what an http address needs to be let in."""
        prefix = self._entry(address.uri)
        given = self._options.get(prefix, {})
        filled = {**address.options, **{name: self._fill(value, prefix) for name, value in given.items()}}
        self._secrets |= set(_secrets_in(filled)) | {
            text for value in _texts(given) for text in self._secret_fills(value)
        }
        signed = {name: str(filled.pop(name)) for name in SIGNED if name in filled}
        return filled, signed

    def _fill(self, value: Any, what: str) -> Any:
        match value:
            case str():
                return _REFERENCE.sub(lambda found: self._variable(found[1], what), value)
            case Mapping():
                return {name: self._fill(inner, what) for name, inner in value.items()}
            case list() | tuple():
                return [self._fill(inner, what) for inner in value]
            case _:
                return value

    def _variable(self, name: str, what: str) -> str:
        try:
            return self._environment[name]
        except KeyError:
            raise ConfigError(
                f"storage_options of {what}: the environment variable {name} is not set on {os.uname().nodename}. "
                f"Set it where the driver and the workers start"
            ) from None

    def _secret_fills(self, value: str) -> Iterator[str]:
        """What stands for a reference inside a longer text, like the token in a header, is a secret by itself."""
        for found in _REFERENCE.finditer(value):
            if found[0] != value:
                yield self._environment.get(found[1], "")

    def _open(self, address: Address) -> Storage:
        options, signed = self._filled(address)
        storage: Storage
        match address.protocol:
            case "s3":
                storage = S3(_filesystem(address, _for_s3(options), self.mask))
            case "abfs":
                _check_account(address, options, self._environment)
                storage = Azure(_filesystem(address, self._for_azure(address, options), self.mask))
            case "http":
                storage = Web(_filesystem(address, _for_web(options), self.mask), address, signed)
            case _:
                storage = Other(_filesystem(address, options, self.mask), address)
        try:
            asyncio.run_coroutine_threadsafe(storage.connect(), event_loop()).result(3 * CONNECT_SECONDS)
        except Exception as error:
            if not isinstance(error, (ValueError, TypeError, KeyError)) and explain(error) is None:
                raise
            raise _not_usable(address, error, self.mask) from None
        return storage

    def _for_azure(self, address: Address, options: dict[str, Any]) -> dict[str, Any]:
        """A web address without a login anywhere names a public blob; any other way of writing asks for a login."""
        login = any(options.get(name) is not None for name in AZURE_SECRETS)
        if login or "AZURE_STORAGE_ANON" in self._environment:
            return options
        public = address.scheme in WEB and not any(self._environment.get(name) for name in AZURE_LOGIN)
        return {**options, "anon": public}  # adlfs has changed its mind about what it does without a word


def _in_memory(prefixes: frozenset[str]) -> dict[str, bytes]:
    """What `memory://` holds below these: it goes with the stores, as no other process could read it."""
    if not prefixes:
        return {}
    store = fsspec.get_filesystem_class("memory").store
    wanted = tuple(f"/{prefix}" for prefix in prefixes)
    found = {path: file.getvalue() for path, file in store.items() if path.startswith(wanted)}
    if (size := sum(map(len, found.values()))) > MOST_IN_MEMORY:
        raise InputError(
            f"input memory://{min(prefixes)} holds {size >> 20} MiB, and no more than {MOST_IN_MEMORY >> 20} MiB are sent to "
            "workers. Write it to a folder or a storage, and name that"
        )
    return found


def _put_in_memory(found: Mapping[str, bytes]) -> None:
    if found:
        filesystem = fsspec.filesystem("memory")
        for path, data in found.items():
            if path not in filesystem.store or filesystem.store[path].getvalue() != data:
                filesystem.pipe_file(path, data)


def _filesystem(address: Address, options: dict[str, Any], mask: Any) -> Any:
    protocol = address.protocol
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        hint = PACKAGES.get(protocol) or f"{protocol}:// needs a package that is not installed ({error})"
        raise InputError(f"input {address.uri}: {hint}") from None
    except ValueError:
        raise InputError(
            f"input {address.uri}: there is no storage for {address.scheme}://. Known are {SUPPORTED}, "
            "and what else fsspec knows"
        ) from None
    if protocol not in PACKAGES and protocol != "memory":
        options = {**kind._get_kwargs_from_urls(address.uri), **options}
    try:
        return kind(**options, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise InputError(f"input {address.uri}: a package is not installed: {error}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise _not_usable(address, error, mask) from None
    except Exception as error:  # some connect to their server already
        if (trouble := explain(error)) is None:
            raise
        words = mask(trouble.words).partition("\n")[0]
        raise InputError(
            f"input {address.uri}: {address.scheme}:// cannot be opened: {words}. Check the address, storage_options, "
            "and what this storage needs to be installed"
        ) from None


def _not_usable(address: Address, error: Exception, mask: Any) -> InputError:
    text = str(error.args[0] if error.args else type(error).__name__).rstrip(".")
    return InputError(f"storage_options of {address.root} are not usable: {mask(text)}. Check their names and values")


def _for_s3(options: dict[str, Any]) -> dict[str, Any]:
    once = {
        "retries": {"total_max_attempts": 1, "mode": "standard"},
        "connect_timeout": CONNECT_SECONDS,
        "max_pool_connections": REQUESTS,
    }
    return {**options, "config_kwargs": {**once, **options.get("config_kwargs", {})}}


def _for_web(options: dict[str, Any]) -> dict[str, Any]:
    from aiohttp import ClientTimeout  # here, because it is needed for web addresses alone

    client = {"timeout": ClientTimeout(total=None, sock_connect=CONNECT_SECONDS), "trust_env": True}
    return {**options, "client_kwargs": {**client, **options.get("client_kwargs", {})}}


def _check_account(address: Address, options: dict[str, Any], environment: Mapping[str, str]) -> None:
    known = ("account_name", "connection_string")
    variables = [f"AZURE_STORAGE_{name.upper()}" for name in known]
    if any(options.get(name) for name in known) or any(environment.get(name) for name in variables):
        return
    service = "blob" if address.scheme.startswith("wasb") else "dfs"
    raise InputError(
        f"input {address.uri} names no storage account. "
        f"Write {address.scheme}://{address.container}@ACCOUNT.{service}.core.windows.net/{address.path}, "
        f"or give account_name in storage_options (or in {variables[0]})"
    )


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for inner in value.values():
                yield from _texts(inner)
        case list() | tuple():
            for inner in value:
                yield from _texts(inner)


def _secrets_in(options: Mapping[str, Any]) -> Iterator[str]:
    """Every text that may be a secret, and the ways in which a library may spell it."""
    for name, value in options.items():
        if name in OPEN_TO_ALL:
            continue
        if isinstance(value, Mapping):
            yield from _secrets_in(value)
            continue
        for text in _texts(value):
            if not _REFERENCE.fullmatch(text):
                for part in _parts(text, name):
                    yield from {part, quote(part, safe=""), quote(part), unquote(part)}


def _parts(text: str, name: str) -> Iterator[str]:
    """A secret, and those of its parts that a library may show alone."""
    yield text
    yield from _IN_A_CONNECTION_STRING.findall(text)
    if "=" in text:
        yield from (value for _, value in parse_qsl(text.lstrip("?")) if len(value) >= LONG)
    if name == "url_userinfo":
        yield from text.split(":", 1)[1:]
    if " " in text:
        yield from (word for word in text.split() if len(word) >= LONG)


def _described(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        yield f"{name}={value}" if name in OPEN_TO_ALL and "${" not in str(value) else name
