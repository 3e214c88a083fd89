from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from daskscore.core.fingerprints import STOOD
from daskscore.core.model import Bundle, Failure, InitFailure, Kind, Span
from daskscore.core.planning import line_of_pickle
from daskscore.worker import stacks
from daskscore.worker.supervisor import Supervisor
from tests.worker.conftest import Slot

MakeSlot = Callable[..., Slot]

SLEEPS = "import time\ndef run(mini_batch):\n    time.sleep(1000)\n"
TOO_LONG = "run() gave no answer within 0.5 s"

HANGS = {
    "sleep": SLEEPS,
    "C code that holds the GIL": "import ctypes\ndef run(mini_batch):\n    ctypes.PyDLL(None).sleep(1000)\n",
    "C code that computes": "import re\ndef run(mini_batch):\n    re.match('(a+)+$', 'a' * 60 + 'b')\n",
    "a loop": "def run(mini_batch):\n    while True: pass\n",
    "a lock": "import threading\ndef run(mini_batch):\n    threading.Semaphore(0).acquire()\n",
    "its own faulthandler": """
import faulthandler, signal, sys, time
def init():
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    faulthandler.dump_traceback_later(1000)
    faulthandler.disable()
def run(mini_batch):
    faulthandler.enable(); time.sleep(1000)
""",
    "all signals taken by init()": """
import signal, time
def init():
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
def run(mini_batch):
    time.sleep(1000)
""",
    "no streams and no descriptors": """
import os, sys, time
def run(mini_batch):
    sys.stdout = sys.stderr = None
    os.closerange(0, 100)
    time.sleep(1000)
""",
}


@pytest.fixture(autouse=True)
def without_py_spy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is installed here is no matter of these tests."""
    monkeypatch.setattr(stacks, "native", lambda pid: "")


def hung(slot: Slot, act: str = "a") -> Failure:
    (failure,) = slot.score(slot.ledger([act])).failures
    assert (failure.kind, failure.message) == (Kind.TIMEOUT, TOO_LONG)
    return failure


def init_failure(slot: Slot) -> InitFailure:
    failure = slot.score(slot.ledger(["a"])).init_failure
    assert failure is not None
    assert failure.kind is Kind.TIMEOUT
    return failure


@pytest.mark.parametrize("script", HANGS.values(), ids=HANGS)
def test_a_hang_is_told_with_the_line_where_the_script_stood(make_slot: MakeSlot, script: str) -> None:
    slot = make_slot(script, run_seconds=0.5)
    failure = hung(slot)
    last = len(script.splitlines())
    assert failure.traceback.startswith(f'{STOOD}\n  File "{slot.desk.output}/score.py", line ')
    assert f"line {last}, in run\n" in failure.traceback
    assert failure.traceback.endswith(f"\nmini-batch 0: {TOO_LONG}\n")
    assert "daskscore/scorer" not in failure.traceback


def test_where_it_hung_stands_in_both_logs(make_slot: MakeSlot) -> None:
    slot = make_slot(SLEEPS, run_seconds=0.5)
    failure = hung(slot)
    assert slot.read("logs/user/stderr/node/process000.stderr.txt") == failure.traceback
    assert slot.read("logs/user/error/node/process000.txt") == f"mini-batch 0: {TOO_LONG}\n{failure.traceback}\n"


def test_the_threads_of_a_script_stand_before_its_main_one(make_slot: MakeSlot) -> None:
    slot = make_slot(
        """
        import threading
        def work(): threading.Event().wait()
        def other(): threading.Lock().acquire() and threading.Event().wait()
        def run(mini_batch):
            threads = [threading.Thread(target=target) for target in (work, work, work, other)]
            for thread in threads: thread.start()
            threads[0].join()
        """,
        run_seconds=0.5,
    )
    trace = hung(slot).traceback
    before, _, main = trace.partition(STOOD)
    assert before.count("3 threads (most recent call last):\n") == 1
    assert (before.count(", in work\n"), before.count(", in other\n")) == (1, 1)
    assert (main.count(", in run\n"), main.count(", in join\n")) == (1, 1)


def test_a_run_that_the_signal_wakes_is_no_success(make_slot: MakeSlot) -> None:
    slot = make_slot(
        "import ctypes\ndef run(mini_batch):\n    ctypes.PyDLL(None).pause()\n    return mini_batch", run_seconds=0.5
    )
    assert "line 3, in run\n" in hung(slot).traceback
    assert slot.rows() == []


@pytest.mark.parametrize(
    ("script", "doing", "function"),
    [
        ("import time\ndef init():\n    time.sleep(1000)\ndef run(mini_batch): ...", "run init()", "init"),
        ("import time\ndef run(mini_batch): ...\ntime.sleep(1000)", "load score.py", "<module>"),
    ],
)
def test_a_script_that_never_becomes_ready_tells_where_it_hangs(
    make_slot: MakeSlot, script: str, doing: str, function: str
) -> None:
    slot = make_slot(script, init_seconds=0.5)
    failure = init_failure(slot)
    assert failure.traceback == (
        f'{STOOD}\n  File "{slot.desk.output}/score.py", line 3, in {function}\n'
        f"cannot {doing}: it takes more than 0.5 s (init_timeout)\n"
    )
    assert failure.traceback in slot.read(failure.log)
    assert failure.traceback in slot.read("logs/user/error/node/process000.txt")


def test_records_that_cannot_be_read_in_time_tell_where_they_are_read(make_slot: MakeSlot) -> None:
    slot = make_slot(content="objects")
    desk = replace(slot.desk, limits=replace(slot.desk.limits, overhead_seconds=0.5))
    slot.supervisor = Supervisor(desk, slot.supervisor._nursery, slot.stopping.is_set)
    os.mkfifo(slot.desk.output / "nobody writes here")
    line = line_of_pickle(str(slot.desk.output / "nobody writes here"), 1)
    (failure,) = slot.supervisor.score(Bundle(1, (Span(0, 1),), line, 60.0)).failures
    slot.supervisor.end()
    assert (failure.kind, failure.message) == (Kind.TIMEOUT, "the records could not be read within 0.5 s")
    assert re.search(r'scorer/loading.py", line \d+, in load\nmini-batch 0: the records could', failure.traceback)


@pytest.mark.parametrize(
    "script",
    [
        "import os, signal\ndef run(mini_batch): os.kill(os.getpid(), signal.SIGSTOP)",
        "import signal, time\ndef run(mini_batch):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n    time.sleep(1000)",
        "import os, signal, time\ndef run(mini_batch): os.kill(os.getppid(), signal.SIGSTOP); time.sleep(1000)",
    ],
    ids=["stopped", "blocks all signals", "has stopped its guard"],
)
def test_a_process_that_cannot_tell_is_ended_all_the_same(
    make_slot: MakeSlot, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr("daskscore.worker.nursery.KILL_SECONDS", 0.5)
    slot = make_slot(script, run_seconds=0.5)
    failure = hung(slot)
    assert (failure.traceback, slot.outcomes[0].seconds < 10) == ("", True)


def test_what_py_spy_sees_stands_before_the_rest(make_slot: MakeSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "native", lambda pid: 'Thread 1 (idle): "MainThread"\n    nanosleep (libc.so.6)')
    trace = hung(make_slot(SLEEPS, run_seconds=0.5)).traceback
    assert trace.startswith("With native frames, as py-spy sees them (most recent call first):\nThread 1 (idle)")
    assert f"nanosleep (libc.so.6)\n\n{STOOD}\n" in trace


def fake_py_spy(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    monkeypatch.undo()
    (folder / "bin").mkdir()
    (folder / "bin/py-spy").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "bin/py-spy").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_py_spy_is_asked_for_native_frames_and_ours_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "echo Process $4: python; echo; echo Thread 1 '(idle)'; echo '    run (score.py:3) '$1 $2 $3; "
    fake_py_spy(tmp_path, monkeypatch, says + "echo '    Scorer.score (daskscore/scorer/__main__.py:129)'")
    assert stacks.native(7) == "Thread 1 (idle)\n    run (score.py:3) dump --native --pid"


@pytest.mark.parametrize("does", ["echo Thread; exit 1", "echo Permission Denied", "exec sleep 1000"])
def test_a_py_spy_that_is_of_no_use_is_not_heard_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], does: str
) -> None:
    fake_py_spy(tmp_path, monkeypatch, does)
    monkeypatch.setattr(stacks, "NATIVE_SECONDS", 0.2)
    assert stacks.native(os.getpid()) == ""
    assert capfd.readouterr() == ("", "")


def test_no_py_spy_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(stacks.sys, "executable", str(tmp_path / "python"))
    assert stacks.native(os.getpid()) == ""


def test_a_torn_dump_calls_no_other_thread_the_main_one() -> None:
    dump = b'7f10\nThread 0x00007f20 (most recent call first):\n  File "/s.py", line 4 in work\n\nThread 0x00'
    text = 'Thread 0x7f20 (most recent call last):\n  File "/s.py", line 4, in work\n…\n'
    assert stacks.told(dump, "", "…") == text


@pytest.mark.parametrize(
    "dump", [b"", b"7f10\n", b"\xff\xfe", b"no number\n", b"7f10\nStack (most recent call first):\n"]
)
def test_a_dump_that_says_nothing_is_no_traceback(dump: bytes) -> None:
    assert stacks.told(dump, "", "message") == ""


def test_a_long_dump_keeps_its_end_where_the_main_thread_is() -> None:
    frames = "".join(f'  File "/s.py", line {number} in f\n' for number in range(100))
    threads = "".join(
        f"Thread 0x{thread:x} (most recent call first):\n{frames}  line {thread}\n" for thread in range(100)
    )
    text = stacks.told(f"0\n{threads}".encode(), "", "message")
    assert len(text) < stacks.CHARACTERS + 100
    assert text.startswith("…\n  ")
    assert text.endswith('  File "/s.py", line 0, in f\nmessage\n')
    assert STOOD in text


def test_twenty_hangs_cost_no_descriptor_and_no_thread(make_slot: MakeSlot) -> None:
    slot = make_slot(SLEEPS, run_seconds=0.05)
    ledger = slot.ledger(*[["a"]] * 21, max_try=1)
    slot.score(ledger)
    descriptors, threads = {*os.listdir("/proc/self/fd")}, threading.active_count()
    while not ledger.finished:
        slot.score(ledger)
    assert ({*os.listdir("/proc/self/fd")} - descriptors, threading.active_count() > threads) == (set(), False)


def test_a_failure_says_where_it_was_and_what_it_took(make_slot: MakeSlot) -> None:
    slot = make_slot()
    outcome = slot.score(slot.ledger(["raise"], ["b", "short"], ["exit"], ["d"]))
    raised, crashed = outcome.failures
    (short,) = outcome.item_failures
    for failure in (raised, crashed, short):
        assert (failure.place, 0 < failure.seconds < 30) == ("node/process000", True)
        assert 1 << 20 < failure.peak_memory < 1 << 30
    assert (raised.signal, raised.exit_code, crashed.signal, crashed.exit_code) == (None, None, None, 3)


def test_a_crash_has_its_signal(make_slot: MakeSlot) -> None:
    slot = make_slot()
    (failure,) = slot.score(slot.ledger(["segfault"])).failures
    assert (failure.signal, failure.exit_code) == (signal.SIGSEGV, None)


def test_what_was_killed_has_neither_signal_nor_exit_code_but_its_memory(make_slot: MakeSlot) -> None:
    slot = make_slot(memory_bytes=200 << 20)
    (hoarded,) = slot.score(slot.ledger(["hoard"])).failures
    assert (hoarded.kind, hoarded.signal, hoarded.exit_code) == (Kind.MEMORY, None, None)
    assert hoarded.peak_memory > 200 << 20
    timed_out = hung(make_slot(run_seconds=0.5), "spin")
    assert (timed_out.signal, timed_out.exit_code, timed_out.peak_memory > 1 << 20) == (None, None, True)
