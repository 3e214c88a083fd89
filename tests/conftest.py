from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from distributed import Client, LocalCluster
from hypothesis import HealthCheck, settings

from daskscore.cli.root import root
from tests.support import Workbench, nothing_left_of

# A machine that others use may stand still for a second at any moment; a failure in CI must come back at the next try.
settings.register_profile(
    "daskscore", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("daskscore")


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


@pytest.fixture
def nothing_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """No process and no temporary file of what the test starts outlives the test; gives the mark they carry."""
    with nothing_left_of(tmp_path_factory.mktemp("scratch")) as mark:
        yield mark


@pytest.fixture(scope="module")  # not longer: its threads draw random numbers, which hypothesis takes for a mistake
def client() -> Iterator[Client]:
    """A cluster inside this process, for runs whose cluster does not matter: it costs no start."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=0,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def run(bench: Workbench, client: Client, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`daskscore run …` in the folder of the bench, on the cluster of `client`; `ends` is how it must end."""
    monkeypatch.chdir(bench.folder)
    assert client.scheduler is not None
    address = client.scheduler.address

    def command(*words: str, ends: int = 0) -> Result:
        done = CliRunner().invoke(root, ["run", "--cluster", address, *words])
        assert done.exit_code == ends, done.output
        return done

    return command
