"""A cluster that is already there: it does the work, whether it sees the output folder or not, and is left as it was."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import daskscore
from tests.support import DEADLINE_SECONDS, Workbench, nothing_left_of, wait_until

SCRIPT = """
import os, sys, time

print("init of", os.getpid())

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    print("scores", *names)
    time.sleep(0.03)
    if names == ["item 17"]:
        raise ValueError("seventeen")
    return [f"{name} {'x' * 2000}" for name in names]
"""
NAMES = [f"item {number:02}" for number in range(60)]
ROWS = "".join(f"{name} {'x' * 2000}\n" for name in NAMES if name != "item 17")


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster, and the folder for the outputs of the jobs that it runs."""

    scheduler_file: Path
    outputs: Path

    @contextmanager
    def client(self) -> Iterator[Client]:
        with Client(scheduler_file=str(self.scheduler_file), set_as_default=False) as client:
            yield client


@contextmanager
def site(make_folder: Callable[[str], Path], *, blind: tuple[str, ...] = ()) -> Iterator[Site]:
    """A scheduler and two workers with two threads each, started by hand as on any cluster."""
    folder, outputs = make_folder("cluster"), make_folder("outputs")
    found = Site(folder / "scheduler.json", outputs)
    prefix = ("unshare", *blind, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', outputs) if blind else ()
    with nothing_left_of(make_folder("scratch")), ExitStack() as stack:
        # Dask leaves an empty folder here.
        environment = {**os.environ, "DASK_TEMPORARY_DIRECTORY": str(folder)}

        def start(name: str, kind: str, *words: str | Path) -> None:
            said = stack.enter_context((folder / f"{name}.txt").open("wb"))
            command = [*prefix, sys.executable, "-m", f"distributed.cli.{kind}", "--host", "127.0.0.1", *words]
            command += ["--no-dashboard", "--scheduler-file", found.scheduler_file]
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said)
            stack.enter_context(process)
            stack.callback(process.terminate)

        start("scheduler", "dask_scheduler", "--port", "0")
        for name in ("one", "two"):
            start(name, "dask_worker", "--name", name, "--nthreads", "2")
        wait_until(found.scheduler_file.exists, "the scheduler")
        with found.client() as client:
            client.wait_for_workers(2, timeout=60)
        yield found


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp) as found:
        yield found


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Its processes see everything but the outputs: another file system, an empty one, is mounted there."""
    how = next((words for words in (("-m",), ("-rm",)) if _can("unshare", *words, "true")), None)
    if how is None:
        pytest.skip("needs the right to mount, of root or in a user namespace")
    with site(tmp_path_factory.mktemp, blind=how) as found:
        yield found


def _can(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(params=["seeing", "blind"])
def any_site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


@dataclass(frozen=True, slots=True)
class Job:
    """Sixty mini-batches, one of which fails."""

    bench: Workbench
    output: Path

    def command(self, cluster: str | Path) -> list[str]:
        flags = ("--mini-batch-size", "1", "--run-max-try", "2", "--output", self.output, "--cluster", cluster)
        return self.bench.command(*flags)

    def check(self) -> None:
        """What it leaves, wherever it has run."""
        assert (self.output / "parallel_run_step.txt").read_text() == ROWS
        (failed,) = map(json.loads, (self.output / "failed_items.jsonl").read_text().splitlines())
        assert (Path(failed["item"]).name, failed["kind"], failed["attempts"]) == ("item 17", "raise", 2)
        assert "ValueError: seventeen" in (self.output / failed["log"]).read_text()
        printed = "".join(log.read_text() for log in (self.output / "logs/user/stdout").rglob("*.txt"))
        assert [name for name in NAMES if f"scores {name}\n" not in printed] == []
        assert not (self.output / ".daskscore/parts").exists()


@pytest.fixture
def job(bench: Workbench, request: pytest.FixtureRequest) -> Job:
    bench.script(SCRIPT)
    bench.inputs(*NAMES)
    found: Site = request.getfixturevalue("any_site" if "any_site" in request.fixturenames else "seeing")
    return Job(bench, found.outputs / f"of {bench.folder.name}")


def state(client: Client) -> dict[str, Any]:
    """All that a run could have left on a cluster."""

    def of_worker(dask_worker: Any) -> dict[str, list[str]]:
        import os
        from pathlib import Path

        tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
        return {
            "plugins": sorted(dask_worker.plugins),
            "children": [child for task in tasks for child in (task / "children").read_text().split()],
            "temporary files": sorted(os.listdir(os.environ["TMPDIR"])),
            "tasks": sorted(map(str, dask_worker.state.tasks)),
        }

    def of_scheduler(dask_scheduler: Any) -> dict[str, list[str]]:
        return {"plugins": sorted(dask_scheduler.worker_plugins), "tasks": sorted(map(str, dask_scheduler.tasks))}

    found: dict[str, Any] = client.run(of_worker) | {"scheduler": client.run_on_scheduler(of_scheduler)}
    return found


@pytest.mark.parametrize("name", ["address", "scheduler_file"])
def test_the_command_runs_on_the_cluster_and_leaves_it_as_it_was(job: Job, any_site: Site, name: str) -> None:
    with any_site.client() as client:
        before = state(client)
        cluster = client.scheduler.address if name == "address" else any_site.scheduler_file
        done = subprocess.run(job.command(cluster), capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        assert done.returncode == 0, done.stderr
        job.check()
        wait_until(lambda: state(client) == before, lambda: f"{before}, not {state(client)}")


def test_run_takes_a_client_and_leaves_its_cluster_as_it_was(job: Job, any_site: Site) -> None:
    script, inputs = job.bench.folder / "score.py", job.bench.folder / "in"
    with any_site.client() as client:
        before = state(client)
        report = daskscore.run(
            entry_script=script, inputs=inputs, output=job.output, client=client, mini_batch_size=1, run_max_try=2
        )
        assert (report.status, report.rows) == ("Completed", len(NAMES) - 1)
        job.check()
        wait_until(lambda: state(client) == before, lambda: f"{before}, not {state(client)}")
        assert client.submit(sum, [1, 2]).result() == 3


def test_kill_9_of_a_worker_costs_no_row(job: Job, any_site: Site) -> None:
    """Its nanny starts another one, which joins the run."""
    with any_site.client() as client, subprocess.Popen(job.command(client.scheduler.address)) as driver:
        victim = min(client.run(os.getpid).values())
        journal = job.output / ".daskscore/journal"
        wait_until(lambda: journal.exists() and b'"commit"' in journal.read_bytes(), "a commit")
        os.kill(victim, signal.SIGKILL)
        assert driver.wait(timeout=DEADLINE_SECONDS) == 0
        job.check()
        client.wait_for_workers(2, timeout=60)
