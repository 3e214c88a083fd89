"""Hosts that ssh reaches: the scheduler and a worker on the first, a worker on each of the others.

The driver needs nothing but ssh: it talks to the scheduler through it. The hosts talk to each other directly, with TLS
and a certificate that is made for the run and sent through ssh.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distributed import Client
from distributed.comm.addressing import parse_host_port
from distributed.security import Security

from daskscore.clusters import settings, versions
from daskscore.clusters.hosted import CLOSE_SECONDS, MARK, SIGN_SECONDS, Asked
from daskscore.clusters.interface import Started, Wanted
from daskscore.clusters.security import in_words, temporary
from daskscore.errors import ConfigError, RunError

if TYPE_CHECKING:
    from asyncssh import SSHClientConnection, SSHClientProcess, SSHListener

CONNECT = {"connect_timeout": 30, "login_timeout": 30, "keepalive_interval": 15}
"""For asyncssh, where the job says nothing else. Host keys are checked as ssh does it."""

START_SECONDS = 120.0
"""How long a host may take to start Python and Dask: from a slow network disk that is not done in a moment."""

KNOWN = ("connect_options", "worker_options", "scheduler_options", "remote_python")


@dataclass(frozen=True, slots=True)
class Host:
    """One host, and how a process is started there."""

    name: str
    connect: dict[str, Any]
    python: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be started, and where."""

    hosts: tuple[Host, ...]
    worker: dict[str, Any]
    scheduler: dict[str, Any]
    security: Security


def start(wanted: Wanted) -> AbstractContextManager[Started]:
    """One worker on each host, all of them gone when the block ends, or the driver."""
    try:
        import asyncssh  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigError("cluster: ssh needs the package asyncssh. Install it: pip install 'daskscore[ssh]'") from None
    options = dict(wanted.options)
    names, more = options.pop("hosts", None), options.pop("options", {})
    if options:
        raise ConfigError(f"cluster: ssh takes no option {next(iter(options))}. Known are hosts and options")
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise ConfigError("cluster: ssh needs hosts. Write them as ssh knows them: hosts: [node1, node2]")
    if not all(isinstance(name, str) and name for name in names):
        raise ConfigError("cluster: ssh: each of hosts is a name or an address. Put numbers in quotes")
    if not isinstance(more, Mapping):
        raise ConfigError(f"cluster: ssh: options: is a mapping. Known are {', '.join(KNOWN)}")
    for name in more:
        if name not in KNOWN:
            raise ConfigError(f"cluster: ssh: options: has no key {name}. Known are {', '.join(KNOWN)}")
    used = names[: _count(wanted, len(names))]
    connect, python = _each(more, "connect_options", {}, names), _each(more, "remote_python", sys.executable, names)
    worker = {**({"nthreads": wanted.process_count_per_node} if wanted.process_count_given else {})}
    return _started(
        Plan(
            tuple(map(Host, used, connect, python)),
            {**worker, **_mapping(more, "worker_options")},
            {**({"host": "127.0.0.1"} if len(set(used)) == 1 else {}), **_mapping(more, "scheduler_options")},
            temporary("ssh", "ssh"),
        )
    )


def _count(wanted: Wanted, hosts: int) -> int:
    if not wanted.node_count_given:
        return hosts
    if wanted.node_count > hosts:
        raise ConfigError(
            f"node_count: the job wants {wanted.node_count} nodes, and cluster: ssh names {hosts} "
            f"host{'s' if hosts > 1 else ''}. Name more hosts, or leave out node_count to use all there are"
        )
    return min(hosts, max(wanted.node_count, wanted.most_nodes or 0))


def _each(options: Mapping[str, Any], key: str, usual: Any, hosts: Sequence[str]) -> list[Any]:
    """One value for all hosts, or one for each."""
    value = options.get(key, usual)
    values = value if isinstance(value, list) else [value] * len(hosts)
    if len(values) != len(hosts):
        raise ConfigError(
            f"cluster: ssh: {key}: are {len(values)} for {len(hosts)} hosts. Give one, or one for each host"
        )
    if not all(isinstance(one, Mapping if isinstance(usual, dict) else str) for one in values):
        what = "a mapping of asyncssh.connect's options" if isinstance(usual, dict) else "the path of a Python"
        raise ConfigError(f"cluster: ssh: {key}: is {what}, or a list with one for each host")
    return values


def _mapping(options: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = options.get(key, {})
    try:
        if isinstance(value, Mapping) and json.dumps(value):
            return dict(value)
    except (TypeError, ValueError):
        pass
    raise ConfigError(f"cluster: ssh: {key}: is a mapping of texts and numbers. Write {{name: value}}")


@contextmanager
def _started(plan: Plan) -> Iterator[Started]:
    with _loop() as run:
        hosts = _Hosts(plan)
        try:
            port = run(hosts.start())
            with _client(plan, f"tls://127.0.0.1:{port}") as client:
                yield Started(client, notes=versions.check(client))
        finally:
            run(hosts.close())


def _client(plan: Plan, address: str) -> Client:
    try:
        return Client(address, security=plan.security, timeout=30, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise RunError(
            f"the Dask scheduler on {plan.hosts[0].name} did not answer through ssh. Does the host allow it "
            "(AllowTcpForwarding in its sshd_config)?"
        ) from error


@contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """What calls into an event loop of our own, as ssh has to be served all the time."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="daskscore-ssh", daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass(slots=True)
class _Hosts:
    """All that is started, in the loop's thread."""

    plan: Plan
    _served: list[_Served] = field(default_factory=list)
    _tunnel: SSHListener | None = None

    async def start(self) -> int:
        """The port of this machine at which the scheduler answers."""
        first = self.plan.hosts[0]
        scheduler = self._add(first, "Scheduler", self.plan.scheduler, settings.SCHEDULER)
        await _all([scheduler.start()])
        host, port = parse_host_port(scheduler.address.partition("://")[2])
        self._tunnel = await scheduler.forward(host, port)
        workers = []
        for number, each in enumerate(self.plan.hosts):
            options = {"scheduler_ip": scheduler.address, "name": self._name(number), **self.plan.worker}
            workers.append(self._add(each, "Nanny", options, settings.WORKER))
        await _all([worker.start() for worker in workers])
        return self._tunnel.get_port()

    async def close(self) -> None:
        """The workers first; none is waited for longer than it may take."""
        if self._tunnel is not None:
            self._tunnel.close()
        scheduler, workers = self._served[:1], self._served[1:]
        await asyncio.gather(*(worker.close() for worker in workers), return_exceptions=True)
        await asyncio.gather(*(one.close() for one in scheduler), return_exceptions=True)
        mine = asyncio.current_task()
        for task in asyncio.all_tasks():
            if task is not mine:
                task.cancel()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not mine), return_exceptions=True)

    def _add(self, host: Host, server: str, options: dict[str, Any], wishes: dict[str, Any]) -> _Served:
        asked: Asked = {
            "server": server,
            "settings": wishes,
            "security": in_words(self.plan.security),
            "options": options,
        }
        self._served.append(_Served(host, asked))
        return self._served[-1]

    def _name(self, number: int) -> str:
        names = [host.name for host in self.plan.hosts]
        return names[number] if names.count(names[number]) == 1 else f"{names[number]}-{number}"


async def _all(starts: list[Coroutine[Any, Any, None]]) -> None:
    """Whoever refuses is named, all of them."""
    found = await asyncio.gather(*starts, return_exceptions=True)
    for error in found:
        if isinstance(error, BaseException) and not isinstance(error, RunError):
            raise error
    if errors := [str(error) for error in found if error is not None]:
        raise RunError(". ".join(errors) + ". Mend this, or take the host out of hosts")


@dataclass(slots=True)
class _Served:
    """One process of ours on a host."""

    host: Host
    asked: Asked
    address: str = ""
    _connection: SSHClientConnection | None = None
    _process: SSHClientProcess[bytes] | None = None
    _said: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Until it serves; a RunError names the host, and has its words or those of ssh."""
        import asyncssh

        try:
            self._connection = await asyncssh.connect(self.host.name, **{**CONNECT, **self.host.connect})
            command = f"{_quoted(self.host.python)} -m daskscore.clusters.hosted"
            self._process = await self._connection.create_process(command, encoding=None)
            self._process.stdin.write(json.dumps(self.asked).encode() + b"\n")
            self._tasks.append(asyncio.create_task(self._hear()))
            async with asyncio.timeout(START_SECONDS):
                self.address = await self._answer()
        except TimeoutError:
            raise RunError(f"{self.host.name}: {self._last() or 'ssh gave no answer in time'}") from None
        except (OSError, asyncssh.Error, ValueError, TypeError) as error:
            raise RunError(f"{self.host.name}: ssh: {_in_words(error)}") from None
        self._tasks.append(asyncio.create_task(self._give_signs()))

    async def forward(self, host: str, port: int) -> SSHListener:
        assert self._connection is not None
        return await self._connection.forward_local_port("127.0.0.1", 0, host, port)

    async def close(self) -> None:
        if self._process is not None:
            with suppress(OSError, TimeoutError):
                self._process.stdin.write_eof()
                async with asyncio.timeout(CLOSE_SECONDS + 5):
                    await self._process.wait_closed()
        if self._connection is not None:
            self._connection.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self._connection.wait_closed()

    async def _answer(self) -> str:
        assert self._process is not None
        async for line in self._process.stdout:
            if line.startswith(MARK):
                return line.removeprefix(MARK).decode().strip()
        await self._tasks[0]
        raise RunError(f"{self.host.name}: {self._last() or f'{self.host.python} ended without a word'}")

    async def _hear(self) -> None:
        assert self._process is not None
        async for line in self._process.stderr:
            self._said.append(line.decode(errors="replace").rstrip())

    async def _give_signs(self) -> None:
        assert self._process is not None
        with suppress(OSError):
            while not self._process.is_closing():
                self._process.stdin.write(b".")
                await asyncio.sleep(SIGN_SECONDS)

    def _last(self) -> str:
        """What it said last; of a traceback the error."""
        return next((line for line in reversed(self._said) if line.strip()), "").rstrip(".")


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return (str(error) or type(error).__name__).rstrip(".")


def _quoted(python: str) -> str:
    """For the shell of the host, which knows its own home."""
    return f"~/{shlex.quote(python[2:])}" if python.startswith("~/") else shlex.quote(python)
