"""A real Slurm with four simulated nodes does the work, whatever happens to its jobs; its queue is empty afterwards."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clusters.queued import Job
from tests.clusters.slurm import CPUS, Slurm, running
from tests.support import DEADLINE_SECONDS, Finished, Workbench, nothing_left_of, wait_until

pytest.importorskip("dask_jobqueue", reason="daskscore[jobqueue] is not installed")
pytestmark = pytest.mark.slow

CLUSTER = {"kind": "slurm", "queue": "batch", "memory": "1GB", "host": "127.0.0.1", "interface": "lo"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with running(tmp_path_factory.mktemp("slurm")) as slurm:
        yield slurm


@pytest.fixture
def slurm(cluster: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """With an empty queue before and after each test, and nothing left of its processes and temporary files."""
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        yield cluster
        wait_until(lambda: not cluster.jobs(), lambda: f"an empty queue: {cluster.ask('squeue')}", seconds=20)


@pytest.fixture
def job(bench: Workbench) -> Job:
    return Job(bench, CLUSTER)


@pytest.fixture
def full(slurm: Slurm) -> Iterator[set[str]]:
    """The numbers of jobs that take all nodes, and go with the test."""
    sleep = ("--wrap", f"sleep {DEADLINE_SECONDS:.0f}")
    blockers = {slurm.ask("sbatch", "--parsable", "--exclusive", "--output=/dev/null", *sleep) for _ in slurm.nodes}
    try:
        wait_until(lambda: blockers <= set(slurm.jobs("RUNNING")), lambda: slurm.ask("squeue"))
        yield blockers
    finally:
        slurm.ask("scancel", *blockers)


@pytest.mark.parametrize("cluster_keys", [{}, {"security": "temporary"}], ids=["plain", "encrypted"])
def test_three_nodes_leave_the_same_bytes_as_this_machine(
    job: Job, slurm: Slurm, cluster_keys: dict[str, object]
) -> None:
    if cluster_keys:
        pytest.importorskip("cryptography")
    job.write(**cluster_keys)
    assert job.run("--set", "cluster=local", "--set", "output=local").code == 0
    done = job.run()
    assert done.code == 0, done.stderr
    job.check()
    local = job.bench.folder / "local/parallel_run_step.txt"
    assert (job.bench.output / local.name).read_bytes() == local.read_bytes()


def test_a_cancelled_job_costs_no_row_and_is_replaced(job: Job, slurm: Slurm) -> None:
    """Nor does it cost a try, although Slurm ends all processes of the job at the same moment."""
    job = job.taking(0.5).write(nodes=2, settings={"run_max_try": 1})
    with job.going() as driver:
        wait_until(job.has_committed, lambda: f"a commit: {job.said}", seconds=60)
        first = slurm.jobs()
        slurm.ask("scancel", first[0])
        wait_until(lambda: set(slurm.jobs("RUNNING")) - set(first), "another job", seconds=40, every=0.2)
        job.ends_well(driver)


@pytest.mark.parametrize("state", ["DRAIN", "DOWN"])
def test_a_node_that_is_drained_or_lost_costs_no_row(job: Job, slurm: Slurm, state: str) -> None:
    job = job.taking(0.3).write(nodes=2)
    with job.going() as driver:
        wait_until(job.has_committed, lambda: f"a commit: {job.said}", seconds=60)
        node = slurm.ask("squeue", "--noheader", "--format=%N").splitlines()[0]
        try:
            slurm.update(node, f"State={state}", "Reason=test")
            job.ends_well(driver)
        finally:
            slurm.back(node)


def test_workers_leave_before_their_walltime_and_are_replaced(job: Job, slurm: Slurm) -> None:
    job = job.taking(1.0).write(nodes=1, walltime="00:01:00")
    numbers: set[str] = set()
    with job.going() as driver:
        wait_until(lambda: numbers.update(slurm.jobs()) or driver.poll() is not None, "its end", seconds=150, every=0.5)
        job.ends_well(driver)
    assert len(numbers) > 1
    assert Finished(0, "", "", job.bench.output).report["lost_attempts"] == 0


def test_waiting_in_a_full_queue_is_told_and_has_an_end(job: Job, full: set[str], slurm: Slurm) -> None:
    with job.write(nodes=2).going() as driver:
        wait_until(lambda: "2 jobs asked for: 2 are pending (" in job.said, lambda: job.said, seconds=60)
        slurm.ask("scancel", *full)
        job.ends_well(driver)


def test_kill_9_of_the_driver_empties_the_queue_and_resume_goes_on(job: Job, slurm: Slurm) -> None:
    job = job.taking(0.5).write(nodes=CPUS * len(slurm.nodes) + 2)
    with job.going() as driver:
        wait_until(job.has_committed, lambda: f"a commit: {job.said}", seconds=60)
        assert slurm.jobs("PENDING")
        driver.kill()
    wait_until(lambda: not slurm.jobs(), lambda: slurm.ask("squeue"), seconds=20)
    job.write()
    done = job.run("--resume")
    assert done.code == 0, done.stderr
    job.check()


def test_kill_9_of_a_driver_that_waits_takes_its_jobs_out_of_the_queue(job: Job, full: set[str], slurm: Slurm) -> None:
    with job.write(nodes=2).going() as driver:
        wait_until(lambda: "2 are pending (" in job.said, lambda: job.said, seconds=60)
        driver.kill()
    wait_until(lambda: set(slurm.jobs()) == full, lambda: slurm.ask("squeue"), seconds=20)


def test_ctrl_c_empties_the_queue(job: Job, slurm: Slurm) -> None:
    job = job.taking(2.0).write(nodes=CPUS * len(slurm.nodes) + 2)
    with job.going() as driver:
        wait_until(job.has_committed, lambda: f"a commit: {job.said}", seconds=60)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=60) == 130
        wait_until(lambda: not slurm.jobs(), lambda: slurm.ask("squeue"), seconds=10)


def test_a_partition_that_is_not_there_is_told_in_the_words_of_slurm(job: Job, slurm: Slurm) -> None:
    done = job.write(queue="nope").run()
    assert done.code == 1
    assert "invalid partition specified: nope" in done.stderr


def test_jobs_that_die_at_once_end_the_run_with_what_they_printed(job: Job, slurm: Slurm) -> None:
    done = job.write(
        nodes=1, options={"job_script_prologue": ["echo there is no module called conda >&2; exit 3"]}
    ).run()
    assert done.code == 1
    assert "4 jobs in a row ended before their Dask worker came" in done.stderr
    assert "there is no module called conda" in done.stderr


def test_a_range_of_nodes_grows_while_there_is_work(job: Job, slurm: Slurm) -> None:
    job = job.taking(1.0).write(nodes="1-4")
    with job.going() as driver:
        wait_until(lambda: len(slurm.jobs("RUNNING")) == 4, lambda: job.said, seconds=90, every=0.2)
        job.ends_well(driver)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts another command in front of one of Slurm's."""

    def put(name: str, does: str) -> None:
        folder = tmp_path / "commands"
        folder.mkdir(exist_ok=True)
        real = shutil.which(name)
        assert real is not None
        (folder / name).write_text(f"#!/bin/sh\n{does.replace('REAL', shlex.quote(real))}\n")
        (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.mark.parametrize("fault", ["sleep 600", "echo 'Unable to contact slurm controller' >&2; exit 1"])
def test_a_queue_that_does_not_say_what_is_in_it_costs_nothing(
    job: Job, slurm: Slurm, broken: Callable[[str, str], None], fault: str
) -> None:
    job.write()
    with pytest.MonkeyPatch.context():
        broken("squeue", f'[ "$1" = --noheader ] && [ "$2" != --format=%i ] || exec REAL "$@"; {fault}')
        done = job.run()
    assert done.code == 0, done.stderr
    job.check()


def test_a_queue_that_hears_no_cancel_at_the_end_is_told_later(
    job: Job, full: set[str], slurm: Slurm, broken: Callable[[str, str], None]
) -> None:
    """By the process that outlives the driver."""
    mark = job.bench.folder / "failed once"
    broken("scancel", f'[ -e "{mark}" ] && exec REAL "$@"; touch "{mark}"; echo "Socket timed out" >&2; exit 1')
    with job.write(nodes=2).going() as driver:
        wait_until(lambda: "2 are pending (" in job.said, lambda: job.said, seconds=60)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(timeout=60) == 130
        wait_until(lambda: set(slurm.jobs()) == full, lambda: slurm.ask("squeue"), seconds=20)
