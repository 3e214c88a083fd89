"""An S3 server for all runs, a bucket for each, and a proxy between them that does what networks do."""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from tests import servers
from tests.servers import BROKEN, BUSY, RESET, STALL, TRUNCATED, Fault, Proxy, S3Server

UNHEARD = Fault(cut="unheard")
"""The request is carried out, and the connection breaks before the answer."""
SHARE = 0.5
PASSING = (BUSY, BROKEN, RESET, TRUNCATED, UNHEARD)


class Chaos(Proxy):
    """Of the next requests every other one, or so, meets a fault, whatever it asks for, until there were enough."""

    def __init__(self, port: int, seed: int) -> None:
        super().__init__(port)
        self._server.RequestHandlerClass = _Unreliable
        self._chance = random.Random(seed)
        self._next: list[Fault] = []
        self._guard = threading.Lock()

    def trouble(self, kind: str, requests: int) -> None:
        with self._guard:
            self._next += [STALL if kind == "stall" else self._chance.choice(PASSING) for _ in range(requests)]

    def begin(self, method: str, path: str) -> Fault | None:
        super().begin(method, path)
        with self._guard:
            if self._next and (method == "GET" if self._next[0] is STALL else self._chance.random() < SHARE):
                return self._next.pop(0)
        return None


class _Unreliable(servers._Handler):
    def _break_off(self, how: str, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        if how != "unheard":
            super()._break_off(how, status, headers, body)
            return
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except (OSError, ValueError):  # a connection that we have closed ourselves
            self.close_connection = True


@dataclass(frozen=True, slots=True)
class Bucket:
    """One run's place in the storage."""

    server: S3Server
    name: str
    proxy: Chaos

    @property
    def uri(self) -> str:
        return f"s3://{self.name}/"

    @property
    def options(self) -> Mapping[str, Any]:
        return self.server.behind(self.proxy)

    def put(self, objects: Mapping[str, bytes]) -> None:
        self.server.put(self.name, dict(objects))

    def trouble(self, kind: str, requests: int) -> None:
        self.proxy.trouble(kind, requests)

    def bring(self, prefix: str, folder: Path) -> None:
        """What stands there, in a folder."""
        for key in self.names():
            if key.startswith(prefix):
                path = folder / key.removeprefix(prefix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._get(f"/{self.name}/{quote(key)}"))

    def names(self) -> list[str]:
        found: list[str] = []
        token = ""
        while True:
            page = ElementTree.fromstring(self._get(f"/{self.name}?list-type=2{token}"))
            space = page.tag.partition("}")[0] + "}"
            found += [unquote(key.text or "") for key in page.iter(f"{space}Key")]
            more = page.findtext(f"{space}NextContinuationToken")
            if not more:
                return found
            token = f"&continuation-token={quote(more)}"

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            word = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/"
            connection.request("GET", path, headers={"Authorization": word})
            return connection.getresponse().read()
        finally:
            connection.close()


class Storages:
    """The server starts when it is first asked for, and ends with the block."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._server: S3Server | None = None
        self._starting = threading.Lock()

    def __enter__(self) -> Storages:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def bucket(self, seed: int) -> Iterator[Bucket]:
        with self._starting:
            if self._server is None:
                self._server = self._stack.enter_context(servers.started_s3())
        server = self._server
        bucket = Bucket(server, f"torture-{seed}-{id(seed) % 100_000}", Chaos(server.port, seed))
        server.put(bucket.name, {})
        try:
            yield bucket
        finally:
            for key in bucket.names():
                server.remove(bucket.name, key)
            bucket.proxy.close()
