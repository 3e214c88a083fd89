"""Whatever is killed, and whenever: nothing committed is lost or scored twice, and no byte of the output changes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from daskscore.core.layout import Layout
from daskscore.driver import journal
from tests.support import Finished, Workbench, processes_with, wait_until

SCRIPT = """
import os, time

def run(mini_batch):
    {first}
    calls = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(calls, b"%d\\n" % mini_batch.task_id)
    os.close(calls)
    time.sleep(0.005)
    return [f"{{os.path.basename(path)}} {{'x' * 50_000}}" for path in mini_batch]
"""
MINI_BATCHES = 200
ROWS = b"".join(b"item %03d %s\n" % (number, b"x" * 50_000) for number in range(2 * MINI_BATCHES))
KILLS = 20
LEFT = [".daskscore", "logs", "parallel_run_step.txt", "report.json"]
LEFT_FOR_A_RESUME = ["job.json", "journal", "lock", "plan"]


@dataclass(frozen=True, slots=True)
class Job:
    """A run of two hundred mini-batches that writes down each call of run()."""

    bench: Workbench
    name: str = "out"

    @property
    def layout(self) -> Layout:
        return Layout(self.bench.folder / self.name)

    @property
    def rows(self) -> Path:
        return self.layout.rows("parallel_run_step.txt")

    @property
    def called(self) -> list[int]:
        """The mini-batches that run() was called with."""
        calls = self.bench.folder / f"calls of {self.name}"
        return [int(line) for line in calls.read_text().split()] if calls.exists() else []

    @property
    def items(self) -> dict[str, int]:
        counts: dict[str, int] = json.loads(self.layout.report.read_text())["items"]
        return counts

    @property
    def commits(self) -> int:
        path = self.layout.journal
        return path.read_bytes().count(b'"record":"commit"') if path.exists() else 0

    @property
    def committed(self) -> set[int]:
        """The mini-batches whose rows are committed."""
        records = [record for _, record in journal.read(self.layout.journal) if record["record"] == "commit"]
        return {
            index
            for record in records
            for first, size, *_ in record["segments"]
            for index in range(first, first + size)
        }

    def command(self, *arguments: str) -> list[str]:
        calls = self.bench.folder / f"calls of {self.name}"
        return [
            *self.bench.command("--mini-batch-size", "2", "--process-count-per-node", "2", "--set", "bundle_size=4"),
            *("--output", str(self.layout.output), "--set", f"environment_variables={{CALLS: {str(calls)!r}}}"),
            *arguments,
        ]

    @contextmanager
    def started(self, *arguments: str) -> Iterator[Driver]:
        """In a session of its own, as on a terminal; a driver that the test forgets does not outlive it."""
        with (
            (self.bench.folder / "said.txt").open("wb") as said,
            subprocess.Popen(self.command(*arguments), stdout=said, stderr=said, start_new_session=True) as process,
        ):
            try:
                yield Driver(process, self.bench.folder / "said.txt")
            finally:
                process.kill()

    def finish(self, *arguments: str) -> Finished:
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=60)
        return Finished(done.returncode, done.stdout, done.stderr, self.layout.output)


@dataclass(frozen=True, slots=True)
class Driver:
    """A running `daskscore run`."""

    process: subprocess.Popen[bytes]
    words: Path

    @property
    def said(self) -> str:
        return self.words.read_text()

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a moment; or for the end, whichever comes first."""
        wait_until(lambda: condition() or self.process.poll() is not None, what, seconds=60, every=0.002)

    def signal_group(self, number: int) -> None:
        """What a terminal does at Ctrl-C."""
        os.killpg(self.process.pid, number)

    def ends(self) -> int:
        """The exit code as a shell sees it: Python ends some interrupted programs by the signal itself."""
        code = self.process.wait(timeout=60)
        return code if code >= 0 else 128 - code


@pytest.fixture
def job(bench: Workbench) -> Job:
    bench.script(SCRIPT.format(first="pass"))
    bench.inputs(*(f"item {number:03}" for number in range(2 * MINI_BATCHES)))
    return Job(bench)


def moments(job: Job, chance: random.Random) -> list[Callable[[], bool]]:
    """When to kill, each told as a condition that becomes true: from a driver's first breath to its last."""

    def elapsed(seconds: float) -> Callable[[], bool]:
        deadline = time.monotonic() + seconds
        return lambda: time.monotonic() > deadline

    def committed(more: int) -> Callable[[], bool]:
        enough = job.commits + more
        return lambda: job.commits >= enough

    assembling = job.layout.state / "parallel_run_step.txt.unfinished"
    return [
        elapsed(chance.uniform(0.2, 1.2)),
        elapsed(chance.uniform(1.0, 2.0)),
        committed(chance.randint(1, 4)),
        committed(chance.randint(5, 30)),
        assembling.exists,
        job.rows.exists,
        job.layout.report.exists,
    ]


@pytest.mark.slow
def test_kill_9_of_the_driver_at_any_moment_costs_nothing_that_was_committed(
    job: Job, nothing_left_behind: str
) -> None:
    chance = random.Random(20)
    kills = chain = 0
    while kills < KILLS:
        chain += 1
        job = Job(job.bench, f"out {chain}")
        killed: list[tuple[int, set[int]]] = []
        code: int | None = None
        while code is None:
            with job.started("--resume") as driver:
                moment = chance.choice(moments(job, chance)) if kills < KILLS else lambda: False
                driver.until(moment, "the moment to kill the driver")
                code = driver.process.poll()
                driver.process.kill()
            if code is None:
                kills += 1
                killed.append((len(job.called), job.committed))
                if kills % 2:
                    wait_until(lambda: not processes_with(nothing_left_behind), "the end of all processes")
        assert code == 0, driver.said
        assert job.rows.read_bytes() == ROWS
        assert sorted(path.name for path in job.layout.output.iterdir()) == LEFT
        assert sorted(path.name for path in job.layout.state.iterdir()) == LEFT_FOR_A_RESUME
        assert job.items == {"total": 400, "succeeded": 400, "failed": 0}
        for calls, committed in killed:
            assert not (committed - {50}) & set(
                job.called[calls:]
            )  # the one that was divided is scored anew as a whole


def tree(pid: int) -> dict[str, list[int]]:
    """The processes below a driver, by what they are."""
    workers = [child for child in children(pid) if "spawn_main" in command_line(child)]
    nurseries = [child for worker in workers for child in children(worker)]
    guards = [child for nursery in nurseries for child in children(nursery)]
    scorers = [child for guard in guards for child in children(guard)]
    return {"worker": workers, "nursery": nurseries, "guards": guards, "scorers": scorers}


def children(pid: int) -> list[int]:
    return [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in read(task / "children").split()]


def command_line(pid: int) -> str:
    return read(Path(f"/proc/{pid}/cmdline"))


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("victims", ["worker", "nursery", "guards", "scorers"])
def test_a_run_gets_over_the_end_of_all_its(job: Job, victims: str) -> None:
    with job.started() as driver:
        driver.until(lambda: job.commits >= 10, "some commits")
        doomed = wait_until(lambda: tree(driver.process.pid)[victims], f"a {victims} to kill")
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        assert driver.ends() == 0, driver.said
    assert job.commits > 10
    assert job.rows.read_bytes() == ROWS
    assert job.items == {"total": 400, "succeeded": 400, "failed": 0}


@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everyone", [True, False], ids=["all processes of the terminal", "the driver alone"])
def test_an_interrupted_run_ends_in_good_order_and_says_how_to_go_on(job: Job, number: int, everyone: bool) -> None:
    with job.started() as driver:
        driver.until(lambda: job.commits >= 5, "some commits")
        driver.signal_group(number) if everyone else driver.process.send_signal(number)
        assert driver.ends() == 130
        assert "--resume" in driver.said.splitlines()[-1]
        assert "Traceback" not in driver.said
    calls, committed = len(job.called), job.committed
    assert 5 <= len(committed) < MINI_BATCHES
    done = job.finish("--resume")
    assert (done.code, job.rows.read_bytes()) == (0, ROWS), done.stderr
    assert not (committed - {50}) & set(job.called[calls:])  # the one that was divided is scored anew as a whole


@pytest.mark.usefixtures("nothing_left_behind")
@pytest.mark.parametrize("moment", ["the folder is taken", "the plan stands", "the worker starts"])
def test_an_interrupt_before_the_first_mini_batch_leaves_nothing_running(job: Job, moment: str) -> None:
    with job.started() as driver:
        reached = {
            "the folder is taken": job.layout.lock.exists,
            "the plan stands": job.layout.plan.exists,
            "the worker starts": lambda: tree(driver.process.pid)["worker"],
        }
        driver.until(reached[moment], moment)
        driver.signal_group(signal.SIGINT)
        assert driver.ends() == 130
        assert "Traceback" not in driver.said
    done = job.finish("--resume")
    assert (done.code, job.rows.read_bytes()) == (0, ROWS), done.stderr


@pytest.mark.usefixtures("nothing_left_behind")
def test_the_second_interrupt_ends_a_run_at_once(job: Job) -> None:
    job.bench.script(SCRIPT.format(first="if mini_batch.task_id > 20: time.sleep(1000)"))
    with job.started() as driver:
        driver.until(lambda: job.commits >= 5, "some commits")
        driver.signal_group(signal.SIGINT)
        driver.until(lambda: "Stopping" in driver.said, "the answer to the first interrupt")
        asked = time.monotonic()
        driver.signal_group(signal.SIGINT)
        assert driver.ends() == 130
        assert time.monotonic() - asked < 1
        assert "Ended at once" in driver.said


@pytest.mark.usefixtures("nothing_left_behind")
def test_a_job_that_failed_goes_on_once_its_cause_is_mended(job: Job) -> None:
    broken = job.bench.folder / "broken"
    broken.touch()
    job.bench.script(SCRIPT.format(first=f"if mini_batch.task_id == 50 and os.path.exists({str(broken)!r}): 1 / 0"))
    arguments = ("--error-threshold", "0", "--set", "run_max_try=2")
    failed = job.finish(*arguments)
    assert failed.code == 1
    assert "ZeroDivisionError" in failed.stderr
    assert [line["mini_batch"] for line in failed.failed_items] == [50, 50]
    calls, committed = len(job.called), job.committed
    broken.unlink()
    done = job.finish(*arguments, "--resume")
    assert (done.code, job.rows.read_bytes(), done.failed_items) == (0, ROWS, []), done.stderr
    assert not (committed - {50}) & set(job.called[calls:])  # the one that was divided is scored anew as a whole
