"""A scheduler and two workers that stand by themselves, on loopback or each in a network namespace of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.torture.watching import children, end, read
from tests.support import wait_until

WORKERS = ("w1", "w2")
SHORT_TIMEOUTS = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
}


@dataclass(slots=True)
class Cluster:
    """What stands."""

    address: str
    processes: dict[str, subprocess.Popen[bytes]]
    prefix: tuple[str, ...] = ()
    """Before the command of a driver."""
    space: str = ""
    """The beginning of the names of its namespaces."""

    @property
    def nannies(self) -> list[int]:
        """The `dask worker` commands; under `ip netns exec`, which becomes the command, too."""
        return [process.pid for name, process in self.processes.items() if name in WORKERS and process.poll() is None]

    def kill_nanny(self) -> bool:
        return end(self.nannies[0]) if self.nannies else False

    def cut(self, worker: str) -> None:
        self._link(worker, "down")

    def heal(self, worker: str) -> None:
        self._link(worker, "up")

    def _link(self, worker: str, how: str) -> None:
        subprocess.run(["ip", "-n", f"{self.space}s", "link", "set", f"v{worker}", how], check=True)

    def close(self) -> None:
        """In good order: workers first."""
        for name in (*WORKERS, "scheduler"):
            self.processes[name].send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def can_be_apart() -> bool:
    """Whether this user may make network namespaces."""
    if shutil.which("ip") is None or os.getuid() != 0:
        return False
    name = f"torture-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], check=True)
    return made


@contextmanager
def standing(folder: Path, environment: Mapping[str, str], *, apart: bool) -> Iterator[Cluster]:
    """Until the block ends; what it says stands in the folder."""
    place = folder / "cluster"
    place.mkdir()
    with ExitStack() as stack:
        space = stack.enter_context(_namespaces()) if apart else ""
        variables = {**environment, **SHORT_TIMEOUTS, "DASK_TEMPORARY_DIRECTORY": str(place)}
        processes: dict[str, subprocess.Popen[bytes]] = {}
        file = place / "scheduler.json"

        def start(name: str, where: str, *words: str) -> None:
            said = stack.enter_context((place / f"{name}.txt").open("wb"))
            prefix = ["ip", "netns", "exec", f"{space}{where}"] if apart else []
            processes[name] = subprocess.Popen(
                [*prefix, sys.executable, "-m", *words, "--no-dashboard", "--scheduler-file", str(file)],
                cwd=place,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            stack.callback(_end, processes[name])

        host = "10.201.0.{}" if apart else "127.0.0.1"
        start("scheduler", "s", "distributed.cli.dask_scheduler", "--host", host.format(1), "--port", "0")
        wait_until(file.exists, "the scheduler")
        for number, name in enumerate(WORKERS, 1):
            where = f"w{number}"
            words = ["--host", host.format(10 + number), "--nthreads", "2", "--name", name]
            start(name, where, "distributed.cli.dask_worker", *words)
        workers = [processes[name] for name in WORKERS]
        wait_until(lambda: all(_has_worker(process.pid) for process in workers), "the workers")
        prefix = ("ip", "netns", "exec", f"{space}s") if apart else ()
        yield Cluster(str(file), processes, prefix, space)


def _has_worker(nanny: int) -> bool:
    return any("spawn_main" in read(Path(f"/proc/{child}/cmdline")) for child in children(nanny))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


@contextmanager
def _namespaces() -> Iterator[str]:
    """`…s` with a bridge, and `…w1` and `…w2` at its ends; their addresses exist nowhere else."""
    space = f"torture{secrets.token_hex(3)}-"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    names = [f"{space}{end}" for end in ("s", *WORKERS)]
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "br0", "type", "bridge")
        ip("-n", names[0], "addr", "add", "10.201.0.1/24", "dev", "br0")
        ip("-n", names[0], "link", "set", "br0", "up")
        for number, worker in enumerate(WORKERS, 1):
            ip(
                "-n",
                names[0],
                "link",
                "add",
                f"v{worker}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                names[number],
            )
            ip("-n", names[0], "link", "set", f"v{worker}", "master", "br0")
            ip("-n", names[0], "link", "set", f"v{worker}", "up")
            ip("-n", names[number], "addr", "add", f"10.201.0.1{number}/24", "dev", "eth0")
            ip("-n", names[number], "link", "set", "eth0", "up")
        yield space
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
