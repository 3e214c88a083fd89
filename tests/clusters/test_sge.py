"""A real Grid Engine does the work, and its queue is empty afterwards."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.clusters.queued import Job
from tests.clusters.sge import GridEngine, running
from tests.support import Workbench, nothing_left_of, wait_until

pytest.importorskip("dask_jobqueue", reason="daskscore[jobqueue] is not installed")
pytestmark = pytest.mark.slow

CLUSTER = {
    "kind": "sge",
    "queue": "all.q",
    "memory": "1GB",
    "host": "127.0.0.1",
    "interface": "lo",
    "options": {"job_extra_directives": ["-V"]},  # jobs see the environment of this test
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GridEngine]:
    with running(tmp_path_factory.mktemp("sge")) as grid_engine:
        yield grid_engine


@pytest.fixture
def grid(cluster: GridEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GridEngine]:
    """With an empty queue before and after each test, and nothing left of its processes and temporary files."""
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        yield cluster
        wait_until(lambda: not cluster.jobs(), lambda: f"an empty queue: {cluster.jobs()}", seconds=20)


@pytest.fixture
def job(bench: Workbench) -> Job:
    return Job(bench, CLUSTER)


def test_a_job_is_scored_and_a_deleted_one_replaced(job: Job, grid: GridEngine) -> None:
    job = job.taking(0.5).write(nodes=2, settings={"run_max_try": 1})
    with job.going() as driver:
        wait_until(job.has_committed, lambda: f"a commit: {job.said}", seconds=60)
        first = grid.jobs()
        subprocess.run(["qdel", first[0]], check=True, capture_output=True)
        wait_until(lambda: set(grid.jobs("r")) - set(first), "another job", seconds=40, every=0.2)
        job.ends_well(driver)


def test_kill_9_of_the_driver_empties_the_queue_and_resume_goes_on(job: Job, grid: GridEngine) -> None:
    job = job.taking(0.5).write(nodes=grid.slots + 2)
    with job.going() as driver:
        wait_until(job.has_committed, lambda: f"a commit: {job.said}", seconds=60)
        wait_until(lambda: len(grid.jobs("qw")) == 2, "jobs that wait")
        wait_until(lambda: "2 are pending since" in job.said, lambda: job.said)
        driver.send_signal(signal.SIGKILL)
    wait_until(lambda: not grid.jobs(), lambda: f"an empty queue: {grid.jobs()}", seconds=20)
    done = job.write().run("--resume")
    assert done.code == 0, done.stderr
    job.check()


def test_a_queue_that_is_not_there_is_told_in_the_words_of_grid_engine(job: Job, grid: GridEngine) -> None:
    done = job.write(queue="nope").run()
    assert done.code == 1
    assert 'Job was rejected because job requests unknown queue "nope"' in done.stderr


def test_jobs_that_die_at_once_end_the_run_with_what_they_printed(job: Job, grid: GridEngine) -> None:
    options = {"job_script_prologue": ["echo there is no module called conda >&2; exit 3"]}
    done = job.write(nodes=1, options=options).run()
    assert done.code == 1
    assert "there is no module called conda" in done.stderr
