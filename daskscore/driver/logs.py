"""The driver's share of the log tree: what a person reads first, live while the run goes on.

Scorers write below `logs/user` themselves; this is the rest.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daskscore.core.fingerprints import fingerprint
from daskscore.core.layout import Layout
from daskscore.core.model import Failure, InitFailure
from daskscore.core.planning import Named
from daskscore.core.report import Report
from daskscore.core.thresholds import Tally
from daskscore.driver.job_report import JobReport
from daskscore.errors import RunError
from daskscore.worker.capping import close_hole

OVERVIEW_SECONDS = 10.0
MOST_ERRORS = 200
"""Distinct errors that are kept apart; a script whose every message is new does not fill the driver."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_WARNINGS = 10_000
"""Of Dask, in one session."""

README = """\
Where to look, in this order:

  job_result.txt              how the run ended; if it failed, why, and which file to read next
  job_error.txt               each distinct error of the script once: how often, where first, its traceback
  job_progress_overview.txt   how far the run was, every ten seconds

`daskscore show` and `daskscore logs`, each with the output folder, tell the same and more: `daskscore logs OUTPUT --item
NAME` goes from an item to its mini-batch, its attempts, its traceback, and what its process printed.

Then, for one process of one node:

  user/error/<node>/<process>.txt                  tracebacks of the script, in full
  user/stdout/<node>/<process>.stdout.txt          what the script printed and logged
  user/stderr/<node>/<process>.stderr.txt          what it wrote to standard error; the stack of a crash
  user/entry_script_log/<node>/<process>.log.txt   what it wrote with EntryScript().logger
  user/metrics/<node>/<process>.jsonl              what it logged with Run.log

The first four keep their beginning and their newest end when they are longer than log_file_limit; a line says how much
is left out between. While such a process lives, zeros may stand there instead.

And for the system:

  sys/job_report/processed_mini-batches.csv   a line for each attempt: where and when, how long, and what came of it
  sys/job_report/process_summary.csv          the same, summed by process
  sys/job_report/node_summary.csv             and by node
  sys/node/<node>/_main.txt                   what the worker did: the scorers it started, and how they ended
  sys/node/<node>/<process>.txt               who the process was, its attempts, and their sums
  sys/perf/<node>/node_resource_usage.csv     what the machine used, every resource_monitor_interval seconds
  sys/perf/<node>/processes_resource_usage.csv, node_disk_usage.csv, os/<yyyymmddhh>/processes_<mm>
                                              and its processes, and its disks; all processes as `ps` lists them
  sys/master_role.txt                         the driver's own log: what it decided, and warnings and errors of Dask

Process Seconds are those of the processor. Status is RUN_DONE, or says what failed: LOAD_ while the items were read,
RUN_ in run() and after it; the kinds of Error Category are those of failed_items.jsonl. An attempt that was
lost before it was committed, with its machine or the driver or on a full disk, is made again, so its mini-batch may
stand there twice with the same Picked Count; so may one that was slow, and was tried a second time elsewhere. The one
that came second has no line where it was ended before its own end.

<node> is the number (or name) of the Dask worker. Processes are numbered as they start: a process that was ended is
replaced by one with a new number. ../failed_items.jsonl names every failed item, with the log of its last attempt.
"""


@dataclass(slots=True)
class _Error:
    """One distinct error."""

    failure: Failure | InitFailure
    where: str
    when: str
    count: int = 0


@dataclass(slots=True, weakref_slot=True)
class Logs:
    """Open for one session of a run."""

    layout: Layout
    now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(tzinfo=None)
    _began: datetime | None = None
    _shown: datetime | None = None
    _errors: dict[str, _Error] = field(default_factory=dict)
    _errors_changed: bool = False
    _report: JobReport | None = None
    _dask: _DaskWarnings | None = None

    def begin(self) -> None:
        """The run is about to hand out its first bundle."""
        self._began = self._shown = self.now()
        _write(self.layout.logs / "readme.txt", README)
        with _writable(self._result):
            self._result.unlink(missing_ok=True)  # of the session that this one goes on from
        self._tables()
        self._dask = _DaskWarnings(weakref.WeakMethod(self.event))
        weakref.finalize(self, self._dask.close)  # where a session is broken off
        self.event("Start scheduling.")

    def scheduled(self, mini_batches: int, items: int) -> None:
        """All inputs are listed and cut."""
        self._overview(
            f"Scheduling finished. Scheduled {mini_batches} mini batches. "
            f"There are {mini_batches} tasks with {items} items."
        )

    def event(self, text: str, level: str = "INFO") -> None:
        """A line of sys/master_role.txt."""
        stamp = self.now().isoformat(sep=" ", timespec="milliseconds").replace(".", ",")
        line = f"{stamp}|{level}|{os.getpid()}|{threading.get_ident()}|{_one_line(text)}\n"
        _append(self.layout.logs / "sys" / "master_role.txt", line)

    def progress(self, tally: Tally) -> None:
        """Called several times a second; a sentence is written every ten."""
        if self._report is not None:
            with _writable(self.layout.job_report):
                self._tables().follow()
        now = self.now()
        if self._shown is None or now - self._shown < timedelta(seconds=OVERVIEW_SECONDS):
            return
        self._shown = now
        self._overview(self._progress_sentence(tally, now))
        self._write_errors()

    def failed(self, failure: Failure, items: Callable[[], Sequence[Named]]) -> None:
        """One attempt at these items gave no rows."""
        self._note(failure, lambda: f"mini batch {failure.index}, {items()[0].name!r}")

    def not_ready(self, failure: InitFailure) -> None:
        """A scorer did not get through init()."""
        self._note(failure, lambda: "getting ready")

    def _note(self, failure: Failure | InitFailure, where: Callable[[], str]) -> None:
        key = fingerprint(f"{failure.kind} {failure.message}", failure.traceback)
        error = self._errors.get(key)
        if error is None:
            if len(self._errors) >= MOST_ERRORS:
                return
            error = self._errors[key] = _Error(failure, where(), self.now().isoformat())
            self.event(f"{error.where}: {failure.message}", level="ERROR")
        error.count += 1
        self._errors_changed = True
        if error.count == 1:
            self._write_errors()

    def end(self, report: Report) -> None:
        """The last words: what the run came to, and where to look."""
        self._write_errors()
        if self._dask is not None:
            self._dask.close()
        if self._report is not None:
            with _writable(self.layout.job_report):
                tables = self._tables()
                tables.look()
                tables.sum_up()
        for log in (self.layout.logs / "user").glob("*/*/*.txt"):
            with suppress(OSError):
                close_hole(log)
        done, items = report.mini_batches, report.items
        lines = [
            f"The run is {report.status}.",
            f"{done.succeeded} of {done.total} mini batches and {items.succeeded} of {items.total} items succeeded, "
            f"{items.failed} items failed. {report.rows} rows.",
        ]
        if report.message:
            lines += [
                report.message,
                "Please check logs for error. You can check logs/readme.txt for the layout of logs.",
            ]
        if report.traceback:
            lines += ["", "The first failure:", report.traceback.rstrip(), f"Its log: {report.log}"]
        lines += [f"Output: {report.output}"] if report.status == "Completed" else []
        _write(self._result, "\n".join(lines) + "\n")
        self._overview(
            f"The run is {report.status}. Processed {done.succeeded + done.failed} of {done.total} mini batches."
        )
        self.event(f"The run is {report.status}. {report.message}".rstrip())

    @property
    def _result(self) -> Path:
        return self.layout.logs / "job_result.txt"

    def _tables(self) -> JobReport:
        """Those of the attempts; where somebody has removed them, made anew of what is left."""
        if self._report is None or not self.layout.job_report.exists():
            report = JobReport(self.layout)
            with _writable(self.layout.job_report):
                report.begin()
            self._report = report
        return self._report

    def _progress_sentence(self, tally: Tally, now: datetime) -> str:
        done = tally.succeeded_mini_batches + tally.given_up_mini_batches
        if not done or self._began is None:
            return "No task has been processed yet."
        took = now - self._began
        left = took * ((tally.total_mini_batches - done) / done)
        return (
            f"Processed {done} of {tally.total_mini_batches} mini batches in {_clock(took)}. "
            f"Estimated remaining time {_clock(left)}."
        )

    def _overview(self, sentence: str) -> None:
        _append(self.layout.logs / "job_progress_overview.txt", f"{self.now().isoformat()} {sentence}\n")

    def _write_errors(self) -> None:
        """job_error.txt and user/error.txt: each distinct error once, the most frequent first."""
        if not self._errors_changed:
            return
        self._errors_changed = False
        text = "".join(map(_paragraph, sorted(self._errors.values(), key=lambda error: -error.count)))
        _write(self.layout.logs / "job_error.txt", text)
        _write(self.layout.logs / "user" / "error.txt", text)


class _DaskWarnings(logging.Handler):
    """What Dask warns of in this process, as events; it has loggers of its own that tell nobody else."""

    LOGGERS = (
        "daskscore",
        "distributed",
        "distributed.client",
        "distributed.scheduler",
        "tornado.application",
        "asyncio",
    )

    def __init__(self, event: Callable[[], Callable[[str, str], None] | None]) -> None:
        super().__init__(logging.WARNING)
        self._event = event
        self._left = MOST_WARNINGS
        self._last: logging.LogRecord | None = None
        for name in self.LOGGERS:
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        event = self._event()
        if self._left <= 0 or record is self._last or event is None:  # one of them may pass it on to another
            return
        self._last = record
        self._left -= 1
        more = "" if self._left else " (further warnings are left out)"
        with suppress(Exception):  # a warning that cannot be written ends no run
            event(f"{record.name}: {record.getMessage()}{more}", record.levelname)

    def close(self) -> None:
        for name in self.LOGGERS:
            logging.getLogger(name).removeHandler(self)
        super().close()


def _paragraph(error: _Error) -> str:
    failure = error.failure
    log = Path(failure.log)
    process, node = log.name.split(".")[0], log.parent.name
    return (
        f"{error.when} The {process} on node {node} failed on {error.where} with error: "
        f"{failure.traceback.rstrip() or failure.message}\n"
        f"  {error.count} failed like this, {error.where} first. See {failure.log}\n\n"
    )


def _clock(span: timedelta) -> str:
    return str(timedelta(seconds=round(span.total_seconds())))


def _one_line(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _append(path: Path, text: str) -> None:
    with _writable(path), path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    with _writable(path):
        try:
            unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        what_to_do = (
            "free some space" if error.errno in FULL else "see that this folder can be written, and stays there,"
        )
        raise RunError(
            f"{error.strerror}: {path}. What is committed is kept: {what_to_do} and run the same command with --resume"
        ) from error
