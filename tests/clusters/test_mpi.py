"""The processes of a real mpirun, on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from daskscore.clusters import ranks
from tests.support import DEADLINE_SECONDS, Workbench, processes_with, wait_until

pytest.importorskip("mpi4py")

NAMES = [f"item {number:02}" for number in range(40)]
SCRIPT = """
import os, time

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    time.sleep(0.05)
    if names == ["item 17"]:
        raise ValueError("seventeen")
    return [f"{name} {len(name)}" for name in names]
"""


@pytest.fixture
def job(bench: Workbench, nothing_left_behind: str, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """It is for Open MPI, whose mpirun is asked not to mind that CI is root and has few processors."""
    if shutil.which("mpirun") is None:
        pytest.skip("needs mpirun, of the package openmpi-bin")
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"):
        monkeypatch.setenv(name, "1")
    bench.script(SCRIPT)
    bench.inputs(*NAMES)
    return bench


def command(job: Workbench, *flags: str) -> list[str]:
    usual = ("--mini-batch-size", "1", "--process-count-per-node", "2", "--run-max-try", "2", "--cluster", "mpi")
    return ["mpirun", "-n", "3", *job.command(*usual, *flags)]


def run(job: Workbench, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(job, *flags), cwd=job.folder, capture_output=True, text=True, timeout=DEADLINE_SECONDS
    )


@contextmanager
def running(job: Workbench) -> Iterator[subprocess.Popen[str]]:
    """A run that has committed something, and its mpirun."""
    journal = job.output / ".daskscore/journal"
    words = command(job)
    with subprocess.Popen(
        words, cwd=job.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as mpirun:
        wait_until(lambda: journal.exists() and b'"commit"' in journal.read_bytes(), "a commit", seconds=60)
        yield mpirun


def drivers_of(mark: str) -> dict[int, int]:
    """The processes of the ranks, by rank."""
    found = {}
    for pid, words in processes_with(mark).items():
        if "-m daskscore run" in words and not words.startswith("mpirun"):
            with open(f"/proc/{pid}/environ", "rb") as file:
                variables = dict(line.split(b"=", 1) for line in file.read().split(b"\0") if b"=" in line)
            found[int(variables[b"OMPI_COMM_WORLD_RANK"])] = pid
    return found


def test_the_ranks_leave_what_a_local_cluster_leaves(job: Workbench) -> None:
    expected = job.run("--mini-batch-size", "1", "--run-max-try", "2", "--output", job.folder / "local")
    assert expected.code == 0, expected.stderr
    done = run(job)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Completed") == 1
    rows = (job.output / "parallel_run_step.txt").read_bytes()
    assert rows == (job.folder / "local/parallel_run_step.txt").read_bytes()
    assert sorted(path.name for path in (job.output / "logs/sys/node").iterdir()) == ["rank-1", "rank-2"]


@pytest.mark.parametrize(("flags", "code"), [(["--error-threshold", "0"], 1), (["--node-count", "5"], 2)])
def test_the_exit_code_is_that_of_the_run_and_rank_0_alone_speaks(job: Workbench, flags: list[str], code: int) -> None:
    done = run(job, *flags)
    assert done.returncode == code, done.stderr
    message = {1: "error_threshold", 2: "mpirun has started 2 workers"}[code]
    assert done.stderr.count(message) == 1, done.stderr
    assert "Traceback" not in done.stderr.partition("The first failure")[0]


@pytest.mark.slow
def test_ctrl_c_ends_all_ranks_and_keeps_what_is_done(job: Workbench) -> None:
    with running(job) as mpirun:
        os.killpg(mpirun.pid, signal.SIGINT)
        _, said = mpirun.communicate(timeout=DEADLINE_SECONDS)
    assert mpirun.returncode != 0, said
    assert run(job, "--resume").returncode == 0
    assert len((job.output / "parallel_run_step.txt").read_text().splitlines()) == len(NAMES) - 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_a_dead_rank_ends_all_and_costs_no_row(job: Workbench, nothing_left_behind: str, rank: int) -> None:
    with running(job) as mpirun:
        os.kill(drivers_of(nothing_left_behind)[rank], signal.SIGKILL)
        _, said = mpirun.communicate(timeout=DEADLINE_SECONDS)
    assert mpirun.returncode != 0, said
    assert run(job, "--resume").returncode == 0
    assert len((job.output / "parallel_run_step.txt").read_text().splitlines()) == len(NAMES) - 1


def test_without_mpirun_it_says_how_to_start_it(bench: Workbench) -> None:
    bench.script(SCRIPT)
    bench.inputs("a")
    done = bench.run("--cluster", "mpi")
    assert done.code == 2
    assert "mpirun -n 4 daskscore run job.yml --cluster mpi" in done.stderr


def test_without_mpi4py_the_line_that_installs_it_is_told(job: Workbench) -> None:
    hidden = job.folder / "hidden"
    hidden.mkdir()
    (hidden / "mpi4py.py").write_text("raise ImportError('hidden')\n")
    command = ["mpirun", "-n", "1", "-x", f"PYTHONPATH={hidden}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"]
    done = subprocess.run([*command, *job.command("--cluster", "mpi")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'daskscore[mpi]'" in done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, 2),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, 0),
        ({"SLURM_PROCID": "0"}, None),
        ({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}, 1),
    ],
)
def test_the_environment_tells_the_rank(environment: dict[str, str], expected: int | None) -> None:
    assert ranks.rank(environment) == expected
