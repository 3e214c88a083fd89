from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskscore.core.model import Bundle, Kind, Outcome, Span
from daskscore.core.thresholds import Tally
from daskscore.errors import RunError
from daskscore.worker import process as processes
from daskscore.worker import supervisor as supervisors
from daskscore.worker.nursery import Guard, Nursery
from tests.support import wait_until
from tests.worker.conftest import Slot

MakeSlot = Callable[..., Slot]


def spans(outcome: Outcome) -> list[tuple[int, int]]:
    """Which mini-batches were scored, one after the other."""
    return [(segment.first, segment.size) for segment in outcome.segments]


def test_mini_batches_that_go_well_are_one_segment(make_slot: MakeSlot) -> None:
    slot = make_slot()
    outcome = slot.score(slot.ledger(["a"], ["b", "c"], ["d"]))
    (segment,) = outcome.segments
    assert (segment.first, segment.size, segment.rows, segment.items, segment.length) == (0, 3, 4, 4, 8)
    assert slot.rows() == ["a", "b", "c", "d"]
    assert (outcome.failures, outcome.unstarted, outcome.initialized) == ((), (), True)


def test_the_next_bundle_goes_to_the_same_scorer_and_part(make_slot: MakeSlot) -> None:
    slot = make_slot()
    ledger = slot.ledger(["a"], ["b"], ["c"])
    parts = {slot.score(ledger, 1).segments[0].part for _ in range(3)}
    assert (len(parts), slot.rows(), ledger.finished) == (1, ["a", "b", "c"], True)


def test_a_bundle_may_be_larger_than_a_pipe(make_slot: MakeSlot) -> None:
    slot = make_slot()
    names = [[f"{index} {'x' * 200}"] for index in range(3000)]
    assert spans(slot.score(slot.ledger(*names), 3000)) == [(0, 3000)]
    assert slot.rows() == [name for [name] in names]


def test_what_run_raises_is_a_failure_with_the_traceback_of_the_script_alone(make_slot: MakeSlot) -> None:
    slot = make_slot()
    (failure,) = slot.score(slot.ledger(["raise a"])).failures
    assert (failure.index, failure.kind, failure.message) == (0, Kind.RAISE, "run() raised ValueError: raise a")
    assert failure.traceback.startswith(f'Traceback (most recent call last):\n  File "{slot.desk.output}/score.py"')
    assert failure.traceback in slot.read(failure.log)


def test_sys_exit_in_run_is_a_failure_and_not_the_end_of_the_scorer(make_slot: MakeSlot) -> None:
    slot = make_slot()
    outcome = slot.score(slot.ledger(["quit"], ["b"]))
    assert [(f.index, f.kind, f.message) for f in outcome.failures] == [(0, Kind.RAISE, "run() raised SystemExit: 3")]
    assert slot.rows() == ["b"]


def test_no_list_is_a_failure_that_says_what_it_was(make_slot: MakeSlot) -> None:
    slot = make_slot()
    (failure,) = slot.score(slot.ledger(["none"])).failures
    assert (failure.kind, failure.traceback) == (Kind.BAD_OUTPUT, "")
    assert failure.message.endswith("The actual type of output is NoneType.")


def test_a_failure_parts_the_segments_around_it(make_slot: MakeSlot) -> None:
    slot = make_slot()
    outcome = slot.score(slot.ledger(["a"], ["raise"], ["c"], ["d"]))
    assert (spans(outcome), slot.rows()) == ([(0, 1), (2, 2)], ["a", "c", "d"])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("exit", "the process exited with code 3 in run()"),
        ("segfault", "the process was ended by signal 11 (SIGSEGV) in run()"),
    ],
)
def test_a_crash_is_charged_to_its_mini_batch_alone(make_slot: MakeSlot, act: str, message: str) -> None:
    slot = make_slot()
    outcome = slot.score(slot.ledger(["a"], ["b"], [act], ["d"], ["e"]))
    assert [(f.index, f.kind, f.message) for f in outcome.failures] == [(2, Kind.CRASH, message)]
    assert (spans(outcome), slot.rows()) == ([(0, 2)], ["a", "b"])
    assert outcome.unstarted == (Span(3, 2),)


def test_a_crash_without_warning_points_at_the_memory_of_the_machine(make_slot: MakeSlot) -> None:
    slot = make_slot("import os\ndef run(mini_batch): os.kill(os.getpid(), 9)")
    (failure,) = slot.score(slot.ledger(["a"])).failures
    assert failure.message == "the process was ended by signal 9 (SIGKILL) in run(); the machine may be out of memory"


def test_the_log_of_a_crash_holds_its_last_words(make_slot: MakeSlot) -> None:
    slot = make_slot()
    (failure,) = slot.score(slot.ledger(["segfault"])).failures
    assert "Fatal Python error: Segmentation fault" in slot.read(failure.log)


def test_a_run_that_holds_the_gil_is_ended_and_what_stood_before_it_is_kept(make_slot: MakeSlot) -> None:
    slot = make_slot(run_seconds=0.3)
    outcome = slot.score(slot.ledger(["a"], ["b"], ["spin"], ["d"]))
    (failure,) = outcome.failures
    assert (failure.index, failure.kind) == (2, Kind.TIMEOUT)
    assert failure.message == "run() gave no answer within 0.3 s"
    assert 0.3 < failure.seconds < 3
    assert (spans(outcome), slot.rows(), outcome.unstarted) == ([(0, 2)], ["a", "b"], (Span(3, 1),))


def test_the_deadline_is_that_of_one_mini_batch_and_not_of_the_bundle(make_slot: MakeSlot) -> None:
    slot = make_slot(run_seconds=0.5)
    assert spans(slot.score(slot.ledger(*[["slow"]] * 60))) == [(0, 60)]


def test_a_scorer_that_holds_too_much_memory_is_ended(make_slot: MakeSlot) -> None:
    slot = make_slot(memory_bytes=200 << 20)
    outcome = slot.score(slot.ledger(["a"], ["hoard"], ["c"]))
    (failure,) = outcome.failures
    assert (failure.index, failure.kind, slot.rows()) == (1, Kind.MEMORY, ["a"])
    assert failure.message.endswith("MiB, more than memory_limit_per_process (200 MiB)")


def test_a_memory_error_is_a_failure_of_that_kind(make_slot: MakeSlot) -> None:
    slot = make_slot("def run(mini_batch): return bytearray(1 << 62)")
    assert slot.score(slot.ledger(["a"])).failures[0].kind is Kind.MEMORY


def test_after_any_end_the_next_bundle_finds_a_new_scorer(make_slot: MakeSlot) -> None:
    slot = make_slot(run_seconds=0.2)
    ledger = slot.ledger(["exit"], ["spin"], ["c"], max_try=1)
    while not ledger.finished:
        slot.score(ledger)
    assert (slot.rows(), ledger.tally.given_up_mini_batches) == (["c"], 2)
    assert len(list((slot.desk.output / "logs/user/stdout/node").iterdir())) == 3


def test_the_rows_of_a_failed_try_are_not_those_of_the_next(make_slot: MakeSlot) -> None:
    slot = make_slot(
        """
        import os
        def run(mini_batch, context):
            if not context.retry_count: os._exit(1)
            return [f"{context.minibatch_index} try {context.retry_count}"]
        """
    )
    ledger = slot.ledger(*[["x"]] * 4)
    while not ledger.finished:
        slot.score(ledger)
    assert slot.rows() == [f"{index} try 1" for index in range(4)]


def test_the_context_counts_retries_and_names_the_mini_batch(make_slot: MakeSlot) -> None:
    slot = make_slot("def run(mini_batch, it): return [f'{it.minibatch_index} {mini_batch.task_id} {it.retry_count}']")
    bundle = Bundle(1, (Span(3, 2, tries=2), Span(9, 1, tries=0)), b'["a"]\n["b"]\n["c"]\n', 60)
    slot.outcomes.append(slot.supervisor.score(bundle))
    assert slot.rows() == ["3 3 2", "4 4 2", "9 9 0"]
    assert spans(slot.outcomes[0]) == [(3, 2), (9, 1)]


def test_spans_with_gaps_between_them_keep_their_places(make_slot: MakeSlot) -> None:
    slot = make_slot()
    ledger = slot.ledger(*([name] for name in ("a", "b", "raise", "d", "exit", "f", "g", "h")))
    ledger.restore([(0, 1), (3, 1), (6, 1)], Tally(8, 8), 0)
    outcome = slot.score(ledger)
    assert (spans(outcome), [f.index for f in outcome.failures]) == ([(1, 1)], [2, 4])
    assert (outcome.unstarted, slot.rows()) == ((Span(5, 1), Span(7, 1)), ["b"])


def test_a_short_return_names_the_last_items_and_is_a_segment_of_its_own(make_slot: MakeSlot) -> None:
    slot = make_slot()
    outcome = slot.score(slot.ledger(["a"], ["b", "short", "c"], ["d"]))
    assert [(s.first, s.size, s.rows, s.items, s.failed_items) for s in outcome.segments] == [
        (0, 1, 1, 1, 0),
        (1, 1, 2, 3, 1),
        (2, 1, 1, 1, 0),
    ]
    assert [(f.index, f.item, f.kind) for f in outcome.item_failures] == [(1, "c", Kind.BAD_OUTPUT)]
    assert "returned 2 results for the 3 items of mini-batch 1" in outcome.item_failures[0].message


def test_more_rows_than_items_are_no_failure(make_slot: MakeSlot) -> None:
    slot = make_slot("def run(mini_batch): return [*mini_batch] * 3")
    outcome = slot.score(slot.ledger(["a"], ["b"]))
    assert (outcome.item_failures, [(s.rows, s.items) for s in outcome.segments]) == ((), [(6, 2)])


def test_a_file_that_is_gone_is_a_failed_item_and_the_others_are_scored(make_slot: MakeSlot) -> None:
    slot = make_slot(content="files")
    here, gone = str(slot.desk.output / "score.py"), str(slot.desk.output / "gone")
    outcome = slot.score(slot.ledger([gone, here], [gone], [here]))
    assert [(f.index, f.item, f.kind) for f in outcome.item_failures] == [(0, gone, Kind.INPUT)]
    assert [(f.index, f.kind) for f in outcome.failures] == [(1, Kind.INPUT)]
    assert outcome.failures[0].message.startswith(f"{gone} cannot be read: No such file or directory.")
    assert slot.rows() == [here, here]


def test_one_column_more_starts_a_segment_with_its_own_header(make_slot: MakeSlot) -> None:
    slot = make_slot(
        """
        import pandas
        def run(mini_batch): return pandas.DataFrame({name: [1] for name in mini_batch})
        """,
        rows={"header": True},
    )
    outcome = slot.score(slot.ledger(["a"], ["a"], ["a", "b"], ["a"], max_try=1))
    assert [(s.first, s.size, s.header) for s in outcome.segments] == [(0, 2, "a\n"), (2, 1, "a b\n"), (3, 1, "a\n")]


def test_a_time_box_hands_back_the_rest(make_slot: MakeSlot) -> None:
    slot = make_slot()
    ledger = slot.ledger(["a"], ["b"], ["c"], ["d"])
    outcome = slot.score(ledger, box_seconds=0)
    assert (spans(outcome), outcome.unstarted) == ([(0, 1)], (Span(1, 3),))
    slot.score(ledger)
    assert slot.rows() == ["a", "b", "c", "d"]


def test_asked_to_stop_it_finishes_the_mini_batch_in_hand_and_starts_no_other(
    make_slot: MakeSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1000.0)
    slot = make_slot()
    ledger = slot.ledger(*[["slow"]] * 2000)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(slot.score, ledger, 2000)
        wait_until(lambda: any(part.stat().st_size for part in slot.desk.parts.iterdir()), "the first rows")
        slot.stopping.set()
    done = len(slot.rows())
    assert 0 < done < 2000
    assert (outcome.result().failures, outcome.result().unstarted) == ((), (Span(done, 2000 - done),))


def test_a_mini_batch_that_does_not_end_in_time_is_handed_back_at_a_stop(
    make_slot: MakeSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    slot = make_slot()
    ledger = slot.ledger(["a"], ["spin"], ["c"])
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(slot.score, ledger)
        wait_until(lambda: any(part.stat().st_size for part in slot.desk.parts.iterdir()), "the first row")
        slot.stopping.set()
    assert (outcome.result().failures, outcome.result().unstarted) == ((), (Span(1, 2),))
    assert slot.rows() == ["a"]


def test_after_a_stop_no_scorer_is_started(make_slot: MakeSlot) -> None:
    slot = make_slot()
    slot.stopping.set()
    outcome = slot.score(slot.ledger(["a"], ["b"]))
    assert (outcome.unstarted, outcome.initialized) == ((Span(0, 2),), False)
    assert not list(slot.desk.parts.iterdir())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import no_such_module", "cannot load score.py: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def run(mini_batch) return 1", "cannot load score.py: SyntaxError: expected ':'"),
        ("def init(): 1 / 0\ndef run(mini_batch): ...", "cannot run init(): ZeroDivisionError: division by zero"),
        ("import sys\ndef init(): sys.exit()\ndef run(mini_batch): ...", "cannot run init(): SystemExit"),
        ("x = 1", "score.py has no function run(mini_batch). Define it"),
        (
            "import os\ndef init(): os._exit(9)\ndef run(mini_batch): ...",
            "cannot run init(): the process exited with code 9 in init()",
        ),
    ],
)
def test_a_script_that_cannot_be_made_ready_has_tried_nothing(make_slot: MakeSlot, script: str, message: str) -> None:
    slot = make_slot(script)
    outcome = slot.score(slot.ledger(["a"], ["b"]))
    assert outcome.init_failure is not None
    assert message in outcome.init_failure.message
    assert (outcome.unstarted, outcome.initialized) == ((Span(0, 2),), False)
    assert (slot.desk.output / outcome.init_failure.log).exists()


def test_an_init_that_never_returns_is_ended(make_slot: MakeSlot) -> None:
    slot = make_slot("import time\ndef init(): time.sleep(1000)\ndef run(mini_batch): ...", init_seconds=0.3)
    failure = slot.score(slot.ledger(["a"])).init_failure
    assert failure is not None
    assert (failure.kind, failure.message) == (
        Kind.TIMEOUT,
        "cannot run init(): it takes more than 0.3 s (init_timeout)",
    )


def test_a_stop_during_init_is_no_failure_of_the_script(make_slot: MakeSlot) -> None:
    slot = make_slot("import time\ndef init(): open('began', 'w'); time.sleep(1000)\ndef run(mini_batch): ...")
    ledger = slot.ledger(["a"])
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(slot.score, ledger)
        wait_until((slot.desk.output / "began").exists, "init()")
        slot.stopping.set()
    assert (outcome.result().init_failure, outcome.result().unstarted) == (None, (Span(0, 1),))


class NoLuck(Nursery):
    """On a machine that kills each scorer as soon as it is forked."""

    def start(self, commands: int, words: int, mark: int) -> Guard:
        guard = super().start(commands, words, mark)
        os.kill(guard.scorer, signal.SIGKILL)
        assert guard.wait(20)
        return guard


def test_a_scorer_that_dies_before_it_has_heard_anything_was_never_ready(make_slot: MakeSlot) -> None:
    slot = make_slot()
    nursery = NoLuck(environment=os.environ)
    slot.supervisor = supervisors.Supervisor(slot.desk, lambda: nursery, slot.stopping.is_set)
    outcome = slot.score(slot.ledger(["a"]))
    nursery.close()
    assert outcome.init_failure is not None
    assert "ended by signal 9 (SIGKILL)" in outcome.init_failure.message
    assert (outcome.init_failure.kind, outcome.initialized) == (Kind.CRASH, False)


def test_a_slow_init_is_not_on_the_clock_of_run(make_slot: MakeSlot) -> None:
    slot = make_slot("import time\ndef init(): time.sleep(0.5)\ndef run(mini_batch): return [1]", run_seconds=0.3)
    outcome = slot.score(slot.ledger(["a"]))
    assert (spans(outcome), outcome.seconds < 0.4) == ([(0, 1)], True)


def test_shutdown_is_called_when_the_slot_is_ended(make_slot: MakeSlot) -> None:
    slot = make_slot("def run(mini_batch): return [1]\ndef shutdown(): print('good bye'); 1 / 0")
    slot.score(slot.ledger(["a"]))
    slot.supervisor.end()
    assert slot.read("logs/user/stdout/node/process000.stdout.txt") == "good bye\n"
    assert "shutdown() raised ZeroDivisionError" in slot.read("logs/user/error/node/process000.txt")


def test_a_shutdown_that_never_returns_is_ended(make_slot: MakeSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 0.3)
    slot = make_slot("import time\ndef run(mini_batch): return [1]\ndef shutdown(): time.sleep(1000)")
    slot.score(slot.ledger(["a"]))
    slot.supervisor.end()
    assert spans(slot.score(slot.ledger(["b"]))) == [(0, 1)]
    slot.supervisor.end()


FORKS_A_DAEMON = """
    import ctypes, os, time

    def forget_our_mark():
        start, end = map(int, open("/proc/self/stat").read().rpartition(")")[2].split()[47:49])
        ctypes.memset(start, 0, end - start)

    def run(mini_batch):
        if os.fork() == 0:
            os.setsid()
            forget_our_mark()
            open("daemon", "w").write(str(os.getpid()))
            while True: time.sleep(1000)
        while not os.path.exists("daemon") or not open("daemon").read(): time.sleep(0.001)
        if mini_batch == ["exit"]: os._exit(3)
        time.sleep(1000)
"""


@pytest.mark.parametrize(("act", "kind"), [("exit", Kind.CRASH), ("hang", Kind.TIMEOUT)])
def test_a_daemon_that_holds_the_pipes_of_a_dead_scorer_holds_nobody_up(
    make_slot: MakeSlot, act: str, kind: Kind
) -> None:
    slot = make_slot(FORKS_A_DAEMON, run_seconds=2.0)
    (failure,) = slot.score(slot.ledger([act])).failures
    daemon = int((slot.desk.output / "daemon").read_text())
    assert (failure.kind, failure.seconds < 10) == (kind, True)
    with pytest.raises(ProcessLookupError):
        os.kill(daemon, 0)


def test_a_scorer_that_ends_between_a_word_and_its_mark_is_not_counted_twice(make_slot: MakeSlot) -> None:
    slot = make_slot(
        """
        import os
        from daskscore.scorer import __main__ as scorer

        def send_and_end(words, word, body=b"", send=scorer.send):
            send(words, word, body)
            if word["word"] == "scored": os._exit(3)

        def run(mini_batch):
            scorer.send = send_and_end
            return [1 / len(mini_batch[0])]
        """
    )
    outcome = slot.score(slot.ledger(["a"], [""], ["c"]))
    assert (spans(outcome), outcome.failures, outcome.unstarted) == ([(0, 1)], (), (Span(1, 2),))


def test_a_fork_that_returns_from_run_does_not_become_a_second_scorer(make_slot: MakeSlot) -> None:
    slot = make_slot("import os\ndef run(mini_batch): os.fork(); return [*mini_batch]")
    slot.score(slot.ledger(["a"], ["b"]))
    assert slot.rows() == ["a", "b"]
    assert sum(part.stat().st_size for part in slot.desk.parts.iterdir()) == 4


def test_a_script_that_closes_all_descriptors_scores_on(make_slot: MakeSlot) -> None:
    slot = make_slot("import os\ndef run(mini_batch): os.closerange(0, 100); print('x'); return [*mini_batch]")
    slot.score(slot.ledger(["a"], ["b"]))
    assert slot.rows() == ["a", "b"]


def test_rows_that_cannot_be_written_end_the_run_and_not_the_mini_batch(make_slot: MakeSlot) -> None:
    slot = make_slot(
        "import resource\ndef run(mini_batch): resource.setrlimit(resource.RLIMIT_FSIZE, (5, 5)); return ['too long']"
    )
    with pytest.raises(RunError, match=r"File too large \(while writing rows\): .*/parts/node-process000-token"):
        slot.score(slot.ledger(["a"]))


@pytest.mark.timeout(60)
def test_parts_that_cannot_be_opened_end_the_run(make_slot: MakeSlot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_SECONDS", 1000.0)
    slot = make_slot()
    shutil.rmtree(slot.desk.parts)
    with pytest.raises(RunError, match="No such file or directory"):
        slot.score(slot.ledger(["a"]))


def test_a_log_of_an_earlier_run_is_never_written_again(make_slot: MakeSlot) -> None:
    first = make_slot()
    first.score(first.ledger(["raise"]))
    second = make_slot()
    assert second.score(second.ledger(["raise"])).failures[0].log == "logs/user/error/node/process001.txt"


def test_taken_rows_give_their_space_back(make_slot: MakeSlot) -> None:
    slot = make_slot()
    ledger = slot.ledger(["a"], ["b"])
    (segment,) = slot.score(ledger, 1).segments
    slot.supervisor.rows_taken({segment.part})
    slot.outcomes.clear()
    (second,) = slot.score(ledger, 1).segments
    assert ((second.part, second.offset), slot.rows()) == ((segment.part, 0), ["b"])
    slot.supervisor.end()
    slot.supervisor.rows_taken({segment.part})
    assert not list(slot.desk.parts.iterdir())


def test_fifty_crashes_cost_no_descriptor_and_no_thread(make_slot: MakeSlot, nursery: Nursery) -> None:
    slot = make_slot()
    ledger = slot.ledger(*[["exit"]] * 51, max_try=1)
    slot.score(ledger)
    descriptors, threads = {*os.listdir("/proc/self/fd")}, threading.active_count()
    while not ledger.finished:
        slot.score(ledger)
    # No more than before: what earlier tests have left to end may have ended meanwhile.
    assert ({*os.listdir("/proc/self/fd")} - descriptors, threading.active_count() > threads) == (set(), False)
    assert ledger.tally.given_up_mini_batches == 51


def test_a_scorer_whose_guard_was_killed_is_a_crash_of_its_mini_batch(tmp_path: Path, make_slot: MakeSlot) -> None:
    slot = make_slot(
        "import os, signal, time\ndef run(mini_batch): os.kill(os.getppid(), signal.SIGKILL); time.sleep(1000)"
    )
    guard = Nursery(environment=os.environ)
    slot.supervisor = supervisors.Supervisor(slot.desk, lambda: guard, slot.stopping.is_set)
    (failure,) = slot.score(slot.ledger(["a"])).failures
    guard.close()
    assert (failure.kind, failure.message) == (
        Kind.CRASH,
        "the process was killed in run(), together with its guard",
    )


acts = st.sampled_from(["a", "a", "a", "short", "once", "raise", "quit", "none", "exit"])


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plan=st.lists(st.lists(acts, min_size=1, max_size=3), min_size=1, max_size=12),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    box_seconds=st.sampled_from([0.0, 60.0]),
)
def test_whatever_scripts_do_each_mini_batch_is_settled_once_with_its_own_rows(
    make_slot: MakeSlot, plan: list[list[str]], sizes: list[int], box_seconds: float
) -> None:
    slot = make_slot()
    named = [[f"{act} {index}" for act in batch] for index, batch in enumerate(plan)]
    ledger = slot.ledger(*named, max_try=2)
    while not ledger.finished:
        slot.score(ledger, sizes[ledger.waiting % len(sizes)], box_seconds=box_seconds)
    good = [batch for batch in named if not any(item.startswith(("raise", "quit", "none", "exit")) for item in batch)]
    assert slot.rows() == [item for batch in good for item in batch if not item.startswith("short")]
    tally = ledger.tally
    assert tally.succeeded_items + tally.failed_items == tally.total_items
    assert tally.succeeded_mini_batches == len(good) == len(plan) - tally.given_up_mini_batches
    assert ledger.rows == tally.succeeded_items
    slot.supervisor.end()
