"""What a URI of an object storage says: which storage, which account, which container, which path; nothing is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from daskscore.errors import InputError

S3 = {"s3", "s3a", "s3n"}
AZURE = {"abfs", "abfss", "az", "wasb", "wasbs"}
GOOGLE = {"gs", "gcs"}
WEB = {"http", "https"}
SUPPORTED = "s3://, abfs://, abfss://, az://, wasbs://, gs://, https://, http://, memory:// and file://"

DATABASES = {
    "bigquery",
    "databricks",
    "jdbc",
    "mongodb",
    "mssql",
    "mysql",
    "odbc",
    "oracle",
    "postgres",
    "postgresql",
    "redshift",
    "snowflake",
    "sqlite",
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/{0,2})")
_AZURE_HOST = re.compile(
    r"(?P<account>[a-z0-9-]+)\.(?P<service>blob|dfs)\.(?P<cloud>core\.[a-z.]+|storage\.azure\.net)"
)
_ACCESS_POINT = re.compile(r"arn:aws[\w-]*:s3[\w-]*:[\w-]*:\d{12}:accesspoint[/:][^/]+")
_FILLED_LATER = "${env:"

SIGNED_WITH = {
    "accesskey",
    "access_token",
    "api_key",
    "apikey",
    "auth",
    "awsaccesskeyid",
    "googleaccessid",
    "key",
    "passwd",
    "password",
    "pwd",
    "secret",
    "signature",
    "token",
}
"""Parameters of a web address that let somebody in; they are kept apart from the address and never shown."""

WITH_A_SIGNATURE = {"expires", "key-pair-id", "policy"}
"""They change with a signature."""

SAS = {
    "se",
    "sig",
    "sip",
    "skoid",
    "sks",
    "skt",
    "sktid",
    "ske",
    "skv",
    "sp",
    "spr",
    "sr",
    "srt",
    "ss",
    "st",
    "sv",
    "sdd",
}
"""Parameters of a shared access signature; only `sig` lets somebody in, but the others change with it too."""


@dataclass(frozen=True, slots=True)
class Address:
    """One URI, taken apart. What is secret in it stands in `secrets` alone."""

    scheme: str
    protocol: str
    """fsspec's name of the storage: s3, abfs, gs, http, memory, file, or another one that fsspec knows."""
    root: str
    """The beginning of each URI in this container, as the user writes it."""
    container: str
    """The bucket or container; "" where the storage has none."""
    path: str
    """Inside the container, as the storage spells it."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What the URI says about the account."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    quoted: bool = False
    """In the URI, the path is percent-encoded."""

    @property
    def uri(self) -> str:
        """Names the same object as what was parsed, without secrets."""
        return self.uri_of(self.path)

    def uri_of(self, path: str) -> str:
        return self.root + (quote(path, safe="/!$&'()*+,;=:@~-._") if self.quoted else path)

    @property
    def base_name(self) -> str:
        path = unquote(self.path.partition("?")[0]) if self.protocol == "http" else self.path
        return path.rpartition("/")[2]


def is_remote(text: str) -> bool:
    """Whether an input names a storage, rightly or not, rather than a local path or something registered."""
    found = _SCHEME.match(text)
    if found is None:
        return re.match(r"[A-Za-z]://", text) is not None
    return found[2] == "//" or found[1].lower() in S3 | AZURE | GOOGLE | WEB | DATABASES


def parse(uri: str) -> Address:
    """The parts of a URI; raises InputError for one that cannot be used, without repeating a secret."""
    found = _SCHEME.match(uri)
    if found is None:
        raise InputError(f"input {shown(uri)} is no URI. Write one like s3://bucket/folder/, or a local path")
    scheme = found[1].lower()
    rest = uri[found.end() :]
    if scheme.partition("+")[0] in DATABASES:
        raise InputError(
            f"input {scheme}://… is a database, and its rows cannot be cut into the same mini-batches twice. "
            "Export them to Parquet or CSV files and name those"
        )
    if "\0" in uri or "\n" in uri:
        raise InputError(f"input {shown(uri)!r} has a character in it that no address can have. Check the path")
    if found[2] != "//":
        raise InputError(f"input {shown(uri)} is no URI: after {scheme}: it needs two slashes. {_example(scheme)}")
    if scheme in S3:
        return _bucket(uri, scheme, "s3", rest)
    if scheme in GOOGLE:
        return _bucket(uri, scheme, "gs", rest)
    if scheme in AZURE:
        return _azure(uri, scheme, rest)
    if scheme in WEB:
        return _web(uri, scheme, rest)
    if scheme == "memory":
        return Address(scheme, "memory", "memory://", "", rest.lstrip("/"))
    if scheme == "file":
        return Address(scheme, "file", "file://", "", rest)
    host, slash, path = rest.partition("/")
    if scheme != "github" and re.match(r"[^@]*:[^@]+@", host):  # there, they are the owner and the repository
        raise InputError(
            f"input {scheme}://…@{host.rpartition('@')[2]} has credentials in it. "
            "Move them to storage_options, as ${env:NAME}"
        )
    return Address(scheme, scheme, f"{scheme}://{host}{slash}", "", path)


def shown(uri: str) -> str:
    """A URI as it may stand in a message: without a password and without a query."""
    text = re.sub(r"(?<=://)[^/@\s]*:[^/@\s]*@", "", uri)
    return text.partition("?")[0] + "?…" if "=" in text.partition("?")[2] or _FILLED_LATER in text else text


def _bucket(uri: str, scheme: str, protocol: str, rest: str) -> Address:
    access_point = _ACCESS_POINT.match(rest)
    bucket = access_point[0] if access_point else rest.partition("/")[0]
    if not bucket:
        raise InputError(f"input {shown(uri)} names no bucket. {_example(scheme)}")
    if "@" in bucket:
        raise InputError(
            f"input {scheme}://…@{bucket.rpartition('@')[2]} has credentials in it. "
            "Move them to storage_options, as ${env:NAME}"
        )
    return Address(scheme, protocol, f"{scheme}://{bucket}/", bucket, rest[len(bucket) :].removeprefix("/"))


def _azure(uri: str, scheme: str, rest: str) -> Address:
    rest, secrets = _without_sas(rest)
    place, _, path = rest.partition("/")
    container, at, host = place.rpartition("@")
    if not at:
        container, host = (place, "") if not _AZURE_HOST.fullmatch(place) else ("", place)
    account = _AZURE_HOST.fullmatch(host.lower()) if host else None
    if host and account is None:
        raise InputError(
            f"input {shown(uri)}: {host.rpartition(':')[2]} is no storage account. "
            f"Write {scheme}://container@account.{_service(scheme)}.core.windows.net/folder/"
        )
    root = f"{scheme}://{place}/"
    if not container:
        container, _, path = path.partition("/")
        root += f"{container}/"
    if not container:
        raise InputError(f"input {shown(uri)} names no container. {_example(scheme)}")
    return Address(scheme, "abfs", root, container, path, _account_options(account), secrets)


def _web(uri: str, scheme: str, rest: str) -> Address:
    place, _, path = rest.partition("/")
    if "?" in place:
        place, _, query = place.partition("?")
        path = "?" + query
    userinfo, _, host = place.rpartition("@")
    if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/?#\[\]]+)(:\d{1,5})?", host):
        raise InputError(f"input {shown(uri)} names no host. {_example(scheme)}")
    account = _AZURE_HOST.fullmatch(host.lower())
    path = path.partition("#")[0]
    if account is not None:
        path, secrets = _without_sas(path)
        container, _, path = path.partition("/")
        if not container:
            raise InputError(f"input {shown(uri)} names no container. Write https://{host}/container/file")
        root = f"{scheme}://{host}/{container}/"
        return Address(
            scheme, "abfs", root, unquote(container), unquote(path), _account_options(account), secrets, True
        )
    path, _, query = path.partition("?")
    open_query, secret_query = _split_query(query)
    found = {"url_query": secret_query, "url_userinfo": userinfo}
    secrets = {name: value for name, value in found.items() if value}
    path = f"{path}?{open_query}" if open_query else path
    return Address(scheme, "http", f"{scheme}://{host}/", "", path, secrets=secrets)


def _without_sas(text: str) -> tuple[str, Mapping[str, str]]:
    path, mark, query = text.rpartition("?")
    if mark and (_FILLED_LATER in query or re.search(r"(^|&)sig=", query)):
        return path, {"sas_token": query}
    return text, {}


def _split_query(query: str) -> tuple[str, str]:
    """What is shown of a query, and what is not."""
    pairs = [pair for pair in query.split("&") if pair]
    names = [pair.partition("=")[0].lower() for pair in pairs]
    secret_names = (
        SIGNED_WITH | (SAS if "sig" in names else set()) | (WITH_A_SIGNATURE if "signature" in names else set())
    )
    secret = [
        name in secret_names or name.startswith(("x-amz-", "x-goog-")) or _FILLED_LATER in pair
        for name, pair in zip(names, pairs, strict=True)
    ]
    open_part = "&".join(pair for pair, hide in zip(pairs, secret, strict=True) if not hide)
    return open_part, "&".join(pair for pair, hide in zip(pairs, secret, strict=True) if hide)


def _account_options(account: re.Match[str] | None) -> Mapping[str, str]:
    if account is None:
        return {}
    options = {"account_name": account["account"]}
    if account["cloud"] != "core.windows.net":
        options["account_host"] = f"{account['account']}.blob.{account['cloud']}"
    return options


def _service(scheme: str) -> str:
    return "blob" if scheme.startswith("wasb") else "dfs"


def _example(scheme: str) -> str:
    if scheme in AZURE:
        return f"Write {scheme}://container@account.{_service(scheme)}.core.windows.net/folder/"
    if scheme in WEB:
        return f"Write {scheme}://host/path/to/file"
    if scheme in S3 | GOOGLE:
        return f"Write {scheme}://bucket/folder/"
    return f"Write {scheme}://path"
