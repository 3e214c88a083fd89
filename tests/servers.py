"""Real storages on loopback, in the foreground, and a proxy that does to their answers what networks do.

A test module asks for them with `pytest_plugins = ["tests.servers"]`. Where a server is not installed its tests are
skipped; where `CI` is true they fail. (PYTEST_DONT_REWRITE: the same modules import names from here, too.)
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

import pytest

from tests.support import wait_until

S3_PAGE = 100
"""Keys in one page of a listing; S3 itself has 1,000."""

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Known to everybody: it stands in Azurite's documentation."""

SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class Fault(NamedTuple):
    """What happens to one request."""

    status: int = 0
    body: bytes = b""
    cut: str = ""
    """After half of the body: "close", "reset", or "stall" until the proxy ends."""


BUSY = Fault(503, SLOW_DOWN)
TOO_MANY = Fault(429)
BROKEN = Fault(500)
FORBIDDEN = Fault(403, DENIED)
GONE = Fault(404)
RESET = Fault(cut="reset")
TRUNCATED = Fault(cut="close")
STALL = Fault(cut="stall")


class Proxy:
    """Stands before a server; which request meets which fault is written down beforehand."""

    def __init__(self, port: int, latency_seconds: float = 0.0) -> None:
        self.upstream = port
        self.latency_seconds = latency_seconds
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        """By the end of the path, for the first requests of it."""
        self.answered: Counter[str] = Counter()
        """Requests by "GET /path", those with a fault included."""
        self.ending = threading.Event()
        self._busy = 0
        self.most_at_a_time = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def will(self, path: str, *faults: Fault) -> None:
        """The next GETs of a path that ends like this meet these faults, one each; those after them go well."""
        self.faults[path].extend(faults)

    def begin(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self._busy += 1
            self.most_at_a_time = max(self.most_at_a_time, self._busy)
            self.answered[f"{method} {path}"] += 1
            if method == "GET":
                for end, faults in self.faults.items():
                    if faults and path.partition("?")[0].endswith(end):
                        return faults.popleft()
            return None

    def end(self) -> None:
        with self._lock:
            self._busy -= 1

    def gets(self, end: str) -> int:
        """How often an object was asked for."""
        return sum(
            number
            for request, number in self.answered.items()
            if request.startswith("GET ") and request.partition("?")[0].endswith(end)
        )

    def close(self) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        proxy = self._proxy
        self.upstream = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=30)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    @property
    def _proxy(self) -> Proxy:
        assert isinstance(self.server, _Server)
        return self.server.proxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._proxy.begin(self.command, self.path)
        try:
            time.sleep(self._proxy.latency_seconds)
            if fault is not None and fault.status:
                self._answer(fault.status, [], fault.body)
                return
            status, headers, answer = self._ask(body)
            if fault is not None and fault.cut:
                self._break_off(fault.cut, status, headers, answer)
                return
            self._answer(status, headers, answer)
        finally:
            self._proxy.end()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        for last in (False, True):
            try:
                self.upstream.request(self.command, self.path, body or None, dict(self.headers.items()))
                response = self.upstream.getresponse()
                break
            except (http.client.HTTPException, ConnectionError):
                self.upstream.close()
                if last:
                    raise
        data = response.read()
        dropped = ("transfer-encoding", "connection", "date", "server")
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in dropped]
        return response.status, headers, data

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
            elif self.command == "HEAD":
                length = int(value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _break_off(self, how: str, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers, len(body))
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.close_connection = True
        if how == "stall":
            self._proxy.ending.wait(60)
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def handle_expect_100(self) -> bool:
        may = super().handle_expect_100()
        self.wfile.flush()
        return may

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class _Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.server.ending.wait(60)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class S3Server:
    """moto's S3, and how to reach it."""

    port: int
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def behind(self, proxy: Proxy) -> dict[str, Any]:
        return {**self.options, "endpoint_url": proxy.url}

    def put(self, bucket: str, objects: dict[str, bytes]) -> None:
        """A bucket with these objects; it may be there already."""
        self._ask("PUT", f"/{bucket}")
        for key, data in objects.items():
            self._ask("PUT", f"/{bucket}/{quote(key)}", data)

    def remove(self, bucket: str, key: str) -> None:
        self._ask("DELETE", f"/{bucket}/{quote(key)}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            # Its parameter says that moto's S3 is meant, and not one of its other services.
            connection.request(
                method, path, body, {"Authorization": "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/s3/"}
            )
            status = connection.getresponse().status
        finally:
            connection.close()
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status}")


@dataclass(frozen=True, slots=True)
class AzureServer:
    """Azurite's blobs, and how to reach them."""

    port: int

    @property
    def connection_string(self) -> str:
        return str(self.behind(self.port)["connection_string"])

    @property
    def options(self) -> dict[str, Any]:
        return self.behind(self.port)

    def behind(self, port: int, key: str = AZURE_KEY) -> dict[str, Any]:
        return {
            "connection_string": f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{AZURE_ACCOUNT};"
        }

    def put(self, container: str, objects: dict[str, bytes], folders: tuple[str, ...] = ()) -> None:
        """A container with these blobs, and folders as a hierarchical namespace shows them."""
        from azure.core.exceptions import ResourceExistsError
        from azure.storage.blob import ContainerClient

        with ContainerClient.from_connection_string(self.connection_string, container) as client:
            with suppress(ResourceExistsError):
                client.create_container()
            for name, data in objects.items():
                client.upload_blob(name, data, overwrite=True)
            for name in folders:
                client.upload_blob(name, b"", overwrite=True, metadata={"hdi_isfolder": "true"})


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    if find_spec("moto") is None or find_spec("flask") is None:
        absent("moto's S3 server is not installed: pip install 'moto[s3]' flask flask-cors s3fs")
    with started_s3() as server:
        yield server


@contextmanager
def started_s3() -> Iterator[S3Server]:
    """moto's S3 in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port):
        options = {
            "key": "test-key-id",
            "secret": "test-secret",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "client_kwargs": {"region_name": "us-east-1"},
        }
        yield S3Server(port, options)


@pytest.fixture(scope="session")
def azure() -> Iterator[AzureServer]:
    program = _azurite()
    if program is None:
        absent("Azurite is not installed: npm install --prefix FOLDER azurite, and set AZURITE=FOLDER")
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    with _running(command, port):
        yield AzureServer(port)


@pytest.fixture
def proxied() -> Iterator[Callable[..., Proxy]]:
    """Makes proxies before a port; they end with the test."""
    proxies: list[Proxy] = []

    def start(port: int, latency_seconds: float = 0.0) -> Proxy:
        proxies.append(Proxy(port, latency_seconds))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Takes connections, and never says a word."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Silent) as server:
        server.daemon_threads = True
        server.block_on_close = False
        server.ending = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.ending.set()  # type: ignore[attr-defined]
        server.shutdown()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _azurite() -> str | None:
    folder = os.environ.get("AZURITE")
    inside = Path(folder or ".") / "node_modules" / ".bin" / "azurite-blob"
    return str(inside) if folder and inside.exists() else shutil.which("azurite-blob")


def absent(sentence: str) -> NoReturn:
    """What a test needs is not on this machine; in CI all of it is."""
    if os.environ.get("CI") == "true":
        pytest.fail(sentence)
    pytest.skip(sentence)


WITH_US = 'exec 3<&0; "$@" </dev/null 3<&- & child=$!; (cat <&3 >/dev/null; kill $child) 2>/dev/null & wait $child'
"""A shell that runs a command until that ends, or until its own standard input does: with us, however we end."""


@contextmanager
def _running(command: list[str], port: int) -> Iterator[None]:
    """A server in the foreground, from its first answer to its end."""
    environment = {**os.environ, "AWS_DEFAULT_REGION": "us-east-1", "MOTO_S3_DEFAULT_MAX_KEYS": str(S3_PAGE)}
    with subprocess.Popen(
        ["sh", "-c", WITH_US, "sh", *command],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None

        def answers() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{' '.join(command)} ended with code {process.returncode}")
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    return True
            except OSError:
                return False

        try:
            wait_until(answers, f"an answer of {' '.join(command)}")
            yield
        finally:
            process.stdin.close()
            process.wait(10)
