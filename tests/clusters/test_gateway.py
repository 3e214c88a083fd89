"""A real dask-gateway server, which starts its clusters as processes of this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daskscore.clusters import gateway
from daskscore.clusters.interface import Wanted
from daskscore.errors import ConfigError
from tests.servers import free_port
from tests.support import Finished, Workbench, nothing_left_of, processes_with, wait_until

pytest.importorskip("dask_gateway")
SERVER = shutil.which("dask-gateway-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
NAMES = [f"item {number:02}" for number in range(40)]
SCRIPT = """
import os

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    if names == ["item 17"]:
        raise ValueError("seventeen")
    return [f"{name} {len(name)}" for name in names]
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Lets in whoever knows its password."""

    address: str
    proxy_address: str
    password: str
    mark: str

    def cluster(self, **more: Any) -> dict[str, Any]:
        return {"kind": "gateway", "address": self.address, "proxy_address": self.proxy_address, **more}

    @property
    def clusters(self) -> list[str]:
        """The schedulers and workers that it has started."""
        return [words for words in processes_with(self.mark).values() if "distributed.cli" in words]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if SERVER is None:
        pytest.skip("needs dask-gateway-server, the package of that name")
    folder, scratch = tmp_path_factory.mktemp("gateway"), tmp_path_factory.mktemp("scratch")
    api, web, tcp = free_port(), free_port(), free_port()
    password = secrets.token_hex(8)
    python = sys.executable
    (folder / "config.py").write_text(
        f"""
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.SimpleAuthenticator.password = {password!r}
c.DaskGateway.address = "127.0.0.1:{api}"
c.Proxy.address = "127.0.0.1:{web}"
c.Proxy.tcp_address = "127.0.0.1:{tcp}"
c.UnsafeLocalBackend.clusters_directory = {str(folder / "clusters")!r}
c.UnsafeLocalBackend.inherited_environment = ["PATH", "PYTHONPATH", "DASKSCORE_TEST_MARK", "TMPDIR",
    "DASK_TEMPORARY_DIRECTORY"]
c.ClusterConfig.scheduler_cmd = [{python!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{python!r}, "-m", "distributed.cli.dask_worker"]

from dask_gateway_server.options import Integer, Options
c.Backend.cluster_options = Options(Integer("worker_cores", default=1, min=1, max=4))
"""
    )
    with nothing_left_of(scratch) as mark, (folder / "log").open("wb") as log:
        # Dask leaves an empty folder in its own.
        environment = {"TMPDIR": str(scratch), "DASK_TEMPORARY_DIRECTORY": str(folder), **dict([mark.split("=")])}
        with subprocess.Popen(
            [SERVER, "-f", folder / "config.py"], cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log
        ) as process:
            try:
                wait_until(lambda: _is_up(web), lambda: (folder / "log").read_text(), seconds=60)
                yield Server(f"http://127.0.0.1:{web}", f"gateway://127.0.0.1:{tcp}", password, mark)
            finally:
                process.send_signal(signal.SIGINT)


def _is_up(port: int) -> bool:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture
def job(bench: Workbench) -> Workbench:
    bench.script(SCRIPT)
    bench.inputs(*NAMES)
    return bench


def run(job: Workbench, server: Server, cluster: dict[str, Any], *flags: str, password: str | None = None) -> Finished:
    """As alice, whom dask-gateway's own configuration knows."""
    who = {"username": "alice", "password": server.password if password is None else password}
    flags = ("--mini-batch-size", "1", "--run-max-try", "2", "--set", f"cluster={json.dumps(cluster)}", *flags)
    return job.run(*flags, environment={"DASK_GATEWAY__AUTH__KWARGS": json.dumps(who)})


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["2", "1-2"])
def test_a_cluster_of_the_gateway_leaves_what_a_local_one_leaves(job: Workbench, server: Server, nodes: str) -> None:
    expected = job.run("--mini-batch-size", "1", "--run-max-try", "2", "--output", job.folder / "local")
    assert expected.code == 0, expected.stderr
    done = run(job, server, server.cluster(options={"worker_cores": 2}), "--node-count", nodes)
    assert done.code == 0, done.stderr
    assert f"of the gateway at {server.address}" in done.stderr
    rows = (job.output / "parallel_run_step.txt").read_bytes()
    assert rows == (job.folder / "local/parallel_run_step.txt").read_bytes()
    wait_until(lambda: not server.clusters, lambda: f"the end of {server.clusters}")


def test_who_is_not_known_is_told_so(job: Workbench, server: Server) -> None:
    done = run(job, server, server.cluster(), password="wrong")
    assert done.code == 1
    assert f"the gateway at {server.address} cannot be used: 401" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_that_the_server_does_not_offer_is_named(job: Workbench, server: Server) -> None:
    done = run(job, server, server.cluster(options={"worker_cors": 2}))
    assert done.code == 1
    assert "worker_cors" in done.stderr
    assert not server.clusters


def test_a_gateway_that_is_not_there_is_named(job: Workbench, server: Server) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = run(job, server, server.cluster(address=nowhere))
    assert done.code == 1
    assert f"the gateway at {nowhere} cannot be used" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adress": "http://a"}, "takes no option adress"),
        ({"address": "a:8000"}, "is no address"),
        ({"address": "http://a", "options": "worker_cores=2"}, "is a mapping"),
        ({}, "Write address: https"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        gateway.start(Wanted(1, 1, options))


def test_without_dask_gateway_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask_gateway", None)
    with pytest.raises(ConfigError, match=r"pip install 'daskscore\[gateway\]'"):
        gateway.start(Wanted(1, 1, {"address": "http://a"}))
