"""Which exceptions are waited out, and how long."""

from __future__ import annotations

import email.utils
import http.client
import io
import time
import urllib.error
from email.message import Message
from typing import Any

import aiohttp
import botocore.exceptions
import pytest

import daskscore
from daskscore.scorer.transient import retry_after


class Response:
    def __init__(self, status_code: int, **headers: str) -> None:
        self.status_code = status_code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class HTTPError(Exception):
    def __init__(self, response: Any) -> None:
        super().__init__("the service said no")
        self.response = response


def http_error(status: int, retry: str = "") -> urllib.error.HTTPError:
    headers = Message()
    if retry:
        headers["Retry-After"] = retry
    return urllib.error.HTTPError("http://127.0.0.1/", status, "no", headers, io.BytesIO())


def client_error(status: int, **headers: str) -> botocore.exceptions.ClientError:
    told = {"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}}
    return botocore.exceptions.ClientError(told, "GetObject")  # type: ignore[arg-type]  # as much as a service sends


def raised_from(cause: BaseException) -> BaseException:
    try:
        raise ValueError("could not look it up") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (daskscore.Retry("quota used up"), 0.0),
        (daskscore.Retry("quota used up", after=30), 30.0),
        (daskscore.Retry(after=-1), 0.0),
        (daskscore.Retry(after=float("nan")), 0.0),
        (ConnectionResetError(104, "Connection reset by peer"), 0.0),
        (ConnectionRefusedError(), 0.0),
        (http.client.RemoteDisconnected(), 0.0),
        (http.client.IncompleteRead(b""), 0.0),
        (TimeoutError("timed out"), 0.0),
        (TimeoutError("The read operation timed out"), 0.0),
        (urllib.error.URLError(ConnectionRefusedError()), 0.0),
        (aiohttp.ServerDisconnectedError(), 0.0),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1"), 0.0),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://127.0.0.1"), 0.0),
        (http_error(503), 0.0),
        (http_error(429, "17"), 17.0),
        (HTTPError(Response(503, Retry_After="2.5")), 2.5),
        (HTTPError(Response(502)), 0.0),
        (client_error(503), 0.0),
        (client_error(429, **{"retry-after": "4"}), 4.0),
        (raised_from(ConnectionResetError()), 0.0),
        (raised_from(raised_from(http_error(429, "9"))), 9.0),
    ],
    ids=repr,
)
def test_what_passes_by_itself(error: BaseException, seconds: float) -> None:
    assert retry_after(error) == seconds


def test_a_date_says_when() -> None:
    date = email.utils.formatdate(time.time() + 100, usegmt=True)
    found = retry_after(http_error(503, date))
    assert found is not None
    assert 90 < found <= 100


class Hostile(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("do not look at me")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        KeyError(503),
        TimeoutError(),
        TimeoutError("the third-party call took too long"),
        http_error(404),
        http_error(501),
        HTTPError(Response(401)),
        HTTPError(None),
        client_error(403),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
        SystemExit(1),
        Hostile(),
        urllib.error.URLError("unknown url type"),
    ],
    ids=repr,
)
def test_what_does_not(error: BaseException) -> None:
    assert retry_after(error) is None
