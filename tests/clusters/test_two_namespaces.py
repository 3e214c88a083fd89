"""A cluster over a network: a scheduler, and two workers on machines of their own as far as Linux can pretend."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import DEADLINE_SECONDS, Workbench, nothing_left_of, wait_until

NAMES = [f"item {number:02}" for number in range(60)]
SCRIPT = """
import os, time

print("init of", os.getpid())

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    print("scores", *names)
    time.sleep(0.02)
    if names == ["item 17"]:
        raise ValueError("seventeen")
    return [f"{name} {'x' * 2000}" for name in names]
"""
SCHEDULER = "10.200.0.1"


@dataclass(frozen=True, slots=True)
class Network:
    """Three namespaces; the outputs are a folder of the first alone."""

    name: str
    outputs: Path

    def inside(self, which: str) -> list[str]:
        return ["ip", "netns", "exec", f"{self.name}{which}"]


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    found = Network(f"dsk{secrets.token_hex(2)}", tmp_path / "outputs")
    found.outputs.mkdir()
    with ExitStack() as stack:
        try:
            for which in "sab":
                _ip("netns", "add", found.name + which)
                stack.callback(_ip, "netns", "del", found.name + which)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("needs ip, of the package iproute2, and the right to make network namespaces")
        scheduler = ("-n", f"{found.name}s")
        _ip(*scheduler, "link", "set", "lo", "up")
        _ip(*scheduler, "link", "add", "bridge", "type", "bridge")
        _ip(*scheduler, "addr", "add", f"{SCHEDULER}/24", "dev", "bridge")
        _ip(*scheduler, "link", "set", "bridge", "up")
        for number, which in enumerate("ab", 2):
            worker = ("-n", found.name + which)
            _ip(
                *scheduler,
                "link",
                "add",
                f"to-{which}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                found.name + which,
            )
            _ip(*scheduler, "link", "set", f"to-{which}", "master", "bridge", "up")
            _ip(*worker, "link", "set", "lo", "up")
            _ip(*worker, "addr", "add", f"10.200.0.{number}/24", "dev", "eth0")
            _ip(*worker, "link", "set", "eth0", "up")
        yield found


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def address(network: Network, tmp_path: Path) -> Iterator[str]:
    """Of a scheduler whose two workers have scratch folders of their own, and see nothing of the outputs."""
    with ExitStack() as stack:
        for number, which in enumerate("sab", 1):
            folder, scratch = tmp_path / f"of {which}", tmp_path / f"scratch of {which}"
            folder.mkdir()
            scratch.mkdir()
            stack.enter_context(nothing_left_of(scratch))
            blind = () if which == "s" else ("sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', network.outputs)
            kind = ("dask_scheduler", "--port", "8786") if which == "s" else ("dask_worker", f"{SCHEDULER}:8786")
            words = ("--nthreads", "2", "--name", which) if which != "s" else ()
            command = [*network.inside(which), *blind, sys.executable, "-m", f"distributed.cli.{kind[0]}", *kind[1:]]
            command += [*words, "--host", f"10.200.0.{number}", "--no-dashboard"]
            said = stack.enter_context((folder / "said").open("wb"))
            environment = {**os.environ, "TMPDIR": str(scratch), "DASK_TEMPORARY_DIRECTORY": str(folder)}
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
            stack.enter_context(process)
            stack.callback(process.terminate)
        said_by_scheduler = tmp_path / "of s/said"
        wait_until(
            lambda: said_by_scheduler.read_text().count("Register worker") == 2, said_by_scheduler.read_text, seconds=60
        )
        yield f"tcp://{SCHEDULER}:8786"


@pytest.mark.slow
def test_workers_without_a_shared_disk_leave_what_a_local_cluster_leaves(
    bench: Workbench, network: Network, address: str
) -> None:
    bench.script(SCRIPT)
    bench.inputs(*NAMES)
    flags = ("--mini-batch-size", "1", "--run-max-try", "2")
    expected = bench.run(*flags, "--output", bench.folder / "local")
    assert expected.code == 0, expected.stderr
    output = network.outputs / "out"
    command = [*network.inside("s"), *bench.command(*flags, "--cluster", address, "--output", output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert f"the scheduler at {address} has 2 workers with 4 threads" in done.stderr
    rows = (output / "parallel_run_step.txt").read_bytes()
    assert rows == (bench.folder / "local/parallel_run_step.txt").read_bytes()
    assert len(rows.splitlines()) == len(NAMES) - 1
    printed = "".join(log.read_text() for log in (output / "logs/user/stdout").rglob("*.txt"))
    assert [name for name in NAMES if f"scores {name}\n" not in printed] == []
    assert {path.name for path in (output / "logs/user/stdout").iterdir()} == {"a", "b"}
