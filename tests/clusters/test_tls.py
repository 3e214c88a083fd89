"""Clusters that talk TLS, and who listens where."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from distributed import Client
from distributed.comm.core import connect
from distributed.security import Security

import daskscore
from daskscore.clusters import existing, local, security
from daskscore.clusters.interface import Wanted
from daskscore.errors import ConfigError, RunError
from tests.acceptance.test_existing_cluster import state
from tests.clusters.certificates import Authority
from tests.servers import free_port
from tests.support import DEADLINE_SECONDS, Workbench, nothing_left_of, processes_with, wait_until

pytest_plugins = ["tests.servers"]
pytest.importorskip("cryptography")
NAMES = [f"item {number:02}" for number in range(10)]
ROWS = "".join(f"{name} {len(name)}\n" for name in NAMES)
SCRIPT = """
import os

def run(mini_batch):
    return [f"{name} {len(name)}" for name in map(os.path.basename, mini_batch)]
"""
WAITS = """
import os, time

def run(mini_batch):
    open("runs", "w").close()
    while not os.path.exists("go on"):
        time.sleep(0.05)
    return mini_batch
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A scheduler and a worker that talk TLS, started by hand."""

    address: str
    ours: Authority
    stranger: Authority

    def client(self, who: Authority | None, address: str = "") -> Client:
        secure = None if who is None else security.of_files(who.files)
        return Client(address or self.address, security=secure, timeout=10, set_as_default=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("cluster")
    ours, stranger = Authority(folder, "ours"), Authority(folder, "stranger")
    ours.sign()
    stranger.sign()
    found = Site(f"tls://127.0.0.1:{free_port()}", ours, stranger)
    with nothing_left_of(tmp_path_factory.mktemp("scratch")), ExitStack() as stack:
        environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder)}

        def start(kind: str, *words: str) -> None:
            said = stack.enter_context((folder / f"{kind}.txt").open("wb"))
            command = [sys.executable, "-m", f"distributed.cli.{kind}", "--host", "tls://127.0.0.1", *words]
            command += ["--no-dashboard", *ours.flags]
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
            stack.enter_context(process)
            stack.callback(process.terminate)

        start("dask_scheduler", "--port", found.address.rpartition(":")[2])
        start("dask_worker", found.address, "--nthreads", "2")
        with Client(found.address, security=security.of_files(ours.files), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield found


@pytest.fixture
def job(bench: Workbench) -> Workbench:
    bench.script(SCRIPT)
    bench.inputs(*NAMES)
    return bench


def job_file(job: Workbench, cluster: dict[str, Any]) -> Path:
    path = job.folder / "job.yml"
    settings = {"entry_script": "score.py", "inputs": "in", "output": "out", "mini_batch_size": 1, "cluster": cluster}
    path.write_text(yaml.safe_dump(settings))
    return path


def test_a_job_file_names_certificates_by_their_paths_from_there(job: Workbench, site: Site, tmp_path: Path) -> None:
    files = {name: os.path.relpath(path, job.folder) for name, path in site.ours.files.items()}
    path = job_file(job, {"kind": "existing", "address": site.address, "security": files})
    done = subprocess.run(
        [sys.executable, "-m", "daskscore", "run", path], cwd="/", capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert (job.output / "parallel_run_step.txt").read_text() == ROWS
    assert f"the scheduler at {site.address} has 1 worker with 2 threads" in done.stderr
    assert "warning" not in done.stderr


def test_who_holds_a_certificate_of_another_authority_stays_outside(job: Workbench, site: Site) -> None:
    cluster = {"kind": "existing", "address": site.address, "security": site.stranger.files}
    done = job.daskscore("run", job_file(job, cluster))
    assert done.code == 1
    assert f"the Dask scheduler at {site.address}" in done.stderr
    assert "certificate" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_does_not_talk_tls_stays_outside(job: Workbench, site: Site) -> None:
    plain = site.address.replace("tls", "tcp")
    done = job.run("--cluster", plain)
    assert done.code == 1
    assert f"the Dask scheduler at {plain} did not answer" in done.stderr
    assert "its address begins with tls://" in done.stderr


def test_a_client_of_the_caller_is_left_as_it_was(job: Workbench, site: Site) -> None:
    with site.client(site.ours) as client:
        before = state(client)
        script, inputs = job.folder / "score.py", job.folder / "in"
        report = daskscore.run(entry_script=script, inputs=inputs, output=job.output, client=client)
        assert report.status == "Completed"
        wait_until(lambda: state(client) == before, lambda: f"{before}, not {state(client)}")
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize(
    ("address", "named", "words"),
    [
        ("tls://a:1", {"ca": "ours"}, "names no cert"),
        ("tls://a:1", {"ca": "ours", "cert": "ours", "keys": "ours"}, "has no key keys"),
        ("tls://a:1", {"ca": "ours", "cert": "ours", "key": "nowhere"}, "No such file"),
        ("tls://a:1", {"ca": "ours", "cert": "ours", "key": "stranger"}, "cannot be used together"),
        ("tcp://a:1", {"ca": "ours", "cert": "ours", "key": "ours"}, "Write tls://a:1"),
    ],
)
def test_certificates_that_do_not_fit_are_refused_before_any_work(
    site: Site, address: str, named: dict[str, str], words: str
) -> None:
    whose = {"ours": site.ours.files, "stranger": site.stranger.files}
    files = {key: whose[name].get(key, "") if name in whose else f"/{name}" for key, name in named.items()}
    with pytest.raises(ConfigError, match=words):
        existing.connect(Wanted(1, 1, {"address": address, "security": files}))


def test_an_address_that_needs_certificates_says_where_to_name_them() -> None:
    with pytest.raises(ConfigError, match=r"security: \{ca"):
        existing.connect(Wanted(1, 1, {"address": "tls://a:1"}))


def test_a_local_cluster_knows_no_security_but_temporary() -> None:
    with pytest.raises(ConfigError, match="can be temporary"):
        local.start(Wanted(1, 1, {"security": "permanent"}))


@contextmanager
def standing_still(job: Workbench, mark: str, cluster: dict[str, Any]) -> Iterator[list[psutil._common.sconn]]:
    """What the processes of a run listen to, while all of them are there."""
    job.script(WAITS)
    with subprocess.Popen([sys.executable, "-m", "daskscore", "run", job_file(job, cluster)], cwd=job.folder) as driver:
        wait_until((job.folder / "runs").exists, "the script", seconds=60)
        listening = [
            connection
            for pid in processes_with(mark)
            for connection in psutil.Process(pid).net_connections(kind="inet")
            if connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
        ]
        try:
            yield listening
        finally:
            (job.folder / "go on").touch()
            assert driver.wait(timeout=DEADLINE_SECONDS) == 0


@pytest.mark.parametrize("options", [{}, {"security": "temporary"}])
def test_a_local_cluster_listens_on_loopback_alone(
    job: Workbench, nothing_left_behind: str, options: dict[str, Any]
) -> None:
    with standing_still(job, nothing_left_behind, {"kind": "local", **options}) as listening:
        assert len(listening) >= 3  # scheduler, nanny, worker
        assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::1"}


def test_nobody_without_its_certificate_talks_to_a_local_cluster_with_temporary_security(
    job: Workbench, nothing_left_behind: str
) -> None:
    cluster = {"kind": "local", "security": "temporary"}
    with standing_still(job, nothing_left_behind, cluster) as listening:
        for port in {connection.laddr.port for connection in listening}:
            for scheme, who in (("tcp", Security()), ("tls", Security.temporary())):
                with pytest.raises((OSError, TimeoutError)):  # refused, or HTTP
                    asyncio.run(greeting(f"{scheme}://127.0.0.1:{port}", who))


async def greeting(address: str, who: Security) -> None:
    async with asyncio.timeout(1):
        comm = await connect(address, timeout=1, **who.get_connection_args("client"))
        await comm.close()


def test_what_takes_the_connection_and_says_nothing_is_not_waited_for(silent_port: int) -> None:
    address = f"tcp://127.0.0.1:{silent_port}"
    with pytest.raises(RunError, match="port of its dashboard"):
        existing.connect(Wanted(1, 1, {"address": address}, patience_seconds=0.5)).__enter__()
