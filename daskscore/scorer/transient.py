"""Which exceptions of a script pass by themselves: connections that broke, and services that are busy or down."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any

STATUSES = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})
CLASSES = frozenset(
    {
        "aiohttp.ClientConnectionError",
        "azure.IncompleteReadError",
        "azure.ServiceRequestError",
        "azure.ServiceResponseError",
        "botocore.ConnectionError",
        "botocore.HTTPClientError",
        "google.RetryError",
        "google.TransportError",
        "http.IncompleteRead",
        "httpx.TransportError",
        "requests.ChunkedEncodingError",
        "requests.ConnectionError",
        "requests.Timeout",
        "urllib3.MaxRetryError",
        "urllib3.ProtocolError",
        "urllib3.TimeoutError",
    }
)
"""By their package and name: none of them need be installed."""
CAUSES = 8
"""So many exceptions are looked at that led to each other."""


def retry_after(error: BaseException) -> float | None:
    """Seconds after which it may be tried again, 0 where nobody says; None for what does not pass by itself."""
    scripts: Any = sys.modules.get("daskscore.scripts")
    if scripts is not None and isinstance(error, scripts.Retry):
        return max(0.0, error.after) if error.after == error.after else 0.0
    for one in _causes(error):
        with suppress(Exception):  # what an exception carries is not ours: it may raise when it is looked at
            status, headers = _answer(one)
            if status is not None and status >= 400:
                return _said(headers) if status in STATUSES else None
            if _is_passing(one):
                return 0.0
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """It, and what it was raised from."""
    one: BaseException | None = error
    for _ in range(CAUSES):
        if not isinstance(one, Exception):
            return
        yield one
        reason = getattr(one, "reason", None)  # of urllib.error.URLError
        one = one.__cause__ or (reason if isinstance(reason, BaseException) else None)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, ConnectionError):
        return True
    if isinstance(error, TimeoutError):  # a socket's; there are others, which say nothing of the kind
        return "timed out" in str(error)
    return any(f"{kind.__module__.partition('.')[0]}.{kind.__name__}" in CLASSES for kind in type(error).__mro__)


def _answer(error: BaseException) -> tuple[int | None, Any]:
    """Status and headers of the HTTP answer that an exception tells of."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        told = response.get("ResponseMetadata", {})
        return _number(told.get("HTTPStatusCode")), told.get("HTTPHeaders", {})
    for holder in (response, error):
        for name in ("status_code", "status", "code"):
            status = _number(getattr(holder, name, None))
            if status is not None:
                return status, getattr(holder, "headers", None) or {}
    return None, {}


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int) and 100 <= value < 600 else None


def _said(headers: Any) -> float:
    """What Retry-After says: seconds, or a date."""
    text = next((str(headers[name]) for name in headers if str(name).lower() == "retry-after"), "")
    try:
        return max(0.0, float(text))
    except ValueError:
        with suppress(ValueError, TypeError):
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        return 0.0
