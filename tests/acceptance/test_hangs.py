"""A run of a script that hangs says where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from daskscore.core.fingerprints import STOOD
from tests.support import Finished, Workbench, nothing_left_of

SCRIPT = """
import ctypes, os, threading, time

def sleeps(): time.sleep(1000)
def computes_in_c(): ctypes.PyDLL(None).sleep(1000)
def waits_for_a_lock():
    threading.Thread(target=keeps_the_lock).start()
    threading.Semaphore(0).acquire()
def keeps_the_lock(): threading.Event().wait()
def exits(): os._exit(7)
def segfaults(): ctypes.string_at(0)
def raises(): raise ValueError("as told")
def nothing(): pass

def run(mini_batch):
    name = os.path.basename(mini_batch[0])
    globals()[name]()
    return [name]
"""

HANGS = ("sleeps", "computes_in_c", "waits_for_a_lock")
CRASHES = {"exits": {"exit_code": 7}, "segfaults": {"signal": 11}}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    bench = Workbench(tmp_path_factory.mktemp("bench"))
    bench.script(SCRIPT)
    bench.inputs("nothing", "raises", *HANGS, *CRASHES)
    with nothing_left_of(tmp_path_factory.mktemp("scratch")):
        return bench.run(
            *("--process-count-per-node", "2", "--mini-batch-size", "1"),
            *("--run-invocation-timeout", "1", "--run-max-try", "2"),
        )


def failed(aftermath: Finished, name: str) -> dict[str, Any]:
    (line,) = (line for line in aftermath.failed_items if Path(line["item"]).name == name)
    return line


@pytest.mark.parametrize("name", HANGS)
def test_a_hang_says_where_in_failed_items_and_in_both_logs(aftermath: Finished, name: str) -> None:
    line = failed(aftermath, name)
    trace = line["traceback"]
    assert line["kind"] == "timeout"
    assert re.search(
        rf'{re.escape(STOOD)}\n  File ".*/score.py", line \d+, in run\n  File ".*", line \d+, in {name}\n', trace
    )
    assert "daskscore/scorer" not in trace
    for log in ("stderr", "error"):
        text = "".join(path.read_text() for path in (aftermath.output / "logs/user" / log).rglob("*.txt"))
        assert text.count(f", in {name}\n") >= 2


def test_the_thread_that_holds_the_lock_is_told_of_too(aftermath: Finished) -> None:
    trace = failed(aftermath, "waits_for_a_lock")["traceback"]
    assert ", in keeps_the_lock\n" in trace.partition(STOOD)[0]


def test_the_report_and_each_distinct_error_say_where_it_hung(aftermath: Finished) -> None:
    errors = (aftermath.output / "logs/job_error.txt").read_text()
    assert all(f", in {name}\n" in errors for name in HANGS)
    assert aftermath.report["traceback"]


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_says_how_the_process_ended(aftermath: Finished, name: str) -> None:
    line = failed(aftermath, name)
    assert {key: line[key] for key in ("signal", "exit_code") if key in line} == CRASHES[name]


def test_every_line_says_where_it_was_what_it_took_and_what_it_is_like(aftermath: Finished) -> None:
    table = (aftermath.output / "logs/sys/job_report/processed_mini-batches.csv").read_text()
    assert len(aftermath.failed_items) == 6
    for line in aftermath.failed_items:
        assert f",{line['place']}," in table
        assert 0 < line["seconds"] < 60
        assert 1 << 20 < line["peak_memory"] < 1 << 32
        assert re.fullmatch("[0-9a-f]{12}", line["fingerprint"])
        assert (line["attempts"], len(line.get("traceback", "")) <= 2_000) == (2, True)


def test_an_init_that_hangs_says_where_on_the_terminal(bench: Workbench) -> None:
    bench.script("import time\ndef init():\n    time.sleep(1000)\ndef run(mini_batch): return mini_batch\n")
    bench.inputs("a")
    done = bench.run("--set", "init_timeout=1", "--process-count-per-node", "1")
    assert done.code == 1
    assert f'{STOOD}\n  File "{bench.folder}/score.py", line 3, in init\n' in done.stderr
    assert ", in init\n" in done.report["traceback"]
