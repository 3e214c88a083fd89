"""What an exception of a storage library means, in one word and a few; never with a secret in them."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from daskscore.errors import DaskscoreError


class Cause(StrEnum):
    """Why a storage did not do what it was asked."""

    MISSING = "missing"
    FORBIDDEN = "forbidden"
    NO_CREDENTIALS = "no credentials"
    REFUSED = "refused"
    UNKNOWN_HOST = "unknown host"
    SILENT = "silent"
    PASSING = "passing"
    """The storage is busy, or the connection broke: it may well work in a moment."""
    LOCAL = "local"
    """The disk here is full, or not to be written."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happened between us and a storage."""

    cause: Cause
    words: str
    """Like "404 NoSuchKey" or "the connection was reset"."""

    @property
    def may_pass(self) -> bool:
        """Whether trying again is worth the while."""
        return self.cause in (Cause.PASSING, Cause.SILENT, Cause.REFUSED, Cause.UNKNOWN_HOST)


class Stalled(TimeoutError):
    """A storage sent nothing for too long."""


class Truncated(OSError):
    """An object ended before its end."""


class Unwritable(OSError):
    """The disk here did not take what the storage sent."""


CODES = {
    "AccessDenied": Cause.FORBIDDEN,
    "AuthenticationFailed": Cause.FORBIDDEN,
    "ExpiredToken": Cause.FORBIDDEN,
    "InvalidToken": Cause.FORBIDDEN,
    "PublicAccessNotPermitted": Cause.FORBIDDEN,
    "TokenRefreshRequired": Cause.FORBIDDEN,
    "NoSuchBucket": Cause.MISSING,
    "ContainerNotFound": Cause.MISSING,
    "InternalError": Cause.PASSING,
    "OperationTimedOut": Cause.PASSING,
    "RequestTimeout": Cause.PASSING,
    "ServerBusy": Cause.PASSING,
    "SlowDown": Cause.PASSING,
    "ContainerBeingDeleted": Cause.MISSING,
}
"""Service codes that say more than the HTTP status they come with."""

NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "CredentialUnavailableError",
    "ProfileNotFound",
    "UnauthorizedSSOTokenError",
    "TokenRetrievalError",
    "DefaultCredentialsError",
}
BROKEN_CONNECTION = {
    "ClientConnectionError",
    "ClientOSError",
    "ClientPayloadError",
    "ConnectionClosedError",
    "DecodeError",
    "HTTPClientError",
    "HttpProcessingError",
    "IncompleteRead",
    "IncompleteReadError",
    "ResponseParserError",
    "ResponseStreamingError",
    "ServerDisconnectedError",
    "ServiceRequestError",
    "ServiceResponseError",
    "TransferEncodingError",
    "FlexibleChecksumError",
}
SILENCE = {
    "ConnectTimeoutError",
    "FSTimeoutError",
    "ReadTimeoutError",
    "ServerTimeoutError",
    "ServiceRequestTimeoutError",
    "ServiceResponseTimeoutError",
    "SocketTimeoutError",
}
NO_CONNECTION = {"ClientConnectorError", "EndpointConnectionError", "ClientConnectorDNSError"}
LIBRARIES = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"}


def explain(error: BaseException) -> Trouble | None:
    """What an exception says about the storage; None for one that is a mistake in a program, to be raised again."""
    if isinstance(error, DaskscoreError):
        return Trouble(Cause.OTHER, str(error))
    chain = list(_chain(error))
    for one in chain:
        if trouble := _of_one(one):
            return trouble
    if isinstance(error, OSError):
        return Trouble(Cause.OTHER, error.strerror or type(error).__name__)
    if type(error).__module__.partition(".")[0] in LIBRARIES:
        return Trouble(Cause.OTHER, type(error).__name__)
    return None


def _of_one(error: BaseException) -> Trouble | None:
    status, code = _answer(error)
    if status is not None or code:
        return _of_answer(status or 0, code)
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & NO_CREDENTIALS:
        return Trouble(Cause.NO_CREDENTIALS, "no credentials were found")
    if isinstance(error, ConnectionRefusedError) or getattr(error, "errno", None) == errno.ECONNREFUSED:
        return Trouble(Cause.REFUSED, "the connection was refused")
    if isinstance(error, socket.gaierror) or "ClientConnectorDNSError" in names:
        return Trouble(Cause.UNKNOWN_HOST, "there is no host of this name")
    if isinstance(error, ssl.SSLError) or "ClientConnectorCertificateError" in names:
        return Trouble(Cause.OTHER, "its certificate, or its answer to TLS, cannot be trusted")
    if isinstance(error, Unwritable):
        return Trouble(Cause.LOCAL, error.strerror or "it cannot be written")
    if isinstance(error, Truncated):
        return Trouble(Cause.PASSING, str(error))
    if isinstance(error, TimeoutError) or names & SILENCE:
        return Trouble(Cause.SILENT, str(error) if isinstance(error, Stalled) else "it gave no answer in time")
    if "ClientAuthenticationError" in names:
        return Trouble(Cause.NO_CREDENTIALS, "no credentials were found, or none that is accepted")
    if isinstance(error, (ConnectionError, EOFError)) or names & BROKEN_CONNECTION:
        return _unless_more_is_known(error, Trouble(Cause.PASSING, "the connection broke off"))
    if names & NO_CONNECTION:
        return _unless_more_is_known(error, Trouble(Cause.REFUSED, "there was no connection"))
    if type(error) is FileNotFoundError:
        return _unless_more_is_known(error, Trouble(Cause.MISSING, "it is not there"))
    if type(error) is PermissionError:
        return _unless_more_is_known(error, Trouble(Cause.FORBIDDEN, "permission was denied"))
    return None


def _unless_more_is_known(error: BaseException, trouble: Trouble) -> Trouble:
    """An exception may only wrap the one that says why."""
    for one in list(_chain(error))[1:]:
        if found := _of_one(one):
            return found
    return trouble


def _of_answer(status: int, code: str) -> Trouble:
    words = f"{status or ''} {code}".strip()
    if cause := CODES.get(code):
        return Trouble(cause, words)
    if status in (404, 410):
        return Trouble(Cause.MISSING, words)
    if status in (401, 403):
        return Trouble(Cause.FORBIDDEN, words)
    if status in (408, 425, 429) or status >= 500:
        return Trouble(Cause.PASSING, words)
    return Trouble(Cause.OTHER, words)


def _answer(error: BaseException) -> tuple[int | None, str]:
    """The HTTP status and the service's own word for it, wherever the library keeps them."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(response["Error"].get("Code") or "")
        if status is None and code.isdigit():
            status = int(code)
        return status, "" if code.isdigit() else _word(code)
    if any(kind.__name__ == "HttpProcessingError" for kind in type(error).__mro__):
        return None, ""  # aiohttp's word for a body that breaks off has a code, too, that nobody sent
    for name in ("status_code", "status", "code"):  # azure, aiohttp, gcsfs
        status = getattr(error, name, None)
        if isinstance(status, int) and 300 <= status < 600:
            word = getattr(error, "error_code", None)
            return status, _word(getattr(word, "value", word) or "")
    return None, ""


def _word(code: object) -> str:
    """A service's code, if it is a word; anything longer could hold what must not be shown."""
    text = str(code)
    return text if re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", text) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that led to it, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [getattr(one, name, None) for name in ("os_error", "inner_exception", "_os_error")]
        keywords = getattr(one, "kwargs", None)  # botocore
        if isinstance(keywords, dict):
            inner.append(keywords.get("error"))
        inner += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        waiting += [found for found in inner if isinstance(found, BaseException)]
