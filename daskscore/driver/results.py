"""What a run leaves: the assembled rows, the failed items by name, and the report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from daskscore.core.layout import Layout
from daskscore.core.model import Status
from daskscore.core.report import Count, Report
from daskscore.core.thresholds import Thresholds
from daskscore.driver.account import Account
from daskscore.driver.plan import Plan
from daskscore.sinks.interface import Piece, Sink


def header_of(account: Account) -> str | None:
    """What stands above all rows: that of the first mini-batch that has one."""
    return min(account.headers)[1] if account.headers else None


def assemble(account: Account, layout: Layout, sink: Sink) -> str:
    """The one output, from parts in plan order."""
    header = header_of(account)
    pieces = (Piece(layout.part(part), offset, length) for part, offset, length in account.pieces())
    return sink.assemble(pieces, header=header)


def remove_parts(layout: Layout, *, keep_parts: bool, keep_sorted: bool) -> None:
    """What only a run that goes on needs, but for what a retry of its failures would."""
    if not keep_parts:
        shutil.rmtree(layout.parts, ignore_errors=True)
    if keep_sorted:
        return
    for records in layout.sorted.glob("*/*.arrow"):  # their plan stays: it says what the run was
        records.unlink(missing_ok=True)


def write_failed_items(
    account: Account, layout: Layout, plan: Plan, lost: Iterable[dict[str, Any]] = ()
) -> dict[str, int]:
    """A line for each item without a result; how many there are of each kind."""
    kinds: Counter[str] = Counter()

    def lines() -> Iterator[str]:
        for item in chain(lost, account.failed_items(plan.items)):
            kinds[item["kind"]] += item.get("items", 1)
            yield json.dumps(item) + "\n"

    first = next(found := lines(), None)
    if first is None:
        layout.failed_items.unlink(missing_ok=True)
        return {}
    with _replacing(layout.failed_items) as path, path.open("w") as file:
        file.write(first)
        file.writelines(found)
    return dict(sorted(kinds.items()))


def make_report(
    account: Account,
    thresholds: Thresholds,
    *,
    status: Status,
    output: str,
    folder: str,
    seconds: float,
    message: str,
    failures: dict[str, int],
    metrics: dict[str, Any],
) -> Report:
    """The account in the user's words."""
    tally = account.tally
    failed = thresholds.failed_mini_batches(tally)
    traceback, log = account.first_trouble or ("", "")
    differ = len({header for _, header in account.headers}) > 1
    warning = "the mini-batches' DataFrames have different columns; the header is that of the first one"
    done = tally.succeeded_mini_batches + tally.given_up_mini_batches
    return Report(
        status=status,
        items=Count(tally.total_items, tally.succeeded_items, tally.failed_items),
        mini_batches=Count(tally.total_mini_batches, done - failed, failed),
        rows=account.rows,
        attempts=account.attempts,
        lost_attempts=account.lost_attempts,
        isolation_attempts=account.share_attempts,
        seconds=round(seconds, 3),
        output=output,
        folder=folder,
        message=message,
        traceback=traceback,
        log=log,
        failures=failures,
        metrics=metrics,
        warnings=(warning,) if differ else (),
    )


def read_report(layout: Layout) -> Report | None:
    """Of a run that is over; None where it is gone or damaged."""
    try:
        found = json.loads(layout.report.read_text())
        del found["not_scored"]
        counts = {key: Count(**found[key]) for key in ("items", "mini_batches")}
        warnings = tuple(found["warnings"])
        return Report(**{**found, **counts, "status": Status(found["status"]), "warnings": warnings})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_report(report: Report, layout: Layout) -> None:
    with _replacing(layout.report) as path:
        path.write_text(json.dumps(report.as_dict(), indent=2) + "\n")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new file under a passing name, which becomes `path` when it is complete."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
