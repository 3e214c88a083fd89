"""A run as its output folder tells it, while it goes on and afterwards: what `daskscore show` and `logs` read."""

from __future__ import annotations

import csv
import heapq
import json
import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from daskscore.core.attempts import COLUMNS
from daskscore.core.fingerprints import fingerprint
from daskscore.core.layout import Layout, entry_script_logs, error_log, stderr_log, stdout_log
from daskscore.core.planning import Content, Named, count_items, name_of_rows, names_in, share_of
from daskscore.driver import account as accounts
from daskscore.driver.account import Account
from daskscore.driver.plan import INDEX, LINES, read_header
from daskscore.errors import OutputError

SILENT_SECONDS = 120.0
"""A run on another machine that has written nothing for so long is no longer said to go on."""
LAST_WORD_BYTES = 200
"""A journal's last record is shorter when the run is over."""
MOST_FAILURES = 20
MESSAGE_BEGIN = 200
"""By so much of its message a traceback is known again."""
_OFFSET = struct.Struct("<Q")


class Attempt(NamedTuple):
    """A line of processed_mini-batches.csv; the fields are its columns."""

    mini_batch: int
    number: int
    process: str
    started: str
    total: int
    succeeded: int
    failed: int
    elapsed: float
    processor: float
    run: float
    status: str
    kind: str
    message: str
    detail: str

    @property
    def log_names(self) -> tuple[str, str, str, str]:
        """Of its process: tracebacks, standard output, standard error and the script's own log."""
        node, _, process = self.process.partition("/")
        own = f"{entry_script_logs(node)}/{process}.log.txt"
        return error_log(node, process), stdout_log(node, process), stderr_log(node, process), own


class Failures(NamedTuple):
    """Items that failed in the same way."""

    items: int
    kind: str
    message: str
    log: str


@dataclass(frozen=True)
class Story:
    """One run."""

    layout: Layout

    @classmethod
    def of(cls, place: str) -> Story:
        """Raises OutputError where there is no run."""
        if "://" in place:
            raise OutputError(
                f"{place} is an address. A run publishes its logs there when it ends: copy the folder to this machine, "
                "and name the copy"
            )
        layout = Layout(Path(place))
        if not os.path.lexists(place):
            raise OutputError(f"there is no folder {place}. Name the output folder of a run")
        if not layout.output.is_dir():
            raise OutputError(f"{place} is a file. Name the output folder of a run")
        if not (layout.job.exists() or layout.report.exists()):
            raise OutputError(
                f"{place} holds no run: neither {layout.job.relative_to(layout.output)} nor report.json is there. Name the "
                "output folder of a run"
            )
        return cls(layout)

    @property
    def report(self) -> dict[str, Any] | None:
        """Of a run that is over."""
        if not self._over and self.layout.journal.exists():
            return None
        try:
            found = json.loads(self.layout.report.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def driver(self) -> str | None:
        """Who carries the run on; None when it is over, or its driver is gone."""
        if self._over:
            return None
        try:
            holder = self.layout.lock.read_text(errors="replace")
            silent = time.time() - self.layout.journal.stat().st_mtime
        except OSError:
            return None
        match = re.fullmatch(r"process (\d+) on (.*)", holder.strip())
        if match is None:
            return None
        if match[2] != socket.gethostname():
            return holder if silent < SILENT_SECONDS else None
        try:
            os.kill(int(match[1]), 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return holder

    @property
    def _over(self) -> bool:
        """Whether the last session of the run has said its last word."""
        try:
            with self.layout.journal.open("rb") as journal:
                journal.seek(max(0, os.fstat(journal.fileno()).st_size - LAST_WORD_BYTES))
                return b'{"record":"end"' in journal.read().rstrip(b"\n").rpartition(b"\n")[2]
        except FileNotFoundError:
            return False

    @property
    def account(self) -> Account:
        """As the journal has it now."""
        plan = self.plan
        return accounts.load(
            self.layout.journal,
            parts=self.layout.parts,
            items=plan.items,
            mini_batches=plan.mini_batches,
            count_items=plan.count_items,
        )

    @property
    def plan(self) -> PlanLines:
        """What the mini-batches are made of, as far as the inputs are listed."""
        sorted_plan = self.layout.sorted / "plan"
        return PlanLines(sorted_plan if read_header(sorted_plan) is not None else self.layout.plan)

    def failures(self) -> list[Failures]:
        """Failed items by kind and message, the most frequent first."""
        counts: Counter[str] = Counter()
        first: dict[str, Failures] = {}
        for item in self._failed_items():
            key = fingerprint(f"{item['kind']} {item['message']}", "")
            if key not in first:
                if len(first) >= MOST_FAILURES:
                    key = ""
                first.setdefault(key, Failures(0, item["kind"], item["message"], item["log"]) if key else OTHERS)
            counts[key] += item.get("items", 1)
        return [first[key]._replace(items=count) for key, count in counts.most_common()]

    def _failed_items(self) -> Iterator[dict[str, Any]]:
        if self.report is not None:
            yield from read_lines(self.layout.failed_items)
        else:
            yield from self.account.failed_items(self.plan.names)

    def attempts(self, mini_batches: set[int] | None = None) -> Iterator[Attempt]:
        """Of these mini-batches, or all, in the order in which they were told of."""
        wanted = None if mini_batches is None else {b"%d" % index for index in mini_batches}
        try:
            table = (self.layout.job_report / "processed_mini-batches.csv").open("rb")
        except (FileNotFoundError, NotADirectoryError):
            return
        with table:
            for line in islice(table, 1, None):
                if (wanted is None or line.partition(b",")[0] in wanted) and (attempt := attempt_in(line)):
                    yield attempt

    def slowest(self, number: int) -> list[Attempt]:
        return heapq.nlargest(number, self.attempts(), key=lambda attempt: attempt.elapsed)

    def traceback(self, attempt: Attempt) -> str:
        """What the log of its process has about the mini-batch with this message, for the last time."""
        begins = re.compile(r"mini-batch (\d+): ")
        message = re.split(r"\\[rn]", attempt.message)[0][:MESSAGE_BEGIN]
        wanted = f"mini-batch {attempt.mini_batch}: {message}"
        found: list[str] = []
        inside = False
        try:
            with (self.layout.output / attempt.log_names[0]).open(errors="replace") as log:
                for line in log:
                    if begins.match(line):
                        inside = line.startswith(wanted)
                        found = [] if inside else found
                    elif inside:
                        found.append(line)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        return "".join(found)


OTHERS = Failures(0, "others", "see failed_items.jsonl", "")


class PlanLines:
    """The plan of a run, complete or not, read where it lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._header = read_header(folder)

    @property
    def complete(self) -> bool:
        return self._header is not None

    @property
    def listed(self) -> bool:
        """Whether names of items are known; a run with ranks has none."""
        return (self._folder / LINES).exists() or (self._header is not None and self._header.content is Content.RANK)

    @cached_property
    def mini_batches(self) -> int:
        if self._header is not None:
            return self._header.mini_batches
        index = self._folder / INDEX
        return max(0, index.stat().st_size // _OFFSET.size - 1) if index.exists() else 0

    @cached_property
    def items(self) -> int:
        if self._header is not None:
            return self._header.items
        return sum(map(count_items, islice(self._lines(), self.mini_batches)))

    def names(self, index: int, start: int = 0, stop: int | None = None) -> list[Named]:
        """Of all items of a mini-batch, or of some; of none where the plan is not there, as in what a run publishes."""
        if self._header is not None and self._header.content is Content.RANK:
            return [Named(f"rank {index}")]
        line = self._line(index)
        if not line:
            return []
        return names_in(line if stop is None else share_of(line, start, stop))

    def count_items(self, index: int) -> int:
        return sum(named.items for named in self.names(index))

    def find(self, text: str) -> Iterator[tuple[int, str]]:
        """Mini-batches with an item whose name has this text, and the name; `a.csv row 17` is a record."""
        record = re.fullmatch(r"(.+) rows? (\d+)(?:-\d+)?", text)
        words = {json.dumps(word)[1:-1].encode() for word in (text, record[1] if record else text)}
        for index, line in enumerate(self._lines()):
            if not any(word in line for word in words):
                continue
            named = next((named.name for named in names_in(line) if text in named.name), None)
            if named is None and record is not None:
                named = _record_in(line, record[1], int(record[2]))
            if named is not None:
                yield index, named

    def _lines(self) -> Iterator[bytes]:
        try:
            with (self._folder / LINES).open("rb") as lines:
                yield from (line for line in lines if line.endswith(b"\n"))
        except FileNotFoundError:
            return

    def _line(self, index: int) -> bytes:
        try:
            with (self._folder / INDEX).open("rb") as places, (self._folder / LINES).open("rb") as lines:
                places.seek(index * _OFFSET.size)
                border = places.read(2 * _OFFSET.size)
                if len(border) < 2 * _OFFSET.size:
                    return b""
                start, stop = struct.unpack("<QQ", border)
                lines.seek(start)
                line = lines.read(stop - start)
        except FileNotFoundError:
            return b""
        return line if line.endswith(b"\n") else b""


def attempt_in(line: bytes) -> Attempt | None:
    """None where the line is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = next(csv.reader([line.decode(errors="replace").rstrip("\n")]), [])
        if len(fields) != len(COLUMNS):
            return None
        whole = (int(fields[0]), int(fields[1]), fields[2], fields[3], *map(int, fields[4:7]))
        return Attempt(*whole, *(float(field or 0) for field in fields[7:10]), *fields[10:])  # type: ignore[arg-type]  # as converted
    except (ValueError, csv.Error):
        return None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Of a file of JSON lines, or nothing."""
    try:
        with path.open() as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise OutputError(
                        f"{path} is damaged: line {number} is no JSON ({error}). Look into the folder logs itself"
                    ) from None
    except FileNotFoundError:
        return


@contextmanager
def reading(place: str) -> Iterator[None]:
    """Files of a run that somebody has locked or replaced are named."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"{error.strerror}: {error.filename or place}. It cannot be read as a file of the run {place}: mend its rights, or "
            "look into the folder logs itself"
        ) from error


def _record_in(line: bytes, file: str, row: int) -> str | None:
    found = json.loads(line)
    for piece in found["pieces"] if isinstance(found, dict) and "pieces" in found else ():
        if file in piece["file"] and piece["row"] <= row < piece["row"] + piece["items"]:
            return name_of_rows(piece["file"], piece["row"], piece["items"])
    return None
