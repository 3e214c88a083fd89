"""The log tree of a run in which everything goes wrong: file by file, while it goes on, and after anything is killed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.attempts import COLUMNS
from tests.support import Finished, Workbench, processes_with, wait_until

SCRIPT = """
import ctypes, os, sys, time
from azureml_user.parallel_run import EntryScript

def init():
    print("init")

def run(mini_batch):
    (path,) = mini_batch
    act = os.path.basename(path).partition(" ")[0]
    print("scores", os.path.basename(path))
    print("says", os.path.basename(path), file=sys.stderr)
    EntryScript().logger.info("logs %s", os.path.basename(path))
    if act == "raise": raise ValueError('a "quoted"\\nmessage')
    if act == "exit": os._exit(3)
    if act == "segfault": ctypes.string_at(0)
    if act == "spin": ctypes.PyDLL(None).pause()
    if act == "none": return None
    if act == "short": return []
    time.sleep(0.01)
    return [act]
"""
BAD = ["exit 0", "gone 0", "none 0", "raise 0", "raise 1", "segfault 0", "short 0", "spin 0"]
GOOD = [f"good {number:02}" for number in range(40)]
SLOW = """
import os, time
print("PID", os.getpid(), flush=True)
def run(mini_batch):
    print("scores", mini_batch.task_id)
    time.sleep(0.02)
    return [mini_batch.task_id]
"""


def table(output: Path, name: str = "processed_mini-batches") -> list[dict[str, Any]]:
    path = output / "logs/sys/job_report" / f"{name}.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Of every kind of failure one, or two."""
    bench = Workbench(tmp_path_factory.mktemp("bench"))
    bench.script(SCRIPT)
    bench.inputs(*BAD, *GOOD)
    (bench.folder / "in" / "gone 0").unlink()
    (bench.folder / "in" / "gone 0").symlink_to("/nowhere")
    flags = ("--mini-batch-size", "1", "--run-max-try", "2", "--run-invocation-timeout", "1")
    # Without second attempts at what hangs: how often an item was tried would be chance.
    return bench.run(*flags, "--process-count-per-node", "2", "--set", "backup_attempts=false")


def test_the_table_has_a_line_for_each_attempt(finished: Finished) -> None:
    found = table(finished.output)
    assert tuple(found[0]) == COLUMNS
    assert len(found) == finished.report["attempts"]
    keys = [(line["Mini-batch Id"], line["Picked Count"]) for line in found]
    assert len(set(keys)) == len(keys)


def test_its_words_say_what_became_of_each(finished: Finished) -> None:
    words = Counter(
        (Path(json.loads(line["Mini-batch Detail"])[0]).name.partition(" ")[0], line["Status"], line["Error Category"])
        for line in table(finished.output)
    )
    assert words == {
        ("good", "RUN_DONE", ""): len(GOOD),
        ("exit", "RUN_EXCEPTION", "crash"): 2,
        ("segfault", "RUN_EXCEPTION", "crash"): 2,
        ("raise", "RUN_EXCEPTION", "raise"): 4,
        ("none", "RUN_EXCEPTION", "bad_output"): 2,
        ("spin", "RUN_TIMEOUT", "timeout"): 2,
        ("short", "RUN_DONE", "bad_output"): 1,
        ("gone", "LOAD_EXCEPTION", "input"): 1,
    }


def test_its_counts_are_those_of_the_report(finished: Finished) -> None:
    last = {line["Mini-batch Id"]: line for line in table(finished.output)}  # a later try stands further below
    counts = {name: sum(int(line[name]) for line in last.values()) for name in ("Total", "Succeeded", "Failed")}
    items = finished.report["items"]
    assert counts == {"Total": items["total"], "Succeeded": items["succeeded"], "Failed": items["failed"]}


def test_its_times_are_those_of_run(finished: Finished) -> None:
    for line in table(finished.output):
        elapsed, run = float(line["Elapsed Seconds"]), float(line["Run Method Seconds"])
        assert elapsed >= run >= 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", line["Process Start Time"])
        if line["Status"] == "RUN_TIMEOUT":
            assert run >= 1
        if line["Status"] == "RUN_DONE" and not line["Error Category"]:
            assert run >= 0.01
            assert float(line["Process Seconds"]) < run


def test_its_sums_are_those_of_its_lines(finished: Finished) -> None:
    found = table(finished.output)
    processes, nodes = table(finished.output, "process_summary"), table(finished.output, "node_summary")
    for sums in (processes, nodes):
        assert sum(int(line["Mini-batches"]) for line in sums) == len(found)
        assert sum(int(line["Failed"]) for line in sums) == sum(int(line["Failed"]) for line in found)
    by_process = Counter(line["Process"] for line in found)
    assert {line["Process"]: int(line["Mini-batches"]) for line in processes if int(line["Mini-batches"])} == by_process


def test_each_process_says_who_it_was_and_how_it_ended(finished: Finished) -> None:
    folder = finished.output / "logs/sys/node/0"
    ends = []
    for path in folder.glob("process*.txt"):
        first, header, *attempts, sums, end = path.read_text().splitlines()
        assert re.fullmatch(rf"# {path.stem} on node 0: host \S+ \(\S+\), PID \d+, started \S+", first)
        assert header == ",".join(COLUMNS)
        assert sums.startswith(f"# {len(attempts)} mini-batches: ")
        ends.append(end.partition(": ")[2])
    assert sorted(end for end in ends if not end.startswith("there is no")) == [
        "it was killed: run() gave no answer within 1 s",
        "it was killed: run() gave no answer within 1 s",
        "the process exited with code 3 in run()",
        "the process exited with code 3 in run()",
        "the process was ended by signal 11 (SIGSEGV) in run()",
        "the process was ended by signal 11 (SIGSEGV) in run()",
    ]
    main = (folder / "_main.txt").read_text()
    assert main.count(" was started (PID ") == main.count(" is ready: ") == main.count(" ended: ") == len(ends)


def test_what_each_process_printed_is_there_in_whole_lines(finished: Finished) -> None:
    logs = finished.output / "logs/user"
    names = Counter(Path(json.loads(line["Mini-batch Detail"])[0]).name for line in table(finished.output))
    del names["gone 0"]
    for pattern, word in [("stdout/0/*", "scores"), ("stderr/0/*", "says"), ("entry_script_log/0/*", "logs")]:
        text = "\n".join(path.read_text() for path in logs.glob(pattern))
        assert Counter(re.findall(rf"{word} (\w+ \d+)$", text, re.MULTILINE)) == names
    errors = "".join(path.read_text() for path in (logs / "error/0").iterdir())
    assert errors.count('\nValueError: a "quoted"\nmessage') == 4
    assert "Segmentation fault" in "".join(path.read_text() for path in (logs / "stderr/0").iterdir())


def test_the_readme_names_every_file_of_the_tree(finished: Finished) -> None:
    logs = finished.output / "logs"
    readme = (logs / "readme.txt").read_text()
    for path in logs.rglob("*"):
        name = str(path.relative_to(logs))
        name = re.sub(r"process\d+", "<process>", name).replace("/0/", "/<node>/")
        name = re.sub(r"os/\d{10}/processes_\d\d", "os/<yyyymmddhh>/processes_<mm>", name)
        known = [name, name.removeprefix("sys/perf/<node>/"), name.replace("user/error.txt", "job_error.txt")]
        assert path.is_dir() or name == "readme.txt" or any(word in readme for word in known), name


@contextmanager
def started(bench: Workbench, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with (bench.folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(bench.command(*arguments), cwd=bench.folder, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def slow(bench: Workbench) -> Workbench:
    bench.script(SLOW)
    return bench


FLAGS = ("--rank-mini-batch-count", "300", "--process-count-per-node", "2", "--set", "bundle_size=3")


def test_the_table_grows_while_the_run_goes_on(slow: Workbench) -> None:
    with started(slow, *FLAGS) as driver:
        wait_until(lambda: 0 < len(table(slow.output)) < 300, "some attempts")
        assert driver.poll() is None
        assert driver.wait(60) == 0
    assert sorted(int(line["Mini-batch Id"]) for line in table(slow.output)) == list(range(300))


@pytest.mark.parametrize("who", ["scorer", "worker"])
def test_what_a_killed_process_had_told_is_there(slow: Workbench, nothing_left_behind: str, who: str) -> None:
    with started(slow, *FLAGS) as driver:
        (log, *_) = wait_until(
            lambda: [path for path in (slow.output / "logs/user/stdout").glob("0/*") if "scores" in path.read_text()],
            "the first print",
        )
        scorer = int(log.read_text().split()[1])
        victim = scorer if who == "scorer" else _worker(slow, nothing_left_behind)
        os.kill(victim, signal.SIGKILL)
        assert driver.wait(60) == 0
    found = table(slow.output)
    done = Counter(line["Mini-batch Id"] for line in found if line["Status"] == "RUN_DONE")
    assert sorted(map(int, done)) == list(range(300))
    if who == "scorer":
        assert set(done.values()) == {1}
        (crash,) = [line for line in found if line["Status"] != "RUN_DONE"]
        assert (crash["Error Category"], crash["Picked Count"]) == ("crash", "1")
        assert "signal 9" in (slow.output / "logs/sys/node/0/_main.txt").read_text()


def _worker(bench: Workbench, mark: str) -> int:
    """The one Dask worker of the run."""
    main = bench.output / "logs/sys/node/0/_main.txt"
    return int(main.read_text().split("|")[2])


def test_a_resumed_run_has_the_attempts_of_the_session_that_was_killed(
    slow: Workbench, nothing_left_behind: str
) -> None:
    with started(slow, *FLAGS) as driver:
        wait_until(lambda: len(table(slow.output)) > 20, "some attempts")
        driver.kill()
    wait_until(lambda: not processes_with(nothing_left_behind), "the end of all processes")
    done = subprocess.run(
        [*slow.command(*FLAGS), "--resume"], cwd=slow.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = table(slow.output)
    assert {int(line["Mini-batch Id"]) for line in found} == set(range(300))
    keys = [(line["Mini-batch Id"], line["Process"]) for line in found]
    assert len(set(keys)) == len(keys)
    assert len({line["Process"] for line in found}) >= 3
    assert len(table(slow.output, "process_summary")) == len(list((slow.output / "logs/sys/node/0").glob("p*.txt")))


def test_a_script_that_prints_without_end_fills_no_disk(bench: Workbench) -> None:
    bench.script(
        """
        import subprocess
        def run(mini_batch):
            for number in range(200_000):
                print(f"line {number:09} {'x' * 84}")
            subprocess.run(["echo", "a child says this"])
            return ["row"]
        """
    )
    flags = ("--set", "log_file_limit=200KB", "--set", "resource_monitor_interval=0")
    done = bench.run("--rank-mini-batch-count", "1", *flags)
    assert done.code == 0, done.stderr
    (log,) = (done.output / "logs/user/stdout/0").iterdir()
    text = log.read_text()
    assert len(text) < 200 << 10
    assert text.startswith("line 000000000 ")
    assert text.endswith("a child says this\n")
    assert text.count("bytes are left out here") == 1
    assert not (done.output / "logs/sys/perf").exists()


def test_warnings_of_dask_stand_in_the_log_of_the_driver(slow: Workbench) -> None:
    script = slow.folder / "drive.py"
    script.write_text(
        "import logging, threading\n"
        "import daskscore\n"
        "from daskscore.driver.logs import Logs\n"
        "begin = Logs.begin\n"
        "def begun(logs):\n"
        "    begin(logs)\n"
        "    logging.getLogger('distributed.client').warning('the line is bad')\n"
        "    logging.getLogger('distributed.scheduler').error('two\\nlines')\n"
        "Logs.begin = begun\n"
        "if __name__ == '__main__':\n"
        "    daskscore.run(entry_script='score.py', output='out', rank_mini_batch_count=2)\n"
    )
    subprocess.run([sys.executable, str(script)], cwd=slow.folder, check=True, timeout=60, capture_output=True)
    lines = [line.split("|") for line in (slow.output / "logs/sys/master_role.txt").read_text().splitlines()]
    said = [(line[1], line[4]) for line in lines]
    assert ("WARNING", "distributed.client: the line is bad") in said
    assert said.count(("ERROR", r"distributed.scheduler: two\nlines")) == 1
