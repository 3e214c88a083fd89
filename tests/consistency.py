"""What a run leaves says one thing: rows, report, failed items, journal, the log tree and `job_result.txt`.

check(output)                      # after any ending but a kill; AssertionError names each contradiction
contradictions(output, rows=…)     # the same as a list, with the rows that must be there
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet

from daskscore.core.attempts import COLUMNS
from daskscore.core.layout import Layout
from daskscore.core.model import Kind, Status
from daskscore.core.planning import Named
from daskscore.driver import journal
from daskscore.driver.story import PlanLines, Story

DOCUMENTED = ("failed_items.jsonl", "metrics.jsonl", "report.json", "logs", ".daskscore")
"""In the output folder, besides the rows."""
STATE = ("job.json", "journal", "lock", "plan", "sorted", "edition")
STATE_OF_THE_UNFINISHED = ("parts", "shared")
"""Of a run that may go on: one that was stopped, or that has failed items."""
NEEDS_PARTS = ("csv", "parquet")
"""Formats whose parts stay for a retry, where items have failed."""
NAMED = 3
"""Examples in a message."""


def check(
    output: Path,
    *,
    rows: bytes | None = None,
    rows_are_lines: bool = True,
    logs_may_lack: bool = False,
) -> None:
    """Raise an AssertionError that names each contradiction in the output folder of a run that has ended.

    `rows` are the bytes that the output file must have. Where a row may hold a line break, `rows_are_lines` is False; where a
    worker that writes its logs elsewhere was killed, or a disk was full, `logs_may_lack` lines.
    """
    found = contradictions(output, rows=rows, rows_are_lines=rows_are_lines, logs_may_lack=logs_may_lack)
    assert not found, f"{output} contradicts itself:\n" + "\n".join(f"- {what}" for what in found)


def contradictions(
    output: Path, *, rows: bytes | None = None, rows_are_lines: bool = True, logs_may_lack: bool = False
) -> list[str]:
    """Each contradiction in words."""
    left = Left(output)
    if left.report is None:
        return [f"there is no {left.layout.report.name} that can be read"]
    return [
        *_counts(left),
        *_failed_items(left),
        *_rows(left, rows, lines=rows_are_lines),
        *_journal(left),
        *_attempts(left, may_lack=logs_may_lack),
        *_job_result(left),
        *_leftovers(left),
    ]


@dataclass
class Left:
    """What a run has left in its output folder."""

    output: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.output)

    @cached_property
    def report(self) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self.layout.report.read_text())
        except (OSError, ValueError):
            return None
        return found

    @property
    def told(self) -> dict[str, Any]:
        assert self.report is not None
        return self.report

    @property
    def completed(self) -> bool:
        return bool(self.told["status"] == Status.COMPLETED)

    @cached_property
    def job(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.layout.job.read_text())
        except (OSError, ValueError):
            return {}
        return found

    @property
    def rows(self) -> Path | None:
        """None where rows are only counted."""
        if self.told["output"].rstrip("/") == self.told["folder"].rstrip("/"):
            return None
        return self.output / Path(self.told["output"]).name

    @cached_property
    def failed_items(self) -> list[dict[str, Any]]:
        path = self.layout.failed_items
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @cached_property
    def plan(self) -> PlanLines:
        return Story(self.layout).plan

    @cached_property
    def settled(self) -> Settled:
        return Settled.of(self.layout.journal)

    @cached_property
    def attempts(self) -> list[dict[str, str]]:
        path = self.layout.job_report / "processed_mini-batches.csv"
        text = path.read_text(errors="replace") if path.exists() else ""
        return list(csv.DictReader(io.StringIO(text, newline="")))


@dataclass
class Settled:
    """The journal, read without daskscore's own account of it."""

    scored: Counter[int] = field(default_factory=Counter)
    """How often each mini-batch got rows; those whose items were told apart are among them."""
    given_up: Counter[int] = field(default_factory=Counter)
    isolated: set[int] = field(default_factory=set)
    """Some of their items have failed alone."""
    counts: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Of each record's mini-batches with rows, by the first: succeeded items, failed ones, rows."""
    attempts: int = 0
    status: str | None = None
    retried: bool = False

    @classmethod
    def of(cls, path: Path) -> Settled:
        found = cls()
        for _, record in journal.read(path):
            match record["record"]:
                case "commit":
                    found._commit(record)
                case "resume":
                    found.status = None
                    if record["forget_failures"]:
                        found._forget_failures()
                case "retry":
                    found.status, found.retried = None, True
                    found.isolated |= {index for index, count in found.counts.items() if count[1]}
                    found._forget_failures()
                case "end":
                    found.status = record["status"]
        return found

    def _commit(self, record: dict[str, Any]) -> None:
        for first, size, _, _, _, rows, items, failed, *_ in record["segments"]:
            self.scored.update(range(first, first + size))
            before = self.counts.get(first, (0, 0, 0)) if not size else (0, 0, 0)
            self.counts[first] = (before[0] + items - failed, before[1] + failed, before[2] + rows)
        for final in record["given_up"]:
            index = final["failure"]["index"]
            if "share" in final:
                self.isolated.add(index)
            else:
                self.given_up[index] += 1
        self.attempts += record["attempts"]

    def _forget_failures(self) -> None:
        """What has failed is scored anew as a whole."""
        self.given_up.clear()
        for index in self.isolated:
            del self.scored[index], self.counts[index]
        self.isolated.clear()

    @property
    def succeeded_items(self) -> int:
        return sum(count[0] for count in self.counts.values())

    @property
    def rows(self) -> int:
        return sum(count[2] for count in self.counts.values())

    @property
    def with_results(self) -> set[int]:
        """Mini-batches of which an attempt went well."""
        return {index for index in self.scored if index not in self.isolated or self.counts[index][0]}


def _counts(left: Left) -> Iterator[str]:
    """The report by itself."""
    told = left.told
    if told["status"] not in list(Status):
        yield f"report.json: there is no status {told['status']!r}"
    for what in ("items", "mini_batches"):
        count = told[what]
        rest = count["total"] - count["succeeded"] - count["failed"]
        if rest != told["not_scored"][what] or rest < 0:
            yield f"report.json: {what} {count}, and {told['not_scored'][what]} not scored"
        if left.completed and rest:
            yield f"report.json: the run is Completed, and {rest} {what} are neither succeeded nor failed"
    if sum(told["failures"].values()) != told["items"]["failed"]:
        yield f"report.json: failures {told['failures']} are not the {told['items']['failed']} failed items"
    if left.completed and told["message"]:
        yield f"report.json: the run is Completed, with the message {told['message']!r}"


def _failed_items(left: Left) -> Iterator[str]:
    """failed_items.jsonl, against the report and the plan."""
    told, lines = left.told, left.failed_items
    if left.layout.failed_items.exists() and not lines:
        yield "failed_items.jsonl is there, and names nothing"
    number = sum(line.get("items", 1) for line in lines)
    if number != told["items"]["failed"]:
        yield f"failed_items.jsonl names {number} items, and report.json has {told['items']['failed']} failed ones"
    kinds = Counter[str]()
    for line in lines:
        kinds[line["kind"]] += line.get("items", 1)
    if dict(kinds) != told["failures"]:
        yield f"failed_items.jsonl has the kinds {dict(kinds)}, and report.json has {told['failures']}"
    if unknown := set(kinds) - set(Kind):
        yield f"failed_items.jsonl: there is no kind {', '.join(unknown)}"
    for line in lines:
        if line["mini_batch"] is not None and line["attempts"] < 1:
            yield f"failed_items.jsonl: {line['item']} failed after {line['attempts']} attempts"
        if line["log"] and not (left.output / line["log"]).exists():
            yield f"failed_items.jsonl: the log of {line['item']} is {line['log']}, which is not there"
    yield from _named_rightly(left, lines)


def _named_rightly(left: Left, lines: list[dict[str, Any]]) -> Iterator[str]:
    """Each failed item is one of its mini-batch in the plan, and named once."""
    by_mini_batch: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        if line["mini_batch"] is not None:
            by_mini_batch.setdefault(line["mini_batch"], []).append(line)
    for index, found in by_mini_batch.items():
        if index >= left.plan.mini_batches:
            yield f"failed_items.jsonl: there is no mini-batch {index}"
            continue
        planned = Counter(chain.from_iterable(map(_each, left.plan.names(index))))
        named = Counter(chain.from_iterable(_each(Named(line["item"], line.get("items", 1))) for line in found))
        if foreign := set(named) - set(planned):
            yield f"failed_items.jsonl: {_some(foreign)} is not in mini-batch {index}"
        elif more := named - planned:
            yield f"failed_items.jsonl: {_some(more)} of mini-batch {index} is named twice"


def _each(named: Named) -> list[str]:
    """The records that a name stands for."""
    found = re.fullmatch(r"(.*) rows? (\d+)(?:-(\d+))?", named.name, re.DOTALL)
    if found is None:
        return [named.name] * named.items
    first, last = int(found[2]), int(found[3] or found[2])
    return [f"{found[1]} row {row}" for row in range(first, last + 1)]


def _rows(left: Left, wanted: bytes | None, *, lines: bool) -> Iterator[str]:
    """The output file, against the report, and against what it must be."""
    path = left.rows
    if path is None:
        if wanted:
            yield "there are no rows, as they are only counted"
        return
    if path.exists() != left.completed and not left.settled.retried:  # it stays until the new one takes its place
        yield f"the run is {left.told['status']}, and {path.name} is {'' if path.exists() else 'not '}there"
        return
    if not left.completed:
        return
    if lines or path.suffix in (".csv", ".parquet"):
        number = _count_rows(path)
        if number != left.told["rows"]:
            yield f"{path.name} has {number} rows, and report.json says {left.told['rows']}"
    if wanted is not None and (found := path.read_bytes()) != wanted:
        yield _difference(path.name, found, wanted)


def _count_rows(path: Path) -> int:
    match path.suffix:
        case ".parquet":
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        case ".csv":
            with path.open(newline="", errors="surrogateescape") as file:
                return max(0, sum(1 for _ in csv.reader(file)) - 1)
        case _:
            return path.read_bytes().count(b"\n")


def _difference(name: str, found: bytes, wanted: bytes) -> str:
    """Of text in lines, or of a Parquet file in rows."""
    if name.endswith(".parquet"):
        rows, right = (pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist() for data in (found, wanted))
        if rows == right:
            return f"{name} has the right rows in other bytes ({len(found)}, not {len(wanted)})"
        lists = [list(map(repr, rows)), list(map(repr, right))]
    else:
        lists = [data.decode(errors="replace").splitlines() for data in (found, wanted)]
    has, needs = map(Counter, lists)
    at = next((n for n, (one, other) in enumerate(zip(*lists, strict=False)) if one != other), min(map(len, lists)))
    surplus, missing = has - needs, needs - has
    order = "" if surplus or missing else ", which are the right ones in another order"
    return (
        f"{name} has {len(lists[0])} lines instead of {len(lists[1])}{order}; the first that differs is {at}; "
        f"{sum(surplus.values())} too many ({_some(surplus)}), {sum(missing.values())} missing ({_some(missing)})"
    )


def _journal(left: Left) -> Iterator[str]:
    """The journal, against the report and the plan."""
    told, settled = left.told, left.settled
    if settled.status != told["status"]:
        yield f"the journal ends with {settled.status}, and report.json says {told['status']}"
    total = told["mini_batches"]["total"]
    both = settled.scored + settled.given_up
    if twice := [index for index, times in both.items() if times > 1]:
        yield f"the journal settles {len(twice)} mini-batches twice: {_some(twice)}"
    if foreign := [index for index in both if index >= total]:
        yield f"the journal names mini-batches that are not in the plan: {_some(foreign)}"
    done = len(both)
    counted = told["mini_batches"]["succeeded"] + told["mini_batches"]["failed"]
    if done != counted:
        yield f"the journal settles {done} mini-batches, and report.json counts {counted}"
    if settled.succeeded_items != told["items"]["succeeded"]:
        yield f"the journal has {settled.succeeded_items} succeeded items, and report.json {told['items']['succeeded']}"
    if settled.rows != told["rows"]:
        yield f"the journal has {settled.rows} rows, and report.json {told['rows']}"
    if settled.attempts != told["attempts"]:
        yield f"the journal has {settled.attempts} attempts, and report.json {told['attempts']}"


def _attempts(left: Left, *, may_lack: bool) -> Iterator[str]:
    """processed_mini-batches.csv, against the journal."""
    name = "processed_mini-batches.csv"
    lines = left.attempts
    broken = [line for line in lines if None in line or None in line.values()]
    if lines and (tuple(lines[0]) != COLUMNS or broken):
        yield f"{name} has columns {tuple(lines[0])} and {len(broken)} broken lines"
        return
    done = {int(line["Mini-batch Id"]) for line in lines if line["Status"] == "RUN_DONE"}
    failed = {int(line["Mini-batch Id"]) for line in lines if line["Status"] != "RUN_DONE"}
    for line in lines:
        counts = [int(line[column]) for column in ("Total", "Succeeded", "Failed")]
        if counts[0] != counts[1] + counts[2]:
            yield f"{name}: mini-batch {line['Mini-batch Id']} has {counts[1]} + {counts[2]} of {counts[0]} items"
    if may_lack:
        return
    if gone := left.settled.with_results - done:
        yield f"{name} has no RUN_DONE for {len(gone)} mini-batches that have rows: {_some(gone)}"
    lost = {line["mini_batch"] for line in left.failed_items if line["kind"] == Kind.LOST}
    if gone := (set(left.settled.given_up) | left.settled.isolated) - failed - lost:
        yield f"{name} has no failed attempt of {len(gone)} mini-batches that have failed: {_some(gone)}"
    if len(lines) < left.settled.attempts:
        yield f"{name} has {len(lines)} lines for the {left.settled.attempts} attempts of the journal"


def _job_result(left: Left) -> Iterator[str]:
    """logs/job_result.txt, against the report."""
    told = left.told
    try:
        text = (left.layout.logs / "job_result.txt").read_text()
    except OSError:
        yield "there is no logs/job_result.txt"
        return
    batches, items = told["mini_batches"], told["items"]
    wanted = [
        f"The run is {told['status']}.",
        f"{batches['succeeded']} of {batches['total']} mini batches and {items['succeeded']} of {items['total']} items "
        f"succeeded, {items['failed']} items failed. {told['rows']} rows.",
    ]
    if text.splitlines()[:2] != wanted:
        yield f"job_result.txt says {text.splitlines()[:2]}, and report.json {wanted}"
    if told["message"] and told["message"] not in text:
        yield f"job_result.txt does not say {told['message']!r}"
    if ("\nOutput: " in text) != left.completed:
        yield f"job_result.txt names {'an' if not left.completed else 'no'} output of a run that is {told['status']}"


def _leftovers(left: Left) -> Iterator[str]:
    """Nothing but the documented files."""
    rows = left.rows
    documented = {*DOCUMENTED, *([rows.name] if rows is not None and (left.completed or left.settled.retried) else [])}
    if strange := {path.name for path in left.output.iterdir()} - documented:
        yield f"the output folder holds {_some(strange)}, which is documented nowhere"
    final = left.completed and not left.told["items"]["failed"]
    state = {*STATE, *([] if final else STATE_OF_THE_UNFINISHED)}
    if left.failed_items and left.job.get("append_row_format") in NEEDS_PARTS:
        state.add("parts")
    if left.layout.state.exists() and (strange := {path.name for path in left.layout.state.iterdir()} - state):
        yield f".daskscore holds {_some(strange)}, which a run that is {left.told['status']} does not leave"
    if unfinished := [str(path.relative_to(left.output)) for path in left.output.rglob(".*.unfinished")]:
        yield f"unfinished files: {_some(unfinished)}"


def _some(values: Any) -> str:
    found = sorted(map(str, values))
    return ", ".join(found[:NAMED]) + (", …" if len(found) > NAMED else "")
