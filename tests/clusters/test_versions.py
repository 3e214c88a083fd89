"""Workers that somebody else has set up, with another daskscore than ours, or none, or another Dask."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from daskscore.clusters import existing
from daskscore.clusters.interface import Wanted
from daskscore.errors import RunError
from daskscore.version import VERSION
from tests.support import nothing_left_of


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Callable[[str], tuple[str, ...]]]:
    """What is said of a cluster with one worker, in which these lines of Python have run first."""
    with ExitStack() as stack:

        def ask(lines: str) -> tuple[str, ...]:
            (tmp_path / "sitecustomize.py").write_text(lines)
            (tmp_path / "scratch").mkdir()
            stack.enter_context(nothing_left_of(tmp_path / "scratch"))
            cluster = stack.enter_context(
                LocalCluster(n_workers=0, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0")
            )
            path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
            environment = {**os.environ, "PYTHONPATH": path, "DASK_TEMPORARY_DIRECTORY": str(tmp_path)}
            words = ["--host", "127.0.0.1", "--no-dashboard", "--no-nanny", "--nthreads", "3"]
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, *words],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.enter_context(process)
            stack.callback(process.terminate)
            with Client(cluster, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
            with existing.connect(Wanted(1, 1, {"address": cluster.scheduler_address})) as started:
                return started.notes

        yield ask


def test_of_a_cluster_like_ours_only_its_size_is_told(notes: Callable[[str], tuple[str, ...]]) -> None:
    (whose,) = notes("")
    assert whose.endswith("has 1 worker with 3 threads")


def test_another_dask_is_told_in_one_line(notes: Callable[[str], tuple[str, ...]]) -> None:
    _, warning = notes("import dask, sys\ndask.__version__ = '2020.1.0'\nsys.version = '3.9.1 (main)'\n")
    assert warning.startswith("warning: tcp://127.0.0.1:")
    assert "Python 3.9." in warning
    assert "dask 2020.1.0." in warning
    assert f"Here it is Python {sys.version_info[0]}.{sys.version_info[1]}" in warning


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("import sys\nsys.modules['daskscore'] = None\n", "there is no daskscore"),
        ("import daskscore.version\ndaskscore.version.VERSION = '0.0.7'\n", "daskscore 0.0.7"),
    ],
)
def test_a_worker_without_this_daskscore_is_refused(
    notes: Callable[[str], tuple[str, ...]], lines: str, words: str
) -> None:
    with pytest.raises(RunError, match=f"tcp://127.0.0.1:.*: {words}. Here it is daskscore {VERSION}"):
        notes(lines)
