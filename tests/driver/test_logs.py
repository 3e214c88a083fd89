from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from daskscore.core.attempts import HEADER
from daskscore.core.layout import Layout
from daskscore.core.model import Failure, InitFailure, Kind, Status
from daskscore.core.planning import Named
from daskscore.core.report import Count, Report
from daskscore.core.thresholds import Tally
from daskscore.driver.logs import MOST_ERRORS, Logs
from daskscore.errors import RunError
from tests.support import files_no_larger_than

LOG = "logs/user/error/0/process001.txt"


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 2, 3, 4, 5, 678901)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, **by: float) -> None:
        self.time += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def logs(tmp_path: Path, clock: Clock) -> Logs:
    return Logs(Layout(tmp_path), now=clock)


def read(logs: Logs, name: str) -> str:
    return (logs.layout.logs / name).read_text()


def items_of(index: int) -> Callable[[], list[Named]]:
    return lambda: [Named(f"item-{index}")]


def raised(index: int, message: str = "run() raised ValueError: boom") -> Failure:
    trace = f'Traceback (most recent call last):\n  File "score.py", line 3, in run\n{message}\n'
    return Failure(index, Kind.RAISE, message, LOG, trace)


def report(status: Status = Status.COMPLETED, message: str = "", traceback: str = "") -> Report:
    return Report(
        status=status,
        items=Count(10, 8, 2),
        mini_batches=Count(5, 4, 1),
        rows=8,
        attempts=7,
        lost_attempts=0,
        seconds=1.0,
        output="/out/rows.txt",
        folder="/out",
        message=message,
        traceback=traceback,
        log=LOG if traceback else "",
    )


def test_the_overview_has_a_sentence_every_ten_seconds_and_no_more(logs: Logs, clock: Clock) -> None:
    logs.begin()
    logs.scheduled(100, 1000)
    for _ in range(25):
        clock.advance(seconds=1)
        logs.progress(Tally(total_items=1000, total_mini_batches=100, succeeded_mini_batches=20))
    lines = read(logs, "job_progress_overview.txt").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        "Scheduling finished. Scheduled 100 mini batches. There are 100 tasks with 1000 items.",
        "Processed 20 of 100 mini batches in 0:00:10. Estimated remaining time 0:00:40.",
        "Processed 20 of 100 mini batches in 0:00:20. Estimated remaining time 0:01:20.",
    ]
    assert lines[0].startswith("2026-01-02T03:04:05.678901 ")


def test_a_run_without_progress_says_so(logs: Logs, clock: Clock) -> None:
    logs.begin()
    clock.advance(seconds=10)
    logs.progress(Tally(total_items=1, total_mini_batches=1))
    assert read(logs, "job_progress_overview.txt").endswith("No task has been processed yet.\n")


def test_failures_that_differ_in_their_values_only_are_one_error(logs: Logs) -> None:
    for index in (7, 8, 9):
        logs.failed(raised(index, f"run() raised KeyError: 'file {index} at 0xdeadbeef{index}'"), items_of(index))
    logs.end(report())
    text = read(logs, "job_error.txt")
    assert text.count("Traceback") == 1
    assert "The process001 on node 0 failed on mini batch 7, 'item-7' with error: Traceback" in text
    assert "3 failed like this" in text
    assert read(logs, "user/error.txt") == text


def test_the_most_frequent_error_comes_first(logs: Logs) -> None:
    logs.failed(raised(0, "run() raised ValueError: rare"), items_of(0))
    for index in (1, 2):
        logs.failed(raised(index, "run() raised TypeError: often"), items_of(index))
    logs.end(report())
    text = read(logs, "job_error.txt")
    assert text.index("often") < text.index("rare")


def test_a_first_error_is_there_at_once(logs: Logs) -> None:
    logs.not_ready(InitFailure(Kind.RAISE, "cannot run init(): no model", LOG, "Traceback: no model"))
    assert "failed on getting ready with error: Traceback: no model" in read(logs, "job_error.txt")


def test_a_script_whose_every_message_is_new_does_not_fill_the_driver(logs: Logs) -> None:
    words = ["".join(chr(97 + int(digit)) for digit in f"{number:05d}") for number in range(2 * MOST_ERRORS)]
    for number, word in enumerate(words):
        logs.failed(raised(number, f"run() raised ValueError: {word}"), items_of(number))
    assert len(logs._errors) == MOST_ERRORS


def test_the_result_of_a_failed_run_shows_the_cause_and_where_to_look(logs: Logs) -> None:
    logs.end(report(Status.FAILED, "2 items failed, more than error_threshold allows (1)", "Traceback: boom"))
    text = read(logs, "job_result.txt")
    assert text.startswith("The run is Failed.\n")
    assert "more than error_threshold allows" in text
    assert "You can check logs/readme.txt for the layout of logs." in text
    assert text.endswith(f"Traceback: boom\nIts log: {LOG}\n")


def test_the_master_log_has_one_line_per_event_whatever_the_text(logs: Logs) -> None:
    logs.event("two\nlines", level="ERROR")
    (line,) = read(logs, "sys/master_role.txt").splitlines()
    stamp, level, pid, thread, text = line.split("|")
    assert (stamp, level, text) == ("2026-01-02 03:04:05,678", "ERROR", r"two\nlines")
    assert pid.isdigit()
    assert thread.isdigit()


def test_logs_that_cannot_be_written_end_the_run_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(RunError, match=r"logs.*see that this folder can be written.*--resume"):
        Logs(Layout(tmp_path)).begin()


def test_the_result_of_the_session_before_is_gone_while_the_run_goes_on(logs: Logs) -> None:
    logs.begin()
    logs.end(report(Status.FAILED))
    assert "The run is Failed." in read(logs, "job_result.txt")
    Logs(logs.layout).begin()
    assert not (logs.layout.logs / "job_result.txt").exists()


def test_logs_that_a_script_has_removed_are_begun_anew(logs: Logs) -> None:
    logs.begin()
    shutil.rmtree(logs.layout.logs)
    logs.progress(Tally(total_items=10, total_mini_batches=5))
    logs.end(report())
    assert read(logs, "sys/job_report/processed_mini-batches.csv") == HEADER
    assert "The run is Completed." in read(logs, "job_result.txt")


def test_on_a_full_disk_no_file_is_left_unfinished(logs: Logs) -> None:
    with files_no_larger_than(100), pytest.raises(RunError, match="free some space"):
        logs.begin()
    assert list(logs.layout.logs.rglob(".*")) == []
