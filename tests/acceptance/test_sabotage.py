"""What a script, or somebody else, may do to the files and processes of a run: the output is exact, or the run says no."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from tests.support import Workbench, wait_until

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

NAMES = [f"{number:02}" for number in range(20)]


def test_rows_that_were_removed_are_missed_and_scored_again(bench: Workbench) -> None:
    bench.script(
        """
        import os, pathlib
        def run(mini_batch):
            (name,) = map(os.path.basename, mini_batch)
            once = pathlib.Path("once")
            if name == "19" and not once.exists():
                once.touch()
                for part in pathlib.Path("out/.daskscore/parts").iterdir():
                    part.unlink()
            return [name]
        """
    )
    bench.inputs(*NAMES)
    words = ("--mini-batch-size", "1", "--process-count-per-node", "1")
    done = bench.run(*words)
    assert done.code == 1
    assert "mini-batches are gone" in done.stderr
    assert not (bench.output / "parallel_run_step.txt").exists()
    assert bench.run(*words, "--resume").rows == NAMES


@pytest.mark.parametrize("damage", ["another item", "half a file", "no header"])
def test_a_plan_that_was_altered_is_not_believed(bench: Workbench, damage: str) -> None:
    bench.script(
        """
        import os, pathlib, time
        def run(mini_batch):
            while os.path.basename(mini_batch[0]) > "05" and not pathlib.Path("go").exists():
                time.sleep(0.01)
            return [os.path.basename(path) for path in mini_batch]
        """
    )
    bench.inputs(*NAMES)
    words = ("--mini-batch-size", "1", "--process-count-per-node", "1")
    state = bench.output / ".daskscore"
    with subprocess.Popen(bench.command(*words), cwd=bench.folder, stderr=subprocess.DEVNULL) as driver:
        journal = state / "journal"
        wait_until(lambda: journal.exists() and b'"segments":[[' in journal.read_bytes(), "a commit")
        driver.send_signal(signal.SIGKILL)
    (bench.folder / "go").touch()
    lines = state / "plan" / "mini_batches.jsonl"
    match damage:
        case "another item":
            lines.write_text(lines.read_text().replace("/19", "/00"))
        case "half a file":
            os.truncate(lines, lines.stat().st_size // 2)
        case "no header":
            (state / "plan" / "plan.json").write_text("{")
    done = bench.run(*words, "--resume")
    if damage == "no header":
        assert (done.code, "is damaged" in done.stderr) == (2, True)
    else:
        assert done.rows == NAMES


@pytest.mark.parametrize("where", ["at the top", "in init()"])
def test_a_fork_before_the_first_mini_batch_makes_no_second_scorer(bench: Workbench, where: str) -> None:
    fork = "import os\nos.fork()\n"
    init = "def init():\n    os.fork()\n"
    run = "def run(mini_batch):\n    return [os.path.basename(path) for path in mini_batch]\n"
    bench.script((fork if where == "at the top" else "import os\n" + init) + run)
    bench.inputs(*NAMES)
    done = bench.run("--mini-batch-size", "1")
    assert done.code == 0, done.stderr
    assert done.rows == NAMES


def test_a_scorer_that_cannot_begin_counts_as_not_ready(bench: Workbench) -> None:
    bench.script(
        """
        import resource
        def init():
            resource.setrlimit(resource.RLIMIT_AS, (1 << 20, 1 << 20))
        def run(mini_batch):
            return mini_batch
        """
    )
    bench.inputs("a")
    done = bench.run("--process-count-per-node", "1")
    assert done.code == 1
    assert "init() keeps failing" in done.stderr


def test_a_completed_run_whose_rows_are_gone_says_so(bench: Workbench) -> None:
    bench.script("def run(mini_batch):\n    return mini_batch\n")
    bench.inputs("a")
    bench.run()
    (bench.output / "parallel_run_step.txt").unlink()
    done = bench.run("--resume")
    assert done.code == 2
    assert "its rows" in done.stderr


def test_files_that_vanish_from_a_large_mini_batch_do_not_cost_its_time(bench: Workbench) -> None:
    bench.script(
        "import os, glob\ndef init():\n    for path in glob.glob('in/1*'):\n        os.unlink(path)\n"
        "def run(mini_batch):\n    return mini_batch\n"
    )
    bench.inputs(*(f"{number:05}" for number in range(20_000)))
    done = bench.run("--mini-batch-size", "20000", "--process-count-per-node", "1", "--run-invocation-timeout", "20")
    assert done.report["failures"] == {"input": 10_000}
    assert done.report["rows"] == 10_000
